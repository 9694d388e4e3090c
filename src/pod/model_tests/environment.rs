//! A pod under random test: an environment that answers what the machine orders, when and as it likes, and what
//! must be true of each action.
//!
//! ```text
//! Move ─► Event ─► State::apply ─► decide ─► check each action ─► State::record ─► check what has changed
//!   ▲                                            │
//!   └── what is under way: hooks, probes, runs ◄─┘
//! ```

use proptest::prelude::*;

use super::*;
/// What was ordered and is not answered yet, besides the containers' exits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    Hook(HookKind),
    Probe(ProbeKind),
}

/// One move of a random history. Numbers choose among what is possible at that point.
#[derive(Debug, Clone)]
pub(super) enum Move {
    /// The n-th live container gets on: it starts or fails to, it ends.
    Advance {
        which: usize,
        code: u8,
        fails_to_start: bool,
    },
    /// The n-th live container, if it is starting, turns out to be configured wrongly.
    Misconfigure {
        which: usize,
    },
    /// What containers are configured from has changed.
    Reconfigure,
    /// The n-th hook or probe under way is over.
    Answer {
        which: usize,
        succeeds: bool,
    },
    Wait {
        ms: u64,
    },
    Stop {
        grace: u64,
    },
    Kill,
    Evict,
    Resize {
        which: usize,
    },
    Debug,
    Condition {
        holds: Option<bool>,
    },
    /// An event that does not fit: it must not matter.
    Stray {
        which: usize,
        what: u8,
    },
}

pub(super) fn moves() -> impl Strategy<Value = Move> {
    let code = prop_oneof![3 => Just(0_u8), 2 => 1..=255_u8];
    prop_oneof![
        60 => (0..8_usize, code, prop::bool::weighted(0.1))
            .prop_map(|(which, code, fails_to_start)| Move::Advance { which, code, fails_to_start }),
        20 => (0..8_usize).prop_map(|which| Move::Misconfigure { which }),
        4 => Just(Move::Reconfigure),
        160 => (0..8_usize, prop::bool::weighted(0.7))
            .prop_map(|(which, succeeds)| Move::Answer { which, succeeds }),
        80 => prop_oneof![3 => 0..15_000_u64, 1 => 0..700_000_u64].prop_map(|ms| Move::Wait { ms }),
        2 => (0..60_u64).prop_map(|grace| Move::Stop { grace }),
        1 => Just(Move::Kill),
        1 => Just(Move::Evict),
        8 => (0..8_usize).prop_map(|which| Move::Resize { which }),
        4 => Just(Move::Debug),
        8 => any::<Option<bool>>().prop_map(|holds| Move::Condition { holds }),
        16 => (0..8_usize, 0..7_u8).prop_map(|(which, what)| Move::Stray { which, what }),
    ]
}

/// A pod under test.
pub(super) struct Model {
    pub pod: Pod,
    pub state: State,
    pub ms: u64,
    pub wake_at: Option<u64>,
    pub orders: Vec<(String, u32, Order)>,
    killed: bool,
    pub finished: bool,
    /// The kill that each stop was told of: (container, run, at).
    told: Vec<(String, u32, Duration)>,
    /// The end of every run: (container, run).
    pub ended: Vec<(String, u32)>,
}

impl Model {
    pub(super) fn new(pod: Pod) -> Self {
        let state = State::new(&pod, BackoffPolicy::default(), at_ms(0));
        Self {
            pod,
            state,
            ms: 0,
            wake_at: None,
            orders: vec![],
            killed: false,
            finished: false,
            told: vec![],
            ended: vec![],
        }
    }

    /// The containers that live, and whether they run.
    pub(super) fn live(&self) -> Vec<(String, bool)> {
        let live = self.state.each(&self.pod).filter(|(_, r)| r.state.is_live());
        live.map(|(spec, r)| (spec.name.clone(), r.state.is_running())).collect()
    }

    fn name(&self, which: usize) -> String {
        let names: Vec<_> = self.pod.all_containers().map(|c| c.name.clone()).collect();
        names[which % names.len()].clone()
    }

    pub(super) fn make(&mut self, m: &Move) {
        match *m {
            Move::Advance { which, code, fails_to_start } => {
                let live = self.live();
                if live.is_empty() {
                    return self.event(Event::Tick);
                }
                let (name, running) = &live[which % live.len()];
                self.event(match (running, fails_to_start) {
                    (true, _) => exited(name, code),
                    (false, false) => started(name),
                    (false, true) => Event::ContainerFailedToStart {
                        name: name.clone(),
                        reason: "StartError".into(),
                        message: "no".into(),
                    },
                });
            }
            Move::Misconfigure { which } => {
                let starting: Vec<_> = self.live().into_iter().filter(|(_, running)| !running).collect();
                let Some((name, _)) = starting.get(which % starting.len().max(1)) else { return };
                self.event(misconfigured(name));
            }
            Move::Reconfigure => self.event(Event::ConfigurationChanged),
            Move::Answer { which, succeeds } => self.answer(which, succeeds),
            Move::Wait { ms } => self.wait_until(self.ms + ms),
            Move::Stop { grace } => self.event(stop(grace)),
            Move::Kill => {
                self.killed = true;
                self.event(Event::KillRequested { cause: StopCause::Signal(2) });
            }
            Move::Evict => self.event(Event::Evicted { message: "disk".into() }),
            Move::Resize { which } => self.event(Event::RestartRequested { name: self.name(which) }),
            Move::Debug if self.pod.ephemeral_containers.len() < 3 => {
                let name = format!("d{}", self.pod.ephemeral_containers.len());
                self.pod.ephemeral_containers.push(testing::container(&name, Role::Ephemeral));
                self.event(Event::EphemeralAdded);
            }
            Move::Debug => {}
            Move::Condition { holds } => {
                let gate = CustomCondition { name: "gate".into(), holds, reason: None, message: None };
                self.event(Event::ConditionSet(gate));
            }
            Move::Stray { which, what } => self.stray(which, what),
        }
    }

    fn answer(&mut self, which: usize, succeeds: bool) {
        if self.orders.is_empty() {
            return self.event(Event::Tick);
        }
        let (name, run, order) = self.orders.remove(which % self.orders.len());
        self.event(match order {
            Order::Hook(kind) => hook_ended(&name, run, kind, (!succeeds).then_some("no")),
            Order::Probe(kind) => probed(&name, run, kind, succeeds),
        });
    }

    /// Something late, or of another run, or of nobody: it changes nothing but what time does.
    fn stray(&mut self, which: usize, what: u8) {
        let name = self.name(which);
        let run = self.state.restarts(&self.pod, &name);
        let is_live = self.live().iter().any(|(live, _)| *live == name);
        let before = format!("{:?}", self.state.containers);
        let event = match what {
            0 if !is_live => exited(&name, 1),
            6 if !self.live().contains(&(name.clone(), false)) => misconfigured(&name),
            1 if !is_live => started(&name),
            2 => hook_ended(&name, run + 1, HookKind::PostStart, Some("of another run")),
            3 => probed(&name, run + 1, ProbeKind::Liveness, false),
            4 => exited("nobody", 1),
            _ => Event::EphemeralAdded,
        };
        self.state.apply(&self.pod, event, at_ms(self.ms));
        assert_eq!(before, format!("{:?}", self.state.containers), "a stray event matters");
        self.event(Event::Tick);
    }

    pub(super) fn wait_until(&mut self, end: u64) {
        while let Some(wake_at) = self.wake_at.filter(|at| *at <= end) {
            self.ms = wake_at;
            self.event(Event::Tick);
        }
        self.ms = end;
    }

    pub(super) fn event(&mut self, event: Event) {
        let now = at_ms(self.ms);
        let before = self.state.clone();
        self.state.apply(&self.pod, event, now);
        let actions = decide(&self.pod, &self.state, now);
        self.wake_at = None;
        for action in &actions {
            self.check(action);
            self.state.record(&self.pod, action, now);
        }
        self.check_progress(&before, &actions);
    }

    fn record(&self, name: &str) -> (usize, &Container, &ContainerRecord) {
        let mut each = self.state.each(&self.pod).enumerate();
        let (index, (spec, record)) = each.find(|(_, (spec, _))| spec.name == name).unwrap();
        (index, spec, record)
    }

    fn check(&mut self, action: &Action) {
        let now = Duration::from_millis(self.ms);
        assert!(!self.finished, "a pod that has ended does nothing: {action:?}");
        match action {
            Action::Start { container, restart } => self.check_start(container, *restart),
            Action::Hook { container, run, hook } => self.order(container, *run, Order::Hook(*hook)),
            Action::Probe { container, run, kind } => self.order(container, *run, Order::Probe(*kind)),
            Action::Stop { container, deadline, why } => {
                let (index, spec, record) = self.record(container);
                let stop = self.state.stop_of(record).unwrap();
                assert!(*deadline >= now + MIN_STOP_WINDOW && *why == stop.why);
                let stopping = record.state.stopping().unwrap();
                assert!(matches!(stopping, Stopping::No | Stopping::PreStop | Stopping::Prepared));
                let has_hook = spec.hooks.pre_stop.is_some() && record.state.is_running();
                let grace_left = stop.deadline > now;
                assert!(!(has_hook && grace_left && stopping != Stopping::Prepared), "before its preStop");
                let in_the_way = self.state.each(&self.pod).enumerate().any(|(at, (other, record))| {
                    let first = other.role == Role::Main || (other.role == Role::Sidecar && at > index);
                    first && record.state.is_live()
                });
                let waits = spec.role == Role::Sidecar && *why == StopReason::PodEnds;
                assert!(!(waits && grace_left && in_the_way), "{container} is too early");
                self.told.push((container.clone(), record.restarts, *deadline));
            }
            Action::Kill { container } => {
                let (_, _, record) = self.record(container);
                assert!(!matches!(record.state.stopping().unwrap(), Stopping::Killed), "killed once");
                let deadline = self.state.stop_of(record).unwrap().deadline;
                assert!(self.killed || deadline <= now, "killed within its grace");
                let told = self.told.iter().find(|(c, run, _)| c == container && *run == record.restarts);
                assert!(self.killed || told.is_some(), "killed without being asked");
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

    fn check_start(&self, container: &str, restart: u32) {
        let (pod, state, now) = (&self.pod, &self.state, Duration::from_millis(self.ms));
        let (index, spec, record) = self.record(container);
        assert!(!state.is_ending() && state.sandbox_ready);
        assert!(!record.state.is_live() && record.not_before() <= now);
        assert!(!self.ended.contains(&(container.to_owned(), restart)), "a run never runs again");
        if record.has_begun() {
            assert_eq!(restart, record.restarts + 1);
            assert!(record.restart_at(pod, spec).unwrap() <= now);
            assert_ne!(spec.role, Role::Ephemeral);
            return;
        }
        assert_eq!(restart, 0);
        for (before, earlier) in state.each(pod).take(index).filter(|_| spec.role != Role::Ephemeral) {
            let passed = match before.role {
                Role::Init => earlier.has_succeeded(),
                Role::Sidecar => earlier.has_run(),
                Role::Main => earlier.has_begun() || earlier.misconfigured.is_some(),
                Role::Ephemeral => true,
            };
            assert!(passed, "{container} before {}", before.name);
            // One that could not be started in its turn comes later, and holds up nobody any more.
            let mut later = state.each(pod).skip_while(|(spec, _)| spec.name != before.name).skip(1);
            let is_passed = later.any(|(spec, record)| spec.role != Role::Ephemeral && record.has_begun());
            let is_held = earlier.restarts == 0 && earlier.is_held_by_post_start(before) && !is_passed;
            assert!(!is_held, "{container} before the postStart of {}", before.name);
        }
    }

    fn order(&mut self, container: &str, run: u32, order: Order) {
        let (_, spec, record) = self.record(container);
        let stop = self.state.stop_of(record);
        assert!(record.state.is_running() && record.restarts == run);
        match order {
            Order::Hook(HookKind::PostStart) => {
                assert!(stop.is_none() && spec.hooks.post_start.is_some());
                assert!(!record.run.post_start_ordered, "once in a run");
            }
            Order::Hook(HookKind::PreStop) => {
                assert!(spec.hooks.pre_stop.is_some());
                assert_eq!(record.state.stopping(), Some(Stopping::No), "first, and once in a run");
                assert!(stop.unwrap().deadline > Duration::from_millis(self.ms));
            }
            Order::Probe(ProbeKind::Startup) => assert!(stop.is_none() && !record.is_started()),
            Order::Probe(ProbeKind::Liveness) => assert!(stop.is_none() && record.is_started()),
            Order::Probe(ProbeKind::Readiness) => {
                assert!(record.is_started() && record.state.stopping() != Some(Stopping::Killed));
            }
        }
        let this = (container.to_owned(), run, order);
        assert!(!self.orders.contains(&this), "two at once: {this:?}");
        // The worker abandons the hook before.
        self.orders.retain(|(c, _, o)| {
            !(c == container && matches!((o, &this.2), (Order::Hook(_), Order::Hook(_))))
        });
        self.orders.push(this);
    }

    /// Ends what was asked to end, as a runner that obeys would, or only what was killed, until the pod has ended:
    /// at most its grace and the windows of its containers later.
    pub(super) fn obey(&mut self, code: u8, obedient: bool) {
        let grace = 30_000.max(self.pod.termination_grace.as_millis() as u64);
        let bound = self.ms + grace + 3_000;
        for _ in 0..10_000 {
            if self.finished {
                assert!(self.ms <= bound, "it took {} ms too long", self.ms - bound);
                return;
            }
            let ends = |stopping| match stopping {
                Some(Stopping::Asked { .. }) => obedient,
                Some(Stopping::Killed) => true,
                _ => false,
            };
            let container = |name: &str| self.state.container(&self.pod, name).unwrap();
            let next = self.live().into_iter().find(|(name, _)| ends(container(name).stopping()));
            match next {
                Some((name, _)) => self.event(exited(&name, if obedient { code } else { 137 })),
                None if obedient && !self.orders.is_empty() => self.answer(0, true),
                None => self.wait_until(self.wake_at.expect("a pod that waits for nothing never ends")),
            }
        }
        panic!("the pod does not end: {:?}", self.state);
    }
}
