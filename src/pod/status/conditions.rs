//! `status.conditions`, after the kubelet's `pkg/kubelet/status/generate.go`.

use k8s_openapi::api::core::v1 as wire;

use super::time;
use crate::pod::conditions::Condition;
use crate::pod::event::Phase;
use crate::pod::record::{ContainerRecord, has_initialized, is_ready};
use crate::pod::state::State;
use crate::spec::{Container, Pod, Role};

/// A condition's reason, and its message.
type Why = Option<(&'static str, Option<String>)>;

/// The conditions in the order in which the kubelet writes them, then those that others set.
pub(super) fn conditions(pod: &Pod, state: &State, phase: Phase) -> Vec<wire::PodCondition> {
    let held = &state.conditions;
    let own = |type_: &str, condition: Condition, why: Why| {
        let (reason, message) =
            why.map_or((None, None), |(reason, message)| (Some(reason.to_owned()), message));
        wire::PodCondition {
            type_: type_.to_owned(),
            status: if condition.holds { "True" } else { "False" }.to_owned(),
            last_transition_time: Some(time(condition.since.wall)),
            observed_generation: Some(pod.generation),
            reason,
            message,
            ..wire::PodCondition::default()
        }
    };
    let scheduled = Condition { holds: true, since: state.accepted_at };
    let mut conditions = vec![
        own("PodReadyToStartContainers", held.ready_to_start, None),
        own("Initialized", held.initialized, why_initialized(pod, state, phase)),
        own("Ready", held.ready, why_ready(pod, state, phase)),
        own("ContainersReady", held.containers_ready, why_containers_ready(pod, state, phase)),
        own("PodScheduled", scheduled, None),
    ];
    if let (Some(message), Some(at)) = (&state.eviction, state.finished_at()) {
        // Told once everything has ended, as the phase is (`mergePodStatus` in the kubelet's status_manager.go).
        let why = Some(("TerminationByKubelet", Some(message.clone())));
        conditions.push(own("DisruptionTarget", Condition { holds: true, since: at }, why));
    }
    conditions.extend(held.custom.iter().map(|(condition, since)| wire::PodCondition {
        type_: condition.name.clone(),
        status: condition.status().to_owned(),
        last_transition_time: Some(time(since.wall)),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        ..wire::PodCondition::default()
    }));
    conditions
}

fn why_initialized(pod: &Pod, state: &State, phase: Phase) -> Why {
    match (state.conditions.initialized.holds, phase) {
        (true, Phase::Succeeded) => Some(("PodCompleted", None)),
        (true, _) => None,
        (false, _) => {
            let is_init = |spec: &Container| matches!(spec.role, Role::Init | Role::Sidecar);
            let incomplete = list(pod, state, "incomplete", |s, r| is_init(s) && !has_initialized(s, r));
            Some(("ContainersNotInitialized", Some(incomplete)))
        }
    }
}

fn why_containers_ready(pod: &Pod, state: &State, phase: Phase) -> Why {
    if state.conditions.containers_ready.holds {
        return None;
    }
    match phase {
        Phase::Succeeded => Some(("PodCompleted", None)),
        Phase::Failed => Some(("PodFailed", None)),
        Phase::Unknown | Phase::Pending | Phase::Running => {
            let counts = |spec: &Container| matches!(spec.role, Role::Main | Role::Sidecar);
            let unready = list(pod, state, "unready", |s, r| counts(s) && !is_ready(s, r));
            Some(("ContainersNotReady", Some(unready)))
        }
    }
}

fn why_ready(pod: &Pod, state: &State, phase: Phase) -> Why {
    let wrong = || {
        let wrong = pod.readiness_gates.iter().filter_map(|gate| state.conditions.gate(gate));
        wrong.collect::<Vec<_>>().join(", ")
    };
    if state.conditions.ready.holds {
        None
    } else if state.conditions.containers_ready.holds {
        Some(("ReadinessGatesNotReady", Some(wrong())))
    } else {
        why_containers_ready(pod, state, phase)
    }
}

fn list(pod: &Pod, state: &State, what: &str, keep: impl Fn(&Container, &ContainerRecord) -> bool) -> String {
    let kept = state.each(pod).filter(|(spec, record)| keep(spec, record));
    let names: Vec<_> = kept.map(|(spec, _)| spec.name.as_str()).collect();
    format!("containers with {what} status: [{}]", names.join(" "))
}
