//! What the pod is configured by, and its labels and annotations: changed one after the other.
//!
//! ```text
//! client ─► Wanted ─► `waiting` ─► checked ─ Configure ─► pod process ─ Configured ─► entered ─► client
//!                                     │                   (volumes have it)
//!                                     └─► the same as before, or wrong ────────────────────────► client
//! ```
//!
//! One is under way at a time, so that each is checked against what the one before has made.

use std::collections::{BTreeMap, VecDeque};

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::Value;
use tokio::sync::oneshot;

use super::super::additions;
use super::objects::{Plan, Planned, Store};
use super::{MAX_OPEN, Outgoing, Questions};
use crate::api::apply::apply;
use crate::api::objects::{Change, Changed, ObjectKind};
use crate::api::patch::PatchType;
use crate::api::server::Failure;
use crate::api::update;
use crate::manifest::{Manifest, Numbered};
use crate::pod::control::{Configuration, Request};
use crate::sandbox::record::RecordError;
use crate::spec;
use crate::spec::convert;

/// Writes the pod's labels where other pods find them.
pub type Relabel<'a> = &'a dyn Fn(&BTreeMap<String, String>) -> Result<(), RecordError>;

/// A change, and who waits for it.
pub enum Wanted {
    /// Of an object of a namespace.
    Object {
        kind: ObjectKind,
        namespace: String,
        name: String,
        change: Change,
        is_dry_run: bool,
        answer: oneshot::Sender<Result<Changed, Failure>>,
    },
    /// Of the pod itself.
    Pod { kind: PatchType, patch: Value, is_dry_run: bool, answer: oneshot::Sender<Result<Pod, Failure>> },
}

impl Wanted {
    fn is_wanted_no_more(&self) -> bool {
        match self {
            Self::Object { answer, .. } => answer.is_closed(),
            Self::Pod { answer, .. } => answer.is_closed(),
        }
    }

    fn refuse(self, failure: Failure) {
        match self {
            Self::Object { answer, .. } => drop(answer.send(Err(failure))),
            Self::Pod { answer, .. } => drop(answer.send(Err(failure))),
        }
    }
}

/// A change that the pod process has been told of.
enum Underway {
    Object(Box<Planned>, oneshot::Sender<Result<Changed, Failure>>),
    Pod(Box<Relabelled>, oneshot::Sender<Result<Pod, Failure>>),
}

struct Relabelled {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    config_sources: BTreeMap<String, Vec<String>>,
    /// What was applied.
    applied: Option<Value>,
}

/// The pod's configuration, and what becomes of it.
pub(super) struct Configurations<'a> {
    pub(super) store: Store,
    /// The pod as it was applied last: by its manifest, when it began.
    applied: Value,
    policies: Vec<Numbered<NetworkPolicy>>,
    relabel: Relabel<'a>,
    /// At most [`MAX_OPEN`].
    waiting: VecDeque<Wanted>,
    underway: Option<(u64, Underway)>,
}

impl<'a> Configurations<'a> {
    /// Of a pod of this manifest and namespace, which began then.
    pub(super) fn new(
        manifest: &Manifest,
        namespace: &str,
        began: jiff::Timestamp,
        relabel: Relabel<'a>,
    ) -> Self {
        Self {
            store: Store::new(manifest, namespace, began),
            applied: serde_json::to_value(&manifest.pod).unwrap_or_default(),
            policies: manifest.network_policies.clone(),
            relabel,
            waiting: VecDeque::new(),
            underway: None,
        }
    }
}

impl Questions<'_> {
    /// Makes a change when its turn has come: what the pod process is told.
    pub(super) fn configure(&mut self, wanted: Wanted, status: Option<&PodStatus>) -> Option<Outgoing> {
        if self.configurations.underway.is_none() {
            return self.begin(wanted, status);
        }
        if self.configurations.waiting.len() >= MAX_OPEN {
            let why = "too many changes of the pod's configuration wait already";
            wanted.refuse(Failure::Unavailable(why.to_owned()));
        } else {
            self.configurations.waiting.push_back(wanted);
        }
        None
    }

    /// The pod process has made a change, or could not. The next one's turn has come.
    pub fn configured(
        &mut self,
        id: u64,
        error: Option<String>,
        status: Option<&PodStatus>,
    ) -> Option<Outgoing> {
        let (_, underway) = self.configurations.underway.take_if(|(own, _)| *own == id)?;
        let error = error.map(|error| Failure::Unavailable(format!("the pod process refuses: {error}")));
        match (underway, error) {
            (Underway::Object(_, answer), Some(error)) => drop(answer.send(Err(error))),
            (Underway::Pod(_, answer), Some(error)) => drop(answer.send(Err(error))),
            (Underway::Object(planned, answer), None) => {
                let enter = planned.configuration().apply(&mut self.spec);
                debug_assert_eq!(enter, Ok(()), "the pod process has accepted it");
                let _ = answer.send(Ok(self.configurations.store.commit(*planned)));
            }
            (Underway::Pod(relabelled, answer), None) => {
                let Relabelled { labels, annotations, config_sources, applied } = *relabelled;
                let some = |map: &BTreeMap<_, _>| Some(map.clone()).filter(|map| !map.is_empty());
                self.pod.metadata.labels = some(&labels);
                self.pod.metadata.annotations = some(&annotations);
                (self.spec.labels, self.spec.annotations) = (labels, annotations);
                self.spec.config_sources = config_sources;
                if let Some(applied) = applied {
                    self.configurations.applied = applied;
                }
                let _ = answer.send(Ok(self.pod(status)));
            }
        }
        while self.configurations.underway.is_none()
            && let Some(wanted) = self.configurations.waiting.pop_front()
        {
            // Who has waited for too long has been told that it was not done.
            if wanted.is_wanted_no_more() {
                continue;
            }
            if let Some(outgoing) = self.begin(wanted, status) {
                return Some(outgoing);
            }
        }
        None
    }

    fn begin(&mut self, wanted: Wanted, status: Option<&PodStatus>) -> Option<Outgoing> {
        match wanted {
            Wanted::Object { kind, namespace, name, change, is_dry_run, answer } => {
                match self.configurations.store.plan(kind, &namespace, &name, change) {
                    Err(failure) => drop(answer.send(Err(failure))),
                    Ok(Plan::Unchanged(object)) => {
                        drop(answer.send(Ok(Changed { object, is_new: false })));
                    }
                    Ok(Plan::Change(planned)) if is_dry_run => {
                        drop(answer.send(Ok(self.configurations.store.would_be(*planned))));
                    }
                    Ok(Plan::Change(planned)) => {
                        let configuration = planned.configuration();
                        return Some(self.tell(configuration, Underway::Object(planned, answer)));
                    }
                }
                None
            }
            Wanted::Pod { kind, patch, is_dry_run: true, answer } => {
                let tried =
                    self.wanted(kind, patch).map(|(wanted, _)| Pod { status: status.cloned(), ..wanted });
                let _ = answer.send(tried);
                None
            }
            Wanted::Pod { kind, patch, is_dry_run: false, answer } => match self.update(kind, patch) {
                Err(failure) => {
                    let _ = answer.send(Err(failure));
                    None
                }
                Ok(Update { relabelled: None, resize }) => {
                    let _ = answer.send(Ok(self.pod(status)));
                    resize.map(|resize| (resize, Vec::new()))
                }
                Ok(Update { relabelled: Some(relabelled), resize }) => {
                    self.ready.extend(resize.map(|resize| (resize, Vec::new())));
                    let Relabelled { labels, annotations, config_sources, .. } = &relabelled;
                    let configuration = Configuration::Metadata {
                        labels: labels.clone(),
                        annotations: annotations.clone(),
                        config_sources: config_sources.clone(),
                    };
                    Some(self.tell(configuration, Underway::Pod(Box::new(relabelled), answer)))
                }
            },
        }
    }

    fn tell(&mut self, configuration: Configuration, underway: Underway) -> Outgoing {
        let id = self.next_id();
        self.configurations.underway = Some((id, underway));
        (Request::Configure { id, configuration }, Vec::new())
    }

    /// What a patch makes of the pod, which is valid: on the wire, and its metadata.
    fn wanted(&self, kind: PatchType, patch: Value) -> Result<(Pod, Relabelled), Failure> {
        let name = self.pod.metadata.name.clone().unwrap_or_default();
        let bad =
            |error: serde_json::Error| Failure::BadRequest(format!("the patched object is no Pod: {error}"));
        let current = serde_json::to_value(&self.pod).map_err(bad)?;
        let is_applied = kind == PatchType::Apply;
        let applied = is_applied.then(|| patch.clone());
        let patched = match kind {
            PatchType::Apply => apply(current, &self.configurations.applied, patch),
            PatchType::Strategic | PatchType::Merge => kind.apply(current, patch),
        };
        let mut patched = patched.map_err(Failure::BadRequest)?;
        // An update of the pod leaves its status alone, whatever it says (`podStrategy` in
        // `pkg/registry/core/pod/strategy.go`).
        if let Some(fields) = patched.as_object_mut() {
            fields.remove("status");
        }
        let mut wanted: Pod = serde_json::from_value(patched).map_err(bad)?;
        convert::complete(&mut wanted);
        let causes = update::of_pod(&self.pod, &wanted, is_applied);
        if !causes.is_empty() {
            return Err(Failure::invalid_pod(&name, causes));
        }
        let invalid = |invalid| additions::invalid(&self.pod, &invalid);
        let (labels, annotations) = (wanted.metadata.labels.clone(), wanted.metadata.annotations.clone());
        let relabelled = convert::relabel(&self.spec, &self.configurations.policies, labels, annotations);
        let spec::Pod { labels, annotations, config_sources, .. } = relabelled.map_err(invalid)?;
        if wanted.spec != self.pod.spec {
            convert::resize(&self.spec, &self.pod, &wanted).map_err(invalid)?;
        }
        Ok((wanted, Relabelled { labels, annotations, config_sources, applied }))
    }

    /// Checks what a patch makes of the pod, and begins with it.
    fn update(&mut self, kind: PatchType, patch: Value) -> Result<Update, Failure> {
        let (mut wanted, relabelled) = self.wanted(kind, patch)?;
        // These change when the pod process has them.
        (wanted.metadata.labels, wanted.metadata.annotations) = (None, None);
        let Relabelled { labels, annotations, config_sources, applied } = relabelled;
        let relabel = self.configurations.relabel;
        if labels != self.spec.labels {
            relabel(&labels)
                .map_err(|error| Failure::Unavailable(format!("other pods cannot be told: {error}")))?;
        }
        let resize = match wanted.spec == self.pod.spec {
            true => None,
            // Last: from here on the pod process has to be told.
            false => Some(self.resize(&wanted).inspect_err(|_| drop(relabel(&self.spec.labels)))?),
        };
        if (&labels, &annotations) == (&self.spec.labels, &self.spec.annotations) {
            self.configurations.applied = applied.unwrap_or(std::mem::take(&mut self.configurations.applied));
            return Ok(Update { relabelled: None, resize });
        }
        Ok(Update { relabelled: Some(Relabelled { labels, annotations, config_sources, applied }), resize })
    }
}

/// What an update of the pod comes to.
struct Update {
    relabelled: Option<Relabelled>,
    resize: Option<Request>,
}

#[cfg(test)]
#[path = "configuration_tests.rs"]
mod tests;
