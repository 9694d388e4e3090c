//! The ConfigMaps and Secrets of the pod's namespace as clients see them.
//!
//! ```text
//! manifest ─► Store ─ plan ─► what the pod process is told ─► commit
//!               ▲      └► the same as before, or wrong          │
//!               └───────────────────────────────────────────────┘
//! ```
//!
//! An object is kept as JSON, beside what was applied last: what the manifest says was applied when the pod began.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::additions::causes_of;
use crate::api::apply::apply;
use crate::api::objects::{Change, Changed, ObjectKind};
use crate::api::patch::{Cause, PatchType};
use crate::api::server::Failure;
use crate::api::update;
use crate::manifest::{Invalid, Manifest};
use crate::pod::control::Configuration;
use crate::spec::convert;

/// Objects that a pod can have: as many as a manifest has documents.
const MAX_OBJECTS: usize = 1000;

/// All objects of a pod together as JSON, bytes: a list of them fits into an answer (`ANSWER_BYTES` of `api::client`).
const MAX_BYTES: usize = 32 << 20;

/// The type of a Secret that says none.
const OPAQUE: &str = "Opaque";

/// The objects.
pub(super) struct Store {
    namespace: String,
    /// The `resourceVersion` of the last change.
    version: u64,
    kept: BTreeMap<(ObjectKind, String), Kept>,
}

struct Kept {
    object: Value,
    applied: Value,
    bytes: usize,
}

/// What becomes of a wanted change.
pub(super) enum Plan {
    /// Nothing: the object is like that already.
    Unchanged(Value),
    /// The pod process is to be told.
    Change(Box<Planned>),
}

/// A change that is valid and not yet made.
pub(super) struct Planned {
    kind: ObjectKind,
    name: String,
    /// `None`: it is gone.
    object: Option<Value>,
    /// What was applied with it.
    applied: Option<Value>,
    configuration: Configuration,
}

impl Planned {
    /// What the pod process is told.
    pub(super) fn configuration(&self) -> Configuration {
        self.configuration.clone()
    }
}

impl Store {
    /// Of the manifest of a pod of this namespace, which began then.
    pub(super) fn new(manifest: &Manifest, namespace: &str, began: jiff::Timestamp) -> Self {
        let mut store = Self { namespace: namespace.to_owned(), version: 1, kept: BTreeMap::new() };
        for (_, object) in &manifest.config_maps {
            store.keep(ObjectKind::ConfigMap, &object.metadata, object, began);
        }
        for (_, object) in &manifest.secrets {
            store.keep(ObjectKind::Secret, &object.metadata, object, began);
        }
        store
    }

    fn keep(
        &mut self,
        kind: ObjectKind,
        metadata: &ObjectMeta,
        object: &impl Serialize,
        began: jiff::Timestamp,
    ) {
        let own = metadata.namespace.as_deref().filter(|own| !own.is_empty()).unwrap_or("default");
        let name = metadata.name.clone().unwrap_or_default();
        let Ok(written) = serde_json::to_value(object) else { return };
        if own != self.namespace {
            return;
        }
        // It is valid: the pod runs with it.
        if let Ok((object, _)) = self.finished(kind, &name, written.clone(), None, began, self.version) {
            let bytes = object.to_string().len();
            // As `peapod apply` would send it.
            let ObjectMeta { labels, annotations, .. } = metadata.clone();
            let metadata = ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(own.to_owned()),
                labels,
                annotations,
                ..ObjectMeta::default()
            };
            let mut applied = folded(kind, written);
            applied["metadata"] = serde_json::to_value(metadata).unwrap_or_default();
            self.kept.insert((kind, name), Kept { object, applied, bytes });
        }
    }

    /// Those of a namespace, or all.
    pub(super) fn list(&self, kind: ObjectKind, namespace: Option<&str>) -> Vec<Value> {
        if namespace.is_some_and(|namespace| namespace != self.namespace) {
            return Vec::new();
        }
        let own = self.kept.iter().filter(|((own, _), _)| *own == kind);
        own.map(|(_, kept)| kept.object.clone()).collect()
    }

    /// One of a namespace.
    pub(super) fn get(&self, kind: ObjectKind, namespace: &str, name: &str) -> Option<&Value> {
        let kept = self.kept.get(&(kind, name.to_owned()));
        kept.filter(|_| namespace == self.namespace).map(|kept| &kept.object)
    }

    /// What a change that is planned would make of an object.
    pub(super) fn would_be(&self, planned: Planned) -> Changed {
        let Planned { kind, name, object, .. } = planned;
        let before = self.get(kind, &self.namespace, &name);
        Changed { is_new: before.is_none(), object: object.or(before.cloned()).unwrap_or_default() }
    }

    /// What a change makes of an object.
    ///
    /// # Errors
    /// It cannot be changed in this way; nothing has changed then.
    pub(super) fn plan(
        &self,
        kind: ObjectKind,
        namespace: &str,
        name: &str,
        change: Change,
    ) -> Result<Plan, Failure> {
        if namespace != self.namespace {
            return Err(match change {
                Change::Create(_) | Change::Patch(PatchType::Apply, _) => Failure::NotFound(format!(
                    "no pod runs in namespace {namespace:?} here: this one is in {:?}",
                    self.namespace
                )),
                _ => Failure::no_object(kind, name),
            });
        }
        let key = (kind, name.to_owned());
        let kept = self.kept.get(&key);
        let missing = || Failure::no_object(kind, name);
        let mut newly_applied = None;
        let wanted = match (change, kept) {
            (Change::Delete, Some(_)) => {
                let configuration = match kind {
                    ObjectKind::ConfigMap => Configuration::config_map(name, None),
                    ObjectKind::Secret => Configuration::secret(name, None),
                };
                let name = name.to_owned();
                return Ok(Plan::Change(Box::new(Planned {
                    kind,
                    name,
                    object: None,
                    applied: None,
                    configuration,
                })));
            }
            (Change::Create(_), Some(_)) => {
                return Err(Failure::AlreadyExists(format!("{} {name:?} already exists", kind.plural())));
            }
            (Change::Create(object), None) => object,
            (Change::Patch(PatchType::Apply, patch), kept) => {
                let patch = folded(kind, patch);
                let none = json!({});
                let (current, applied) = match kept {
                    Some(kept) => (kept.object.clone(), &kept.applied),
                    None => (json!({"apiVersion": "v1", "kind": kind.kind()}), &none),
                };
                newly_applied = Some(patch.clone());
                apply(current, applied, patch).map_err(Failure::BadRequest)?
            }
            (Change::Replace(object), Some(_)) => object,
            (Change::Patch(patch_type, patch), Some(kept)) => {
                patch_type.apply(kept.object.clone(), patch).map_err(Failure::BadRequest)?
            }
            (Change::Delete | Change::Replace(_) | Change::Patch(..), None) => return Err(missing()),
        };
        let before = kept.map(|kept| &kept.object);
        let now = jiff::Timestamp::now();
        let now = jiff::Timestamp::from_second(now.as_second()).unwrap_or(now);
        let (object, configuration) = self.finished(kind, name, wanted, before, now, self.version + 1)?;
        if let Some(before) = before {
            let mut same = object.clone();
            same["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
            // Other fields that were applied matter later, also where they change nothing now.
            let as_applied =
                newly_applied.is_none() || newly_applied.as_ref() == kept.map(|kept| &kept.applied);
            if same == *before && as_applied {
                return Ok(Plan::Unchanged(same));
            }
        }
        self.check_room(&key, &object)?;
        let name = name.to_owned();
        let (object, applied) = (Some(object), newly_applied);
        Ok(Plan::Change(Box::new(Planned { kind, name, object, applied, configuration })))
    }

    /// Makes a change, which the pod process has made.
    pub(super) fn commit(&mut self, planned: Planned) -> Changed {
        let Planned { kind, name, object, applied, .. } = planned;
        self.version += 1;
        let key = (kind, name);
        let before = self.kept.remove(&key);
        let is_new = before.is_none();
        let Some(object) = object else {
            return Changed { object: before.map_or(Value::Null, |kept| kept.object), is_new: false };
        };
        let applied = applied.or(before.map(|kept| kept.applied)).unwrap_or_else(|| json!({}));
        let bytes = object.to_string().len();
        self.kept.insert(key, Kept { object: object.clone(), applied, bytes });
        Changed { object, is_new }
    }

    fn check_room(&self, key: &(ObjectKind, String), object: &Value) -> Result<(), Failure> {
        let others = || self.kept.iter().filter(|(other, _)| *other != key);
        let bytes = others().map(|(_, kept)| kept.bytes).sum::<usize>() + object.to_string().len();
        if others().count() >= MAX_OBJECTS || bytes > MAX_BYTES {
            return Err(Failure::Unavailable(format!(
                "a pod can have {MAX_OBJECTS} ConfigMaps and Secrets of {} MiB together; delete some that it does \
                 not need",
                MAX_BYTES >> 20
            )));
        }
        Ok(())
    }

    /// The valid object, as the API server would have it, and what the pod process is told.
    fn finished(
        &self,
        kind: ObjectKind,
        name: &str,
        wanted: Value,
        before: Option<&Value>,
        now: jiff::Timestamp,
        version: u64,
    ) -> Result<(Value, Configuration), Failure> {
        let invalid = |causes: Vec<Cause>| {
            let name = name.to_owned();
            Failure::Invalid { kind: kind.kind(), name, causes }
        };
        let wrong = |error: Invalid| invalid(causes_of(&error));
        let metadata = |metadata: &mut ObjectMeta| self.complete(metadata, kind, name, before, now, version);
        let (object, configuration) = match kind {
            ObjectKind::ConfigMap => {
                let mut object: ConfigMap = typed(kind, wanted)?;
                metadata(&mut object.metadata)?;
                convert::config_map(&object).map_err(wrong)?;
                (serde_json::to_value(&object), Configuration::config_map(name, Some(object)))
            }
            ObjectKind::Secret => {
                let mut object: Secret = typed(kind, folded(kind, wanted))?;
                object.type_.get_or_insert_with(|| OPAQUE.to_owned());
                metadata(&mut object.metadata)?;
                convert::secret(&object).map_err(wrong)?;
                (serde_json::to_value(&object), Configuration::secret(name, Some(object)))
            }
        };
        let object = object.map_err(|error| Failure::BadRequest(error.to_string()))?;
        let causes = before.map(|before| update::of_object(kind, before, &object)).unwrap_or_default();
        if causes.is_empty() { Ok((object, configuration)) } else { Err(invalid(causes)) }
    }

    /// Checks and completes the metadata of an object.
    fn complete(
        &self,
        metadata: &mut ObjectMeta,
        kind: ObjectKind,
        name: &str,
        before: Option<&Value>,
        now: jiff::Timestamp,
        version: u64,
    ) -> Result<(), Failure> {
        let own = metadata.name.get_or_insert_with(|| name.to_owned());
        if *own != name {
            return Err(Failure::BadRequest(format!(
                "the name of the object ({own}) does not match the name on the URL ({name})"
            )));
        }
        let own = metadata.namespace.get_or_insert_default();
        if !own.is_empty() && *own != self.namespace {
            return Err(Failure::BadRequest(format!(
                "the namespace of the provided object ({own}) does not match the namespace sent on the request ({})",
                self.namespace
            )));
        }
        self.namespace.clone_into(own);
        let of_before = |field: &str| before.and_then(|before| before["metadata"][field].as_str());
        if let (Some(seen), Some(present)) = (&metadata.resource_version, of_before("resourceVersion"))
            && !seen.is_empty()
            && seen != present
        {
            return Err(Failure::Conflict(format!(
                "Operation cannot be fulfilled on {} {name:?}: the object has been modified; please apply your \
                 changes to the latest version and try again",
                kind.plural()
            )));
        }
        metadata.resource_version = Some(version.to_string());
        metadata.uid = Some(of_before("uid").map_or_else(|| Uuid::new_v4().to_string(), str::to_owned));
        let created = of_before("creationTimestamp").and_then(|at| at.parse().ok());
        metadata.creation_timestamp = Some(Time(created.unwrap_or(now)));
        metadata.managed_fields = None;
        metadata.generation = None;
        metadata.self_link = None;
        for map in [&mut metadata.labels, &mut metadata.annotations] {
            *map = map.take().filter(|map| !map.is_empty());
        }
        Ok(())
    }
}

fn typed<T: DeserializeOwned>(kind: ObjectKind, value: Value) -> Result<T, Failure> {
    let kind = kind.kind();
    serde_json::from_value(value).map_err(|error| {
        Failure::BadRequest(format!("{kind} in version \"v1\" cannot be handled as a {kind}: {error}"))
    })
}

/// A Secret with its `stringData` written over its `data`, so that both are one
/// (`Convert_v1_Secret_To_core_Secret` in `pkg/apis/core/v1/conversion.go`).
fn folded(kind: ObjectKind, mut object: Value) -> Value {
    if kind == ObjectKind::Secret
        && let Some(fields) = object.as_object_mut()
        && let Some(Value::Object(text)) = fields.remove("stringData")
    {
        let data = fields.entry("data").or_insert_with(|| json!({}));
        if !data.is_object() {
            *data = json!({});
        }
        for (key, value) in text {
            data[&key] = match value {
                Value::String(text) => json!(k8s_openapi::ByteString(text.into_bytes())),
                // For whoever reads the object to refuse, or a patch to remove.
                other => other,
            };
        }
    }
    object
}

#[cfg(test)]
#[path = "objects_tests.rs"]
mod tests;
