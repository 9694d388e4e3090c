//! startup, liveness and readiness probes.

use super::*;

const STARTUP: ProbeKind = ProbeKind::Startup;
const LIVENESS: ProbeKind = ProbeKind::Liveness;
const READINESS: ProbeKind = ProbeKind::Readiness;

fn with(policy: RestartPolicy, kinds: &[ProbeKind], probe: &Probe) -> Pod {
    let mut pod = pod(policy, "M:x");
    let probes = &mut of(&mut pod, "x").probes;
    for kind in kinds {
        *match kind {
            ProbeKind::Startup => &mut probes.startup,
            ProbeKind::Liveness => &mut probes.liveness,
            ProbeKind::Readiness => &mut probes.readiness,
        } = Some(probe.clone());
    }
    pod
}

fn up(pod: &Pod) -> (State, Vec<Action>) {
    let (mut state, _) = ready(pod);
    let actions = state.step(pod, started("x"), at(0));
    (state, actions)
}

#[test]
fn a_probe_comes_after_its_delay_then_every_period_and_never_twice_at_once() {
    let delayed = Probe { initial_delay: Duration::from_secs(5), ..a_probe() };
    let pod = with(RestartPolicy::Always, &[READINESS], &delayed);
    let (mut s, actions) = up(&pod);
    assert_eq!(actions, [wake(5)]);
    assert_eq!(s.step(&pod, Event::Tick, at(5)), [probe("x", 0, READINESS)]);
    assert_eq!(s.step(&pod, Event::Tick, at(15)), [], "the one before is under way");
    assert_eq!(
        s.step(&pod, probed("x", 0, READINESS, true), at(16)),
        [probe("x", 0, READINESS)],
        "it is late"
    );
    assert_eq!(s.step(&pod, probed("x", 0, READINESS, true), at(17)), [wake(26)]);
}

#[test]
fn readiness_follows_its_thresholds_and_restarts_nothing() {
    let pod = with(RestartPolicy::Always, &[READINESS], &Probe { success_threshold: 2, ..a_probe() });
    let (mut s, _) = up(&pod);
    let mut now = 0;
    let readiness: Vec<bool> = [true, true, false, false, false, false, true, true]
        .map(|answer| {
            let actions = s.step(&pod, probed("x", 0, READINESS, answer), at(now));
            now += 10;
            assert_eq!(actions, [wake(now)]);
            assert_eq!(s.step(&pod, Event::Tick, at(now)), [probe("x", 0, READINESS)]);
            is_ready(&pod, &s)
        })
        .into();
    assert_eq!(readiness, [false, true, true, true, false, false, false, true]);
    assert_eq!(s.restarts(&pod, "x"), 0);
}

#[test]
fn a_failed_liveness_probe_restarts_with_back_off_and_is_on_hold_until_then() {
    let pod = with(RestartPolicy::Always, &[LIVENESS], &Probe { failure_threshold: 1, ..a_probe() });
    let (mut s, actions) = up(&pod);
    assert_eq!(actions, [probe("x", 0, LIVENESS)]);
    assert!(is_ready(&pod, &s), "alive until proven otherwise");
    let actions = s.step(&pod, probed("x", 0, LIVENESS, false), at(1));
    assert_eq!(actions, [stopped("x", 31, StopReason::ProbeFailed(LIVENESS)), wake(31)]);
    assert_eq!(s.step(&pod, Event::Tick, at(11)), [wake(31)], "no more probes");
    assert_eq!(s.step(&pod, Event::Tick, at(31)), [kill("x")]);
    assert_eq!(s.step(&pod, exited("x", 137), at(31)), [start("x", 1)]);
    assert_eq!(s.step(&pod, started("x"), at(32)), [probe("x", 1, LIVENESS)]);
    assert_eq!(s.step(&pod, probed("x", 0, LIVENESS, false), at(33)), [], "of the run before");
    s.step(&pod, probed("x", 1, LIVENESS, false), at(34));
    assert_eq!(s.step(&pod, exited("x", 0), at(35)), [wake(45)], "back-off");
    assert_eq!(s.step(&pod, Event::Tick, at(45)), [start("x", 2)]);
}

#[test]
fn what_failed_its_probe_is_restarted_on_failure_and_not_under_never() {
    for (policy, code, restarts) in [
        (RestartPolicy::OnFailure, 0, true),
        (RestartPolicy::OnFailure, 137, true),
        (RestartPolicy::Never, 0, false),
        (RestartPolicy::Never, 137, false),
    ] {
        let pod = with(policy, &[LIVENESS], &Probe { failure_threshold: 1, ..a_probe() });
        let (mut s, _) = up(&pod);
        s.step(&pod, probed("x", 0, LIVENESS, false), at(1));
        let actions = s.step(&pod, exited("x", code), at(2));
        assert_eq!(actions == [start("x", 1)], restarts, "{policy:?} {code}");
        if !restarts {
            // The phase is what the exit codes say, as ever.
            let phase = if code == 0 { Phase::Succeeded } else { Phase::Failed };
            assert_eq!(actions, [Action::Finish { phase }]);
        }
    }
}

#[test]
fn the_grace_of_a_probe_overrides_the_pods() {
    for kind in [STARTUP, LIVENESS] {
        let own = Some(Duration::from_secs(5));
        let pod = with(
            RestartPolicy::Always,
            &[kind],
            &Probe { failure_threshold: 1, termination_grace: own, ..a_probe() },
        );
        let (mut s, _) = up(&pod);
        let actions = s.step(&pod, probed("x", 0, kind, false), at(1));
        assert_eq!(actions, [stopped("x", 6, StopReason::ProbeFailed(kind)), wake(6)]);
    }
}

#[test]
fn startup_holds_the_others_off_and_is_then_over() {
    let pod = with(RestartPolicy::Always, &[STARTUP, LIVENESS, READINESS], &a_probe());
    let (mut s, actions) = up(&pod);
    assert_eq!(actions, [probe("x", 0, STARTUP)]);
    s.step(&pod, probed("x", 0, STARTUP, false), at(1));
    s.step(&pod, Event::Tick, at(10));
    assert!(!is_ready(&pod, &s));
    let started_of =
        |s: &State| pod_status(&pod, s, &Facts::default()).container_statuses.unwrap()[0].started;
    assert_eq!(started_of(&s), Some(false));
    let actions = s.step(&pod, probed("x", 0, STARTUP, true), at(13));
    assert_eq!(actions, [probe("x", 0, LIVENESS), probe("x", 0, READINESS)], "at once");
    assert_eq!(started_of(&s), Some(true));
    s.step(&pod, probed("x", 0, READINESS, true), at(13));
    assert!(is_ready(&pod, &s));
    s.step(&pod, probed("x", 0, LIVENESS, true), at(13));
    let later = s.step(&pod, Event::Tick, at(23));
    assert_eq!(later, [probe("x", 0, LIVENESS), probe("x", 0, READINESS)]);
}

#[test]
fn a_failed_startup_probe_restarts_and_all_begins_anew() {
    let pod =
        with(RestartPolicy::Always, &[STARTUP, READINESS], &Probe { failure_threshold: 2, ..a_probe() });
    let (mut s, _) = up(&pod);
    s.step(&pod, probed("x", 0, STARTUP, false), at(1));
    s.step(&pod, Event::Tick, at(10));
    let actions = s.step(&pod, probed("x", 0, STARTUP, false), at(11));
    assert_eq!(actions, [stopped("x", 41, StopReason::ProbeFailed(STARTUP)), wake(41)]);
    assert_eq!(s.step(&pod, exited("x", 0), at(12)), [start("x", 1)]);
    assert_eq!(s.step(&pod, started("x"), at(12)), [probe("x", 1, STARTUP)]);
    assert_eq!(s.step(&pod, probed("x", 1, STARTUP, false), at(13)), [wake(22)], "one failure of two again");
}

#[test]
fn a_restart_forgets_readiness() {
    let pod = with(RestartPolicy::Always, &[READINESS], &a_probe());
    let (mut s, _) = up(&pod);
    s.step(&pod, probed("x", 0, READINESS, true), at(1));
    assert!(is_ready(&pod, &s));
    s.step(&pod, exited("x", 1), at(2));
    s.step(&pod, started("x"), at(3));
    assert!(!is_ready(&pod, &s));
}

#[test]
fn while_the_pod_ends_readiness_goes_on_alone() {
    let pod =
        with(RestartPolicy::Always, &[LIVENESS, READINESS], &Probe { failure_threshold: 1, ..a_probe() });
    let (mut s, _) = up(&pod);
    s.step(&pod, probed("x", 0, READINESS, true), at(1));
    s.step(&pod, stop(30), at(2));
    assert_eq!(s.step(&pod, probed("x", 0, LIVENESS, false), at(3)), [wake(10)], "nothing comes of it");
    assert_eq!(s.step(&pod, Event::Tick, at(10)), [probe("x", 0, READINESS), wake(32)]);
    assert!(is_ready(&pod, &s));
    assert_eq!(s.step(&pod, probed("x", 0, READINESS, false), at(11)), [wake(20)]);
    assert!(!is_ready(&pod, &s));
    assert_eq!(s.step(&pod, Event::KillRequested { cause: StopCause::Signal(2) }, at(20)), [kill("x")]);
    assert_eq!(s.step(&pod, Event::Tick, at(30)), [], "what is killed is not probed");
}
