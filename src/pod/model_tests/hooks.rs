//! postStart and preStop.

use super::*;

const POST: HookKind = HookKind::PostStart;
const PRE: HookKind = HookKind::PreStop;

fn with_hooks(mut pod: Pod, names: &[&str], post_start: bool, pre_stop: bool) -> Pod {
    for name in names {
        let hooks = &mut of(&mut pod, name).hooks;
        hooks.post_start = a_hook().filter(|_| post_start);
        hooks.pre_stop = a_hook().filter(|_| pre_stop);
    }
    pod
}

fn waits_for(pod: &Pod, state: &State, index: usize) -> Option<String> {
    let status = &pod_status(pod, state, &Facts::default()).container_statuses.unwrap()[index];
    status.state.clone().unwrap().waiting.and_then(|waiting| waiting.reason)
}

#[test]
fn post_start_gates_the_next_container() {
    let pod = with_hooks(pod(RestartPolicy::Always, "S:s M:x M:y M:z"), &["s", "x"], true, false);
    let (mut s, first) = ready(&pod);
    assert_eq!(first, [start("s", 0)]);
    assert_eq!(s.step(&pod, started("s"), at(1)), [hook("s", 0, POST)]);
    assert_eq!(s.step(&pod, hook_ended("s", 0, POST, None), at(2)), [start("x", 0)]);
    assert_eq!(s.step(&pod, started("x"), at(3)), [hook("x", 0, POST)]);
    assert_eq!(s.step(&pod, hook_ended("x", 0, POST, None), at(4)), [start("y", 0), start("z", 0)]);
}

#[test]
fn until_post_start_is_over_the_container_is_being_created() {
    let mut pod = with_hooks(pod(RestartPolicy::Always, "M:x"), &["x"], true, false);
    of(&mut pod, "x").probes.readiness = Some(a_probe());
    let (mut s, _) = ready(&pod);
    assert_eq!(s.step(&pod, started("x"), at(1)), [hook("x", 0, POST)], "no probe yet");
    assert_eq!(waits_for(&pod, &s, 0).as_deref(), Some("ContainerCreating"));
    assert_eq!(s.phase(&pod), Phase::Pending);
    assert_eq!(s.step(&pod, hook_ended("x", 1, POST, None), at(2)), [], "of another run");
    let probes = s.step(&pod, hook_ended("x", 0, POST, None), at(3));
    assert_eq!(probes, [probe("x", 0, ProbeKind::Readiness)]);
    assert_eq!((waits_for(&pod, &s, 0), s.phase(&pod)), (None, Phase::Running));
}

#[test]
fn a_failed_post_start_kills_and_the_policy_decides() {
    for (policy, code, restarts) in [
        (RestartPolicy::Always, 0, true),
        (RestartPolicy::OnFailure, 137, true),
        (RestartPolicy::OnFailure, 0, true),
        (RestartPolicy::Never, 137, false),
    ] {
        let pod = with_hooks(pod(policy, "M:x M:y"), &["x"], true, false);
        let (mut s, _) = ready(&pod);
        s.step(&pod, started("x"), at(1));
        let actions = s.step(&pod, hook_ended("x", 0, POST, Some("no")), at(2));
        assert_eq!(actions, [stopped("x", 32, StopReason::PostStartFailed), wake(32)]);
        assert_eq!(s.step(&pod, Event::Tick, at(32)), [kill("x")]);
        let actions = s.step(&pod, exited("x", code), at(33));
        assert_eq!(actions.contains(&start("x", 1)), restarts, "{policy:?} {code}");
        assert!(actions.contains(&start("y", 0)), "the next one waits no longer");
    }
}

#[test]
fn a_stop_abandons_post_start() {
    let pod = with_hooks(pod(RestartPolicy::Always, "M:x"), &["x"], true, true);
    let (mut s, _) = ready(&pod);
    s.step(&pod, started("x"), at(1));
    assert_eq!(s.step(&pod, stop(10), at(2)), [hook("x", 0, PRE), wake(12)]);
    assert_eq!(s.step(&pod, hook_ended("x", 0, POST, Some("late")), at(3)), [wake(12)]);
    assert_eq!(s.step(&pod, hook_ended("x", 0, PRE, None), at(4)), [asked("x", 12), wake(12)]);
}

#[test]
fn pre_stop_runs_first_and_within_the_grace_period() {
    let pod = with_hooks(pod(RestartPolicy::Always, "M:x M:y"), &["x"], false, true);
    for error in [None, Some("connection refused")] {
        let mut s = run_to_start(&pod);
        assert_eq!(s.step(&pod, stop(10), at(10)), [hook("x", 0, PRE), asked("y", 20), wake(20)]);
        assert_eq!(s.step(&pod, hook_ended("x", 0, PRE, error), at(13)), [asked("x", 20), wake(20)]);
        assert_eq!(s.step(&pod, hook_ended("x", 0, PRE, error), at(14)), [wake(20)]);
        assert_eq!(s.step(&pod, Event::Tick, at(20)), [kill("x"), kill("y")]);
    }
}

#[test]
fn a_pre_stop_that_takes_all_the_grace_leaves_the_window() {
    let pod = with_hooks(pod(RestartPolicy::Always, "M:x"), &["x"], false, true);
    let mut s = run_to_start(&pod);
    assert_eq!(s.step(&pod, stop(10), at(10)), [hook("x", 0, PRE), wake(20)]);
    assert_eq!(s.step(&pod, Event::Tick, at(20)), [asked("x", 22), wake(22)]);
    assert_eq!(s.step(&pod, hook_ended("x", 0, PRE, None), at(21)), [wake(22)], "too late");
    assert_eq!(s.step(&pod, Event::Tick, at(22)), [kill("x")]);
}

#[test]
fn a_second_stop_cuts_pre_stop_short() {
    let pod = with_hooks(pod(RestartPolicy::Always, "M:x"), &["x"], false, true);
    let mut s = run_to_start(&pod);
    s.step(&pod, stop(30), at(10));
    assert_eq!(s.step(&pod, stop(0), at(11)), [asked("x", 13), wake(13)]);
    let killed = s.step(&pod, Event::KillRequested { cause: StopCause::Signal(2) }, at(12));
    assert_eq!(killed, [kill("x")]);
}

#[test]
fn without_grace_there_is_no_pre_stop() {
    let pod = with_hooks(pod(RestartPolicy::Always, "M:x"), &["x"], false, true);
    let mut s = run_to_start(&pod);
    assert_eq!(s.step(&pod, stop(0), at(10)), [asked("x", 12), wake(12)]);
}

#[test]
fn a_container_that_ends_during_pre_stop_has_ended() {
    let pod = with_hooks(pod(RestartPolicy::Always, "M:x"), &["x"], false, true);
    let mut s = run_to_start(&pod);
    s.step(&pod, stop(10), at(10));
    assert_eq!(s.step(&pod, exited("x", 0), at(11)), [Action::Finish { phase: Phase::Succeeded }]);
}

/// As the kubelet's `killContainer`: the hooks of all run at once, then each waits for its turn.
#[test]
fn pre_stop_of_sidecars_runs_at_once_and_they_are_asked_in_turn() {
    let pod = with_hooks(pod(RestartPolicy::Always, "S:s1 S:s2 M:x"), &["s1", "s2", "x"], false, true);
    let mut s = run_to_start(&pod);
    let hooks = s.step(&pod, stop(10), at(10));
    assert_eq!(hooks, [hook("s1", 0, PRE), hook("s2", 0, PRE), hook("x", 0, PRE), wake(20)]);
    assert_eq!(s.step(&pod, hook_ended("s1", 0, PRE, None), at(11)), [wake(20)]);
    assert_eq!(s.step(&pod, hook_ended("s2", 0, PRE, None), at(11)), [wake(20)]);
    assert_eq!(s.step(&pod, hook_ended("x", 0, PRE, None), at(12)), [asked("x", 20), wake(20)]);
    assert_eq!(s.step(&pod, exited("x", 0), at(13)), [asked("s2", 20), wake(20)]);
    assert_eq!(s.step(&pod, exited("s2", 0), at(14)), [asked("s1", 20), wake(20)]);
}

#[test]
fn pre_stop_runs_for_a_container_that_is_stopped_alone() {
    let pod = with_hooks(pod(RestartPolicy::Always, "M:x"), &["x"], true, true);
    let (mut s, _) = ready(&pod);
    s.step(&pod, started("x"), at(1));
    s.step(&pod, hook_ended("x", 0, POST, None), at(1));
    let resized = Event::RestartRequested { name: "x".into() };
    assert_eq!(s.step(&pod, resized, at(2)), [hook("x", 0, PRE), wake(32)]);
    let actions = s.step(&pod, hook_ended("x", 0, PRE, None), at(3));
    assert_eq!(actions, [stopped("x", 32, StopReason::Resized), wake(32)]);
    assert_eq!(s.step(&pod, exited("x", 0), at(4)), [start("x", 1)]);
    assert_eq!(s.step(&pod, started("x"), at(5)), [hook("x", 1, POST)], "each run has its hooks");
}
