//! `metadata`: who the pod is.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use uuid::Uuid;

use super::report::{Report, is_set};
use crate::manifest::FieldPath;
use crate::spec::name;

/// Kubernetes' limit for all keys and values of `annotations`, bytes.
const MAX_ANNOTATIONS_BYTES: usize = 256 << 10;
/// Random characters after `generateName`.
const SUFFIX_CHARS: usize = 5;
/// The longest prefix that Kubernetes keeps of `generateName`: the whole stays a label.
const MAX_PREFIX_BYTES: usize = name::MAX_LABEL_BYTES - SUFFIX_CHARS;
/// What Kubernetes makes random names of: no vowels, so that no words appear.
const SUFFIX_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// The longest `uid`, bytes: a UUID, with room for the hashes that static pods have.
const MAX_UID_BYTES: usize = 64;

/// The checked parts of `metadata`.
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) uid: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
}

pub(super) fn convert(metadata: &ObjectMeta, name_override: Option<&str>, report: &mut Report) -> Metadata {
    let ObjectMeta {
        annotations,
        finalizers,
        generate_name,
        labels,
        name,
        namespace,
        uid,
        // What the API server writes there; a Pod printed by `kubectl get` runs as it is.
        creation_timestamp: _,
        deletion_grace_period_seconds: _,
        deletion_timestamp: _,
        generation: _,
        managed_fields: _,
        owner_references: _,
        resource_version: _,
        self_link: _,
    } = metadata;
    let path = FieldPath::root().field("metadata");
    report.ignored(
        is_set(finalizers),
        &path.field("finalizers"),
        "there is no API server that waits for them",
    );
    let namespace = namespace.clone().filter(|n| !n.is_empty()).unwrap_or_else(|| "default".to_owned());
    report.check(&path.field("namespace"), name::label(&namespace));
    Metadata {
        name: pod_name(name.as_deref(), generate_name.as_deref(), name_override, &path, report),
        namespace,
        uid: pod_uid(uid.as_deref(), &path.field("uid"), report),
        labels: checked_labels(labels, &path.field("labels"), report),
        annotations: checked_annotations(annotations, &path.field("annotations"), report),
    }
}

fn pod_name(
    name: Option<&str>,
    generate_name: Option<&str>,
    name_override: Option<&str>,
    path: &FieldPath,
    report: &mut Report,
) -> String {
    if let Some(name) = name_override {
        report.check(&FieldPath::root().field("--name"), name::subdomain(name));
        return name.to_owned();
    }
    match (name.unwrap_or_default(), generate_name.unwrap_or_default()) {
        ("", "") => {
            report.error(&path.field("name"), "required; or give metadata.generateName");
            String::new()
        }
        ("", prefix) => {
            let generated = generated_name(prefix, Uuid::new_v4().as_bytes());
            report.check(&path.field("generateName"), name::subdomain(&generated));
            generated
        }
        (name, _) => {
            report.check(&path.field("name"), name::subdomain(name));
            name.to_owned()
        }
    }
}

/// `prefix` and five characters chosen by `random`.
fn generated_name(prefix: &str, random: &[u8]) -> String {
    let end = prefix
        .char_indices()
        .map(|(i, c)| i + c.len_utf8())
        .take_while(|end| *end <= MAX_PREFIX_BYTES)
        .last();
    let suffix = random.iter().take(SUFFIX_CHARS).map(|byte| {
        // 256 is no multiple of 27; names need to differ, not to be secret.
        char::from(SUFFIX_ALPHABET[usize::from(*byte) % SUFFIX_ALPHABET.len()])
    });
    prefix[..end.unwrap_or(0)].chars().chain(suffix).collect()
}

fn pod_uid(uid: Option<&str>, path: &FieldPath, report: &mut Report) -> String {
    match uid {
        None | Some("") => Uuid::new_v4().to_string(),
        Some(uid) => {
            // It becomes part of file and cgroup names.
            let safe = uid.len() <= MAX_UID_BYTES
                && uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !uid.starts_with('-');
            if !safe {
                report.error(
                    path,
                    format_args!("invalid value {uid:?}: must be a UUID; remove it to get a fresh one"),
                );
            }
            uid.to_owned()
        }
    }
}

pub(super) fn checked_labels(
    labels: &Option<BTreeMap<String, String>>,
    path: &FieldPath,
    report: &mut Report,
) -> BTreeMap<String, String> {
    let labels = labels.clone().unwrap_or_default();
    for (key, value) in &labels {
        report.check(&path.field(key), name::qualified(key));
        report.check(&path.field(key), name::label_value(value));
    }
    labels
}

pub(super) fn checked_annotations(
    annotations: &Option<BTreeMap<String, String>>,
    path: &FieldPath,
    report: &mut Report,
) -> BTreeMap<String, String> {
    let annotations = annotations.clone().unwrap_or_default();
    for key in annotations.keys() {
        // Kubernetes checks annotation keys without regard to case.
        report.check(&path.field(key), name::qualified(&key.to_lowercase()));
    }
    let total: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    if total > MAX_ANNOTATIONS_BYTES {
        report.error(
            path,
            format_args!("{total} bytes are too many (at most {} KiB)", MAX_ANNOTATIONS_BYTES >> 10),
        );
    }
    annotations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_are_labels() {
        assert_eq!(generated_name("web-", &[0, 1, 2, 3, 4, 5]), "web-bcdfg");
        assert_eq!(generated_name(&"a".repeat(100), &[0; 16]).len(), name::MAX_LABEL_BYTES);
        assert_eq!(name::label(&generated_name(&"a".repeat(100), &[255; 16])), Ok(()));
        // A cut inside of a character must not split it.
        assert!(generated_name(&"€".repeat(40), &[0; 16]).starts_with('€'));
    }
}
