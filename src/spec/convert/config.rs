//! ConfigMaps and Secrets that stand beside the Pod
//! (`ValidateConfigMap` and `ValidateSecret` in `pkg/apis/core/validation/validation.go`).

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as wire;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::report::Report;
use crate::manifest::{FieldPath, Numbered, is_json_object};
use crate::spec::{ConfigMap, Objects, Secret, name};

/// Bytes of one object's values together: `MaxSecretSize` in `pkg/apis/core/types.go`.
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

/// Converts one Secret.
pub(super) fn secret(wire: &wire::Secret, report: &mut Report) -> Secret {
    let wire::Secret { data, immutable, metadata, string_data, type_ } = wire;
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
    check_type(type_.as_deref().unwrap_or_default(), &all, metadata, report);
    Secret { data: all, immutable: immutable.unwrap_or_default() }
}

/// What a Secret of this `type` has to have. To a pod, it does not matter what it is for.
fn check_type(type_name: &str, data: &BTreeMap<String, Vec<u8>>, metadata: &ObjectMeta, report: &mut Report) {
    const ACCOUNT: &str = "kubernetes.io/service-account.name";
    let path = FieldPath::root().field("data");
    let why = format!("required, as the type is {type_name}");
    let mut require = |key: &str, is_there: bool| {
        if !is_there {
            report.error(&path.field(key), &why);
        }
    };
    let is_there = |key: &str| data.contains_key(key);
    match type_name {
        "kubernetes.io/tls" => ["tls.crt", "tls.key"].iter().for_each(|key| require(key, is_there(key))),
        "kubernetes.io/ssh-auth" => {
            let key = "ssh-privatekey";
            require(key, data.get(key).is_some_and(|key| !key.is_empty()));
        }
        "kubernetes.io/basic-auth" if !is_there("username") && !is_there("password") => {
            require("username", false);
            require("password", false);
        }
        "kubernetes.io/dockercfg" => docker_config(".dockercfg", data, &why, report),
        "kubernetes.io/dockerconfigjson" => docker_config(".dockerconfigjson", data, &why, report),
        "kubernetes.io/service-account-token" => {
            let annotations = metadata.annotations.as_ref();
            if annotations.and_then(|all| all.get(ACCOUNT)).is_none_or(String::is_empty) {
                report.error(&FieldPath::root().field("metadata").field("annotations").field(ACCOUNT), why);
            }
        }
        _ => {}
    }
}

fn docker_config(key: &str, data: &BTreeMap<String, Vec<u8>>, why: &str, report: &mut Report) {
    let path = FieldPath::root().field("data").field(key);
    match data.get(key).map(|text| is_json_object(text)) {
        None => report.error(&path, why),
        // What is in it does not reach a log.
        Some(false) => report.error(&path, "invalid value: it is no JSON object"),
        Some(true) => {}
    }
}

fn check_size(bytes: usize, field: &str, report: &mut Report) {
    if bytes > MAX_OBJECT_BYTES {
        let root = FieldPath::root();
        let path = if field.is_empty() { root } else { root.field(field) };
        report.error(&path, format_args!("too long: may not be more than {MAX_OBJECT_BYTES} bytes"));
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn strings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    fn bytes(pairs: &[(&str, &[u8])]) -> BTreeMap<String, ByteString> {
        pairs.iter().map(|(key, value)| (key.to_string(), ByteString(value.to_vec()))).collect()
    }

    fn told(report: &Report) -> Vec<String> {
        report.errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_config_map_has_text_and_bytes_under_different_keys() {
        let mut wire = wire::ConfigMap {
            data: Some(strings(&[("a", "1"), ("b.c", "")])),
            binary_data: Some(bytes(&[("d", &[255])])),
            immutable: Some(true),
            ..wire::ConfigMap::default()
        };
        let mut report = Report::default();
        let converted = config_map(&wire, &mut report);
        assert!(told(&report).is_empty() && converted.immutable);
        let files: Vec<_> = converted.files().collect();
        assert_eq!(files, [("a", &b"1"[..]), ("b.c", b""), ("d", &[255])]);
        wire.data = Some(strings(&[("d", ""), ("a/b", ""), ("..x", "")]));
        config_map(&wire, &mut report);
        let told = told(&report);
        for part in ["data.d: duplicate of key", "data[a/b]: ", "data[..x]: "] {
            assert!(told.iter().any(|told| told.starts_with(part)), "{part}: {told:?}");
        }
    }

    #[test]
    fn an_object_holds_a_mebibyte() {
        let of = |size: usize| wire::ConfigMap {
            data: Some([("long-key".to_owned(), "x".repeat(size))].into()),
            ..wire::ConfigMap::default()
        };
        let mut report = Report::default();
        config_map(&of(MAX_OBJECT_BYTES), &mut report);
        assert!(report.errors.is_empty());
        config_map(&of(MAX_OBJECT_BYTES + 1), &mut report);
        assert!(told(&report)[0].contains("too long"), "{:?}", told(&report));
    }

    #[test]
    fn string_data_is_written_over_data() {
        let wire = wire::Secret {
            data: Some(bytes(&[("a", b"old"), ("b", b"2")])),
            string_data: Some(strings(&[("a", "new")])),
            ..wire::Secret::default()
        };
        let mut report = Report::default();
        let converted = secret(&wire, &mut report);
        assert_eq!(converted.data["a"], b"new");
        assert_eq!(converted.data["b"], b"2");
        assert!(!format!("{converted:?}").contains("new"), "values stay secret");
    }

    #[test]
    fn a_typed_secret_has_what_its_type_says() {
        let wrong = |type_name: &str, data: &[(&str, &[u8])]| {
            let wire = wire::Secret {
                type_: Some(type_name.to_owned()),
                data: Some(bytes(data)),
                ..wire::Secret::default()
            };
            let mut report = Report::default();
            secret(&wire, &mut report);
            told(&report).iter().map(|told| told.split(": ").next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert!(wrong("Opaque", &[]).is_empty() && wrong("example.com/own", &[]).is_empty());
        assert_eq!(wrong("kubernetes.io/tls", &[("tls.crt", b"")]), ["data[tls.key]"]);
        assert_eq!(wrong("kubernetes.io/ssh-auth", &[("ssh-privatekey", b"")]), ["data.ssh-privatekey"]);
        assert_eq!(wrong("kubernetes.io/basic-auth", &[]), ["data.username", "data.password"]);
        assert!(wrong("kubernetes.io/basic-auth", &[("password", b"x")]).is_empty());
        assert!(wrong("kubernetes.io/dockercfg", &[(".dockercfg", b"{}")]).is_empty());
        assert_eq!(wrong("kubernetes.io/dockercfg", &[(".dockercfg", b"[]")]), ["data[.dockercfg]"]);
        assert_eq!(wrong("kubernetes.io/dockerconfigjson", &[]), ["data[.dockerconfigjson]"]);
        let account = "metadata.annotations[kubernetes.io/service-account.name]";
        assert_eq!(wrong("kubernetes.io/service-account-token", &[]), [account]);
    }
}
