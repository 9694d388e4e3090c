//! What can happen to a pod, and the words for how far it has come. Pure data.

use std::time::Duration;

use crate::container::state::Exit;
use crate::spec::{HookKind, ProbeKind};

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
    /// A container that was ordered to start is configured wrongly: what a variable of it comes from is missing, say. The
    /// start is taken back as though it had never been ordered, and is tried again.
    ConfigurationFailed {
        /// The container.
        name: String,
        /// What is missing or wrong.
        message: String,
    },
    /// What containers are configured from has changed: those that wait for that are started at once.
    ConfigurationChanged,
    /// A hook that [`Action::Hook`](super::actions::Action::Hook) ordered has ended.
    HookEnded {
        /// The container.
        name: String,
        /// Of which run of the container: its restarts so far. One of an earlier run says nothing.
        run: u32,
        /// Which hook.
        hook: HookKind,
        /// What went wrong; `None`: it succeeded.
        error: Option<String>,
    },
    /// A probe that [`Action::Probe`](super::actions::Action::Probe) ordered has ended.
    ProbeEnded {
        /// The container.
        name: String,
        /// Of which run of the container.
        run: u32,
        /// Which probe.
        kind: ProbeKind,
        /// Whether it succeeded, once. What that means is for the thresholds to say. `None`: it could not be done,
        /// which says nothing of the container (`pkg/kubelet/prober/worker.go` throws such a result away).
        succeeded: Option<bool>,
    },
    /// The pod's specification has one more ephemeral container: its last.
    EphemeralAdded,
    /// The container shall start anew, whatever its restart policy says: its resources have changed and its
    /// `resizePolicy` asks for it.
    RestartRequested {
        /// The container.
        name: String,
    },
    /// Somebody set a condition of the pod, such as one of its `readinessGates`.
    ConditionSet(CustomCondition),
    /// A condition that was set is no more, such as `PodResizeInProgress` when the resize is done.
    ConditionRemoved {
        /// Its `type`.
        name: String,
    },
    /// The pod uses more of the disk than it may: it ends as Failed, reason `Evicted`.
    Evicted {
        /// What it used, and what it may.
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

/// A condition of the pod's status that is not peapod's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomCondition {
    /// `type`.
    pub name: String,
    /// `status`: `True`, `False` or (`None`) `Unknown`.
    pub holds: Option<bool>,
    /// `reason`.
    pub reason: Option<String>,
    /// `message`.
    pub message: Option<String>,
}

impl CustomCondition {
    /// `status`, as it is written.
    pub fn status(&self) -> &'static str {
        match self.holds {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        }
    }
}

/// Who asked a pod to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopCause {
    /// This signal came (`SIGINT` is 2, `SIGTERM` 15).
    Signal(u8),
    /// The time given with `--timeout` is over.
    Timeout,
}

/// `status.phase`. That of a pod that is known only ever grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nobody knows: the pod's process does not answer. The machine never says so of its own pod.
    Unknown,
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
            Self::Unknown => "Unknown",
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }
}
