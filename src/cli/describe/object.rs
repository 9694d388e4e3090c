//! A ConfigMap or a Secret as `kubectl describe` shows it (`describeConfigMap`, `describeSecret`).

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::page::Page;
use super::{annotations, labels};
use crate::api::objects::ObjectKind;
use crate::cli::tabs;

/// The description of an object in its JSON. A Secret's values are not shown.
///
/// # Errors
/// It is no such object.
pub fn describe(kind: ObjectKind, object: Value) -> serde_json::Result<String> {
    let mut page = Page::default();
    match kind {
        ObjectKind::ConfigMap => config_map(&mut page, &serde_json::from_value(object)?),
        ObjectKind::Secret => secret(&mut page, &serde_json::from_value(object)?),
    }
    Ok(tabs::align(&page.text(), 0, 2))
}

fn config_map(page: &mut Page, object: &ConfigMap) {
    identity(page, &object.metadata);
    page.line(0, "\nData\n====");
    for (key, value) in object.data.iter().flatten() {
        page.line(0, format!("{key}:\n----\n{value}\n"));
    }
    page.line(0, "\nBinaryData\n====");
    for (key, value) in object.binary_data.iter().flatten() {
        page.line(0, format!("{key}: {} bytes", value.0.len()));
    }
    page.line(0, "\nEvents:\t<none>");
}

fn secret(page: &mut Page, object: &Secret) {
    identity(page, &object.metadata);
    page.line(0, format!("\nType:\t{}", object.type_.as_deref().unwrap_or_default()));
    page.line(0, "\nData\n====");
    for (key, value) in object.data.iter().flatten() {
        page.line(0, format!("{key}:\t{} bytes", value.0.len()));
    }
}

fn identity(page: &mut Page, metadata: &ObjectMeta) {
    page.line(0, format!("Name:\t{}", metadata.name.as_deref().unwrap_or_default()));
    page.line(0, format!("Namespace:\t{}", metadata.namespace.as_deref().unwrap_or_default()));
    labels(page, "Labels", metadata.labels.iter().flatten());
    annotations(page, metadata.annotations.iter().flatten());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn they_look_as_kubectl_has_them() {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web", "namespace": "prod",
            "labels": {"a": "b"}}, "data": {"color": "red", "text": "one\ntwo\n"}, "binaryData": {"raw": "/w=="}});
        let expected = "\
Name:         web
Namespace:    prod
Labels:       a=b
Annotations:  <none>

Data
====
color:
----
red

text:
----
one
two



BinaryData
====
raw: 1 bytes

Events:  <none>
";
        assert_eq!(describe(ObjectKind::ConfigMap, map).unwrap(), expected);
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}, "type": "Opaque",
            "data": {"password": "aHVudGVyMg=="}});
        let shown = describe(ObjectKind::Secret, secret).unwrap();
        assert!(shown.ends_with("\nType:  Opaque\n\nData\n====\npassword:  7 bytes\n"), "{shown}");
    }
}
