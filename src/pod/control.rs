//! The line protocol between the supervisor and the pod process.
//!
//! ```text
//! supervisor ──► pod process   Request, one JSON object a line
//! supervisor ◄── pod process   Report, one JSON object a line
//! ```
//!
//! The socket's end of file is a message too: to the pod process it says that the supervisor is gone
//! (the pod ends at once), to the supervisor that the pod process is.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::time::Duration;

use k8s_openapi::api::core::v1::PodStatus;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::OwnedReadHalf;

use crate::api::types;
use crate::spec;

/// The longest line either side accepts, bytes: a status of 1,000 containers with messages of 4 KiB fits.
pub const LINE_LIMIT: usize = 8 << 20;

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

/// What the supervisor wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Question {
    /// The containers' sockets and counters: [`Part::Sockets`] as often as it takes, then [`Part::Containers`].
    Network,
    /// When what happened: one [`Part::Timeline`].
    Timeline,
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

/// Encodes one message as a line.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    // Serialising these types cannot fail: no map has a key that is not a string.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The messages that arrive.
pub struct Receiver<T> {
    stream: BufReader<OwnedReadHalf>,
    line: Vec<u8>,
    message: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Receives from this half of the control socket.
    pub fn new(stream: OwnedReadHalf) -> Self {
        Self { stream: BufReader::new(stream), line: Vec::new(), message: PhantomData }
    }

    /// The next message; `None` when the other side is gone, or sends a line beyond [`LINE_LIMIT`]. Safe to
    /// cancel: a line read in part is kept.
    pub async fn next(&mut self) -> Option<T> {
        loop {
            let limit = LINE_LIMIT.saturating_sub(self.line.len()) as u64;
            let read = (&mut self.stream).take(limit).read_until(b'\n', &mut self.line).await;
            if !matches!(read, Ok(1..)) {
                return None;
            }
            if self.line.ends_with(b"\n") {
                let message = serde_json::from_slice(&self.line);
                self.line.clear();
                match message {
                    Ok(message) => return Some(message),
                    Err(error) => tracing::warn!("a control message cannot be read: {error}"),
                }
            }
        }
    }
}
