//! What can happen to a pod, and the words for how far it has come. Pure data.

use std::time::Duration;

use crate::container::state::Exit;

/// Something that happened to the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Namespaces, cgroup, network and volumes are there: containers may start.
    SandboxReady,
    /// A container's code began to run.
    ContainerStarted {
        /// The container.
        name: String,
    },
    /// A container ended.
    ContainerExited {
        /// The container.
        name: String,
        /// How.
        exit: Exit,
    },
    /// A container that was ordered to start could not.
    ContainerFailedToStart {
        /// The container.
        name: String,
        /// One CamelCase word, such as `StartError`.
        reason: String,
        /// What went wrong, for a human.
        message: String,
    },
    /// The pod shall end; its containers have `grace` to do so.
    StopRequested {
        /// Who wants it.
        cause: StopCause,
        /// From now to the kill.
        grace: Duration,
    },
    /// The pod shall end at once.
    KillRequested {
        /// Who wants it.
        cause: StopCause,
    },
    /// Nothing but time has passed: the answer to [`Action::WakeAt`](super::actions::Action::WakeAt).
    Tick,
}

/// Who asked a pod to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopCause {
    /// This signal came (`SIGINT` is 2, `SIGTERM` 15).
    Signal(u8),
    /// The time given with `--timeout` is over.
    Timeout,
}

/// `status.phase`. Only ever grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not every main container has been started yet.
    Pending,
    /// Every main container has been started.
    Running,
    /// All main containers ended with 0.
    Succeeded,
    /// It ended otherwise.
    Failed,
}

impl Phase {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }
}
