//! What the pod keeps of each of its containers, and the rules about a single one. Pure.

use super::backoff::{Backoff, BackoffPolicy};
use crate::container::state::{ContainerState, Exit, Termination};
use crate::spec::{Container, Pod, RestartPolicy, Role};

/// One container of the pod, over all its runs.
#[derive(Debug, Clone)]
pub(super) struct ContainerRecord {
    pub state: ContainerState,
    /// How often it was started again.
    pub restarts: u32,
    /// The end of the run before this one.
    pub previous: Option<Termination>,
    pub backoff: Backoff,
}

impl ContainerRecord {
    pub(super) fn new(backoff: BackoffPolicy) -> Self {
        Self { state: ContainerState::Waiting, restarts: 0, previous: None, backoff: Backoff::new(backoff) }
    }

    /// Whether a start was ever ordered.
    pub(super) fn has_begun(&self) -> bool {
        self.state != ContainerState::Waiting
    }

    /// Whether a run of it ever came to be, or ended in the attempt.
    pub(super) fn has_run(&self) -> bool {
        self.restarts > 0
            || matches!(self.state, ContainerState::Running { .. } | ContainerState::Terminated(_))
    }

    /// The end of its latest ended run.
    pub(super) fn last_termination(&self) -> Option<&Termination> {
        self.state.termination().or(self.previous.as_ref())
    }

    /// Whether it is an ended run with code 0.
    pub(super) fn has_succeeded(&self) -> bool {
        self.state.termination().is_some_and(|t| t.exit.code == 0)
    }
}

/// Whether a container that ended like this is started again, as long as the pod is active
/// (`ShouldContainerBeRestarted` in `pkg/kubelet/container/helpers.go`, and
/// `computeInitContainerActions` in `pkg/kubelet/kuberuntime/kuberuntime_container.go`).
pub(super) fn is_restarted(pod: &Pod, spec: &Container, exit: &Exit) -> bool {
    let policy = spec.restart_policy.unwrap_or(pod.restart_policy);
    match spec.role {
        Role::Sidecar => true,
        Role::Ephemeral => false,
        Role::Init => exit.code != 0 && policy != RestartPolicy::Never,
        Role::Main => match policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => exit.code != 0,
            RestartPolicy::Never => false,
        },
    }
}

/// Whether an init container has done its part: it succeeded, or, as a sidecar, it runs.
pub(super) fn has_initialized(spec: &Container, record: &ContainerRecord) -> bool {
    match spec.role {
        Role::Sidecar => record.state.is_running(),
        _ => record.has_succeeded(),
    }
}

/// `ready` of a container's status. Without probes a container is ready while it runs, and an init
/// container once it has succeeded.
pub(super) fn is_ready(spec: &Container, record: &ContainerRecord) -> bool {
    match spec.role {
        Role::Init => record.has_succeeded(),
        Role::Sidecar | Role::Main => record.state.is_running(),
        Role::Ephemeral => false,
    }
}
