//! The status of a pod whose process died without last words: the last status that it had sent, with
//! everything that ran marked as ended. Pure.
//!
//! ```text
//!                      runs ──► Terminated: Error, or OOMKilled
//! last PodStatus ─►  in back-off ──► Terminated as it last was
//!                  never ran ──► Terminated: ContainerStatusUnknown (status_manager.go, TerminatePod)
//! ```
//!
//! A container that wants more than its own limit is `OOMKilled` alone, and the pod goes on by its restart
//! policy: its process does not die of it. When the kernel takes the process, the pod's cgroup as a whole was
//! out of memory: whatever ran is `OOMKilled`, and so is the pod, with a message that names the cgroup.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::container::state::KILLED_EXIT_CODE;

/// What became of a pod whose process died at `now`, by the kernel's hand for want of memory or otherwise.
pub fn status_after_death(last: Option<PodStatus>, out_of_memory: bool, now: Timestamp) -> PodStatus {
    let mut status = last.unwrap_or_default();
    let reason = if out_of_memory { "OOMKilled" } else { "Error" };
    let lists = [
        &mut status.init_container_statuses,
        &mut status.container_statuses,
        &mut status.ephemeral_container_statuses,
    ];
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
            "the kernel killed the pod process: the memory limit of the pod's cgroup was exceeded by all its \
             containers together"
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
    container.started = container.started.map(|_| false);
    let state = container.state.get_or_insert_default();
    if state.terminated.is_some() {
        return;
    }
    let mut before = || container.last_state.as_mut().and_then(|last| last.terminated.take());
    let terminated = match state.running.take() {
        Some(running) => killed(container.container_id.clone(), reason.to_owned(), running.started_at, now),
        None => before().unwrap_or_else(|| {
            let unknown = killed(None, "ContainerStatusUnknown".to_owned(), None, now);
            let message = "The container could not be located when the pod was terminated".to_owned();
            ContainerStateTerminated { message: Some(message), ..unknown }
        }),
    };
    *state = ContainerState { terminated: Some(terminated), ..ContainerState::default() };
}

fn killed(
    container_id: Option<String>,
    reason: String,
    started_at: Option<Time>,
    now: Timestamp,
) -> ContainerStateTerminated {
    ContainerStateTerminated {
        container_id,
        exit_code: KILLED_EXIT_CODE.into(),
        reason: Some(reason),
        started_at,
        finished_at: Some(Time(now)),
        ..ContainerStateTerminated::default()
    }
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
    fn what_did_not_run_was_not_killed() {
        let waiting = || ContainerState { waiting: Some(Default::default()), ..Default::default() };
        let crashed = ContainerStateTerminated { exit_code: 7, ..Default::default() };
        let crashed = ContainerState { terminated: Some(crashed), ..Default::default() };
        let in_back_off = ContainerStatus { last_state: Some(crashed), ..container("a", waiting()) };
        let running = ContainerState { running: Some(Default::default()), ..Default::default() };
        let last = PodStatus {
            container_statuses: Some(vec![in_back_off, container("b", waiting())]),
            ephemeral_container_statuses: Some(vec![container("debug", running)]),
            ..PodStatus::default()
        };
        let status = status_after_death(Some(last), true, Timestamp::UNIX_EPOCH);
        let ends = |list: Option<Vec<ContainerStatus>>| {
            let ended = |status: ContainerStatus| status.state.unwrap().terminated.unwrap();
            let ends = list.into_iter().flatten().map(ended).map(|end| (end.exit_code, end.reason));
            ends.collect::<Vec<_>>()
        };
        let unknown = Some("ContainerStatusUnknown".to_owned());
        assert_eq!(ends(status.container_statuses), [(7, None), (137, unknown)]);
        assert_eq!(ends(status.ephemeral_container_statuses), [(137, Some("OOMKilled".to_owned()))]);
        assert!(status.message.unwrap().contains("cgroup"));
    }

    #[test]
    fn a_pod_that_never_spoke_failed_too() {
        let status = status_after_death(None, false, Timestamp::UNIX_EPOCH);
        assert_eq!((status.phase.as_deref(), status.reason.as_deref()), (Some("Failed"), Some("Error")));
    }
}
