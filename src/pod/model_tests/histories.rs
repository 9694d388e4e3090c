//! Every rule over long random histories of random pods.

use proptest::collection::vec;
use proptest::prelude::*;

use super::environment::{Model, moves};
use super::*;

fn policies() -> impl Strategy<Value = RestartPolicy> {
    prop_oneof![Just(RestartPolicy::Always), Just(RestartPolicy::OnFailure), Just(RestartPolicy::Never)]
}

fn probes() -> impl Strategy<Value = Option<Probe>> {
    let grace = prop::option::weighted(0.3, (1..40_u64).prop_map(Duration::from_secs));
    let probe = (0..20_u64, 1..15_u64, 1..3_u32, 1..4_u32, grace).prop_map(
        |(delay, period, success_threshold, failure_threshold, termination_grace)| Probe {
            initial_delay: Duration::from_secs(delay),
            period: Duration::from_secs(period),
            success_threshold,
            failure_threshold,
            termination_grace,
            ..a_probe()
        },
    );
    prop::option::weighted(0.4, probe)
}

fn rules() -> impl Strategy<Value = Vec<RestartRule>> {
    let operator = prop_oneof![Just(SetOperator::In), Just(SetOperator::NotIn)];
    let rule =
        (operator, vec(0..4_i32, 1..3)).prop_map(|(operator, values)| RestartRule { operator, values });
    prop_oneof![3 => Just(vec![]), 1 => vec(rule, 1..3)]
}

fn init_containers() -> impl Strategy<Value = Container> {
    let own = (prop::option::weighted(0.4, policies()), rules()).prop_map(|(own, restart_rules)| {
        let own = own.filter(|own| *own != RestartPolicy::Always);
        Container { restart_rules, ..container("", Role::Init, own) }
    });
    let sidecar = Just(container("", Role::Sidecar, Some(RestartPolicy::Always)));
    prop_oneof![own, attended(sidecar)]
}

fn main_containers() -> impl Strategy<Value = Container> {
    let own = (prop::option::weighted(0.4, policies()), rules());
    attended(
        own.prop_map(|(own, restart_rules)| Container { restart_rules, ..container("", Role::Main, own) }),
    )
}

/// With probes and hooks.
fn attended(bare: impl Strategy<Value = Container>) -> impl Strategy<Value = Container> {
    let hook = || prop::bool::weighted(0.3);
    (bare, probes(), probes(), probes(), hook(), hook()).prop_map(
        |(mut container, startup, liveness, readiness, post_start, pre_stop)| {
            let once = |probe: Probe| Probe { success_threshold: 1, ..probe };
            container.probes.startup = startup.map(once);
            container.probes.liveness = liveness.map(once);
            container.probes.readiness = readiness.map(|probe| Probe { termination_grace: None, ..probe });
            container.hooks.post_start = a_hook().filter(|_| post_start);
            container.hooks.pre_stop = a_hook().filter(|_| pre_stop);
            container
        },
    )
}

fn pods() -> impl Strategy<Value = Pod> {
    let deadline = prop::option::weighted(0.2, 1..2000_u64);
    let containers = (vec(init_containers(), 0..4), vec(main_containers(), 1..4));
    (policies(), containers, deadline, 0..60_u64, any::<bool>()).prop_map(
        |(policy, (init, main), deadline, grace, gated)| {
            let named = init.into_iter().chain(main).enumerate();
            let named =
                named.map(|(n, container)| Container { name: format!("c{n}"), ..container }).collect();
            let mut pod = pod_of(policy, named);
            pod.active_deadline = deadline.map(Duration::from_secs);
            pod.termination_grace = Duration::from_secs(grace);
            pod.readiness_gates = gated.then(|| "gate".to_owned()).into_iter().collect();
            pod
        },
    )
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 4096, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(512))]

    #[test]
    fn every_rule_holds_over_any_history(
        pod in pods(), moves in vec(moves(), 0..300), code in 0..2_u8, obedient in any::<bool>(),
    ) {
        let mut model = Model::new(pod);
        model.event(Event::SandboxReady);
        for m in &moves {
            model.make(m);
        }
        model.event(stop(30));
        model.obey(code, obedient);
        model.event(Event::SandboxReady);
        model.event(stop(0));
    }

    #[test]
    fn with_never_and_exits_of_0_a_pod_succeeds(mut pod in pods(), order in vec((0..8_usize, any::<bool>()), 0..60)) {
        pod.restart_policy = RestartPolicy::Never;
        pod.active_deadline = None;
        for container in &mut pod.containers {
            container.restart_policy = None;
            container.restart_rules = vec![];
        }
        let mut model = Model::new(pod);
        model.event(Event::SandboxReady);
        for (which, hooks) in order {
            use super::environment::Move::{Advance, Answer, Wait};
            model.make(&if hooks {
                Answer { which, succeeds: true }
            } else {
                Advance { which, code: 0, fails_to_start: false }
            });
            model.make(&Wait { ms: 500 });
        }
        // From here on the sidecars stay up, and everything else does its work.
        for _ in 0..500 {
            if model.state.is_ending() {
                break;
            }
            for which in 0..8 {
                model.make(&super::environment::Move::Answer { which, succeeds: true });
            }
            for (name, running) in model.live() {
                let spec = model.pod.container(&name).unwrap();
                let role = spec.role;
                if !running {
                    model.event(started(&name));
                } else if role != Role::Sidecar {
                    model.event(exited(&name, 0));
                }
            }
            model.wait_until(model.ms + 20_000);
        }
        if !model.finished {
            model.obey(0, true);
        }
        prop_assert_eq!(model.state.exit_code(&model.pod), Some(0));
        prop_assert_eq!(model.state.phase(&model.pod), Phase::Succeeded);
    }
}
