//! What an update of a running pod, or of an object that it is configured by, may change. Pure.
//!
//! Modelled on `ValidatePodUpdate`, `ValidateConfigMapUpdate`, `ValidateSecretUpdate` and `ValidateObjectMetaUpdate` in
//! `pkg/apis/core/validation/validation.go`.

use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use super::objects::ObjectKind;
use super::patch::{Cause, without_resources};

/// Fields that are named where something cannot change; more would not be read.
const MAX_NAMED: usize = 5;

const IMMUTABLE: &str = "field is immutable";

/// What of `after` may not differ from `before`, another state of the same pod: all but labels and annotations, and
/// resources where they may be changed along.
pub fn of_pod(before: &Pod, after: &Pod, with_resources: bool) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (field, old, new) in [
        ("name", &before.metadata.name, &after.metadata.name),
        ("namespace", &before.metadata.namespace, &after.metadata.namespace),
        ("uid", &before.metadata.uid, &after.metadata.uid),
    ] {
        if old != new {
            causes.push(Cause::invalid(
                format!("metadata.{field}"),
                new.as_deref().unwrap_or_default(),
                IMMUTABLE,
            ));
        }
    }
    let spec = |pod: &Pod| match with_resources {
        true => without_resources(pod),
        false => serde_json::to_value(pod.spec.clone().unwrap_or_default()).unwrap_or_default(),
    };
    let mut differing = Vec::new();
    differ(&spec(before), &spec(after), "spec", &mut differing);
    if !differing.is_empty() {
        let named: Vec<&str> = differing.iter().take(MAX_NAMED).map(String::as_str).collect();
        let more = if differing.len() > MAX_NAMED { ", …" } else { "" };
        let why = format!(
            "pod updates may not change fields other than `metadata.labels`, `metadata.annotations` and, by apply or \
             resize, cpu and memory; to change {}{more} delete the pod and run it anew",
            named.join(", ")
        );
        causes.push(Cause::forbidden("spec", &why));
    }
    causes
}

/// The paths of what differs.
fn differ(old: &Value, new: &Value, path: &str, found: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let null = Value::Null;
            for (name, value) in old {
                differ(value, new.get(name).unwrap_or(&null), &format!("{path}.{name}"), found);
            }
            found.extend(
                new.keys().filter(|name| !old.contains_key(*name)).map(|name| format!("{path}.{name}")),
            );
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (at, (old, new)) in old.iter().zip(new).enumerate() {
                differ(old, new, &format!("{path}[{at}]"), found);
            }
        }
        (old, new) if old != new => found.push(path.to_owned()),
        _ => {}
    }
}

/// What of an object may not become `after`.
pub fn of_object(kind: ObjectKind, before: &Value, after: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    if kind == ObjectKind::Secret && before["type"] != after["type"] {
        causes.push(Cause::invalid("type", after["type"].as_str().unwrap_or_default(), IMMUTABLE));
    }
    if before["immutable"] == true {
        let why = "field is immutable when `immutable` is set";
        let mut fixed = |field: &str, same: bool| {
            if !same {
                causes.push(Cause::forbidden(field, why));
            }
        };
        fixed("immutable", after["immutable"] == true);
        fixed("data", same_map(&before["data"], &after["data"]));
        fixed("binaryData", same_map(&before["binaryData"], &after["binaryData"]));
    }
    causes
}

/// Whether two maps are the same: none is as good as an empty one.
fn same_map(one: &Value, other: &Value) -> bool {
    let is_empty = |value: &Value| value.as_object().is_none_or(|map| map.is_empty());
    one == other || is_empty(one) && is_empty(other)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(value: Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_labels_annotations_and_resources_change() {
        let before = pod(json!({
            "metadata": {"name": "web", "labels": {"a": "1"}},
            "spec": {"containers": [{"name": "a", "image": "./a.wasm"}, {"name": "b"}]},
        }));
        let mut after = before.clone();
        after.metadata.labels = None;
        after.metadata.annotations = Some([("k".to_owned(), "v".to_owned())].into());
        assert_eq!(of_pod(&before, &after, false), []);
        let resources = json!({"limits": {"cpu": "1"}});
        after.spec.as_mut().unwrap().containers[1].resources = serde_json::from_value(resources).unwrap();
        assert_eq!(of_pod(&before, &after, true), []);
        let refused = of_pod(&before, &after, false);
        assert!(refused[0].message.contains("to change spec.containers[1].resources delete"), "{refused:?}");

        after.metadata.name = Some("wbe".to_owned());
        after.spec.as_mut().unwrap().containers[0].image = Some("./b.wasm".to_owned());
        let refused = of_pod(&before, &after, true);
        let fields: Vec<_> = refused.iter().map(|cause| &*cause.field).collect();
        assert_eq!(fields, ["metadata.name", "spec"]);
        let start = "Forbidden: pod updates may not change fields other than";
        assert!(refused[1].message.starts_with(start), "{refused:?}");
        assert!(refused[1].message.contains("spec.containers[0].image"), "{refused:?}");
    }

    #[test]
    fn what_is_immutable_stays() {
        let fields = |kind, before: Value, after: Value| {
            let causes = of_object(kind, &before, &after);
            causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect::<Vec<_>>()
        };
        let (map, secret) = (ObjectKind::ConfigMap, ObjectKind::Secret);
        let fixed = json!({"immutable": true, "data": {"a": "1"}});
        assert_eq!(fields(map, json!({"data": {"a": "1"}}), fixed.clone()), [""; 0]);
        let labelled =
            json!({"immutable": true, "data": {"a": "1"}, "binaryData": {}, "metadata": {"labels": {}}});
        assert_eq!(fields(map, fixed.clone(), labelled), [""; 0]);
        let why = "Forbidden: field is immutable when `immutable` is set";
        assert_eq!(
            fields(map, fixed.clone(), json!({"data": {"a": "2"}})),
            [format!("immutable: {why}"), format!("data: {why}")]
        );
        let more = json!({"immutable": true, "data": {"a": "1"}, "binaryData": {"b": ""}});
        assert_eq!(fields(map, fixed, more), [format!("binaryData: {why}")]);
        assert_eq!(
            fields(secret, json!({"type": "Opaque"}), json!({"type": "example.com/x"})),
            ["type: Invalid value: \"example.com/x\": field is immutable"]
        );
    }
}
