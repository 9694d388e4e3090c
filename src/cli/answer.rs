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

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::api::server::{Failure, MAX_CONNECTIONS, Pods};
use crate::api::types::{API_VERSION, DeniedPackets, IpcKind, PodIpc, PodNetwork};
use crate::pod::control::{Part, Question, Request};

/// How long the pod process may take. It answers between two turns of its containers.
const PATIENCE: Duration = Duration::from_secs(10);

/// Questions to the pod process that are open at the same time: one for each client.
const MAX_OPEN: usize = MAX_CONNECTIONS;

/// What a client wants to know.
pub enum Inquiry {
    Pod(oneshot::Sender<Pod>),
    Network(oneshot::Sender<Result<PodNetwork, Failure>>),
    Ipc(oneshot::Sender<Result<PodIpc, Failure>>),
    RemoveIpc(IpcKind, String, oneshot::Sender<Result<(), Failure>>),
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

    async fn ipc(&self, _uid: &str) -> Result<PodIpc, Failure> {
        self.ask(Inquiry::Ipc).await?
    }

    async fn remove_ipc(&self, _uid: &str, kind: IpcKind, name: String) -> Result<(), Failure> {
        self.ask(|answer| Inquiry::RemoveIpc(kind, name, answer)).await?
    }
}

/// The watch's side.
pub struct Questions<'a> {
    pod: &'a Pod,
    next_id: u64,
    open: HashMap<u64, Open>,
}

/// A question that is open, with the answer so far.
enum Open {
    Network { answer: oneshot::Sender<Result<PodNetwork, Failure>>, network: Box<PodNetwork> },
    Ipc(oneshot::Sender<Result<PodIpc, Failure>>),
    RemoveIpc(oneshot::Sender<Result<(), Failure>>),
}

impl<'a> Questions<'a> {
    /// About this pod.
    pub fn new(pod: &'a Pod) -> Self {
        Self { pod, next_id: 0, open: HashMap::new() }
    }

    /// Answers what can be answered here; the rest is asked of the pod process with the request returned.
    pub fn inquire(&mut self, inquiry: Inquiry, status: Option<&PodStatus>) -> Option<Request> {
        // A client that is gone wants no answer.
        let full = self.open.len() >= MAX_OPEN;
        let busy =
            || Failure::Unavailable("the pod process has not answered what it was asked before".to_owned());
        let (open, question) = match inquiry {
            Inquiry::Pod(answer) => {
                let _ = answer.send(Pod { status: status.cloned(), ..self.pod.clone() });
                return None;
            }
            Inquiry::Network(answer) if full => {
                let _ = answer.send(Err(busy()));
                return None;
            }
            Inquiry::Ipc(answer) if full => {
                let _ = answer.send(Err(busy()));
                return None;
            }
            Inquiry::RemoveIpc(_, _, answer) if full => {
                let _ = answer.send(Err(busy()));
                return None;
            }
            Inquiry::Network(answer) => {
                (Open::Network { answer, network: Box::new(self.empty()) }, Question::Network)
            }
            Inquiry::Ipc(answer) => (Open::Ipc(answer), Question::Ipc),
            Inquiry::RemoveIpc(kind, name, answer) => {
                (Open::RemoveIpc(answer), Question::RemoveIpc { kind, name })
            }
        };
        let id = self.next_id;
        self.next_id += 1;
        self.open.insert(id, open);
        Some(Request::Ask { id, question })
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
                if let Some(Open::Ipc(answer)) = self.open.remove(&id) {
                    let _ = answer.send(Ok(PodIpc {
                        api_version: API_VERSION.to_owned(),
                        kind: "PodIpc".to_owned(),
                        metadata: self.metadata(),
                        objects,
                    }));
                }
            }
            Part::IpcRemoved(why) => {
                if let Some(Open::RemoveIpc(answer)) = self.open.remove(&id) {
                    let _ = answer.send(why.map_or(Ok(()), |why| Err(Failure::NotFound(why))));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(omitted: u64) -> Part {
        Part::Containers { containers: Vec::new(), omitted, denied_packets: DeniedPackets::default() }
    }

    #[tokio::test]
    async fn parts_become_one_answer_and_a_pod_that_is_silent_is_asked_no_more() {
        let pod = Pod::default();
        let mut questions = Questions::new(&pod);
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
}
