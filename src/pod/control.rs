//! The line protocol between the supervisor and the pod process.
//!
//! ```text
//! supervisor ──► pod process   Request, one JSON object a line
//! supervisor ◄── pod process   Report, one JSON object a line
//! ```
//!
//! The socket's end of file is a message too: to the pod process it says that the supervisor is gone
//! (the pod ends at once), to the supervisor that the pod process is.

use std::marker::PhantomData;
use std::time::Duration;

use k8s_openapi::api::core::v1::PodStatus;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::OwnedReadHalf;

use crate::api::types;

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
        /// The grace period where it is shorter than the pod's own.
        grace: Option<Duration>,
    },
    /// End now.
    Kill {
        /// Why, for the status and the exit code.
        cause: StopCause,
    },
    /// Say something about the pod.
    Ask {
        /// Comes back with the answer.
        id: u64,
        /// What.
        question: Question,
    },
}

/// What the supervisor wants to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Question {
    /// The containers' sockets and counters: [`Part::Sockets`] as often as it takes, then [`Part::Containers`].
    Network,
    /// What the containers share: [`Part::Ipc`].
    Ipc,
    /// Remove the name of something that they share: [`Part::IpcRemoved`].
    RemoveIpc {
        /// What it is.
        kind: types::IpcKind,
        /// Its name.
        name: String,
    },
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
    /// The pod's status changed.
    Status(Box<PodStatus>),
    /// A part of what was asked.
    Answer {
        /// Of the [`Request::Ask`].
        id: u64,
        /// The part.
        part: Part,
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
