//! What the supervisor of `peapod run` answers on its pod's control socket.
//!
//! ```text
//! server's tasks ─ Desk ─► Inquiry (queue) ─► the watch ─► Questions ─ Ask ─► pod process
//!        ▲                                       │             ▲               │
//!        └──────────── oneshot ◄─────────────────┴─────────────┴── Answer ◄────┘
//!
//! exec:  Session (pipes) ◄─ Questions ─ Exec + pipes ─► pod process ─ ExecEnded ─► Session
//! debug: container ─► check ─► prepare (a process) ─ AddEphemeral + code ─► pod process ─► the Pod
//! apply: patch ─► check ─ Configure ─► pod process ─ Configured ─► the object
//! ```
//!
//! The watch owns the way to the pod process, so that it asks and matches what comes back. A question stays open
//! until the pod process has answered it, whether or not somebody still waits: that bounds what a pod process which
//! does not answer is asked.

mod asked;
mod commands;
mod configuration;
mod desk;
mod images;
mod objects;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use self::asked::{Open, silent};
use self::configuration::Configurations;
pub use self::configuration::Relabel;
pub use self::desk::{Desk, Inquiry};
use self::images::{Adding, For};
use super::additions;
use super::journal::Journal;
use super::prepare::Prepared;
use super::startup::Startup;
use crate::api::server::{Ended, Failure, MAX_CONNECTIONS};
use crate::manifest::Manifest;
use crate::pod::control::{self, Question, Request};
use crate::pod::node;
use crate::sandbox::cgroup::CgroupError;
use crate::spec;
use crate::spec::convert;

/// Questions to the pod process that are open at the same time: one for each client.
const MAX_OPEN: usize = MAX_CONNECTIONS;

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
    /// The manifest as it is written.
    pub manifest: &'a Manifest,
    pub resize: Resize<'a>,
    pub relabel: Relabel<'a>,
}

/// The watch's side.
pub struct Questions<'a> {
    /// The pod as a client sees it, but for its status.
    pod: Pod,
    /// The same, validated. Its generation is the last that a change was given.
    spec: spec::Pod,
    /// Where relative images start.
    directory: PathBuf,
    startup: &'a Startup,
    resize: Resize<'a>,
    journal: Journal,
    next_id: u64,
    open: HashMap<u64, Open>,
    /// Containers that have started since the last status, which comes a moment later.
    begun: BTreeSet<String>,
    /// Commands that have not ended.
    execs: HashMap<u64, oneshot::Sender<Ended>>,
    /// Ends for each command whose client is gone, and for those that have ended. The server bounds them
    /// (`MAX_SESSIONS`).
    clients: FuturesUnordered<BoxFuture<'static, u64>>,
    /// Images that are being prepared.
    preparations: JoinSet<(For, Prepared)>,
    /// Containers that the pod process has been told to add.
    additions: HashMap<u64, Adding>,
    configurations: Configurations<'a>,
    /// What is to be told besides: one for each configuration that is under way.
    ready: VecDeque<Outgoing>,
}

impl<'a> Questions<'a> {
    /// About this pod.
    pub fn new(about: About<'a>) -> Self {
        let About { pod, spec, directory, startup, manifest, resize, relabel } = about;
        let mut pod = pod.clone();
        let host = node::name();
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
            begun: BTreeSet::new(),
            execs: HashMap::new(),
            clients: FuturesUnordered::new(),
            preparations: JoinSet::new(),
            additions: HashMap::new(),
            configurations: Configurations::new(manifest, &spec.namespace, began, relabel),
            ready: VecDeque::new(),
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
        match event {
            control::Event::Started { container, .. } => drop(self.begun.insert(container.clone())),
            control::Event::Ended { container, .. } => drop(self.begun.remove(container)),
            _ => {}
        }
        self.journal.event(&self.pod, event);
    }

    /// It reports its status.
    pub fn status_is_known(&mut self) {
        self.begun.clear();
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
            Inquiry::Objects(kind, namespace, answer) => {
                let _ = answer.send(self.configurations.store.list(kind, namespace.as_deref()));
                None
            }
            Inquiry::Object(kind, namespace, name, answer) => {
                let _ = answer.send(self.configurations.store.get(kind, &namespace, &name).cloned());
                None
            }
            Inquiry::Configure(wanted) => self.configure(*wanted, status),
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
                self.add_ephemeral(container, answer);
                None
            }
        }
    }

    fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
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

    /// What is to be told to the pod process next, because a client is gone or an image is ready. Safe to cancel.
    pub async fn next(&mut self) -> Outgoing {
        if let Some(outgoing) = self.ready.pop_front() {
            return outgoing;
        }
        loop {
            tokio::select! {
                Some(id) = self.clients.next() => {
                    if self.execs.remove(&id).is_some() {
                        return (Request::CancelExec { id }, Vec::new());
                    }
                }
                Some(done) = self.preparations.join_next() => match done {
                    Ok((purpose, prepared)) => {
                        if let Some(outgoing) = self.prepared(purpose, prepared) {
                            return outgoing;
                        }
                    }
                    Err(error) => tracing::error!("an image was not prepared (a bug): {error}"),
                },
                else => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::EphemeralContainer;
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

    use super::*;
    use crate::api::types::DeniedPackets;
    use crate::pod::control::{Part, Preparation};
    use crate::testing::spec as testing;

    fn about<'a>(pod: &'a Pod, spec: &'a spec::Pod, startup: &'a Startup) -> About<'a> {
        static MANIFEST: std::sync::LazyLock<Manifest> = std::sync::LazyLock::new(Manifest::default);
        let resize: Resize<'_> = &|_| Ok(Request::CancelExec { id: 0 });
        let (manifest, relabel): (_, Relabel<'_>) = (&*MANIFEST, &|_| Ok(()));
        About { pod, spec, directory: Path::new("/"), startup, manifest, resize, relabel }
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

    #[tokio::test]
    async fn every_change_has_a_generation_of_its_own_whatever_comes_first() {
        let text = b"{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {containers: [{name: web, \
                     image: ./web.wasm, resources: {limits: {cpu: 100m}}}]}}";
        let convert::Converted { pod: spec, wire, .. } =
            convert::load(text, &convert::Options::default()).unwrap();
        let startup = Startup::new();
        let generations = std::cell::RefCell::new(Vec::new());
        let resize = |pod: &spec::Pod| {
            generations.borrow_mut().push(pod.generation);
            Ok(Request::CancelExec { id: 0 })
        };
        let directory = Path::new("/");
        let mut questions = Questions::new(About { resize: &resize, ..about(&wire, &spec, &startup) });
        let add = |questions: &mut Questions<'_>, name: &str| {
            let container = EphemeralContainer {
                name: name.to_owned(),
                image: Some("./web.wasm".to_owned()),
                ..EphemeralContainer::default()
            };
            let checked = additions::check(&container, &questions.spec, &questions.pod, directory).unwrap();
            let (answer, answered) = oneshot::channel();
            let purpose = For::Addition(Box::new(container), Box::new(checked), answer);
            let (digest, wasi) = (String::new(), String::new());
            let ready = Preparation::Ready { digest, wasi, path: PathBuf::new() };
            let Some((Request::AddEphemeral { id, addition }, _)) =
                questions.prepared(purpose, (ready, None))
            else {
                panic!()
            };
            (id, addition.generation, answered)
        };
        let resized = |questions: &mut Questions<'_>, cpu: &str| {
            let mut wanted = questions.pod.clone();
            let resources = wanted.spec.as_mut().unwrap().containers[0].resources.as_mut().unwrap();
            for list in [&mut resources.limits, &mut resources.requests] {
                list.get_or_insert_default().insert("cpu".to_owned(), Quantity(cpu.to_owned()));
            }
            questions.resize(&wanted).unwrap();
            questions.pod.metadata.generation
        };
        let (first, generation, answered) = add(&mut questions, "debug");
        assert_eq!(generation, 2);
        assert_eq!(resized(&mut questions, "200m"), Some(3));
        questions.ephemeral_added(first, None);
        assert_eq!(answered.await.unwrap().unwrap().metadata.generation, Some(3));
        // One that is refused leaves a gap, and nothing else.
        let (second, generation, _) = add(&mut questions, "more");
        questions.ephemeral_added(second, Some("for the test".to_owned()));
        assert_eq!((generation, questions.pod.metadata.generation), (4, Some(3)));
        assert_eq!(resized(&mut questions, "300m"), Some(5));
        assert_eq!(*generations.borrow(), [3, 5]);
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
