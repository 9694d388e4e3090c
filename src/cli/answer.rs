//! What the supervisor of `peapod run` answers on its pod's control socket.
//!
//! ```text
//! server's tasks ─ Desk ─► Inquiry (queue) ─► the watch ─► Questions ─ Ask ─► pod process
//!        ▲                                       │             ▲               │
//!        └──────────── oneshot ◄─────────────────┴─────────────┴── Answer ◄────┘
//! ```
//!
//! The watch owns the way to the pod process, so that it asks and matches what comes back. A question stays open
//! until the pod process has answered it, whether or not somebody still waits: that bounds what a pod process which
//! does not answer is asked.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::journal::Journal;
use super::startup::Startup;
use crate::api::server::{Failure, MAX_CONNECTIONS, Pods};
use crate::api::types::{API_VERSION, DeniedPackets, PodNetwork, Timeline};
use crate::pod::control::{self, Part, Question, Request, SetCondition};

/// How long the pod process may take. It answers between two turns of its containers.
const PATIENCE: Duration = Duration::from_secs(10);

/// Questions to the pod process that are open at the same time: one for each client.
const MAX_OPEN: usize = MAX_CONNECTIONS;

/// What a client wants to know.
pub enum Inquiry {
    Pod(oneshot::Sender<Pod>),
    Events(oneshot::Sender<Vec<Event>>),
    Network(oneshot::Sender<Result<PodNetwork, Failure>>),
    Timeline(oneshot::Sender<Result<Timeline, Failure>>),
    /// Answered when it is on its way.
    SetConditions(Vec<SetCondition>, oneshot::Sender<()>),
    /// The pod with the resources that it shall have.
    Resize(Box<Pod>, oneshot::Sender<Result<Pod, Failure>>),
    /// The pod shall end, within this time if not its own. For the watch, which ends it.
    Delete(Option<Duration>, oneshot::Sender<Pod>),
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
        let ended = || Failure::Unavailable("the pod ends".to_owned());
        let (sender, answer) = oneshot::channel();
        let asked = async {
            self.0.send(inquiry(sender)).await.map_err(|_| ended())?;
            answer.await.map_err(|_| ended())
        };
        timeout(PATIENCE, asked).await.unwrap_or(Err(Failure::Timeout))
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
}

/// The watch's side.
pub struct Questions<'a> {
    /// The pod as a client sees it, but for its status.
    pod: Pod,
    startup: &'a Startup,
    journal: Journal,
    next_id: u64,
    open: HashMap<u64, Open>,
}

/// What the pod process was asked for, as far as it has answered.
enum Open {
    Network { answer: oneshot::Sender<Result<PodNetwork, Failure>>, network: Box<PodNetwork> },
    Timeline { answer: oneshot::Sender<Result<Timeline, Failure>> },
}

impl<'a> Questions<'a> {
    /// About this pod, as it was submitted.
    pub fn new(pod: &Pod, startup: &'a Startup) -> Self {
        let mut pod = pod.clone();
        let host = host_name();
        let journal = Journal::new(&pod, &host, startup.compiled());
        let began = startup.began();
        let began = jiff::Timestamp::from_second(began.as_second()).unwrap_or(began);
        pod.metadata.creation_timestamp = Some(Time(began));
        pod.spec.get_or_insert_default().node_name.get_or_insert(host);
        Self { pod, startup, journal, next_id: 0, open: HashMap::new() }
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
    pub fn inquire(&mut self, inquiry: Inquiry, status: Option<&PodStatus>) -> Option<Request> {
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
            Inquiry::Network(answer) => {
                Some(self.ask(Question::Network, Open::Network { answer, network: Box::new(self.empty()) }))
            }
            Inquiry::Timeline(answer) => Some(self.ask(Question::Timeline, Open::Timeline { answer })),
            Inquiry::SetConditions(conditions, answer) => {
                let _ = answer.send(());
                Some(Request::SetConditions(conditions))
            }
            Inquiry::Resize(wanted, answer) => {
                let (answered, request) = self.resize(*wanted);
                let _ = answer.send(answered);
                request
            }
            // The watch has done what there is to do.
            Inquiry::Delete(_, answer) => {
                let _ = answer.send(self.pod(status));
                None
            }
        }
    }

    fn ask(&mut self, question: Question, open: Open) -> Request {
        let id = self.next_id;
        self.next_id += 1;
        self.open.insert(id, open);
        Request::Ask { id, question }
    }

    /// What a change of the running pod's resources comes to: the answer, and what is asked of the pod process.
    fn resize(&mut self, _wanted: Pod) -> (Result<Pod, Failure>, Option<Request>) {
        let why = "a running pod cannot be resized yet; run it anew with other resources";
        (Err(Failure::Unavailable(why.to_owned())), None)
    }

    fn empty(&self) -> PodNetwork {
        let ObjectMeta { name, namespace, uid, .. } = self.pod.metadata.clone();
        PodNetwork {
            api_version: API_VERSION.to_owned(),
            kind: "PodNetwork".to_owned(),
            metadata: ObjectMeta { name, namespace, uid, ..ObjectMeta::default() },
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

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(omitted: u64) -> Part {
        Part::Containers { containers: Vec::new(), omitted, denied_packets: DeniedPackets::default() }
    }

    #[tokio::test]
    async fn parts_become_one_answer_and_a_pod_that_is_silent_is_asked_no_more() {
        let startup = Startup::new();
        let mut questions = Questions::new(&Pod::default(), &startup);
        let mut waiting = Vec::new();
        for id in 0..MAX_OPEN as u64 {
            let (sender, answer) = oneshot::channel();
            let request = questions.inquire(Inquiry::Network(sender), None);
            assert_eq!(request, Some(Request::Ask { id, question: Question::Network }));
            waiting.push(answer);
        }
        let (sender, refused) = oneshot::channel();
        assert_eq!(questions.inquire(Inquiry::Network(sender), None), None);
        assert!(matches!(refused.await, Ok(Err(Failure::Unavailable(_)))));
        // Also those that nobody waits for are open until they are answered.
        waiting.truncate(1);
        assert_eq!(questions.open.len(), MAX_OPEN);
        for id in 0..MAX_OPEN as u64 {
            questions.answered(id, Part::Sockets(Vec::new()));
            questions.answered(id, counters(id));
        }
        assert!(questions.open.is_empty());
        assert_eq!(waiting.remove(0).await.unwrap().unwrap().kind, "PodNetwork");
        questions.answered(7, counters(0));
    }

    #[test]
    fn deletion_is_told_and_its_grace_only_shrinks() {
        let startup = Startup::new();
        let mut questions = Questions::new(&Pod::default(), &startup);
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
