//! What of a list is wanted: by labels and by fields.

use serde::Serialize;
use serde_json::Value;

use crate::spec::network_policy::{LabelSelector, Labels};
use crate::spec::selector::{self, FieldSelector};

/// Fields that every kind can be selected by.
pub const FIELDS: &[&str] = &["metadata.name", "metadata.namespace"];

/// Those of a Secret (`SelectableFields` in `pkg/registry/core/secret/strategy.go`).
pub const SECRET_FIELDS: &[&str] = &["metadata.name", "metadata.namespace", "type"];

/// Those of a Pod (`ToSelectableFields` in `pkg/registry/core/pod/strategy.go`).
pub const POD_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "spec.hostNetwork",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.nominatedNodeName",
    "status.phase",
    "status.podIP",
];

/// `labelSelector` and `fieldSelector`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Selection {
    /// Reads both; `known` are the fields that the kind can be selected by.
    ///
    /// # Errors
    /// What cannot be read, or a field that is not known.
    pub fn parse(labels: &str, fields: &str, known: &[&str]) -> Result<Self, String> {
        let fields = FieldSelector::parse(fields, |field| known.contains(&field))?;
        Ok(Self { labels: selector::labels(labels)?, fields })
    }

    /// Whether an object is wanted.
    pub fn selects(&self, object: &Value) -> bool {
        let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let labels: Labels = labels.map(|(key, value)| (key.clone(), text(value))).collect();
        self.labels.matches(&labels) && self.fields.selects(|field| value(object, field))
    }

    /// Leaves those that are wanted.
    pub fn retain<T: Serialize>(&self, objects: &mut Vec<T>) {
        if *self != Self::default() {
            objects.retain(|object| serde_json::to_value(object).is_ok_and(|object| self.selects(&object)));
        }
    }
}

fn value(object: &Value, field: &str) -> String {
    match field.split('.').fold(object, |object, part| &object[part]) {
        Value::String(text) => text.clone(),
        Value::Bool(is) => is.to_string(),
        _ if field == "spec.hostNetwork" => false.to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_and_fields_are_anded() {
        let pod = json!({
            "metadata": {"name": "web", "namespace": "prod", "labels": {"app": "web"}},
            "spec": {"nodeName": "n"}, "status": {"phase": "Running"},
        });
        for (labels, fields, expected) in [
            ("", "", true),
            ("app=web", "status.phase=Running,metadata.namespace=prod", true),
            ("app=web", "status.phase!=Running", false),
            ("app!=web", "status.phase=Running", false),
            ("!none", "spec.hostNetwork=false,status.podIP=,spec.nodeName==n", true),
        ] {
            let selection = Selection::parse(labels, fields, POD_FIELDS).unwrap();
            assert_eq!(selection.selects(&pod), expected, "{labels} {fields}");
            let mut all = vec![pod.clone()];
            selection.retain(&mut all);
            assert_eq!(!all.is_empty(), expected);
        }
        assert!(Selection::parse("", "type=Opaque", FIELDS).is_err());
        assert!(Selection::parse("a b", "", FIELDS).is_err());
    }
}
