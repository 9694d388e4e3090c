//! What the pod process is asked about itself: its answer comes in parts.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::sync::oneshot;

use super::Questions;
use crate::api::server::Failure;
use crate::api::types::{API_VERSION, DeniedPackets, PodIpc, PodNetwork, Timeline};
use crate::pod::control::{Part, Question, Request};

/// What the pod process was asked for, as far as it has answered.
pub(super) enum Open {
    Network { answer: oneshot::Sender<Result<PodNetwork, Failure>>, network: Box<PodNetwork> },
    Timeline { answer: oneshot::Sender<Result<Timeline, Failure>> },
    Ipc { answer: oneshot::Sender<Result<PodIpc, Failure>> },
    RemoveIpc { answer: oneshot::Sender<Result<(), Failure>> },
}

impl Questions<'_> {
    pub(super) fn ask(&mut self, question: Question, open: Open) -> Request {
        let id = self.next_id();
        self.open.insert(id, open);
        Request::Ask { id, question }
    }

    /// The pod's name, namespace and uid.
    fn metadata(&self) -> ObjectMeta {
        let ObjectMeta { name, namespace, uid, .. } = self.pod.metadata.clone();
        ObjectMeta { name, namespace, uid, ..ObjectMeta::default() }
    }

    pub(super) fn empty(&self) -> PodNetwork {
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

pub(super) fn silent() -> Failure {
    Failure::Unavailable("the pod process has not answered what it was asked before".to_owned())
}
