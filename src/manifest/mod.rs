//! The manifest as it is written: from bytes to Kubernetes' wire types.
//!
//! ```text
//! bytes ─► document (UTF-8, JSON or YAML) ─► node (tree, duplicate keys, aliases bounded)
//!       ─► kind (Pod, ConfigMap, …) ─► typed (k8s-openapi types, unknown fields, type errors)
//!       ─► Manifest ─► crate::spec::convert
//! ```
//!
//! Nothing is decided here about what a field means; that is [`crate::spec::convert`]'s. Every stage
//! collects its errors and goes on as far as it can, so that a manifest's errors come all at once.

mod document;
mod error;
mod kind;
#[cfg(test)]
mod lifecycle_tests;
mod node;
mod objects;
mod path;
mod spelling;
mod suggest;
#[cfg(test)]
mod tests;

mod typed;

use std::cell::Cell;

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde::de::DeserializeOwned;

pub use document::{MAX_MANIFEST_BYTES, is_json_object};
pub use error::{FieldError, FieldWarning, Invalid};
pub use objects::{Object, objects};
pub use path::{FieldPath, Step};
pub use suggest::{closest, hint};

use document::{Document, in_document};
use kind::Kind;

/// One Pod and what stands beside it, as Kubernetes' API defines them; no field is checked yet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Manifest {
    /// The Pod, without `status`.
    pub pod: Pod,
    /// ConfigMaps, in order.
    pub config_maps: Vec<Numbered<ConfigMap>>,
    /// Secrets, in order.
    pub secrets: Vec<Numbered<Secret>>,
    /// PersistentVolumeClaims, in order.
    pub claims: Vec<Numbered<PersistentVolumeClaim>>,
    /// PersistentVolumes, in order.
    pub volumes: Vec<Numbered<PersistentVolume>>,
    /// Services, in order.
    pub services: Vec<Numbered<Service>>,
    /// NetworkPolicies, in order.
    pub network_policies: Vec<Numbered<NetworkPolicy>>,
}

/// An object beside the Pod, with the number of its document, counted from 1.
pub type Numbered<T> = (usize, T);

/// A manifest as far as it could be read, and everything that is wrong with what could not.
#[derive(Debug, Default)]
pub struct Reading {
    /// What could be read. `None`: there is no Pod, or it would be misleading to check it further.
    pub manifest: Option<Manifest>,
    /// What is wrong.
    pub errors: Vec<FieldError>,
    /// Paths of the Pod about which nothing more can be said, since their values were not readable.
    pub doubtful: Vec<FieldPath>,
}

/// Reads a manifest.
///
/// # Errors
/// Everything that is wrong with its syntax, kinds, field names and types.
pub fn parse(text: &[u8]) -> Result<Manifest, Invalid> {
    let Reading { manifest, errors, .. } = read(text);
    match manifest {
        Some(manifest) if errors.is_empty() => Ok(manifest),
        _ => Err(Invalid { errors, warnings: Vec::new() }),
    }
}

/// Scalars of one manifest whose spelling is looked up for a message. Each costs a pass over the text.
const MAX_SPELLINGS: usize = 50;

/// Reads a manifest as far as it can be read.
pub fn read(bytes: &[u8]) -> Reading {
    let split = document::split(bytes);
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let spellings = Cell::new(MAX_SPELLINGS);
    let mut reading = Reading { errors: split.errors, ..Reading::default() };
    let syntax_is_good = reading.errors.is_empty();
    if split.documents.is_empty() && syntax_is_good {
        reading.errors.push(FieldError::new(
            "",
            "the manifest is empty; write a Pod, beginning with `apiVersion: v1` and `kind: Pod`",
        ));
        return reading;
    }
    let mut manifest = Manifest::default();
    let mut pods = Vec::new();
    let mut foreign = false;
    let mut readable = false;
    for Document { number, mut root } in split.documents {
        let kind = match kind::classify(&root) {
            Ok(kind) => kind,
            Err(errors) => {
                foreign = true;
                reading.errors.extend(errors.into_iter().map(|error| {
                    // In a file of several documents the reader must not guess which one is meant.
                    if split.several { in_named_document(error, number) } else { error }
                }));
                continue;
            }
        };
        // Like kubectl: what the cluster said about a pod is no part of what to run.
        root.take("status");
        let errors = &mut reading.errors;
        let spelling: typed::Spelling<'_> = &|path| {
            let left = spellings.get().checked_sub(1)?;
            spellings.set(left);
            spelling::at(text, number, path)
        };
        match kind {
            Kind::Pod => {
                pods.push(number);
                if pods.len() == 1 {
                    let typed::Outcome { value, errors: found, doubtful } =
                        typed::read::<Pod>(&mut root, spelling);
                    // With a list item gone the indexes of the others are wrong.
                    let shifted =
                        doubtful.iter().any(|path| matches!(path.steps().last(), Some(Step::Index(_))));
                    errors.extend(found);
                    reading.doubtful = doubtful;
                    readable = value.is_some() && !shifted;
                    manifest.pod = value.unwrap_or_default();
                }
            }
            Kind::ConfigMap => manifest.config_maps.extend(beside(&mut root, number, spelling, errors)),
            Kind::Secret => manifest.secrets.extend(beside(&mut root, number, spelling, errors)),
            Kind::PersistentVolumeClaim => {
                manifest.claims.extend(beside(&mut root, number, spelling, errors))
            }
            Kind::PersistentVolume => manifest.volumes.extend(beside(&mut root, number, spelling, errors)),
            Kind::Service => manifest.services.extend(beside(&mut root, number, spelling, errors)),
            Kind::NetworkPolicy => {
                manifest.network_policies.extend(beside(&mut root, number, spelling, errors));
            }
        }
    }
    if let [first, second, ..] = pods[..] {
        reading.errors.push(in_named_document(
            FieldError::new(
                "kind",
                format!("a second Pod (the first is document {first}); peapod runs one per manifest, write the other to a file of its own"),
            ),
            second,
        ));
    }
    if pods.is_empty() && !foreign && syntax_is_good {
        reading
            .errors
            .push(FieldError::new("", "there is no Pod in this manifest; add a document of `kind: Pod`"));
    }
    reading.manifest = readable.then_some(manifest);
    reading
}

/// Reads an object that stands beside the Pod. One that is wrong is left out: half of it would only be reported once
/// more.
fn beside<T: DeserializeOwned>(
    root: &mut node::Node,
    number: usize,
    spelling: typed::Spelling<'_>,
    errors: &mut Vec<FieldError>,
) -> Option<Numbered<T>> {
    let outcome = typed::read::<T>(root, spelling);
    let whole = outcome.errors.is_empty();
    errors.extend(outcome.errors.into_iter().map(|error| in_named_document(error, number)));
    outcome.value.filter(|_| whole).map(|object| (number, object))
}

/// Like [`in_document`], for the first document too.
fn in_named_document(error: FieldError, number: usize) -> FieldError {
    if number > 1 {
        return in_document(error, number);
    }
    let path =
        if error.path.is_empty() { "document 1".to_owned() } else { format!("document 1: {}", error.path) };
    FieldError { path, ..error }
}
