//! What the supervisor of `peapod run` answers on its pod's control socket.
//!
//! ```text
//! server's tasks ─ Desk ─► Inquiry (queue) ─► the watch ─► Questions ─ Ask ─► pod process
//!        ▲                                       │             ▲               │
//!        └──────────── oneshot ◄─────────────────┴─────────────┴── Answer ◄────┘
//!
//! exec:  Session (pipes) ◄─ Questions ─ Exec + pipes ─► pod process ─ ExecEnded ─► Session
//! debug: container ─► check ─► prepare (a process) ─ AddEphemeral + code ─► pod process ─► the Pod
//! ```
//!
//! The watch owns the way to the pod process, so that it asks and matches what comes back. A question stays open
//! until the pod process has answered it, whether or not somebody still waits: that bounds what a pod process which
//! does not answer is asked.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::{EphemeralContainer, Event, Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::additions;
use super::journal::Journal;
use super::prepare::{self, Component, Prepared};
use super::startup::Startup;
use crate::api::server::{Ended, ExecOptions, Failure, MAX_CONNECTIONS, Pods, Session};
use crate::api::types::{API_VERSION, DeniedPackets, IpcKind, PodIpc, PodNetwork, Timeline};
use crate::pod::control::{self, Addition, Part, Preparation, Question, Request, SetCondition};
use crate::sandbox::cgroup::CgroupError;
use crate::spec::convert;
use crate::spec::{self, Container};

/// How long the pod process may take. It answers between two turns of its containers.
const PATIENCE: Duration = Duration::from_secs(10);

/// The same where an image may have to be compiled: less than the server has for a request.
const COMPILE_PATIENCE: Duration = Duration::from_secs(55);

/// Questions to the pod process that are open at the same time: one for each client.
const MAX_OPEN: usize = MAX_CONNECTIONS;

/// What a client wants to know.
pub enum Inquiry {
    Pod(oneshot::Sender<Pod>),
    Events(oneshot::Sender<Vec<Event>>),
    Network(oneshot::Sender<Result<PodNetwork, Failure>>),
    Timeline(oneshot::Sender<Result<Timeline, Failure>>),
    Ipc(oneshot::Sender<Result<PodIpc, Failure>>),
    RemoveIpc(IpcKind, String, oneshot::Sender<Result<(), Failure>>),
    /// Answered when it is on its way.
    SetConditions(Vec<SetCondition>, oneshot::Sender<()>),
    /// The pod with the resources that it shall have.
    Resize(Box<Pod>, oneshot::Sender<Result<Pod, Failure>>),
    /// The pod shall end, within this time if not its own. For the watch, which ends it.
    Delete(Option<Duration>, oneshot::Sender<Pod>),
    Exec(ExecOptions, oneshot::Sender<Result<Session, Failure>>),
    AddEphemeral(Box<EphemeralContainer>, oneshot::Sender<Result<Pod, Failure>>),
}

/// The server's side; clones are the same.
#[derive(Clone)]
pub struct Desk(mpsc::Sender<Inquiry>);

impl Desk {
    /// The desk, and where its inquiries come out.
    pub fn new() -> (Self, mpsc::Receiver<Inquiry>) {
        let (sender, inquiries) = mpsc::channel(MAX_OPEN);
        (Self(sender), inquiries)
    }

    async fn ask<T>(&self, inquiry: impl FnOnce(oneshot::Sender<T>) -> Inquiry) -> Result<T, Failure> {
        self.ask_within(PATIENCE, inquiry).await
    }

    async fn ask_within<T>(
        &self,
        patience: Duration,
        inquiry: impl FnOnce(oneshot::Sender<T>) -> Inquiry,
    ) -> Result<T, Failure> {
        let ended = || Failure::Unavailable("the pod ends".to_owned());
        let (sender, answer) = oneshot::channel();
        let asked = async {
            self.0.send(inquiry(sender)).await.map_err(|_| ended())?;
            answer.await.map_err(|_| ended())
        };
        timeout(patience, asked).await.unwrap_or(Err(Failure::Timeout))
    }
}

impl Pods for Desk {
    async fn list(&self) -> Result<Vec<Pod>, Failure> {
        Ok(vec![self.ask(Inquiry::Pod).await?])
    }

    async fn network(&self, _uid: &str) -> Result<PodNetwork, Failure> {
        self.ask(Inquiry::Network).await?
    }

    async fn timeline(&self, _uid: &str) -> Result<Timeline, Failure> {
        self.ask(Inquiry::Timeline).await?
    }

    async fn ipc(&self, _uid: &str) -> Result<PodIpc, Failure> {
        self.ask(Inquiry::Ipc).await?
    }

    async fn remove_ipc(&self, _uid: &str, kind: IpcKind, name: String) -> Result<(), Failure> {
        self.ask(|answer| Inquiry::RemoveIpc(kind, name, answer)).await?
    }

    async fn events(&self) -> Result<Vec<Event>, Failure> {
        self.ask(Inquiry::Events).await
    }

    async fn delete(&self, _uid: &str, grace: Option<u32>) -> Result<Pod, Failure> {
        let grace = grace.map(|seconds| Duration::from_secs(seconds.into()));
        self.ask(|answer| Inquiry::Delete(grace, answer)).await
    }

    async fn set_conditions(&self, _uid: &str, conditions: Vec<PodCondition>) -> Result<(), Failure> {
        let conditions = conditions.into_iter().map(|condition| SetCondition {
            name: condition.type_,
            holds: match &*condition.status {
                "True" => Some(true),
                "False" => Some(false),
                _ => None,
            },
            reason: condition.reason,
            message: condition.message,
        });
        let conditions = conditions.collect();
        self.ask(|answer| Inquiry::SetConditions(conditions, answer)).await
    }

    async fn resize(&self, _uid: &str, wanted: Pod) -> Result<Pod, Failure> {
        self.ask(|answer| Inquiry::Resize(Box::new(wanted), answer)).await?
    }

    async fn exec(&self, _uid: &str, options: ExecOptions) -> Result<Session, Failure> {
        self.ask(|answer| Inquiry::Exec(options, answer)).await?
    }

    async fn add_ephemeral(&self, _uid: &str, container: EphemeralContainer) -> Result<Pod, Failure> {
        let inquiry = |answer| Inquiry::AddEphemeral(Box::new(container), answer);
        self.ask_within(COMPILE_PATIENCE, inquiry).await?
    }
}

/// What goes to the pod process, and the descriptors with it.
pub type Outgoing = (Request, Vec<OwnedFd>);

/// Makes room for other resources of the pod; what the pod process is asked for.
pub type Resize<'a> = &'a dyn Fn(&spec::Pod) -> Result<Request, CgroupError>;

/// What is asked about.
pub struct About<'a> {
    /// The pod as it was submitted.
    pub pod: &'a Pod,
    /// The same, validated.
    pub spec: &'a spec::Pod,
    /// Where relative images start.
    pub directory: &'a Path,
    /// The supervisor's part of the pod's timeline.
    pub startup: &'a Startup,
    pub resize: Resize<'a>,
}

/// The watch's side.
pub struct Questions<'a> {
    /// The pod as a client sees it, but for its status.
    pod: Pod,
    /// The same, validated.
    spec: spec::Pod,
    /// Where relative images start.
    directory: PathBuf,
    startup: &'a Startup,
    resize: Resize<'a>,
    journal: Journal,
    next_id: u64,
    open: HashMap<u64, Open>,
    /// Commands that have not ended.
    execs: HashMap<u64, oneshot::Sender<Ended>>,
    /// Ends for each command whose client is gone, and for those that have ended. The server bounds them
    /// (`MAX_SESSIONS`).
    clients: FuturesUnordered<BoxFuture<'static, u64>>,
    /// Images that are being prepared.
    preparations: JoinSet<(For, Prepared)>,
    /// Containers that the pod process has been told to add.
    additions: HashMap<u64, Adding>,
}

struct Adding {
    container: EphemeralContainer,
    checked: Container,
    answer: oneshot::Sender<Result<Pod, Failure>>,
}

/// What a preparation is for.
enum For {
    /// The pod process, which asked with this id.
    PodProcess(u64),
    /// A container that is to be added.
    Addition(Box<EphemeralContainer>, Box<Container>, oneshot::Sender<Result<Pod, Failure>>),
}

/// What the pod process was asked for, as far as it has answered.
enum Open {
    Network { answer: oneshot::Sender<Result<PodNetwork, Failure>>, network: Box<PodNetwork> },
    Timeline { answer: oneshot::Sender<Result<Timeline, Failure>> },
    Ipc { answer: oneshot::Sender<Result<PodIpc, Failure>> },
    RemoveIpc { answer: oneshot::Sender<Result<(), Failure>> },
}

impl<'a> Questions<'a> {
    /// About this pod.
    pub fn new(about: About<'a>) -> Self {
        let About { pod, spec, directory, startup, resize } = about;
        let mut pod = pod.clone();
        let host = host_name();
        let journal = Journal::new(&pod, &host, startup.compiled());
        let began = startup.began();
        let began = jiff::Timestamp::from_second(began.as_second()).unwrap_or(began);
        pod.metadata.creation_timestamp = Some(Time(began));
        pod.spec.get_or_insert_default().node_name.get_or_insert(host);
        Self {
            pod,
            spec: spec.clone(),
            directory: directory.to_owned(),
            startup,
            resize,
            journal,
            next_id: 0,
            open: HashMap::new(),
            execs: HashMap::new(),
            clients: FuturesUnordered::new(),
            preparations: JoinSet::new(),
            additions: HashMap::new(),
        }
    }

    /// The pod as it was submitted and has been changed since, without status.
    pub fn into_pod(self) -> Pod {
        self.pod
    }

    /// The pod with this status.
    fn pod(&self, status: Option<&PodStatus>) -> Pod {
        Pod { status: status.cloned(), ..self.pod.clone() }
    }

    /// The pod process reports something for whoever watches.
    pub fn reported(&mut self, event: &control::Event) {
        self.journal.event(&self.pod, event);
    }

    /// It reports something for the events.
    pub fn noted(&mut self, note: control::Note) {
        self.journal.note(&self.pod, note);
    }

    /// The pod is asked to end within `grace`: its metadata say so, as those of a Pod that was deleted. A longer grace
    /// than before says nothing.
    pub fn is_deleted(&mut self, grace: Duration) {
        let metadata = &mut self.pod.metadata;
        let seconds = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        if metadata.deletion_grace_period_seconds.is_some_and(|before| before <= seconds) {
            return;
        }
        let now = jiff::Timestamp::now();
        let before = metadata.deletion_grace_period_seconds.unwrap_or(0);
        let asked = metadata
            .deletion_timestamp
            .take()
            .map_or(now, |Time(at)| at.checked_sub(jiff::SignedDuration::from_secs(before)).unwrap_or(now));
        let end = asked.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(jiff::Timestamp::MAX);
        let end = jiff::Timestamp::from_second(end.as_second()).unwrap_or(end);
        metadata.deletion_timestamp = Some(Time(end));
        metadata.deletion_grace_period_seconds = Some(seconds);
    }

    /// Answers what can be answered here; the rest is asked of the pod process with the request returned.
    pub fn inquire(&mut self, inquiry: Inquiry, status: Option<&PodStatus>) -> Option<Outgoing> {
        // A client that is gone wants no answer.
        match inquiry {
            Inquiry::Pod(answer) => {
                let _ = answer.send(self.pod(status));
                None
            }
            Inquiry::Events(answer) => {
                let _ = answer.send(self.journal.list());
                None
            }
            Inquiry::Network(answer) if self.open.len() >= MAX_OPEN => {
                let _ = answer.send(Err(silent()));
                None
            }
            Inquiry::Timeline(answer) if self.open.len() >= MAX_OPEN => {
                let _ = answer.send(Err(silent()));
                None
            }
            Inquiry::Ipc(answer) if self.open.len() >= MAX_OPEN => {
                let _ = answer.send(Err(silent()));
                None
            }
            Inquiry::RemoveIpc(_, _, answer) if self.open.len() >= MAX_OPEN => {
                let _ = answer.send(Err(silent()));
                None
            }
            Inquiry::Network(answer) => {
                let open = Open::Network { answer, network: Box::new(self.empty()) };
                Some((self.ask(Question::Network, open), Vec::new()))
            }
            Inquiry::Timeline(answer) => {
                Some((self.ask(Question::Timeline, Open::Timeline { answer }), Vec::new()))
            }
            Inquiry::Ipc(answer) => Some((self.ask(Question::Ipc, Open::Ipc { answer }), Vec::new())),
            Inquiry::RemoveIpc(kind, name, answer) => {
                let open = Open::RemoveIpc { answer };
                Some((self.ask(Question::RemoveIpc { kind, name }, open), Vec::new()))
            }
            Inquiry::SetConditions(conditions, answer) => {
                let _ = answer.send(());
                Some((Request::SetConditions(conditions), Vec::new()))
            }
            Inquiry::Resize(wanted, answer) => match self.resize(&wanted) {
                Ok(request) => {
                    let _ = answer.send(Ok(self.pod(status)));
                    Some((request, Vec::new()))
                }
                Err(failure) => {
                    let _ = answer.send(Err(failure));
                    None
                }
            },
            // The watch has done what there is to do.
            Inquiry::Delete(_, answer) => {
                let _ = answer.send(self.pod(status));
                None
            }
            Inquiry::Exec(options, answer) => match self.exec(options, status) {
                Ok((session, outgoing)) => {
                    // A client that is gone meanwhile drops the session, which cancels the command.
                    let _ = answer.send(Ok(session));
                    Some(outgoing)
                }
                Err(failure) => {
                    let _ = answer.send(Err(failure));
                    None
                }
            },
            Inquiry::AddEphemeral(container, answer) => {
                match additions::check(&container, &self.spec, &self.pod, &self.directory) {
                    Ok(checked) if self.preparations.len() + self.additions.len() < MAX_OPEN => {
                        let component = Component::Path(checked.image.path().to_owned());
                        let purpose = For::Addition(container, Box::new(checked), answer);
                        self.preparations.spawn(async move { (purpose, prepare::prepared(component).await) });
                    }
                    Ok(_) => {
                        let why = "too many containers are being added to the pod already";
                        let _ = answer.send(Err(Failure::Unavailable(why.to_owned())));
                    }
                    Err(failure) => drop(answer.send(Err(failure))),
                }
                None
            }
        }
    }

    fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn ask(&mut self, question: Question, open: Open) -> Request {
        let id = self.next_id();
        self.open.insert(id, open);
        Request::Ask { id, question }
    }

    /// Gives the running pod the resources of `wanted`: what the pod process is asked for.
    fn resize(&mut self, wanted: &Pod) -> Result<Request, Failure> {
        let converted = convert::resize(&self.spec, &self.pod, wanted);
        let converted = converted.map_err(|invalid| additions::invalid(&self.pod, &invalid))?;
        let request = (self.resize)(&converted.pod)
            .map_err(|error| Failure::Unavailable(format!("the pod's cgroup takes no more: {error}")))?;
        self.spec = converted.pod;
        self.pod = converted.wire;
        Ok(request)
    }

    fn exec(
        &mut self,
        options: ExecOptions,
        status: Option<&PodStatus>,
    ) -> Result<(Session, Outgoing), Failure> {
        let container = additions::running(options.container.as_deref(), &self.pod, status)?;
        let ExecOptions { command, stdin, stdout, stderr, .. } = options;
        let pipes = Pipes::new([stdin, stdout, stderr]);
        let (carried, ours) = pipes.map_err(|error| Failure::Unavailable(format!("no pipes: {error}")))?;
        let id = self.next_id();
        let (sender, ended) = oneshot::channel();
        let (alive, gone) = oneshot::channel();
        self.execs.insert(id, sender);
        self.clients.push(Box::pin(async move {
            let _ = gone.await;
            id
        }));
        let Pipes { stdin: to, stdout: from, stderr: errors } = ours;
        let session = Session { stdin: to, stdout: from, stderr: errors, ended, alive };
        Ok((session, (Request::Exec { id, container, command, stdin, stdout, stderr }, carried)))
    }

    /// A command has ended.
    pub fn exec_ended(&mut self, id: u64, code: u8, message: Option<String>) {
        if let Some(client) = self.execs.remove(&id) {
            let _ = client.send(Ended { code, message });
        }
    }

    /// The pod process wants a component to be compiled.
    pub fn prepare(&mut self, id: u64, name: String, carried: Vec<OwnedFd>) {
        // It asks for few at a time: `MAX_PREPARED` of `pod::exec`.
        self.preparations.spawn(async move {
            let prepared = match carried.into_iter().next() {
                Some(file) => prepare::prepared(Component::File { name, file }).await,
                None => prepare::host_failure(&name, "its file was lost on the way"),
            };
            (For::PodProcess(id), prepared)
        });
    }

    /// What is to be told to the pod process next, because a client is gone or an image is ready. Safe to cancel.
    pub async fn next(&mut self) -> Outgoing {
        loop {
            tokio::select! {
                Some(id) = self.clients.next() => {
                    if self.execs.remove(&id).is_some() {
                        return (Request::CancelExec { id }, Vec::new());
                    }
                }
                Some(Ok((purpose, prepared))) = self.preparations.join_next() => {
                    if let Some(outgoing) = self.prepared(purpose, prepared) {
                        return outgoing;
                    }
                }
                else => std::future::pending().await,
            }
        }
    }

    fn prepared(&mut self, purpose: For, (outcome, code): Prepared) -> Option<Outgoing> {
        let carried: Vec<_> = code.into_iter().collect();
        match (purpose, outcome) {
            (For::PodProcess(id), outcome) => Some((Request::Prepared { id, outcome }, carried)),
            (For::Addition(_, _, answer), Preparation::Refused { message, .. }) => {
                let _ = answer.send(Err(additions::refused(&self.pod, ".image", message)));
                None
            }
            (For::Addition(container, checked, answer), Preparation::Ready { digest, path }) => {
                let id = self.next_id();
                let addition =
                    Addition { container: (*container).clone(), pod: self.pod.clone(), path, digest };
                self.additions.insert(id, Adding { container: *container, checked: *checked, answer });
                Some((Request::AddEphemeral { id, addition: Box::new(addition) }, carried))
            }
        }
    }

    /// A container was added, or refused.
    pub fn ephemeral_added(&mut self, id: u64, error: Option<String>) {
        let Some(Adding { container, checked, answer }) = self.additions.remove(&id) else { return };
        let _ = answer.send(match error {
            Some(error) => Err(additions::refused(&self.pod, "", error)),
            None => {
                additions::add(&mut self.pod, container);
                self.spec.ephemeral_containers.push(checked);
                Ok(self.pod.clone())
            }
        });
    }

    /// The pod's name, namespace and uid.
    fn metadata(&self) -> ObjectMeta {
        let ObjectMeta { name, namespace, uid, .. } = self.pod.metadata.clone();
        ObjectMeta { name, namespace, uid, ..ObjectMeta::default() }
    }

    fn empty(&self) -> PodNetwork {
        PodNetwork {
            api_version: API_VERSION.to_owned(),
            kind: "PodNetwork".to_owned(),
            metadata: self.metadata(),
            sockets: Vec::new(),
            omitted: 0,
            containers: Vec::new(),
            denied_packets: DeniedPackets::default(),
        }
    }

    /// A part of an answer came.
    pub fn answered(&mut self, id: u64, part: Part) {
        match part {
            Part::Sockets(sockets) => {
                // Not kept when nobody waits any more.
                if let Some(Open::Network { answer, network }) = self.open.get_mut(&id)
                    && !answer.is_closed()
                {
                    network.sockets.extend(sockets);
                }
            }
            Part::Containers { containers, omitted, denied_packets } => {
                if let Some(Open::Network { answer, mut network }) = self.open.remove(&id) {
                    network.containers = containers;
                    network.omitted = omitted;
                    network.denied_packets = denied_packets;
                    let _ = answer.send(Ok(*network));
                }
            }
            Part::Ipc(objects) => {
                if let Some(Open::Ipc { answer }) = self.open.remove(&id) {
                    let _ = answer.send(Ok(PodIpc {
                        api_version: API_VERSION.to_owned(),
                        kind: "PodIpc".to_owned(),
                        metadata: self.metadata(),
                        objects,
                    }));
                }
            }
            Part::IpcRemoved(why) => {
                if let Some(Open::RemoveIpc { answer }) = self.open.remove(&id) {
                    let _ = answer.send(why.map_or(Ok(()), |why| Err(Failure::NotFound(why))));
                }
            }
            Part::Timeline(inside) => {
                if let Some(Open::Timeline { answer }) = self.open.remove(&id) {
                    let _ = answer.send(Ok(self.startup.timeline(&self.pod, inside)));
                }
            }
        }
    }
}

fn silent() -> Failure {
    Failure::Unavailable("the pod process has not answered what it was asked before".to_owned())
}

/// `spec.nodeName`: the host.
fn host_name() -> String {
    nix::unistd::gethostname().map_or_else(|_| "localhost".into(), |name| name.to_string_lossy().into_owned())
}

/// The supervisor's ends of a command's pipes.
struct Pipes {
    stdin: Option<pipe::Sender>,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
}

impl Pipes {
    /// Those that are wanted of standard input, output and error: the pod's ends, and ours.
    fn new(wanted: [bool; 3]) -> io::Result<(Vec<OwnedFd>, Self)> {
        let pipe = |wanted: bool| match wanted {
            true => nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map(Some),
            false => Ok(None),
        };
        let [stdin, stdout, stderr] = wanted.map(pipe);
        let mut theirs = Vec::new();
        let stdin = stdin?.map(|(read, write)| (theirs.push(read), write).1);
        let mut output =
            |pipe: Option<(OwnedFd, OwnedFd)>| pipe.map(|(read, write)| (theirs.push(write), read).1);
        let (stdout, stderr) = (output(stdout?), output(stderr?));
        let receiver = |pipe: Option<OwnedFd>| pipe.map(pipe::Receiver::from_owned_fd).transpose();
        let ours = Self {
            stdin: stdin.map(pipe::Sender::from_owned_fd).transpose()?,
            stdout: receiver(stdout)?,
            stderr: receiver(stderr)?,
        };
        Ok((theirs, ours))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::spec as testing;

    fn about<'a>(pod: &'a Pod, spec: &'a spec::Pod, startup: &'a Startup) -> About<'a> {
        let resize: Resize<'_> = &|_| Ok(Request::CancelExec { id: 0 });
        About { pod, spec, directory: Path::new("/"), startup, resize }
    }

    fn counters(omitted: u64) -> Part {
        Part::Containers { containers: Vec::new(), omitted, denied_packets: DeniedPackets::default() }
    }

    #[tokio::test]
    async fn parts_become_one_answer_and_a_pod_that_is_silent_is_asked_no_more() {
        let (startup, pod, spec) = (Startup::new(), Pod::default(), testing::pod([]));
        let mut questions = Questions::new(about(&pod, &spec, &startup));
        let mut waiting = Vec::new();
        for id in 1..=MAX_OPEN as u64 {
            let (sender, answer) = oneshot::channel();
            let (request, _) = questions.inquire(Inquiry::Network(sender), None).unwrap();
            assert_eq!(request, Request::Ask { id, question: Question::Network });
            waiting.push(answer);
        }
        let (sender, refused) = oneshot::channel();
        assert!(questions.inquire(Inquiry::Network(sender), None).is_none());
        assert!(matches!(refused.await, Ok(Err(Failure::Unavailable(_)))));
        // Also those that nobody waits for are open until they are answered.
        waiting.truncate(1);
        assert_eq!(questions.open.len(), MAX_OPEN);
        for id in 1..=MAX_OPEN as u64 {
            questions.answered(id, Part::Sockets(Vec::new()));
            questions.answered(id, counters(id));
        }
        assert!(questions.open.is_empty());
        assert_eq!(waiting.remove(0).await.unwrap().unwrap().kind, "PodNetwork");
        questions.answered(7000, counters(0));
    }

    #[test]
    fn deletion_is_told_and_its_grace_only_shrinks() {
        let (startup, pod, spec) = (Startup::new(), Pod::default(), testing::pod([]));
        let mut questions = Questions::new(about(&pod, &spec, &startup));
        let told = |questions: &Questions<'_>| {
            let metadata = questions.pod(None).metadata;
            (
                metadata.deletion_grace_period_seconds,
                metadata.deletion_timestamp.map(|Time(at)| at.as_second()),
            )
        };
        assert_eq!(told(&questions), (None, None));
        questions.is_deleted(Duration::from_secs(600));
        let (Some(600), Some(first)) = told(&questions) else { panic!() };
        questions.is_deleted(Duration::from_secs(700));
        assert_eq!(told(&questions), (Some(600), Some(first)));
        questions.is_deleted(Duration::from_secs(10));
        assert_eq!(told(&questions), (Some(10), Some(first - 590)));
        questions.is_deleted(Duration::from_secs(0));
        assert_eq!(told(&questions), (Some(0), Some(first - 600)));
    }
}
