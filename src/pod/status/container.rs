//! One container's status, after `convertToAPIContainerStatuses` in the kubelet's `kubelet_pods.go`.

use k8s_openapi::api::core::v1 as wire;

use super::{Facts, resources, time};
use crate::container::state::{ContainerState, KILLED_EXIT_CODE, Termination};
use crate::pod::record::{ContainerRecord, is_ready};
use crate::pod::state::State;
use crate::spec::{Container, Mount, Pod, Role};

/// The status of one container.
pub(super) fn container_status(
    pod: &Pod,
    state: &State,
    facts: &Facts,
    spec: &Container,
    record: &ContainerRecord,
) -> wire::ContainerStatus {
    let id = |restart: u32| format!("peapod://{}/{}/{restart}", pod.uid, spec.name);
    let this_id = id(record.restarts);
    let (now, last) = states(pod, state, spec, record, &this_id);
    let last = last.or_else(|| {
        let previous = record.previous.as_ref()?;
        Some(ended(previous, id(record.restarts.saturating_sub(1))))
    });
    let has_run = record.has_run();
    wire::ContainerStatus {
        name: spec.name.clone(),
        state: Some(now),
        last_state: last,
        ready: is_ready(spec, record),
        // The kubelet's prober does not look at ephemeral containers.
        started: (spec.role != Role::Ephemeral).then(|| record.is_started()),
        restart_count: i32::try_from(record.restarts).unwrap_or(i32::MAX),
        image: spec.image_name.clone(),
        image_id: facts.image_ids.get(&spec.name).cloned().unwrap_or_default(),
        container_id: has_run.then_some(this_id),
        resources: has_run.then(|| resources::requirements(spec.resources)).flatten(),
        allocated_resources: has_run.then(|| resources::allocated(spec.resources)).flatten(),
        volume_mounts: has_run.then(|| volume_mounts(spec)).filter(|mounts| !mounts.is_empty()),
        ..wire::ContainerStatus::default()
    }
}

/// What is mounted. All that is below a read-only mount is read-only with it: `recursiveReadOnly` is `Enabled`, as what
/// the mount turned out to be.
fn volume_mounts(spec: &Container) -> Vec<wire::VolumeMountStatus> {
    let status = |mount: &Mount| wire::VolumeMountStatus {
        name: mount.volume.clone(),
        mount_path: mount.path.clone(),
        read_only: mount.read_only.then_some(true),
        recursive_read_only: mount.read_only.then(|| "Enabled".to_owned()),
        ..wire::VolumeMountStatus::default()
    };
    spec.mounts.iter().map(status).collect()
}

/// `state`, and `lastState` where it is not the run before.
fn states(
    pod: &Pod,
    state: &State,
    spec: &Container,
    record: &ContainerRecord,
    id: &str,
) -> (wire::ContainerState, Option<wire::ContainerState>) {
    if let Some(wrong) = record.misconfigured.as_ref().filter(|_| !state.is_ending()) {
        let last = record.state.termination().map(|termination| ended(termination, id.to_owned()));
        return (waiting("CreateContainerConfigError", Some(wrong.message.clone())), last);
    }
    match &record.state {
        ContainerState::Running { started_at, .. } if record.is_shown_running() => {
            let running = wire::ContainerStateRunning { started_at: Some(time(started_at.wall)) };
            (wire::ContainerState { running: Some(running), ..wire::ContainerState::default() }, None)
        }
        ContainerState::Waiting
            if state.phase_is_final() && spec.role == Role::Main && state.is_initialized(pod) =>
        {
            (never_seen(), None)
        }
        ContainerState::Waiting | ContainerState::Starting { .. } | ContainerState::Running { .. } => {
            let is_first = !record.has_run() && spec.role != Role::Ephemeral;
            let waits_for_init = is_first && !pod.init_containers.is_empty();
            let reason = if waits_for_init { "PodInitializing" } else { "ContainerCreating" };
            (waiting(reason, None), None)
        }
        ContainerState::Terminated(termination) => {
            let now = ended(termination, id.to_owned());
            if state.is_ending() || record.restart_at(pod, spec).is_none() {
                return (now, None);
            }
            let delay = record.backoff.delay(termination.finished_at.mono).as_secs();
            let message = format!(
                "back-off {delay}s restarting failed container={} pod={}_{}({})",
                spec.name, pod.name, pod.namespace, pod.uid
            );
            (waiting("CrashLoopBackOff", Some(message)), Some(now))
        }
    }
}

fn waiting(reason: &str, message: Option<String>) -> wire::ContainerState {
    wire::ContainerState {
        waiting: Some(wire::ContainerStateWaiting { reason: Some(reason.to_owned()), message }),
        ..wire::ContainerState::default()
    }
}

/// A container that never ran in a pod that was initialized and is over (`TerminatePod` in
/// `pkg/kubelet/status/status_manager.go`).
fn never_seen() -> wire::ContainerState {
    let terminated = wire::ContainerStateTerminated {
        exit_code: KILLED_EXIT_CODE.into(),
        reason: Some("ContainerStatusUnknown".to_owned()),
        message: Some("The container could not be located when the pod was terminated".to_owned()),
        ..wire::ContainerStateTerminated::default()
    };
    wire::ContainerState { terminated: Some(terminated), ..wire::ContainerState::default() }
}

fn ended(termination: &Termination, container_id: String) -> wire::ContainerState {
    let terminated = wire::ContainerStateTerminated {
        container_id: Some(container_id),
        exit_code: i32::from(termination.exit.code),
        reason: Some(termination.exit.reason.as_str().to_owned()),
        message: termination.exit.message.clone(),
        started_at: termination.started_at.map(|at| time(at.wall)),
        finished_at: Some(time(termination.finished_at.wall)),
        signal: None,
    };
    wire::ContainerState { terminated: Some(terminated), ..wire::ContainerState::default() }
}
