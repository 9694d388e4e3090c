//! The line protocol between the supervisor and the pod process.
//!
//! ```text
//! supervisor ──► pod process   Request, one JSON object a line
//! supervisor ◄── pod process   Report, one JSON object a line
//! ```
//!
//! A message can carry descriptors (SCM_RIGHTS): they go with the newline that ends its line, so that whoever cannot
//! read the line drops them with it.
//!
//! The socket's end of file is a message too: to the pod process it says that the supervisor is gone
//! (the pod ends at once), to the supervisor that the pod process is.

mod configuration;
mod line;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::{EphemeralContainer, Pod, PodStatus};
use serde::{Deserialize, Serialize};

pub use self::configuration::Configuration;
pub(super) use self::line::Line;
pub use self::line::{LINE_LIMIT, Receiver, Sender, encode, send_blocking};
use crate::api::types;
use crate::spec;

/// What the supervisor asks of the pod process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Request {
    /// End gracefully.
    Stop {
        /// Why, for the status and the exit code.
        cause: StopCause,
        /// The grace period, where it is not the pod's own.
        grace: Option<Duration>,
    },
    /// End now.
    Kill {
        /// Why, for the status and the exit code.
        cause: StopCause,
    },
    /// Somebody set conditions of the pod that are not peapod's own.
    SetConditions(Vec<SetCondition>),
    /// Say something about the pod.
    Ask {
        /// Comes back with the answer.
        id: u64,
        /// What.
        question: Question,
    },
    /// Give the containers other resources. Answered by [`Report::Resized`].
    Resize(Resize),
    /// Change what the pod is configured by. Answered by [`Report::Configured`].
    Configure {
        /// Comes back with the answer.
        id: u64,
        /// What is different.
        configuration: Configuration,
    },
    /// Run a command in a container. Carries one pipe for each stream that is wanted, in the order of the fields.
    Exec {
        /// Comes back with its end.
        id: u64,
        /// The container's name.
        container: String,
        /// The command and its arguments.
        command: Vec<String>,
        /// The reading end of standard input is carried.
        stdin: bool,
        /// The writing end of standard output is carried.
        stdout: bool,
        /// The writing end of standard error is carried.
        stderr: bool,
    },
    /// End the command of this [`Request::Exec`].
    CancelExec {
        /// Of the [`Request::Exec`].
        id: u64,
    },
    /// The answer to [`Report::Prepare`].
    Prepared {
        /// Of the [`Report::Prepare`].
        id: u64,
        /// What became of it. Carries the machine code when all went well.
        outcome: Preparation,
    },
    /// Add an ephemeral container. Carries the machine code of its image.
    AddEphemeral {
        /// Comes back with [`Report::EphemeralAdded`].
        id: u64,
        /// What is added.
        addition: Box<Addition>,
    },
}

/// [`super::resize::Resize`] on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resize {
    /// `metadata.generation` of the pod with these resources.
    pub generation: i64,
    /// The pod's own.
    pub pod: Resources,
    /// The containers', by name.
    pub containers: BTreeMap<String, Resources>,
}

/// [`spec::Resources`] on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// `limits.cpu`, thousandths of a core.
    pub cpu_limit_millis: Option<u64>,
    /// `limits.memory`, bytes.
    pub memory_limit_bytes: Option<u64>,
    /// `requests.cpu`, thousandths of a core.
    pub cpu_request_millis: Option<u64>,
    /// `requests.memory`, bytes.
    pub memory_request_bytes: Option<u64>,
    /// `limits.ephemeral-storage`, bytes.
    pub storage_limit_bytes: Option<u64>,
    /// `requests.ephemeral-storage`, bytes.
    pub storage_request_bytes: Option<u64>,
}

/// The same fields in both.
macro_rules! same_resources {
    ($from:ty, $to:ty) => {
        impl From<$from> for $to {
            fn from(resources: $from) -> Self {
                Self {
                    cpu_limit_millis: resources.cpu_limit_millis,
                    memory_limit_bytes: resources.memory_limit_bytes,
                    cpu_request_millis: resources.cpu_request_millis,
                    memory_request_bytes: resources.memory_request_bytes,
                    storage_limit_bytes: resources.storage_limit_bytes,
                    storage_request_bytes: resources.storage_request_bytes,
                }
            }
        }
    };
}
same_resources!(spec::Resources, Resources);
same_resources!(Resources, spec::Resources);

impl From<super::resize::Resize> for Resize {
    fn from(resize: super::resize::Resize) -> Self {
        let super::resize::Resize { generation, pod, containers } = resize;
        let containers = containers.into_iter().map(|(name, resources)| (name, resources.into())).collect();
        Self { generation, pod: pod.into(), containers }
    }
}

impl From<Resize> for super::resize::Resize {
    fn from(resize: Resize) -> Self {
        let Resize { generation, pod, containers } = resize;
        let containers = containers.into_iter().map(|(name, resources)| (name, resources.into())).collect();
        Self { generation, pod: pod.into(), containers }
    }
}

/// An ephemeral container for the running pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Addition {
    /// The container as the client wrote it, with defaults.
    pub container: EphemeralContainer,
    /// The pod that it is added to.
    pub pod: Pod,
    /// `metadata.generation` of the pod with it.
    pub generation: i64,
    /// The image's file.
    pub path: PathBuf,
    /// SHA-256 of the image's file, hexadecimal.
    pub digest: String,
    /// The WASI that it needs, 0.2 or 0.3: which engine the machine code is for.
    pub wasi: String,
}

/// What became of a component that was to be compiled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Preparation {
    /// The machine code is carried along.
    Ready {
        /// SHA-256 of the component's file, hexadecimal.
        digest: String,
        /// The WASI that it needs, 0.2 or 0.3: which engine the machine code is for.
        wasi: String,
        /// The component's file.
        path: PathBuf,
    },
    /// It cannot be used.
    Refused {
        /// As a program's exit code: 125 the host's fault, 126 not something that runs, 127 not there.
        code: u8,
        /// Why.
        message: String,
    },
}

/// What the supervisor wants to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Question {
    /// The containers' sockets and counters: [`Part::Sockets`] as often as it takes, then [`Part::Containers`].
    Network,
    /// When what happened: one [`Part::Timeline`].
    Timeline,
    /// What the containers share: one [`Part::Ipc`].
    Ipc,
    /// Remove the name of something that they share: one [`Part::IpcRemoved`].
    RemoveIpc {
        /// What it is.
        kind: types::IpcKind,
        /// Its name.
        name: String,
    },
}

/// A condition of the pod's status that is not peapod's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetCondition {
    /// `type`.
    pub name: String,
    /// `status`: `True`, `False` or (`None`) `Unknown`.
    pub holds: Option<bool>,
    /// `reason`.
    pub reason: Option<String>,
    /// `message`.
    pub message: Option<String>,
}

impl From<SetCondition> for super::event::CustomCondition {
    fn from(condition: SetCondition) -> Self {
        let SetCondition { name, holds, reason, message } = condition;
        Self { name, holds, reason, message }
    }
}

/// Why a pod is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StopCause {
    /// A person or a parent process sent this signal.
    Signal(u8),
    /// `--timeout`.
    Timeout,
}

impl From<StopCause> for super::event::StopCause {
    fn from(cause: StopCause) -> Self {
        match cause {
            StopCause::Signal(signal) => Self::Signal(signal),
            StopCause::Timeout => Self::Timeout,
        }
    }
}

/// What the pod process tells the supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Report {
    /// Something worth showing happened.
    Event(Event),
    /// Something that `describe` shows happened.
    Noted(Note),
    /// The pod process has done its part of a [`Request::Resize`].
    Resized {
        /// Of the request.
        generation: i64,
        /// What it could not do yet; told again, without, when it has.
        error: Option<String>,
    },
    /// The answer to [`Request::Configure`]: the pod's volumes have it, too.
    Configured {
        /// Of the request.
        id: u64,
        /// Why it could not be; nothing has changed then.
        error: Option<String>,
    },
    /// The pod's status changed.
    Status(Box<PodStatus>),
    /// A part of what was asked.
    Answer {
        /// Of the [`Request::Ask`].
        id: u64,
        /// The part.
        part: Part,
    },
    /// The timeline of a pod that is about to be [`Report::Finished`], for whoever keeps it.
    Timeline(PodTimeline),
    /// Compile a component that lies on one of the pod's volumes. Carries its file. Answered by
    /// [`Request::Prepared`].
    Prepare {
        /// Comes back with the answer.
        id: u64,
        /// What the container calls it, for messages.
        name: String,
    },
    /// A command of [`Request::Exec`] has ended.
    ExecEnded {
        /// Of the [`Request::Exec`].
        id: u64,
        /// Its exit code; 126 and 127 when it could not be run.
        code: u8,
        /// Why, where the code does not say it all: already written to its standard error.
        message: Option<String>,
    },
    /// The answer to [`Request::AddEphemeral`].
    EphemeralAdded {
        /// Of the [`Request::AddEphemeral`].
        id: u64,
        /// Why it was not added.
        error: Option<String>,
    },
    /// The pod ended; nothing follows.
    Finished {
        /// The final status.
        status: Box<PodStatus>,
        /// The exit code that the pod's end calls for.
        exit_code: i32,
    },
}

/// Something that happened to the pod, as the Events of Kubernetes tell it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    /// When.
    pub at: jiff::Timestamp,
    /// `Warning` rather than `Normal`.
    pub warning: bool,
    /// One CamelCase word: `Started`, `Killing`, `Unhealthy`, … (`pkg/kubelet/events/event.go`).
    pub reason: String,
    /// The rest, for a human.
    pub message: String,
    /// The container that it is about.
    pub container: Option<String>,
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Part {
    /// All that the containers share.
    Ipc(Vec<types::IpcObject>),
    /// Whether a name was removed, else why not.
    IpcRemoved(Option<String>),
    /// Some of the sockets.
    Sockets(Vec<types::Socket>),
    /// The counters of all containers. The last part.
    Containers {
        /// The counters.
        containers: Vec<types::Container>,
        /// How many sockets there were besides those told.
        omitted: u64,
        /// What the kernel denied.
        denied_packets: types::DeniedPackets,
    },
    /// The pod process's part of the timeline. The only part.
    Timeline(PodTimeline),
}

/// The pod process's part of a [`types::Timeline`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodTimeline {
    /// Its steps before the containers.
    pub steps: Vec<types::TimelineStep>,
    /// The containers that were ever started, by name.
    pub containers: Vec<types::ContainerTimeline>,
}

/// Something worth showing to the person who watches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Event {
    /// The pod's phase changed.
    Phase {
        /// `Pending`, `Running`, `Succeeded` or `Failed`.
        phase: String,
        /// Why, where there is more to say.
        reason: Option<String>,
    },
    /// A container's instance runs.
    Started {
        /// The container.
        container: String,
        /// How often it was started before.
        restarts: u32,
        /// From the decision to start it to the call of its entry point.
        took: Duration,
    },
    /// A container ended.
    Ended {
        /// The container.
        container: String,
        /// Its exit code.
        code: i32,
        /// `Completed`, `Error`, `OOMKilled`, …
        reason: String,
        /// The first line of what there is to say.
        message: Option<String>,
    },
    /// A container waits before it is started again.
    BackOff {
        /// The container.
        container: String,
        /// For how long.
        delay: Duration,
    },
    /// The pod's output cannot be written any more.
    OutputClosed {
        /// The system's answer.
        error: String,
    },
    /// Something the user should know, and the pod goes on.
    Warning(String),
}
