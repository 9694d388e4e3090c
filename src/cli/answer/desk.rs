//! The server's side: every request of a client becomes an inquiry, and waits for its answer.

use std::time::Duration;

use k8s_openapi::api::core::v1::{EphemeralContainer, Event, Pod, PodCondition};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::MAX_OPEN;
use super::configuration::Wanted;
use crate::api::objects::{Change, Changed, ObjectKind};
use crate::api::patch::PatchType;
use crate::api::server::{ExecOptions, Failure, Pods, Session};
use crate::api::types::{IpcKind, PodIpc, PodNetwork, Timeline};
use crate::pod::control::SetCondition;

/// How long the pod process may take. It answers between two turns of its containers.
const PATIENCE: Duration = Duration::from_secs(10);

/// The same where an image may have to be compiled: less than the server has for a request.
const COMPILE_PATIENCE: Duration = Duration::from_secs(55);

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
    /// What the pod is configured by, if it is of this namespace.
    Objects(ObjectKind, Option<String>, oneshot::Sender<Vec<Value>>),
    /// One of those.
    Object(ObjectKind, String, String, oneshot::Sender<Option<Value>>),
    /// Change that, or the pod's metadata. Answered when the pod has it.
    Configure(Box<Wanted>),
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

    async fn update(
        &self,
        _uid: &str,
        kind: PatchType,
        patch: Value,
        is_dry_run: bool,
    ) -> Result<Pod, Failure> {
        let wanted = |answer| Wanted::Pod { kind, patch, is_dry_run, answer };
        self.ask(|answer| Inquiry::Configure(Box::new(wanted(answer)))).await?
    }

    async fn objects(&self, kind: ObjectKind, namespace: Option<&str>) -> Result<Vec<Value>, Failure> {
        let namespace = namespace.map(str::to_owned);
        self.ask(|answer| Inquiry::Objects(kind, namespace, answer)).await
    }

    async fn object(&self, kind: ObjectKind, namespace: &str, name: &str) -> Result<Option<Value>, Failure> {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        self.ask(|answer| Inquiry::Object(kind, namespace, name, answer)).await
    }

    async fn change_object(
        &self,
        kind: ObjectKind,
        namespace: &str,
        name: &str,
        change: Change,
        is_dry_run: bool,
    ) -> Result<Changed, Failure> {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let wanted = |answer| Wanted::Object { kind, namespace, name, change, is_dry_run, answer };
        self.ask(|answer| Inquiry::Configure(Box::new(wanted(answer)))).await?
    }

    async fn exec(&self, _uid: &str, options: ExecOptions) -> Result<Session, Failure> {
        self.ask(|answer| Inquiry::Exec(options, answer)).await?
    }

    async fn add_ephemeral(&self, _uid: &str, container: EphemeralContainer) -> Result<Pod, Failure> {
        let inquiry = |answer| Inquiry::AddEphemeral(Box::new(container), answer);
        self.ask_within(COMPILE_PATIENCE, inquiry).await?
    }
}
