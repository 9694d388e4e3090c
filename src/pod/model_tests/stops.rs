//! Ends: of the pod and of single containers.

use super::*;

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
fn an_evicted_pod_has_a_second_and_fails() {
    let pod = pod(RestartPolicy::Always, "M:x");
    let mut s = run_to_start(&pod);
    let evicted = || Event::Evicted { message: "emptyDir \"cache\" exceeds its limit".into() };
    assert_eq!(s.step(&pod, evicted(), at(10)), [asked("x", 12), wake(12)], "and its window");
    assert_eq!(pod_status(&pod, &s, &Facts::default()).reason, None, "not while something lives");
    assert_eq!(s.step(&pod, exited("x", 0), at(11)), [Action::Finish { phase: Phase::Failed }]);
    assert_eq!(s.exit_code(&pod), Some(137));
    let status = pod_status(&pod, &s, &Facts::default());
    assert_eq!(status.reason.as_deref(), Some("Evicted"));
    assert_eq!(status.message.as_deref(), Some("emptyDir \"cache\" exceeds its limit"));
    let conditions = status.conditions.unwrap();
    let target = conditions.iter().find(|condition| condition.type_ == "DisruptionTarget").unwrap();
    assert_eq!((target.status.as_str(), target.reason.as_deref()), ("True", Some("TerminationByKubelet")));
}

#[test]
fn what_ends_already_is_not_evicted() {
    let pod = pod(RestartPolicy::Always, "M:x");
    let mut s = run_to_start(&pod);
    s.step(&pod, stop(30), at(10));
    assert_eq!(s.step(&pod, Event::Evicted { message: "disk".into() }, at(11)), [wake(12)], "but it hurries");
    assert_eq!(s.step(&pod, exited("x", 0), at(12)), [Action::Finish { phase: Phase::Succeeded }]);
    assert_eq!(pod_status(&pod, &s, &Facts::default()).reason, None);
}

#[test]
fn a_stop_of_the_pod_shortens_that_of_a_container() {
    let mut pod = pod(RestartPolicy::Always, "S:s M:x");
    let probes = &mut of(&mut pod, "s").probes;
    probes.liveness =
        Some(Probe { failure_threshold: 1, termination_grace: Some(Duration::from_secs(100)), ..a_probe() });
    let (mut s, _) = ready(&pod);
    s.step(&pod, started("s"), at(0));
    s.step(&pod, started("x"), at(0));
    let failed = StopReason::ProbeFailed(ProbeKind::Liveness);
    let actions = s.step(&pod, probed("s", 0, ProbeKind::Liveness, false), at(1));
    assert_eq!(actions, [stopped("s", 101, failed), wake(101)]);
    assert_eq!(s.step(&pod, stop(10), at(2)), [asked("x", 12), wake(12)]);
    assert_eq!(s.step(&pod, Event::Tick, at(12)), [kill("s"), kill("x")]);
    assert_eq!(s.step(&pod, exited("s", 137), at(12)), [], "it is not started again");
}
