//! `configMap`, `secret`, `downwardAPI` and `projected` of a volume
//! (`validateProjectedVolumeSource` and its like in `pkg/apis/core/validation/validation.go`).
//!
//! ```text
//! one of the four ─► mode, items, paths ─► Projection of each source ─► VolumeSource::Projected
//!                         + Available: what a source names has to be in the manifest, or be optional
//! ```

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use k8s_openapi::api::core::v1 as wire;

use super::report::{Report, is_set, items};
use super::{downward, location};
use crate::manifest::{FieldPath, hint};
use crate::spec::environment::{ObjectKind, ObjectRef};
use crate::spec::volume::{KeyToPath, ProjectedPlugin};
use crate::spec::{Objects, Projection, VolumeSource};

/// `defaultMode` when absent (`SetDefaults_ConfigMapVolumeSource` in `pkg/apis/core/v1/defaults.go`).
pub(super) const DEFAULT_MODE: i32 = 0o644;

/// Keys of an object that are named where another was wanted; more would not be read.
const MAX_LISTED_KEYS: usize = 20;

/// Why the field `defaultUser` or `user` is refused.
pub(super) const NO_USER: &str =
    "an alpha field of Kubernetes that is off by default; use securityContext.fsGroup and runAsUser";

/// What files can be made from.
pub(super) struct Available<'a> {
    /// The ConfigMaps and Secrets of the manifest.
    pub(super) objects: &'a Objects,
    /// The names of the pod's containers.
    pub(super) containers: &'a [&'a str],
}

/// The paths that the files of one `projected` volume have, and which field says so.
type Taken = HashMap<PathBuf, String>;

/// Converts `configMap`.
pub(super) fn config_map(
    source: &wire::ConfigMapVolumeSource,
    available: &Available<'_>,
    path: &FieldPath,
    report: &mut Report,
) -> Option<VolumeSource> {
    let wire::ConfigMapVolumeSource { default_mode, default_user, items: keys, name, optional } = source;
    report.unsupported(is_set(default_user), &path.field("defaultUser"), NO_USER);
    let object = Named { kind: ObjectKind::ConfigMap, name, field: "name", optional: *optional };
    let sources = vec![object.project(items(keys), available, &mut None, path, report)];
    let default_mode = self::default_mode(*default_mode, path, report);
    Some(VolumeSource::Projected { plugin: ProjectedPlugin::ConfigMap, sources, default_mode })
}

/// Converts `secret`.
pub(super) fn secret(
    source: &wire::SecretVolumeSource,
    available: &Available<'_>,
    path: &FieldPath,
    report: &mut Report,
) -> Option<VolumeSource> {
    let wire::SecretVolumeSource { default_mode, default_user, items: keys, optional, secret_name } = source;
    report.unsupported(is_set(default_user), &path.field("defaultUser"), NO_USER);
    let name = secret_name.as_deref().unwrap_or_default();
    let object = Named { kind: ObjectKind::Secret, name, field: "secretName", optional: *optional };
    let sources = vec![object.project(items(keys), available, &mut None, path, report)];
    let default_mode = self::default_mode(*default_mode, path, report);
    Some(VolumeSource::Projected { plugin: ProjectedPlugin::Secret, sources, default_mode })
}

/// Converts `downwardAPI`.
pub(super) fn downward_api(
    source: &wire::DownwardAPIVolumeSource,
    available: &Available<'_>,
    path: &FieldPath,
    report: &mut Report,
) -> Option<VolumeSource> {
    let wire::DownwardAPIVolumeSource { default_mode, default_user, items: files } = source;
    report.unsupported(is_set(default_user), &path.field("defaultUser"), NO_USER);
    let files = downward_files(items(files), available, &mut None, path, report);
    let (sources, default_mode) = (vec![files], self::default_mode(*default_mode, path, report));
    Some(VolumeSource::Projected { plugin: ProjectedPlugin::DownwardApi, sources, default_mode })
}

/// Converts `projected`.
pub(super) fn projected(
    source: &wire::ProjectedVolumeSource,
    available: &Available<'_>,
    path: &FieldPath,
    report: &mut Report,
) -> Option<VolumeSource> {
    let wire::ProjectedVolumeSource { default_mode, default_user, sources: wire_sources } = source;
    report.unsupported(is_set(default_user), &path.field("defaultUser"), NO_USER);
    let mut sources = Vec::new();
    let mut taken = Some(Taken::new());
    for (index, source) in items(wire_sources).iter().enumerate() {
        sources.extend(projection(
            source,
            available,
            &mut taken,
            &path.field("sources").index(index),
            report,
        ));
    }
    let default_mode = self::default_mode(*default_mode, path, report);
    Some(VolumeSource::Projected { plugin: ProjectedPlugin::Projected, sources, default_mode })
}

/// One of the `sources` of a `projected`.
fn projection(
    source: &wire::VolumeProjection,
    available: &Available<'_>,
    taken: &mut Option<Taken>,
    path: &FieldPath,
    report: &mut Report,
) -> Option<Projection> {
    let wire::VolumeProjection {
        cluster_trust_bundle,
        config_map,
        downward_api,
        pod_certificate,
        secret,
        service_account_token,
    } = source;
    let given = [
        ("clusterTrustBundle", cluster_trust_bundle.is_some()),
        ("configMap", config_map.is_some()),
        ("downwardAPI", downward_api.is_some()),
        ("podCertificate", pod_certificate.is_some()),
        ("secret", secret.is_some()),
        ("serviceAccountToken", service_account_token.is_some()),
    ];
    let given: Vec<&str> = given.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
    match given[..] {
        [] => report.warn(path, "ignored: it names no source: configMap, secret or downwardAPI"),
        [_] => {}
        _ => {
            let given = given.join(" and ");
            report.error(path, format_args!("may not specify more than 1 volume type, found {given}"));
        }
    }
    for (set, field, what) in [
        (service_account_token.is_some(), "serviceAccountToken", "issues tokens"),
        (cluster_trust_bundle.is_some(), "clusterTrustBundle", "keeps trust bundles"),
        (pod_certificate.is_some(), "podCertificate", "signs certificates"),
    ] {
        let why = format!("there is no API server here that {what}; give the file in a secret or configMap");
        report.unsupported(set, &path.field(field), &why);
    }
    if let Some(wire::ConfigMapProjection { items: keys, name, optional }) = config_map {
        let object = Named { kind: ObjectKind::ConfigMap, name, field: "name", optional: *optional };
        return Some(object.project(items(keys), available, taken, &path.field("configMap"), report));
    }
    if let Some(wire::SecretProjection { items: keys, name, optional }) = secret {
        let object = Named { kind: ObjectKind::Secret, name, field: "name", optional: *optional };
        return Some(object.project(items(keys), available, taken, &path.field("secret"), report));
    }
    let wire::DownwardAPIProjection { items: files } = downward_api.as_ref()?;
    Some(downward_files(items(files), available, taken, &path.field("downwardAPI"), report))
}

fn downward_files(
    files: &[wire::DownwardAPIVolumeFile],
    available: &Available<'_>,
    taken: &mut Option<Taken>,
    path: &FieldPath,
    report: &mut Report,
) -> Projection {
    let mut result = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let path = path.field("items").index(index);
        if let Some(file) = downward::file(file, available.containers, &path, report) {
            take(taken, &file.path, &path.field("path"), report);
            result.push(file);
        }
    }
    Projection::DownwardApi(result)
}

/// An object as a source names it.
struct Named<'a> {
    kind: ObjectKind,
    name: &'a str,
    /// The field that names it.
    field: &'static str,
    optional: Option<bool>,
}

impl Named<'_> {
    fn project(
        &self,
        wire_items: &[wire::KeyToPath],
        available: &Available<'_>,
        taken: &mut Option<Taken>,
        path: &FieldPath,
        report: &mut Report,
    ) -> Projection {
        let optional = self.optional.unwrap_or_default();
        let keys = self.keys(available, path, report);
        let mut result = Vec::new();
        for (index, item) in wire_items.iter().enumerate() {
            let path = path.field("items").index(index);
            let wire::KeyToPath { key, mode, path: file, user } = item;
            report.unsupported(is_set(user), &path.field("user"), NO_USER);
            if key.is_empty() {
                report.error(&path.field("key"), "required; a key of the object's data");
            } else if let Some(keys) = &keys
                && !keys.contains(&key.as_str())
                && !optional
            {
                self.refuse_key(key, keys, &path.field("key"), report);
            }
            let mode = self::mode(*mode, &path.field("mode"), report);
            if let Some(file) = file_path(file, &path.field("path"), report) {
                take(taken, &file, &path.field("path"), report);
                result.push(KeyToPath { key: key.clone(), path: file, mode });
            }
        }
        let object = ObjectRef { kind: self.kind, name: self.name.to_owned(), optional };
        // As in Kubernetes, no items are all.
        Projection::Object { object, items: (!wire_items.is_empty()).then_some(result) }
    }

    /// The keys of the object, where it is there; reports one that has to be and is not.
    fn keys<'o>(
        &self,
        available: &Available<'o>,
        path: &FieldPath,
        report: &mut Report,
    ) -> Option<Vec<&'o str>> {
        let path = path.field(self.field);
        let kind = kind_name(self.kind);
        if self.name.is_empty() {
            report.error(&path, format_args!("required; the name of a {kind}"));
            return None;
        }
        let Objects { config_maps, secrets } = available.objects;
        let (keys, names) = match self.kind {
            ObjectKind::ConfigMap => {
                let found = config_maps.get(self.name);
                (found.map(|map| map.files().map(|(key, _)| key).collect()), names(config_maps))
            }
            ObjectKind::Secret => {
                let found = secrets.get(self.name);
                (found.map(|secret| secret.data.keys().map(String::as_str).collect()), names(secrets))
            }
        };
        if keys.is_none() && self.optional != Some(true) {
            let hint = hint(self.name, names);
            let message = format_args!(
                "not found: no {kind} {:?} in the pod's namespace{hint}; add a document of `kind: {kind}` to the \
                 manifest, or set optional: true",
                self.name
            );
            report.error(&path, message);
        }
        keys
    }

    fn refuse_key(&self, key: &str, keys: &[&str], path: &FieldPath, report: &mut Report) {
        let hint = hint(key, keys.iter().copied());
        let listed = keys[..keys.len().min(MAX_LISTED_KEYS)].join(", ");
        let more = if keys.len() > MAX_LISTED_KEYS { ", …" } else { "" };
        let there =
            if keys.is_empty() { "it has none".to_owned() } else { format!("one of: {listed}{more}") };
        let kind = kind_name(self.kind);
        let message = format_args!(
            "not found: {kind} {:?} has no key {key:?}{hint} ({there}), or set optional: true",
            self.name
        );
        report.error(path, message);
    }
}

fn kind_name(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::ConfigMap => "ConfigMap",
        ObjectKind::Secret => "Secret",
    }
}

fn names<T>(objects: &BTreeMap<String, T>) -> Vec<&str> {
    objects.keys().map(String::as_str).collect()
}

/// Of two files of a `projected` with one path, the second is refused, as by the API server.
fn take(taken: &mut Option<Taken>, file: &PathBuf, path: &FieldPath, report: &mut Report) {
    let Some(taken) = taken else { return };
    if let Some(first) = taken.get(file) {
        let file = file.display();
        report.error(
            path,
            format_args!("invalid value \"{file}\": conflicting duplicate paths: {first} has it"),
        );
    } else {
        taken.insert(file.clone(), path.to_string());
    }
}

fn default_mode(value: Option<i32>, path: &FieldPath, report: &mut Report) -> u32 {
    let value = value.unwrap_or(DEFAULT_MODE);
    mode(Some(value), &path.field("defaultMode"), report).unwrap_or_default()
}

/// The permissions of a file.
pub(super) fn mode(value: Option<i32>, path: &FieldPath, report: &mut Report) -> Option<u32> {
    let value = value?;
    match u32::try_from(value) {
        Ok(mode) if mode <= 0o777 => Some(mode),
        _ => {
            let message = format_args!(
                "invalid value {value}: must be a number between 0 and 0777 (octal), both inclusive"
            );
            report.error(path, message);
            None
        }
    }
}

/// The path of a file in its volume.
pub(super) fn file_path(text: &str, path: &FieldPath, report: &mut Report) -> Option<PathBuf> {
    match location::of_file_in_volume(text) {
        Ok(file) => Some(file),
        Err(message) => {
            report.error(path, message);
            None
        }
    }
}
