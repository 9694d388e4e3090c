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

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::{EphemeralContainer, Pod, PodStatus};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::api::types;
use crate::spec;
use crate::sys::fds;

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
    /// The image's file.
    pub path: PathBuf,
    /// SHA-256 of the image's file, hexadecimal.
    pub digest: String,
}

/// What became of a component that was to be compiled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Preparation {
    /// The machine code is carried along.
    Ready {
        /// SHA-256 of the component's file, hexadecimal.
        digest: String,
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

/// Encodes one message as a line.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    // Serialising these types cannot fail: no map has a key that is not a string.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

/// An encoded message with the descriptors that it carries, and how much of it was written.
#[derive(Debug, Default)]
pub(super) struct Line {
    text: Vec<u8>,
    carried: Vec<OwnedFd>,
    written: usize,
}

impl Line {
    pub(super) fn of<T: Serialize>(message: &T, carried: Vec<OwnedFd>) -> Self {
        Self { text: encode(message), carried, written: 0 }
    }

    /// Whether all of it was written.
    pub(super) fn is_written(&self) -> bool {
        self.written == self.text.len()
    }

    /// Writes what is left of it. Safe to cancel: the next call goes on from there.
    pub(super) async fn write(&mut self, to: &UnixStream) -> io::Result<()> {
        while !self.is_written() {
            let rest = &self.text[self.written..];
            let (bytes, carried) = match (&self.carried[..], rest.len()) {
                ([], _) => (rest, &[][..]),
                (carried, 1) => (rest, carried),
                // Descriptors belong to the byte that they are sent with.
                (_, length) => (&rest[..length - 1], &[][..]),
            };
            let carried: Vec<_> = carried.iter().map(AsFd::as_fd).collect();
            self.written += to.async_io(Interest::WRITABLE, || fds::send(to, bytes, &carried)).await?;
        }
        // The other side has its own by now.
        self.carried.clear();
        Ok(())
    }
}

/// Messages on their way, in order: whoever sends waits for no reader.
pub struct Sender<T> {
    stream: OwnedWriteHalf,
    lines: VecDeque<Line>,
    message: PhantomData<fn(T)>,
}

impl<T: Serialize> Sender<T> {
    /// Sends over this half of the control socket.
    pub fn new(stream: OwnedWriteHalf) -> Self {
        Self { stream, lines: VecDeque::new(), message: PhantomData }
    }

    /// Takes a message with the descriptors that it carries. How many may wait is for the caller to bound.
    pub fn push(&mut self, message: &T, carried: Vec<OwnedFd>) {
        self.lines.push_back(Line::of(message, carried));
    }

    /// How many messages have not been sent in full.
    pub fn waiting(&self) -> usize {
        self.lines.len()
    }

    /// Sends what waits. Where nobody reads any more it is dropped; the [`Receiver`] notices that. Safe to cancel:
    /// what was sent in part goes on from there.
    pub async fn flush(&mut self) {
        while let Some(line) = self.lines.front_mut() {
            match line.write(self.stream.as_ref()).await {
                Ok(()) => drop(self.lines.pop_front()),
                Err(_) => self.lines.clear(),
            }
        }
    }
}

/// Sends one message from a process without a runtime.
///
/// # Errors
/// The socket's.
pub fn send_blocking<T: Serialize>(
    mut to: &StdUnixStream,
    message: &T,
    carried: &[OwnedFd],
) -> io::Result<()> {
    let line = encode(message);
    let (newline, text) = line.split_last().ok_or(io::ErrorKind::InvalidInput)?;
    to.write_all(text)?;
    let carried: Vec<_> = carried.iter().map(AsFd::as_fd).collect();
    fds::send(to, &[*newline], &carried).map(drop)
}

/// Bytes that are read at once.
const READ_BYTES: usize = 64 * 1024;

/// The messages that arrive.
pub struct Receiver<T> {
    stream: OwnedReadHalf,
    /// What was read and not yet taken.
    buffer: Vec<u8>,
    /// How far it is known to have no newline.
    searched: usize,
    /// What came with the last byte of the buffer.
    carried: Vec<OwnedFd>,
    message: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Receives from this half of the control socket.
    pub fn new(stream: OwnedReadHalf) -> Self {
        Self { stream, buffer: Vec::new(), searched: 0, carried: Vec::new(), message: PhantomData }
    }

    /// The next message, with what it carries; `None` when the other side is gone, or sends a line beyond
    /// [`LINE_LIMIT`]. Safe to cancel: a line read in part is kept.
    pub async fn next(&mut self) -> Option<(T, Vec<OwnedFd>)> {
        loop {
            while let Some(end) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let end = self.searched + end + 1;
                let message = serde_json::from_slice(&self.buffer[..end]);
                self.buffer.drain(..end);
                self.searched = 0;
                // Nothing is read past the byte that descriptors come with.
                let carried =
                    if self.buffer.is_empty() { std::mem::take(&mut self.carried) } else { Vec::new() };
                match message {
                    Ok(message) => return Some((message, carried)),
                    Err(error) => tracing::warn!("a control message cannot be read: {error}"),
                }
            }
            self.searched = self.buffer.len();
            if self.buffer.len() >= LINE_LIMIT || !self.carried.is_empty() || !self.read().await {
                return None;
            }
        }
    }

    /// Reads what is there; `false` at the end.
    async fn read(&mut self) -> bool {
        let Self { stream, buffer, carried, .. } = self;
        let stream: &UnixStream = (*stream).as_ref();
        let length = buffer.len();
        let read = stream
            .async_io(Interest::READABLE, || {
                buffer.resize(length + READ_BYTES, 0);
                let read = fds::receive(stream, &mut buffer[length..], carried);
                buffer.truncate(length + read.as_ref().copied().unwrap_or(0));
                read
            })
            .await;
        matches!(read, Ok(1..))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::*;

    fn pair<T: Serialize>() -> (Sender<T>, Receiver<Request>, Box<dyn std::any::Any>) {
        let (a, b) = UnixStream::pair().unwrap();
        let ((a_read, a_write), (b_read, b_write)) = (a.into_split(), b.into_split());
        (Sender::new(a_write), Receiver::new(b_read), Box::new((a_read, b_write)))
    }

    fn pipe() -> (File, OwnedFd) {
        let (read, write) = nix::unistd::pipe().unwrap();
        (read.into(), write)
    }

    #[tokio::test]
    async fn descriptors_arrive_with_their_message() {
        let (mut sender, mut receiver, _others) = pair();
        let (mut end, carried) = pipe();
        let cancel = |id| Request::CancelExec { id };
        sender.push(&cancel(1), Vec::new());
        sender.push(&cancel(2), vec![carried]);
        sender.push(&cancel(3), Vec::new());
        sender.flush().await;
        for (id, count) in [(1, 0), (2, 1), (3, 0)] {
            let (message, carried) = receiver.next().await.unwrap();
            assert_eq!((message, carried.len()), (cancel(id), count));
        }
        // Nobody holds it any more.
        assert_eq!(end.read(&mut [0]).unwrap(), 0);
        drop(sender);
        assert!(receiver.next().await.is_none());
    }

    #[tokio::test]
    async fn what_cannot_be_read_leaves_no_descriptor_behind() {
        let (mut sender, mut receiver, _others) = pair();
        let (mut end, carried) = pipe();
        let cancel = serde_json::to_value(Request::CancelExec { id: 1 }).unwrap();
        sender.push(&"no request".into(), vec![carried]);
        sender.push(&cancel, Vec::new());
        sender.flush().await;
        assert!(
            matches!(receiver.next().await, Some((Request::CancelExec { id: 1 }, none)) if none.is_empty())
        );
        assert_eq!(end.read(&mut [0]).unwrap(), 0);
    }

    #[tokio::test]
    async fn a_long_line_arrives_whole() {
        let (mut sender, mut receiver, _others) = pair();
        let long = Request::Exec {
            id: 1,
            container: "x".repeat(1 << 20),
            command: Vec::new(),
            stdin: false,
            stdout: false,
            stderr: false,
        };
        sender.push(&long, Vec::new());
        // Nobody reads: it is taken up where it was left.
        let sent = tokio::time::timeout(Duration::from_millis(1), sender.flush()).await;
        assert_eq!((sent.is_err(), sender.waiting()), (true, 1));
        let (received, ()) = tokio::join!(receiver.next(), sender.flush());
        assert_eq!((received.unwrap().0, sender.waiting()), (long, 0));
    }

    #[tokio::test]
    async fn what_is_for_nobody_is_dropped() {
        let (mut sender, receiver, others) = pair();
        drop((receiver, others));
        let (mut end, carried) = pipe();
        sender.push(&Request::CancelExec { id: 1 }, vec![carried]);
        sender.flush().await;
        assert_eq!((sender.waiting(), end.read(&mut [0]).unwrap()), (0, 0));
    }
}
