//! ConfigMaps and Secrets that stand beside the Pod
//! (`ValidateConfigMap` and `ValidateSecret` in `pkg/apis/core/validation/validation.go`).

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as wire;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::report::Report;
use crate::manifest::{FieldPath, Numbered};
use crate::spec::{ConfigMap, Objects, Secret, name};

/// Bytes of one object's keys and values together: `MaxSecretSize` in `pkg/apis/core/types.go`.
const MAX_OBJECT_BYTES: usize = 1 << 20;

/// Converts those of `namespace`.
pub(super) fn convert_all(
    config_maps: &[Numbered<wire::ConfigMap>],
    secrets: &[Numbered<wire::Secret>],
    namespace: &str,
    report: &mut Report,
) -> Objects {
    let mut objects = Objects::default();
    for (number, wire) in config_maps {
        let mut own = Report::default();
        let object = config_map(wire, &mut own);
        add(&mut objects.config_maps, &wire.metadata, object, namespace, &mut own);
        report.of_document(*number, own);
    }
    for (number, wire) in secrets {
        let mut own = Report::default();
        let object = secret(wire, &mut own);
        add(&mut objects.secrets, &wire.metadata, object, namespace, &mut own);
        report.of_document(*number, own);
    }
    objects
}

/// Checks what all objects have, and keeps one of the pod's namespace.
fn add<T>(
    objects: &mut BTreeMap<String, Arc<T>>,
    metadata: &ObjectMeta,
    object: T,
    namespace: &str,
    report: &mut Report,
) {
    let path = FieldPath::root().field("metadata");
    let own_name = metadata.name.clone().unwrap_or_default();
    let known = report.check(&path.field("name"), name::subdomain(&own_name));
    let own = metadata.namespace.as_deref().filter(|own| !own.is_empty()).unwrap_or("default");
    if own != namespace {
        let message =
            format_args!("ignored: the pod is in {namespace:?}, and sees objects of its namespace only");
        report.warn(&path.field("namespace"), message);
    } else if known && objects.insert(own_name.clone(), Arc::new(object)).is_some() {
        report.error(
            &path.field("name"),
            format_args!("duplicate value {own_name:?}: another document has it"),
        );
    }
}

/// Converts one ConfigMap.
pub(super) fn config_map(wire: &wire::ConfigMap, report: &mut Report) -> ConfigMap {
    let wire::ConfigMap { binary_data, data, immutable, metadata: _ } = wire;
    let root = FieldPath::root();
    let data = data.clone().unwrap_or_default();
    let bytes = binary_data.clone().unwrap_or_default();
    let binary_data: BTreeMap<_, _> = bytes.into_iter().map(|(key, bytes)| (key, bytes.0)).collect();
    for (field, keys) in
        [("data", data.keys().collect::<Vec<_>>()), ("binaryData", binary_data.keys().collect())]
    {
        for key in keys {
            report.check(&root.field(field).field(key), name::config_key(key));
        }
    }
    for key in binary_data.keys().filter(|key| data.contains_key(*key)) {
        report.error(&root.field("data").field(key), "duplicate of key present in binaryData");
    }
    let text = data.values().map(String::len).sum::<usize>();
    check_size(text + binary_data.values().map(Vec::len).sum::<usize>(), "", report);
    ConfigMap { data, binary_data, immutable: immutable.unwrap_or_default() }
}

/// Converts one Secret. `type` is what it is for, and does not matter to a pod.
pub(super) fn secret(wire: &wire::Secret, report: &mut Report) -> Secret {
    let wire::Secret { data, immutable, metadata: _, string_data, type_: _ } = wire;
    let root = FieldPath::root();
    let mut all: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (key, bytes) in data.iter().flatten() {
        report.check(&root.field("data").field(key), name::config_key(key));
        all.insert(key.clone(), bytes.0.clone());
    }
    for (key, text) in string_data.iter().flatten() {
        report.check(&root.field("stringData").field(key), name::config_key(key));
        all.insert(key.clone(), text.clone().into_bytes());
    }
    check_size(all.values().map(Vec::len).sum(), "data", report);
    Secret { data: all, immutable: immutable.unwrap_or_default() }
}

fn check_size(bytes: usize, field: &str, report: &mut Report) {
    if bytes > MAX_OBJECT_BYTES {
        let root = FieldPath::root();
        let path = if field.is_empty() { root } else { root.field(field) };
        report.error(&path, format_args!("too long: may not be more than {MAX_OBJECT_BYTES} bytes"));
    }
}
