//! From the wire type to the domain type, in one place.
//!
//! ```text
//! Manifest ─► metadata, volumes, names, network, resources of the pod ──────────────────────────────┬─► Pod
//!            containers (image, env, mounts, ports, resources, probes, hooks, restart rules) ───────┤
//!            ConfigMaps, Secrets, claims, Services of its namespace ────────────────────────────────┤
//!            NetworkPolicies that select it, annotations of its containers ─────────────────────────┘
//!          ├► errors:   wrong, or not supported and ignoring it would change what runs
//!          └► warnings: ignored, and nothing about what runs here changes
//! ```
//!
//! A Pod that runs changes in several ways: [`ephemeral`] adds a container, [`resize`] changes its resources,
//! [`config_map`] and [`secret`] what it is configured by, [`relabel`] its labels and annotations.
//!
//! Every wire type is taken apart field by field without `..`: a field that a new version of
//! Kubernetes brings does not compile until it is decided here. Nothing stops at the first error.

mod action;
mod annotations;
mod claim;
mod config;
mod container;
mod defaults;
mod downward;
mod environment;
#[cfg(test)]
mod environment_tests;
mod ephemeral;
mod hooks;
mod image_volume;
#[cfg(test)]
mod lifecycle_tests;
mod location;
mod metadata;
mod names;
mod network_policy;
mod pod_resources;
mod pod_spec;
#[cfg(test)]
mod policy_tests;
mod port;
mod probe;
mod projected;
#[cfg(test)]
mod projected_tests;
mod report;
mod resize;
mod resources;
mod restart;
mod security;
mod service;
mod storage;
#[cfg(test)]
mod storage_tests;
#[cfg(test)]
mod tests;
mod update;
mod volume;

use std::path::PathBuf;

use k8s_openapi::api::core::v1 as wire;

pub use defaults::complete;
pub use ephemeral::ephemeral;
pub use names::{MAX_NAMESERVERS, MAX_SEARCH_BYTES, MAX_SEARCHES};
pub use resize::{Resized, resize};
pub use update::{config_map, relabel, secret};

use super::{NetworkMode, Objects, Pod, Storage};
use crate::manifest::{self, FieldPath, FieldWarning, Invalid, Manifest};
use report::Report;

/// `terminationGracePeriodSeconds` when absent.
const DEFAULT_GRACE_SECONDS: i64 = 30;

/// `periodSeconds` of a probe when absent, and so below (`SetDefaults_Probe` in `pkg/apis/core/v1/defaults.go`).
const PROBE_PERIOD_SECONDS: u32 = 10;
/// `timeoutSeconds`.
const PROBE_TIMEOUT_SECONDS: u32 = 1;
/// `successThreshold`.
const PROBE_SUCCESSES: u32 = 1;
/// `failureThreshold`.
const PROBE_FAILURES: u32 = 3;

/// What the manifest itself does not say.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where relative images start: an absolute path.
    pub manifest_dir: PathBuf,
    /// Instead of `metadata.name`.
    pub name: Option<String>,
    /// Instead of what `spec.hostNetwork` says.
    pub network: Option<NetworkMode>,
}

/// A manifest that can run.
#[derive(Debug, Clone, PartialEq)]
pub struct Converted {
    /// What to run.
    pub pod: Pod,
    /// The Pod as Kubernetes would print it, without status: the manifest's own with the name,
    /// namespace, uid and defaults filled in. For output only.
    pub wire: wire::Pod,
    /// All of the manifest as it is written.
    pub manifest: Manifest,
    /// What is ignored, or looks like a mistake.
    pub warnings: Vec<FieldWarning>,
}

/// Reads and converts a manifest.
///
/// # Errors
/// Everything that is wrong with it, from syntax to meaning, at once.
pub fn load(text: &[u8], options: &Options) -> Result<Converted, Invalid> {
    let manifest::Reading { manifest, errors, doubtful } = manifest::read(text);
    let Some(manifest) = manifest else { return Err(Invalid { errors, warnings: Vec::new() }) };
    let converted = pod(&manifest, options);
    if errors.is_empty() {
        return converted;
    }
    let mut invalid = match converted {
        Ok(converted) => Invalid { errors: Vec::new(), warnings: converted.warnings },
        Err(invalid) => invalid,
    };
    // What follows from an unreadable value is no error of its own.
    let doubtful: Vec<String> = doubtful.iter().map(FieldPath::to_string).collect();
    invalid.errors.retain(|error| !doubtful.iter().any(|path| is_within(&error.path, path)));
    invalid.errors.splice(0..0, errors);
    Err(invalid)
}

/// Whether `path` is `outer` or a part of it.
fn is_within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// What stands beside the Pod and is part of it.
struct Beside {
    objects: Objects,
    storage: Storage,
}

/// Converts the Pod of a manifest.
///
/// # Errors
/// Everything that is wrong with it at once.
pub fn pod(manifest: &Manifest, options: &Options) -> Result<Converted, Invalid> {
    let Manifest { pod, config_maps, secrets, claims, volumes, services, network_policies } = manifest;
    let wire::Pod { metadata, spec, status: _ } = pod;
    let mut report = Report::default();
    let metadata = metadata::convert(metadata, options.name.as_deref(), &mut report);
    let spec_path = FieldPath::root().field("spec");
    let beside = Beside {
        objects: config::convert_all(config_maps, secrets, &metadata.namespace, &mut report),
        storage: storage::convert_all(claims, volumes, &metadata.namespace, &mut report),
    };
    let mut converted = match spec {
        Some(spec) => Some(pod_spec::convert(metadata, spec, beside, &spec_path, options, &mut report)),
        None => {
            report.error(&spec_path, "required; it holds the containers");
            None
        }
    };
    if let Some(pod) = &mut converted {
        storage::warn_of_unused(claims, pod, &mut report);
        pod.services = service::convert_all(services, pod, &mut report);
        pod.network_rules.policies = network_policy::convert_all(network_policies, pod, &mut report);
    }
    let Report { errors, warnings } = report;
    match converted {
        Some(converted) if errors.is_empty() => {
            let wire = completed(pod, &converted);
            Ok(Converted { pod: converted, wire, manifest: manifest.clone(), warnings })
        }
        _ => Err(Invalid { errors, warnings }),
    }
}

/// The wire Pod with what Kubernetes fills in.
fn completed(pod: &wire::Pod, converted: &Pod) -> wire::Pod {
    let mut wire = pod.clone();
    wire.status = None;
    wire.metadata.name = Some(converted.name.clone());
    wire.metadata.namespace = Some(converted.namespace.clone());
    wire.metadata.uid = Some(converted.uid.clone());
    wire.metadata.generation = Some(converted.generation);
    let spec = wire.spec.get_or_insert_default();
    spec.host_network = (converted.network == NetworkMode::Host).then_some(true);
    complete(&mut wire);
    defaults::complete_pod_resources(&mut wire, converted.resources);
    wire
}
