//! The pod's rules, first told one by one, then held over long random histories.

use std::time::Duration;

use jiff::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;

use super::actions::{Action, MIN_STOP_WINDOW, StopReason, decide};
use super::backoff::BackoffPolicy;
use super::event::{Event, Phase, StopCause};
use super::record::is_restarted;
use super::state::{EXIT_TIMED_OUT, State};
use super::status::{Facts, pod_status};
use super::time::Time;
use crate::container::state::{ContainerState, Exit};
use crate::spec::{Container, Pod, RestartPolicy, Role};
use crate::testing::spec as testing;

/// `secs` after the pod's start.
pub(super) fn at(secs: u64) -> Time {
    at_ms(secs * 1000)
}

fn at_ms(ms: u64) -> Time {
    Time { mono: Duration::from_millis(ms), wall: Timestamp::from_millisecond(ms.cast_signed()).unwrap() }
}

fn container(name: &str, role: Role, restart_policy: Option<RestartPolicy>) -> Container {
    Container { restart_policy, ..testing::container(name, role) }
}

fn pod_of(restart_policy: RestartPolicy, all: Vec<Container>) -> Pod {
    Pod { restart_policy, ..testing::pod(all) }
}

/// A pod from words such as `I:prepare S:proxy M:web`: init containers, sidecars, main containers.
pub(super) fn pod(policy: RestartPolicy, words: &str) -> Pod {
    let containers = words.split_whitespace().map(|word| match word.split_once(':').unwrap() {
        ("I", name) => container(name, Role::Init, None),
        ("S", name) => container(name, Role::Sidecar, Some(RestartPolicy::Always)),
        (_, name) => container(name, Role::Main, None),
    });
    pod_of(policy, containers.collect())
}

/// Brings all containers up with every init container succeeding; ends before `at(10)`.
pub(super) fn run_to_start(pod: &Pod) -> State {
    let mut state = State::new(pod, BackoffPolicy::default(), at(0));
    let mut actions = state.step(pod, Event::SandboxReady, at(1));
    for ms in 2000.. {
        let Some(Action::Start { container, .. }) = actions.pop() else {
            if actions.is_empty() {
                return state;
            }
            continue;
        };
        let is_init = pod.init_containers.iter().any(|c| c.name == container && c.role == Role::Init);
        actions.extend(state.step(pod, started(&container), at_ms(ms)));
        if is_init {
            actions.extend(state.step(pod, exited(&container, 0), at_ms(ms)));
        }
    }
    state
}

fn started(name: &str) -> Event {
    Event::ContainerStarted { name: name.into() }
}

fn exited(name: &str, code: u8) -> Event {
    Event::ContainerExited { name: name.into(), exit: Exit::with_code(code) }
}

fn stop(grace: u64) -> Event {
    Event::StopRequested { cause: StopCause::Signal(2), grace: Duration::from_secs(grace) }
}

fn start(container: &str, restart: u32) -> Action {
    Action::Start { container: container.into(), restart }
}

fn asked(container: &str, deadline: u64) -> Action {
    let deadline = Duration::from_secs(deadline);
    Action::Stop { container: container.into(), deadline, why: StopReason::PodEnds }
}

fn kill(container: &str) -> Action {
    Action::Kill { container: container.into() }
}

fn wake(secs: u64) -> Action {
    Action::WakeAt(Duration::from_secs(secs))
}

#[test]
fn containers_come_up_in_order() {
    let pod = pod(RestartPolicy::Always, "I:a S:b I:c M:x M:y");
    let mut s = State::new(&pod, BackoffPolicy::default(), at(0));
    assert_eq!(s.step(&pod, Event::Tick, at(0)), []);
    assert_eq!(s.step(&pod, Event::SandboxReady, at(1)), [start("a", 0)]);
    assert_eq!(s.step(&pod, started("a"), at(1)), []);
    assert_eq!(s.step(&pod, exited("a", 0), at(2)), [start("b", 0)]);
    assert_eq!(s.step(&pod, started("b"), at(3)), [start("c", 0)]);
    assert_eq!(s.step(&pod, started("c"), at(3)), []);
    assert_eq!(s.phase(&pod), Phase::Pending);
    assert_eq!(s.step(&pod, exited("c", 0), at(4)), [start("x", 0), start("y", 0)]);
    assert_eq!(s.step(&pod, started("x"), at(5)), []);
    assert_eq!(s.phase(&pod), Phase::Pending);
    assert_eq!(s.step(&pod, started("y"), at(5)), []);
    assert_eq!(s.phase(&pod), Phase::Running);
}

#[test]
fn a_failed_init_container_is_retried_with_back_off() {
    let pod = pod(RestartPolicy::OnFailure, "I:a M:x");
    let mut s = State::new(&pod, BackoffPolicy::default(), at(0));
    s.step(&pod, Event::SandboxReady, at(0));
    s.step(&pod, started("a"), at(0));
    assert_eq!(s.step(&pod, exited("a", 1), at(1)), [start("a", 1)]);
    s.step(&pod, started("a"), at(1));
    assert_eq!(s.step(&pod, exited("a", 1), at(2)), [wake(12)]);
    assert_eq!(s.step(&pod, Event::Tick, at(11)), [wake(12)]);
    assert_eq!(s.step(&pod, Event::Tick, at(12)), [start("a", 2)]);
    s.step(&pod, started("a"), at(12));
    assert_eq!(s.step(&pod, exited("a", 0), at(13)), [start("x", 0)]);
}

#[test]
fn with_never_a_failed_init_container_fails_the_pod_and_sidecars_go_in_reverse() {
    let pod = pod(RestartPolicy::Never, "S:s1 S:s2 I:a M:x");
    let mut s = State::new(&pod, BackoffPolicy::default(), at(0));
    s.step(&pod, Event::SandboxReady, at(0));
    s.step(&pod, started("s1"), at(0));
    s.step(&pod, started("s2"), at(0));
    s.step(&pod, started("a"), at(0));
    assert_eq!(s.step(&pod, exited("a", 9), at(1)), [asked("s2", 31), wake(31)]);
    assert_eq!(s.step(&pod, exited("s2", 0), at(2)), [asked("s1", 31), wake(31)]);
    assert_eq!(s.phase(&pod), Phase::Pending);
    assert_eq!(s.step(&pod, exited("s1", 0), at(3)), [Action::Finish { phase: Phase::Failed }]);
    assert_eq!((s.phase(&pod), s.exit_code(&pod)), (Phase::Failed, Some(9)));
}

#[test]
fn a_pod_completes_though_its_sidecar_runs_and_whatever_it_exits_with() {
    let pod = pod(RestartPolicy::Never, "S:s M:x");
    let mut s = run_to_start(&pod);
    assert_eq!(s.step(&pod, exited("s", 5), at(10)), [start("s", 1)], "sidecars restart under Never too");
    s.step(&pod, started("s"), at(10));
    assert_eq!(s.step(&pod, exited("x", 0), at(11)), [asked("s", 41), wake(41)]);
    assert_eq!(s.step(&pod, exited("s", 143), at(12)), [Action::Finish { phase: Phase::Succeeded }]);
    assert_eq!(s.exit_code(&pod), Some(0));
}

#[test]
fn a_sidecar_in_back_off_does_not_hold_up_the_end() {
    let pod = pod(RestartPolicy::Never, "S:s M:x");
    let mut s = run_to_start(&pod);
    s.step(&pod, exited("s", 5), at(10));
    s.step(&pod, started("s"), at(10));
    assert_eq!(s.step(&pod, exited("s", 5), at(11)), [wake(21)]);
    assert_eq!(s.step(&pod, exited("x", 3), at(12)), [Action::Finish { phase: Phase::Failed }]);
    assert_eq!(s.exit_code(&pod), Some(3));
}

#[test]
fn the_exit_code_is_that_of_the_first_failure() {
    let pod = pod(RestartPolicy::Never, "M:x M:y M:z");
    let mut s = run_to_start(&pod);
    s.step(&pod, exited("z", 0), at(10));
    s.step(&pod, exited("y", 4), at(11));
    assert_eq!(s.exit_code(&pod), None);
    assert_eq!(s.step(&pod, exited("x", 3), at(12)), [Action::Finish { phase: Phase::Failed }]);
    assert_eq!(s.exit_code(&pod), Some(4));
}

#[test]
fn on_failure_restarts_failures_only() {
    let pod = pod(RestartPolicy::OnFailure, "M:x M:y");
    let mut s = run_to_start(&pod);
    assert_eq!(s.step(&pod, exited("x", 0), at(10)), []);
    assert_eq!(s.step(&pod, exited("y", 1), at(11)), [start("y", 1)]);
    s.step(&pod, started("y"), at(11));
    assert_eq!(s.step(&pod, exited("y", 0), at(12)), [Action::Finish { phase: Phase::Succeeded }]);
}

#[test]
fn a_container_that_cannot_start_follows_the_restart_policy() {
    let never = pod(RestartPolicy::Never, "M:x");
    let failed = || Event::ContainerFailedToStart {
        name: "x".into(),
        reason: "StartError".into(),
        message: "unknown import".into(),
    };
    let mut s = State::new(&never, BackoffPolicy::default(), at(0));
    s.step(&never, Event::SandboxReady, at(0));
    assert_eq!(s.step(&never, failed(), at(1)), [Action::Finish { phase: Phase::Failed }]);
    assert_eq!(s.exit_code(&never), Some(128));

    let always = pod(RestartPolicy::Always, "M:x");
    let mut s = State::new(&always, BackoffPolicy::default(), at(0));
    s.step(&always, Event::SandboxReady, at(0));
    assert_eq!(s.step(&always, failed(), at(1)), [start("x", 1)]);
    assert_eq!(s.step(&always, failed(), at(2)), [wake(12)]);
}

#[test]
fn a_stop_asks_mains_then_sidecars_and_kills_at_the_deadline() {
    let pod = pod(RestartPolicy::Always, "S:s1 S:s2 M:x M:y");
    let mut s = run_to_start(&pod);
    assert_eq!(s.step(&pod, stop(10), at(10)), [asked("x", 20), asked("y", 20), wake(20)]);
    assert_eq!(s.step(&pod, exited("x", 0), at(11)), [wake(20)], "no restart while stopping");
    assert_eq!(
        s.step(&pod, Event::Tick, at(20)),
        [asked("s1", 22), asked("s2", 22), kill("y"), wake(22)],
        "a sidecar whose turn never came has its window"
    );
    assert_eq!(s.step(&pod, exited("y", 137), at(20)), [wake(22)]);
    assert_eq!(s.step(&pod, exited("s2", 0), at(21)), [wake(22)]);
    assert_eq!(s.step(&pod, Event::Tick, at(22)), [kill("s1")]);
    assert_eq!(s.step(&pod, exited("s1", 137), at(22)), [Action::Finish { phase: Phase::Failed }]);
    assert_eq!(s.exit_code(&pod), Some(128 + 2), "the stop decided it, not the container that was killed");
}

#[test]
fn a_second_stop_shortens_and_never_lengthens() {
    let pod = pod(RestartPolicy::Always, "M:x");
    let mut s = run_to_start(&pod);
    s.step(&pod, stop(30), at(10));
    assert_eq!(s.step(&pod, stop(60), at(11)), [wake(40)]);
    assert_eq!(s.step(&pod, stop(5), at(12)), [wake(17)]);
    assert_eq!(
        s.step(&pod, Event::KillRequested { cause: StopCause::Signal(2) }, at(13)),
        [kill("x")],
        "a kill waits for no window"
    );
    assert_eq!(s.step(&pod, Event::Tick, at(14)), []);
}

#[test]
fn a_stop_that_all_obey_succeeds_unless_time_was_up() {
    let pod = pod(RestartPolicy::Always, "M:x");
    for (cause, code) in [(StopCause::Signal(15), 0), (StopCause::Timeout, EXIT_TIMED_OUT)] {
        let mut s = run_to_start(&pod);
        s.step(&pod, Event::StopRequested { cause, grace: Duration::from_secs(10) }, at(10));
        assert_eq!(s.step(&pod, exited("x", 0), at(11)), [Action::Finish { phase: Phase::Succeeded }]);
        assert_eq!(s.exit_code(&pod), Some(code));
    }
}

#[test]
fn a_stop_during_a_start_asks_the_starting_container() {
    let pod = pod(RestartPolicy::Always, "M:x");
    let mut s = State::new(&pod, BackoffPolicy::default(), at(0));
    s.step(&pod, Event::SandboxReady, at(0));
    assert_eq!(s.step(&pod, stop(5), at(1)), [asked("x", 6), wake(6)]);
    assert_eq!(s.step(&pod, started("x"), at(2)), [wake(6)]);
    assert_eq!(s.step(&pod, Event::Tick, at(6)), [kill("x")]);
}

#[test]
fn a_pod_stopped_before_it_had_a_sandbox_fails_with_the_signal() {
    let pod = pod(RestartPolicy::Always, "M:x");
    let mut s = State::new(&pod, BackoffPolicy::default(), at(0));
    assert_eq!(s.step(&pod, stop(30), at(1)), [Action::Finish { phase: Phase::Failed }]);
    assert_eq!(s.exit_code(&pod), Some(130));
    assert_eq!(s.step(&pod, Event::SandboxReady, at(2)), []);
}

#[test]
fn the_active_deadline_counts_from_acceptance_and_fails_the_pod() {
    let mut pod = pod(RestartPolicy::Always, "M:x");
    pod.active_deadline = Some(Duration::from_secs(15));
    let mut s = State::new(&pod, BackoffPolicy::default(), at(0));
    assert_eq!(s.step(&pod, Event::SandboxReady, at(1)), [start("x", 0), wake(15)]);
    s.step(&pod, started("x"), at(1));
    assert_eq!(s.step(&pod, Event::Tick, at(15)), [asked("x", 45), wake(45)]);
    assert_eq!(s.step(&pod, exited("x", 0), at(16)), [Action::Finish { phase: Phase::Failed }]);
    assert_eq!(s.exit_code(&pod), Some(EXIT_TIMED_OUT));
}

#[test]
fn a_policy_of_its_own_overrides_the_pods() {
    let containers = vec![
        container("once", Role::Main, Some(RestartPolicy::Never)),
        container("retry", Role::Main, Some(RestartPolicy::OnFailure)),
    ];
    let pod = pod_of(RestartPolicy::Always, containers);
    let mut s = run_to_start(&pod);
    assert_eq!(s.step(&pod, exited("once", 1), at(10)), []);
    assert_eq!(s.step(&pod, exited("retry", 1), at(10)), [start("retry", 1)]);
    s.step(&pod, started("retry"), at(10));
    assert_eq!(s.step(&pod, exited("retry", 0), at(11)), [Action::Finish { phase: Phase::Failed }]);
}

/// One move of a random history. Numbers choose among what is possible at that point.
#[derive(Debug, Clone)]
enum Move {
    /// The n-th live container gets on: it starts or fails to, it ends.
    Advance {
        which: usize,
        code: u8,
        fails_to_start: bool,
    },
    Wait {
        ms: u64,
    },
    Stop {
        grace: u64,
    },
    Kill,
    /// An event that does not fit: it must not matter.
    Stray {
        which: usize,
        exit: bool,
    },
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let code = prop_oneof![3 => Just(0_u8), 2 => 1..=255_u8];
    let one = prop_oneof![
        12 => (0..8_usize, code, prop::bool::weighted(0.1))
            .prop_map(|(which, code, fails_to_start)| Move::Advance { which, code, fails_to_start }),
        6 => prop_oneof![0..3_000_u64, 0..700_000_u64].prop_map(|ms| Move::Wait { ms }),
        1 => (0..60_u64).prop_map(|grace| Move::Stop { grace }),
        1 => prop::bool::weighted(0.2).prop_map(|k| if k { Move::Kill } else { Move::Wait { ms: 1 } }),
        2 => (0..8_usize, any::<bool>()).prop_map(|(which, exit)| Move::Stray { which, exit }),
    ];
    vec(one, 0..120)
}

fn pods() -> impl Strategy<Value = Pod> {
    use RestartPolicy::{Always, Never, OnFailure};
    let policy = prop_oneof![Just(Always), Just(OnFailure), Just(Never)];
    let init = prop_oneof![
        Just((Role::Sidecar, Some(Always))),
        prop_oneof![3 => Just(None), 1 => Just(Some(Never)), 1 => Just(Some(OnFailure))]
            .prop_map(|own| (Role::Init, own)),
    ];
    let main = prop_oneof![4 => Just(None), 1 => Just(Some(Never)), 1 => Just(Some(OnFailure)), 1 => Just(Some(Always))]
        .prop_map(|own| (Role::Main, own));
    let deadline = prop::option::weighted(0.3, 1..2000_u64);
    (policy, vec(init, 0..4), vec(main, 1..4), deadline, 0..60_u64).prop_map(
        |(policy, init, main, deadline, grace)| {
            let all = init.into_iter().chain(main).enumerate();
            let all = all.map(|(n, (role, own))| container(&format!("c{n}"), role, own)).collect();
            let mut pod = pod_of(policy, all);
            pod.active_deadline = deadline.map(Duration::from_secs);
            pod.termination_grace = Duration::from_secs(grace);
            pod
        },
    )
}

/// A pod under test: runs moves and checks every rule after each of them.
struct Model<'a> {
    pod: &'a Pod,
    state: State,
    ms: u64,
    wake_at: Option<u64>,
    killed: bool,
    finished: bool,
}

impl<'a> Model<'a> {
    fn new(pod: &'a Pod) -> Self {
        let state = State::new(pod, BackoffPolicy::default(), at_ms(0));
        Self { pod, state, ms: 0, wake_at: None, killed: false, finished: false }
    }

    fn live(&self) -> Vec<(String, bool)> {
        let live = self.state.each(self.pod).filter(|(_, r)| r.state.is_live());
        live.map(|(spec, r)| (spec.name.clone(), r.state.is_running())).collect()
    }

    fn make(&mut self, m: &Move) {
        match *m {
            Move::Advance { which, code, fails_to_start } => {
                let live = self.live();
                if live.is_empty() {
                    return self.event(Event::Tick);
                }
                let (name, running) = &live[which % live.len()];
                self.event(match (running, fails_to_start) {
                    (true, _) => exited(name, code),
                    (false, true) => Event::ContainerFailedToStart {
                        name: name.clone(),
                        reason: "StartError".into(),
                        message: "no".into(),
                    },
                    (false, false) => started(name),
                });
            }
            Move::Wait { ms } => self.wait_until(self.ms + ms),
            Move::Stop { grace } => self.event(stop(grace)),
            Move::Kill => self.kill(),
            Move::Stray { which, exit } => {
                let names: Vec<_> = self.pod.all_containers().map(|c| c.name.clone()).collect();
                let name = &names[which % names.len()];
                if !self.live().iter().any(|(live, _)| live == name) {
                    self.event(if exit { exited(name, 1) } else { started(name) });
                }
            }
        }
    }

    fn kill(&mut self) {
        self.killed = true;
        self.event(Event::KillRequested { cause: StopCause::Signal(2) });
    }

    fn wait_until(&mut self, end: u64) {
        while let Some(wake_at) = self.wake_at.filter(|at| *at <= end) {
            self.ms = wake_at;
            self.event(Event::Tick);
        }
        self.ms = end;
    }

    fn event(&mut self, event: Event) {
        let now = at_ms(self.ms);
        let before = self.state.clone();
        self.state.apply(self.pod, event, now);
        let actions = decide(self.pod, &self.state, now);
        self.wake_at = None;
        for action in &actions {
            self.check(action);
            self.state.record(self.pod, action, now);
        }
        self.check_progress(&before, &actions);
    }

    fn check(&mut self, action: &Action) {
        let (pod, state, now) = (self.pod, &self.state, Duration::from_millis(self.ms));
        assert!(!self.finished, "a pod that has ended does nothing: {action:?}");
        let record =
            |name: &str| state.each(pod).enumerate().find(|(_, (spec, _))| spec.name == name).unwrap();
        match action {
            Action::Start { container, restart } => {
                let (index, (spec, record)) = record(container);
                assert!(!state.is_ending() && state.sandbox_ready);
                assert!(!record.state.is_live());
                match &record.state {
                    ContainerState::Terminated(ended) => {
                        assert_eq!(*restart, record.restarts + 1);
                        assert!(is_restarted(pod, spec, &ended.exit));
                        assert!(record.backoff.ready_at(ended.finished_at.mono) <= now);
                    }
                    _ => assert_eq!(*restart, 0),
                }
                for (spec, earlier) in state.each(pod).take(index) {
                    match spec.role {
                        Role::Init => assert!(earlier.has_succeeded(), "{container} before {}", spec.name),
                        Role::Sidecar => assert!(earlier.has_run(), "{container} before {}", spec.name),
                        Role::Main | Role::Ephemeral => {}
                    }
                }
            }
            Action::Hook { .. } | Action::Probe { .. } => {}
            Action::Stop { container, deadline, .. } => {
                let (index, (spec, record)) = record(container);
                assert!(record.state.is_live() && *deadline >= now + MIN_STOP_WINDOW);
                let grace_left = state.stop_deadline().unwrap() > now;
                let in_the_way = state.each(pod).enumerate().any(|(at, (other, record))| {
                    let first = other.role == Role::Main || (other.role == Role::Sidecar && at > index);
                    first && record.state.is_live()
                });
                assert!(
                    !(spec.role == Role::Sidecar && grace_left && in_the_way),
                    "{container} is too early"
                );
            }
            Action::Kill { container } => {
                assert!(record(container).1.1.state.is_live());
                assert!(self.killed || state.stop_deadline().unwrap() <= now, "killed within its grace");
            }
            Action::Finish { phase } => {
                assert!(self.live().is_empty());
                assert!(*phase >= Phase::Succeeded);
                self.finished = true;
            }
            Action::WakeAt(wake_at) => {
                assert!(*wake_at > now, "a timer in the past would spin");
                self.wake_at = Some(u64::try_from(wake_at.as_nanos().div_ceil(1_000_000)).unwrap());
            }
        }
    }

    fn check_progress(&self, before: &State, actions: &[Action]) {
        let (pod, state, now) = (self.pod, &self.state, at_ms(self.ms));
        let (was, is) = (before.phase(pod), state.phase(pod));
        assert!(was <= is, "the phase went back from {was:?} to {is:?}");
        assert!(was < Phase::Succeeded || was == is, "a final phase changed");
        assert_eq!(is >= Phase::Succeeded, self.finished);
        assert!(before.is_ending() <= state.is_ending());
        if let (Some(was), Some(is)) = (before.stop_deadline(), state.stop_deadline()) {
            assert!(is <= was, "grace grew");
        }
        for ((spec, was), (_, is)) in before.each(pod).zip(state.each(pod)) {
            assert!(was.restarts <= is.restarts && is.restarts <= was.restarts + 1);
            let done = was.state.termination().filter(|ended| !is_restarted(pod, spec, &ended.exit));
            assert!(done.is_none() || was.state == is.state, "{} ran again", spec.name);
        }
        let again = decide(pod, state, now);
        assert!(again.iter().all(|a| matches!(a, Action::WakeAt(_))), "{again:?} repeats {actions:?}");
        assert_eq!(state.exit_code(pod).is_some(), self.finished);
        if self.finished {
            assert_eq!(state.exit_code(pod) == Some(0), is == Phase::Succeeded);
        }
        let timers = actions.iter().filter(|a| matches!(a, Action::WakeAt(_))).count();
        assert!(timers == 0 || (timers == 1 && matches!(actions.last(), Some(Action::WakeAt(_)))));
        let mains_over = state.each(pod).filter(|(spec, _)| spec.role == Role::Main).all(|(spec, record)| {
            record.state.termination().is_some_and(|ended| !is_restarted(pod, spec, &ended.exit))
        });
        assert!(!mains_over || state.is_ending(), "something holds up a pod whose main containers are done");
        let status = pod_status(pod, state, &Facts::default());
        assert_eq!(status.phase.as_deref(), Some(is.as_str()));
        for condition in status.conditions.into_iter().flatten() {
            assert!(condition.last_transition_time.unwrap().0 <= now.wall);
        }
    }

    /// Delivers the answers to all orders, as a runner that obeys would, until the pod has ended.
    fn obey(&mut self, code: u8) {
        for _ in 0..100 {
            if self.finished {
                return;
            }
            if let Some((name, _)) = self.live().iter().find(|(name, _)| {
                let state = self.state.container(self.pod, name).unwrap();
                state.stopping() != Some(crate::container::state::Stopping::No)
            }) {
                self.event(exited(name, code));
            } else {
                self.wait_until(self.wake_at.expect("a pod that waits for nothing never ends"));
            }
        }
        panic!("the pod does not end: {:?}", self.state);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_rule_holds_over_any_history(pod in pods(), moves in moves(), code in 0..2_u8) {
        let mut model = Model::new(&pod);
        model.event(Event::SandboxReady);
        for m in &moves {
            model.make(m);
        }
        model.event(stop(30));
        model.obey(code);
        model.event(Event::SandboxReady);
        model.make(&Move::Stop { grace: 0 });
    }

    #[test]
    fn with_never_and_exits_of_0_a_pod_succeeds(mut pod in pods(), order in vec(0..8_usize, 0..60)) {
        pod.restart_policy = RestartPolicy::Never;
        pod.active_deadline = None;
        for container in &mut pod.containers {
            container.restart_policy = None;
        }
        let mut model = Model::new(&pod);
        model.event(Event::SandboxReady);
        for which in order {
            model.make(&Move::Advance { which, code: 0, fails_to_start: false });
            model.make(&Move::Wait { ms: 500 });
        }
        // From here on the sidecars stay up, and everything else does its work.
        for _ in 0..50 {
            for (name, running) in model.live() {
                let spec = pod.all_containers().find(|c| c.name == name).unwrap();
                if !running {
                    model.event(started(&name));
                } else if spec.role != Role::Sidecar {
                    model.event(exited(&name, 0));
                }
            }
            model.wait_until(model.ms + 300_000);
            if model.state.is_ending() {
                break;
            }
        }
        model.obey(0);
        prop_assert_eq!(model.state.exit_code(&pod), Some(0));
        prop_assert_eq!(model.state.phase(&pod), Phase::Succeeded);
    }
}
