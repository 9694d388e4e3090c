//! The status of a pod whose process died without last words: the last status that it had sent, with
//! everything that ran marked as ended. Pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::container::state::KILLED_EXIT_CODE;

/// What became of a pod whose process died at `now`, by the kernel's hand for want of memory or otherwise.
pub fn status_after_death(last: Option<PodStatus>, out_of_memory: bool, now: Timestamp) -> PodStatus {
    let mut status = last.unwrap_or_default();
    let reason = if out_of_memory { "OOMKilled" } else { "Error" };
    let lists = [&mut status.init_container_statuses, &mut status.container_statuses];
    for container in lists.into_iter().flatten().flatten() {
        end(container, reason, now);
    }
    for condition in status.conditions.iter_mut().flatten() {
        if matches!(condition.type_.as_str(), "Ready" | "ContainersReady" | "PodReadyToStartContainers")
            && condition.status != "False"
        {
            condition.status = "False".to_owned();
            condition.reason = Some("PodFailed".to_owned());
            condition.last_transition_time = Some(Time(now));
        }
    }
    status.phase = Some("Failed".to_owned());
    status.reason = Some(reason.to_owned());
    status.message = Some(
        if out_of_memory {
            "the kernel killed the pod process: the memory limit of the pod's cgroup was exceeded"
        } else {
            "the pod process was killed"
        }
        .to_owned(),
    );
    status
}

/// A container that had not ended by itself ended with the process.
fn end(container: &mut ContainerStatus, reason: &str, now: Timestamp) {
    container.ready = false;
    container.started = Some(false);
    let state = container.state.get_or_insert_default();
    if state.terminated.is_some() {
        return;
    }
    let started_at = state.running.take().and_then(|running| running.started_at);
    let terminated = ContainerStateTerminated {
        container_id: container.container_id.clone(),
        exit_code: KILLED_EXIT_CODE.into(),
        reason: Some(reason.to_owned()),
        started_at,
        finished_at: Some(Time(now)),
        ..ContainerStateTerminated::default()
    };
    *state = ContainerState { terminated: Some(terminated), ..ContainerState::default() };
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ContainerStateRunning;

    use super::*;

    fn container(name: &str, state: ContainerState) -> ContainerStatus {
        ContainerStatus { name: name.into(), state: Some(state), ready: true, ..ContainerStatus::default() }
    }

    #[test]
    fn what_ran_was_killed_and_what_had_ended_keeps_its_end() {
        let running =
            ContainerState { running: Some(ContainerStateRunning::default()), ..Default::default() };
        let ended = ContainerStateTerminated { exit_code: 3, ..Default::default() };
        let ended = ContainerState { terminated: Some(ended), ..Default::default() };
        let last = PodStatus {
            container_statuses: Some(vec![container("a", running), container("b", ended)]),
            ..PodStatus::default()
        };
        let status = status_after_death(Some(last), true, Timestamp::UNIX_EPOCH);
        assert_eq!(status.phase.as_deref(), Some("Failed"));
        let codes: Vec<i32> = status
            .container_statuses
            .iter()
            .flatten()
            .map(|container| container.state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code)
            .collect();
        assert_eq!(codes, [137, 3]);
        assert!(status.container_statuses.unwrap().iter().all(|container| !container.ready));
    }

    #[test]
    fn a_pod_that_never_spoke_failed_too() {
        let status = status_after_death(None, false, Timestamp::UNIX_EPOCH);
        assert_eq!((status.phase.as_deref(), status.reason.as_deref()), (Some("Failed"), Some("Error")));
    }
}
