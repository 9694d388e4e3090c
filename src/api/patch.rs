//! `kubectl patch`: a patch and an object make another, and what has changed in it. Pure.
//!
//! ```text
//! application/strategic-merge-patch+json ─► strategic ─┐           ┌─► conditions ─► what is set of the status
//! application/merge-patch+json ───────────► merge ─────┤           ├─► resized ────► the Pod with other resources
//! application/apply-patch+yaml ───────────► apply ─────┴─► object ─┴─► update ─────► with other labels, annotations
//! ```
//!
//! Modelled on `k8s.io/apimachinery/pkg/util/strategicpatch` and RFC 7386.

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use serde_json::{Map, Value};

/// The depth at which a patch is refused: a Pod has some ten levels. serde_json's own bound is 128.
const MAX_DEPTH: usize = 64;

/// The conditions that are peapod's own.
const OWN_CONDITIONS: [&str; 9] = [
    "PodScheduled",
    "PodReadyToStartContainers",
    "Initialized",
    "ContainersReady",
    "Ready",
    "DisruptionTarget",
    "PodResizePending",
    "PodResizeInProgress",
    "AllContainersRestarting",
];

/// The most conditions that are not peapod's own: a status carries them all. A pod has as many as it has
/// `readinessGates`.
pub const MAX_CONDITIONS: usize = 64;

/// The longest `message` of a condition, bytes (`maxLength` of `metav1.Condition`).
const MAX_MESSAGE_BYTES: usize = 32_768;

/// The longest `reason` of a condition, bytes (`maxLength` of `metav1.Condition`).
const MAX_REASON_BYTES: usize = 1024;

/// The longest `type` of a condition, bytes (`maxLength` of `metav1.Condition`).
const MAX_TYPE_BYTES: usize = 316;

/// How a patch is to be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchType {
    /// Lists of objects are merged by their key.
    Strategic,
    /// Lists are replaced.
    Merge,
    /// What is wanted of the object, whatever else it has ([`super::apply`]).
    Apply,
}

impl PatchType {
    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Strategic => "application/strategic-merge-patch+json",
            Self::Merge => "application/merge-patch+json",
            Self::Apply => "application/apply-patch+yaml",
        }
    }

    /// That of a `Content-Type`, whose parameters say nothing.
    pub fn of(content_type: &str) -> Option<Self> {
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        [Self::Strategic, Self::Merge, Self::Apply]
            .into_iter()
            .find(|kind| media_type.eq_ignore_ascii_case(kind.media_type()))
    }

    /// `object` with `patch`; what is applied as if nothing had been applied before.
    ///
    /// # Errors
    /// The patch makes no sense, whatever the object.
    pub fn apply(self, object: Value, patch: Value) -> Result<Value, String> {
        if !patch.is_object() {
            return Err("a patch is a JSON object, such as {\"status\":{\"conditions\":[…]}}".to_owned());
        }
        match self {
            Self::Merge => Ok(merge(object, patch)),
            Self::Strategic | Self::Apply => strategic(object, patch, "", 0),
        }
    }
}

/// Something that a patched object must not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// `FieldValueInvalid` and its like (`k8s.io/apimachinery/pkg/apis/meta/v1` CauseType).
    pub reason: &'static str,
    /// The field's path.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

impl Cause {
    pub(super) fn forbidden(field: impl Into<String>, why: &str) -> Self {
        Self { reason: "FieldValueForbidden", field: field.into(), message: format!("Forbidden: {why}") }
    }

    pub(super) fn invalid(field: impl Into<String>, value: &str, why: &str) -> Self {
        let message = format!("Invalid value: {value:?}: {why}");
        Self { reason: "FieldValueInvalid", field: field.into(), message }
    }
}

/// The object with a JSON merge patch (RFC 7386).
pub fn merge(object: Value, patch: Value) -> Value {
    let Value::Object(changes) = patch else { return patch };
    let mut object = match object {
        Value::Object(object) => object,
        _ => Map::new(),
    };
    for (name, change) in changes {
        if change.is_null() {
            object.remove(&name);
        } else {
            let before = object.remove(&name).unwrap_or(Value::Null);
            object.insert(name, merge(before, change));
        }
    }
    Value::Object(object)
}

/// The key by which a Pod's list of objects is merged (`patchMergeKey` in `k8s.io/api/core/v1/types.go`); lists
/// of other names are replaced.
pub(super) fn merge_key(list: &str) -> Option<&'static str> {
    Some(match list {
        "conditions" => "type",
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "env"
        | "volumes"
        | "imagePullSecrets"
        | "resourceClaims" => "name",
        "ports" => "containerPort",
        "volumeMounts" => "mountPath",
        "volumeDevices" => "devicePath",
        "hostAliases" | "podIPs" | "hostIPs" => "ip",
        "topologySpreadConstraints" => "topologyKey",
        "ownerReferences" => "uid",
        _ => return None,
    })
}

/// The object with a strategic merge patch. `field` is its name in what it is a part of.
fn strategic(object: Value, patch: Value, field: &str, depth: usize) -> Result<Value, String> {
    if depth > MAX_DEPTH {
        return Err(format!("the patch is more than {MAX_DEPTH} levels deep"));
    }
    match (object, patch) {
        (object, Value::Object(mut changes)) => {
            let mut object = match (object, directive(&mut changes)?) {
                (Value::Object(object), None) => object,
                (_, None | Some(Directive::Replace)) => Map::new(),
                (_, Some(Directive::Delete)) => return Ok(Value::Null),
            };
            for (name, change) in changes {
                if name.starts_with('$') {
                    return Err(format!(
                        "{name} in a patch is not supported; $patch is, and null deletes a field"
                    ));
                }
                let before = object.remove(&name).unwrap_or(Value::Null);
                let after = strategic(before, change, &name, depth + 1)?;
                if !after.is_null() {
                    object.insert(name, after);
                }
            }
            Ok(Value::Object(object))
        }
        (object, Value::Array(changes)) => match merge_key(field) {
            Some(key) => list(object, changes, field, key, depth),
            None => Ok(Value::Array(changes)),
        },
        (_, patch) => Ok(patch),
    }
}

enum Directive {
    Replace,
    Delete,
}

/// Takes `$patch` out of an object of a patch.
fn directive(changes: &mut Map<String, Value>) -> Result<Option<Directive>, String> {
    match changes.remove("$patch") {
        None => Ok(None),
        Some(Value::String(word)) => match &*word {
            "merge" => Ok(None),
            "replace" => Ok(Some(Directive::Replace)),
            "delete" => Ok(Some(Directive::Delete)),
            _ => Err(format!("$patch: {word:?} is none of merge, replace and delete")),
        },
        Some(other) => Err(format!("$patch: {other} is none of merge, replace and delete")),
    }
}

/// A list whose items are known by `key`, with the changes of a patch.
fn list(object: Value, changes: Vec<Value>, field: &str, key: &str, depth: usize) -> Result<Value, String> {
    let mut items = match object {
        Value::Array(items) => items,
        _ => Vec::new(),
    };
    let replaces =
        |item: &Value| item.as_object().is_some_and(|item| item.len() == 1) && item["$patch"] == "replace";
    if changes.iter().any(replaces) {
        items.clear();
    }
    for mut change in changes.into_iter().filter(|change| !replaces(change)) {
        let Some(of_change) = change.as_object_mut() else {
            return Err(format!("{field}: an item of the patch is no object"));
        };
        let Some(named) = of_change.get(key).cloned() else {
            return Err(format!("{field}: an item of the patch has no {key:?}, by which items are merged"));
        };
        let place = items.iter().position(|item| item.get(key) == Some(&named));
        let before = place.map_or(Value::Null, |place| items[place].take());
        let after = strategic(before, change, "", depth + 1)?;
        match (place, after.is_null()) {
            (Some(place), true) => drop(items.remove(place)),
            (Some(place), false) => items[place] = after,
            (None, true) => {}
            (None, false) => items.push(after),
        }
    }
    Ok(Value::Array(items))
}

/// What a patch of the `status` subresource sets: conditions that are not peapod's own.
///
/// # Errors
/// Everything else that it would change.
pub fn conditions(before: &Pod, patched: &Value) -> Result<Vec<PodCondition>, Vec<Cause>> {
    let mut causes = Vec::new();
    let after = match pod(patched) {
        Ok(after) => after,
        Err(cause) => return Err(vec![cause]),
    };
    // As the API server: a patch of the status changes nothing but the status.
    let (old, new) = (before.status.clone().unwrap_or_default(), after.status.unwrap_or_default());
    let list = |conditions: Option<Vec<PodCondition>>| conditions.unwrap_or_default();
    let (old_list, new_list) = (list(old.conditions.clone()), list(new.conditions.clone()));
    for (name, value) in fields(&new) {
        if name != "conditions" && fields(&old).get(&name) != Some(&value) {
            causes
                .push(Cause::forbidden(format!("status.{name}"), "peapod's own; only conditions can be set"));
        }
    }
    for name in fields(&old).keys().filter(|name| *name != "conditions" && !fields(&new).contains_key(*name))
    {
        causes.push(Cause::forbidden(format!("status.{name}"), "peapod's own; it cannot be removed"));
    }
    let mut set = Vec::new();
    for (index, condition) in new_list.iter().enumerate() {
        let path = format!("status.conditions[{index}]");
        let old = old_list.iter().find(|old| old.type_ == condition.type_);
        if new_list.iter().take(index).any(|other| other.type_ == condition.type_) {
            let (field, message) =
                (format!("{path}.type"), format!("Duplicate value: {:?}", condition.type_));
            causes.push(Cause { reason: "FieldValueDuplicate", field, message });
        } else if old == Some(condition) {
        } else if OWN_CONDITIONS.contains(&&*condition.type_) {
            causes.push(Cause::forbidden(path, &format!("{} is peapod's own", condition.type_)));
        } else {
            check(condition, &path, &mut causes);
            set.push(condition.clone());
        }
    }
    let is_own = |condition: &&PodCondition| OWN_CONDITIONS.contains(&&*condition.type_);
    for gone in
        old_list.iter().filter(|old| !is_own(old) && !new_list.iter().any(|new| new.type_ == old.type_))
    {
        let why = format!("{} cannot be removed; set it to Unknown", gone.type_);
        causes.push(Cause::forbidden("status.conditions", &why));
    }
    if new_list.iter().filter(|condition| !is_own(condition)).count() > MAX_CONDITIONS {
        let message =
            format!("Too many: must have at most {MAX_CONDITIONS} conditions that are not peapod's own");
        causes.push(Cause { reason: "FieldValueTooMany", field: "status.conditions".to_owned(), message });
    }
    if causes.is_empty() { Ok(set) } else { Err(causes) }
}

fn check(condition: &PodCondition, path: &str, causes: &mut Vec<Cause>) {
    let PodCondition { type_, status, reason, message, .. } = condition;
    let is_word = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if type_.is_empty() || type_.len() > MAX_TYPE_BYTES || !type_.chars().all(is_word) {
        let why = "a condition type is like Ready or example.com/ready";
        causes.push(Cause::invalid(format!("{path}.type"), type_, why));
    }
    if !["True", "False", "Unknown"].contains(&&**status) {
        let field = format!("{path}.status");
        let message =
            format!("Unsupported value: {status:?}: supported values: \"False\", \"True\", \"Unknown\"");
        causes.push(Cause { reason: "FieldValueNotSupported", field, message });
    }
    let texts = [("reason", reason, MAX_REASON_BYTES), ("message", message, MAX_MESSAGE_BYTES)];
    for (name, text, limit) in texts {
        if text.as_ref().is_some_and(|text| text.len() > limit) {
            let message = format!("Too long: may not be more than {limit} bytes");
            causes.push(Cause { reason: "FieldValueTooLong", field: format!("{path}.{name}"), message });
        }
    }
}

/// The Pod that a patch of the `resize` subresource asks for; it differs in resources only.
///
/// # Errors
/// Everything else that it would change.
pub fn resized(before: &Pod, patched: &Value) -> Result<Pod, Vec<Cause>> {
    let after = pod(patched).map_err(|cause| vec![cause])?;
    if without_resources(before) != without_resources(&after) {
        let why = "pod resize may not change fields other than cpu and memory";
        return Err(vec![Cause::forbidden("spec", why)]);
    }
    // Metadata and status are not a resize's to change, and as with the API server it does not harm to try.
    Ok(Pod { spec: after.spec, ..before.clone() })
}

/// The spec without what a resize may change.
pub(super) fn without_resources(pod: &Pod) -> Value {
    let mut spec = pod.spec.clone().unwrap_or_default();
    spec.resources = None;
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        container.resources = None;
    }
    serde_json::to_value(spec).unwrap_or_default()
}

fn pod(value: &Value) -> Result<Pod, Cause> {
    serde_json::from_value(value.clone()).map_err(|error| Cause {
        reason: "FieldValueInvalid",
        field: "patch".to_owned(),
        message: format!("the patched object is no Pod: {error}"),
    })
}

fn fields(status: &impl serde::Serialize) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
#[path = "patch_tests.rs"]
mod tests;
