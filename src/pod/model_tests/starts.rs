//! Starts and restarts: order, policies, rules, back-off, ephemeral containers.

use super::*;
use crate::container::state::ContainerState;

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

#[test]
fn a_sidecar_lets_the_next_start_when_it_has_started() {
    let mut pod = pod(RestartPolicy::Always, "S:s M:x");
    of(&mut pod, "s").probes.startup = Some(a_probe());
    let (mut s, first) = ready(&pod);
    assert_eq!(first, [start("s", 0)]);
    assert_eq!(s.step(&pod, started("s"), at(1)), [probe("s", 0, ProbeKind::Startup)]);
    assert_eq!(s.step(&pod, probed("s", 0, ProbeKind::Startup, false), at(2)), [wake(11)]);
    assert_eq!(s.step(&pod, Event::Tick, at(11)), [probe("s", 0, ProbeKind::Startup)]);
    assert_eq!(s.step(&pod, probed("s", 0, ProbeKind::Startup, true), at(12)), [start("x", 0)]);
    // It was passed: its restart holds nobody up.
    assert_eq!(s.step(&pod, exited("s", 1), at(13)), [start("s", 1)]);
    assert_eq!(s.step(&pod, exited("x", 1), at(14)), [start("x", 1)]);
}

#[test]
fn a_rule_decides_before_the_policy() {
    let rule = |operator, values: &[i32]| RestartRule { operator, values: values.to_vec() };
    for (operator, values, code, policy, restarts) in [
        (SetOperator::In, vec![42], 42, RestartPolicy::Never, true),
        (SetOperator::In, vec![42], 1, RestartPolicy::Never, false),
        (SetOperator::In, vec![0], 0, RestartPolicy::OnFailure, true),
        (SetOperator::NotIn, vec![1, 2], 3, RestartPolicy::Never, true),
        (SetOperator::NotIn, vec![1, 2], 2, RestartPolicy::Never, false),
        (SetOperator::NotIn, vec![1, 2], 2, RestartPolicy::OnFailure, true),
    ] {
        let mut pod = pod(RestartPolicy::Always, "M:x");
        of(&mut pod, "x").restart_policy = Some(policy);
        of(&mut pod, "x").restart_rules = vec![rule(operator, &values)];
        let mut s = run_to_start(&pod);
        let actions = s.step(&pod, exited("x", code), at(10));
        assert_eq!(actions == [start("x", 1)], restarts, "{operator:?} {values:?} {code} {policy:?}");
    }
}

#[test]
fn a_rule_retries_an_init_container_but_not_one_that_has_succeeded() {
    let mut pod = pod(RestartPolicy::Never, "I:a M:x");
    of(&mut pod, "a").restart_rules = vec![RestartRule { operator: SetOperator::NotIn, values: vec![3] }];
    let (mut s, _) = ready(&pod);
    s.step(&pod, started("a"), at(1));
    assert_eq!(s.step(&pod, exited("a", 4), at(2)), [start("a", 1)]);
    s.step(&pod, started("a"), at(2));
    assert_eq!(s.step(&pod, exited("a", 0), at(3)), [start("x", 0)]);
    let (mut s, _) = ready(&pod);
    s.step(&pod, started("a"), at(1));
    assert_eq!(s.step(&pod, exited("a", 3), at(2)), [Action::Finish { phase: Phase::Failed }]);
}

#[test]
fn init_containers_are_not_run_again_for_a_restart() {
    let pod = pod(RestartPolicy::Always, "I:a M:x");
    let mut s = run_to_start(&pod);
    assert_eq!(s.step(&pod, exited("x", 1), at(10)), [start("x", 1)]);
    assert_eq!(s.restarts(&pod, "a"), 0);
}

#[test]
fn an_ephemeral_container_starts_at_once_and_once() {
    let mut pod = pod(RestartPolicy::Always, "I:a M:x");
    let (mut s, _) = ready(&pod);
    for (n, name) in ["d1", "d2"].into_iter().enumerate() {
        pod.ephemeral_containers.push(testing::container(name, Role::Ephemeral));
        pod.generation += 1;
        assert_eq!(s.step(&pod, Event::EphemeralAdded, at(1 + n as u64)), [start(name, 0)]);
    }
    s.step(&pod, started("d1"), at(3));
    assert_eq!(s.step(&pod, exited("d1", 1), at(4)), [], "it is never started again");
    s.step(&pod, started("a"), at(5));
    assert_eq!(s.step(&pod, exited("a", 0), at(6)), [start("x", 0)]);
    s.step(&pod, started("x"), at(6));
    assert_eq!(s.phase(&pod), Phase::Running);
    let status = pod_status(&pod, &s, &Facts::default());
    let conditions = status.conditions.unwrap();
    assert!(conditions.iter().all(|condition| condition.status == "True"), "it is nobody's condition");
    assert!(conditions.iter().all(|condition| condition.observed_generation == Some(3)));
    assert_eq!(status.observed_generation, Some(3));
    assert_eq!(status.ephemeral_container_statuses.unwrap().len(), 2);
    s.step(&pod, started("d2"), at(7));
    assert_eq!(s.step(&pod, stop(10), at(8)), [asked("x", 18), asked("d2", 18), wake(18)]);
    s.step(&pod, exited("d2", 1), at(9));
    assert_eq!(s.step(&pod, exited("x", 0), at(9)), [Action::Finish { phase: Phase::Succeeded }]);
    pod.ephemeral_containers.push(testing::container("d3", Role::Ephemeral));
    assert_eq!(s.step(&pod, Event::EphemeralAdded, at(10)), []);
}

#[test]
fn an_ephemeral_container_waits_for_the_sandbox_and_not_for_the_end() {
    let mut pod = pod(RestartPolicy::Never, "M:x");
    pod.ephemeral_containers.push(testing::container("d", Role::Ephemeral));
    let mut s = State::new(&pod, BackoffPolicy::default(), at(0));
    assert_eq!(s.step(&pod, Event::EphemeralAdded, at(0)), []);
    assert_eq!(s.step(&pod, Event::SandboxReady, at(0)), [start("x", 0), start("d", 0)]);
    s.step(&pod, started("x"), at(1));
    s.step(&pod, started("d"), at(1));
    let end = s.step(&pod, exited("x", 0), at(2));
    assert_eq!(end, [asked("d", 32), wake(32)], "it does not hold the pod open");
}

#[test]
fn a_resize_starts_anew_whatever_the_policy_and_without_back_off() {
    let pod = pod(RestartPolicy::Never, "M:x");
    let mut s = run_to_start(&pod);
    let resized = || Event::RestartRequested { name: "x".into() };
    for (run, at_secs) in [(0, 10), (1, 20), (2, 30)] {
        let asked = stopped("x", at_secs + 30, StopReason::Resized);
        assert_eq!(s.step(&pod, resized(), at(at_secs)), [asked, wake(at_secs + 30)]);
        assert_eq!(s.step(&pod, resized(), at(at_secs + 1)), [wake(at_secs + 30)], "asked once");
        assert_eq!(s.step(&pod, exited("x", 0), at(at_secs + 1)), [start("x", run + 1)]);
        s.step(&pod, started("x"), at(at_secs + 1));
    }
    assert_eq!(s.step(&pod, exited("x", 0), at(40)), [Action::Finish { phase: Phase::Succeeded }]);
}

#[test]
fn a_resize_leaves_alone_what_does_not_live() {
    let pod = pod(RestartPolicy::Always, "I:a M:x");
    let (mut s, _) = ready(&pod);
    for name in ["a", "x", "nobody"] {
        assert_eq!(s.step(&pod, Event::RestartRequested { name: name.into() }, at(1)), []);
    }
}

#[test]
fn a_container_that_is_configured_wrongly_is_tried_again() {
    let pod = pod(RestartPolicy::Never, "I:a M:x");
    let (mut s, actions) = ready(&pod);
    assert_eq!(actions, [start("a", 0)]);
    assert_eq!(s.step(&pod, misconfigured("a"), at(1)), [wake(11)]);
    assert_eq!(s.container(&pod, "a"), Some(&ContainerState::Waiting));
    assert_eq!(s.step(&pod, Event::Tick, at(10)), [wake(11)]);
    assert_eq!(s.step(&pod, Event::Tick, at(11)), [start("a", 0)]);
    assert_eq!(s.step(&pod, misconfigured("a"), at(11)), [wake(21)]);
    assert_eq!(s.step(&pod, Event::ConfigurationChanged, at(12)), [start("a", 0)]);
    s.step(&pod, started("a"), at(12));
    assert_eq!(s.step(&pod, misconfigured("a"), at(12)), [], "it runs already");
    assert_eq!(s.step(&pod, exited("a", 0), at(13)), [start("x", 0)]);
}

#[test]
fn a_wrong_configuration_is_no_restart_and_no_crash() {
    let pod = pod(RestartPolicy::Always, "M:x");
    let (mut s, _) = ready(&pod);
    s.step(&pod, started("x"), at(0));
    assert_eq!(s.step(&pod, exited("x", 3), at(1)), [start("x", 1)]);
    assert_eq!(s.step(&pod, misconfigured("x"), at(1)), [wake(11)]);
    assert_eq!(s.restarts(&pod, "x"), 0);
    assert_eq!(s.container(&pod, "x").and_then(|x| x.termination()).map(|t| t.exit.code), Some(3));
    assert_eq!(s.step(&pod, Event::ConfigurationChanged, at(2)), [start("x", 1)], "without a back-off");
    s.step(&pod, started("x"), at(2));
    assert_eq!(s.restarts(&pod, "x"), 1);
    assert_eq!(s.step(&pod, exited("x", 3), at(3)), [wake(13)], "the back-off is that of the first restart");
}

#[test]
fn a_main_container_that_is_configured_wrongly_holds_up_no_other() {
    let mut pod = pod(RestartPolicy::Always, "M:x M:y");
    of(&mut pod, "x").hooks.post_start = a_hook();
    let (mut s, actions) = ready(&pod);
    assert_eq!(actions, [start("x", 0)]);
    assert_eq!(s.step(&pod, misconfigured("x"), at(0)), [start("y", 0), wake(10)]);
    assert_eq!(s.phase(&pod), Phase::Pending);
}

#[test]
fn a_pod_ends_though_a_container_of_it_could_never_be_started() {
    let pod = pod(RestartPolicy::Always, "M:x");
    let (mut s, _) = ready(&pod);
    assert_eq!(s.step(&pod, stop(30), at(0)), [asked("x", 30), wake(30)]);
    assert_eq!(s.step(&pod, misconfigured("x"), at(0)), [Action::Finish { phase: Phase::Failed }]);
    let (mut s, _) = ready(&pod);
    s.step(&pod, misconfigured("x"), at(0));
    assert_eq!(s.step(&pod, stop(30), at(1)), [Action::Finish { phase: Phase::Failed }]);
}

#[test]
fn an_ephemeral_container_is_tried_again_too() {
    let mut pod = pod(RestartPolicy::Never, "M:x");
    let mut s = run_to_start(&pod);
    pod.ephemeral_containers.push(container("d", Role::Ephemeral, None));
    assert_eq!(s.step(&pod, Event::EphemeralAdded, at(10)), [start("d", 0)]);
    assert_eq!(s.step(&pod, misconfigured("d"), at(10)), [wake(20)]);
    assert_eq!(s.step(&pod, Event::Tick, at(20)), [start("d", 0)]);
    assert_eq!(s.step(&pod, exited("x", 0), at(21)), [asked("d", 51), wake(51)]);
}
