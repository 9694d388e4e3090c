//! Claims and volumes as `kubectl describe` shows them (`describePersistentVolumeClaim` and
//! `describePersistentVolume`).

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::page::Page;
use super::{annotations, labels};
use crate::cli::Failure;
use crate::cli::get::storage::{named, short_modes};
use crate::cli::get::{DEFAULT_NAMESPACE, storage_wire};
use crate::cli::tabs;
use crate::cli::target::StorageKind;
use crate::paths::Paths;

use crate::volume::claims::inventory::Inventory;
use crate::volume::claims::registry::Registry;

/// Those that are named, or all; claims are those of a namespace.
///
/// # Errors
/// There is none of a name, or the files'.
pub fn describe(kind: StorageKind, names: &[&str], namespace: Option<&str>) -> Result<String, Failure> {
    let paths = Paths::from_env();
    let namespace = namespace.unwrap_or(DEFAULT_NAMESPACE);
    let registry = Registry::exists(&paths).then(|| Registry::open(&paths)).transpose()?;
    let none = Inventory::default();
    let inventory = registry.as_ref().map_or(&none, Registry::inventory);
    let mut texts = Vec::new();
    match kind {
        StorageKind::Claims => {
            let mut claims = storage_wire::claims(inventory);
            claims.retain(|claim| claim.metadata.namespace.as_deref() == Some(namespace));
            for claim in named(claims, names, kind, |claim| &claim.metadata).all()? {
                let key = (namespace.to_owned(), claim.metadata.name.clone().unwrap_or_default());
                let users = registry.as_ref().map(|registry| registry.users(&key)).transpose()?;
                // A claim's pods are those of its namespace.
                let name = |pod: &str| pod.rsplit('/').next().unwrap_or_default().to_owned();
                let mut pods: Vec<_> = users.iter().flatten().map(|user| name(&user.pod)).collect();
                pods.sort();
                texts.push(claim_page(&claim, &pods));
            }
        }
        StorageKind::Volumes => {
            let data = |key: &_| registry.as_ref().map_or_else(PathBuf::new, |own| own.data(key));
            let volumes = storage_wire::volumes(inventory, data);
            let volumes = named(volumes, names, kind, |volume| &volume.metadata).all()?;
            texts.extend(volumes.iter().map(volume_page));
        }
    }
    Ok(texts.join("\n\n"))
}

fn claim_page(claim: &PersistentVolumeClaim, pods: &[String]) -> String {
    let PersistentVolumeClaim { metadata, spec, status } = claim;
    let (spec, status) = (spec.clone().unwrap_or_default(), status.clone().unwrap_or_default());
    let mut page = Page::default();
    let mut field = |label: &str, value: &str| page.line(0, format!("{label}:\t{value}"));
    field("Name", metadata.name.as_deref().unwrap_or_default());
    field("Namespace", metadata.namespace.as_deref().unwrap_or_default());
    field("StorageClass", spec.storage_class_name.as_deref().unwrap_or_default());
    field("Status", status.phase.as_deref().unwrap_or_default());
    field("Volume", spec.volume_name.as_deref().unwrap_or_default());
    identity(&mut page, metadata);
    let mut field = |label: &str, value: &str| page.line(0, format!("{label}:\t{value}"));
    let capacity = status.capacity.and_then(|mut own| own.remove("storage"));
    field("Capacity", capacity.as_ref().map_or("", |Quantity(text)| text));
    field("Access Modes", &short_modes(&status.access_modes.unwrap_or_default()));
    field("VolumeMode", spec.volume_mode.as_deref().unwrap_or_default());
    page.list("Used By", pods);
    page.line(0, "Events:\t<none>");
    tabs::align(&page.text(), 0, 2)
}

fn volume_page(volume: &PersistentVolume) -> String {
    let PersistentVolume { metadata, spec, status } = volume;
    let spec = spec.clone().unwrap_or_default();
    let mut page = Page::default();
    page.line(0, format!("Name:\t{}", metadata.name.as_deref().unwrap_or_default()));
    identity(&mut page, metadata);
    let mut field = |label: &str, value: &str| page.line(0, format!("{label}:\t{value}"));
    field("StorageClass", spec.storage_class_name.as_deref().unwrap_or_default());
    let status = status.clone().unwrap_or_default();
    field("Status", status.phase.as_deref().unwrap_or_default());
    let claim = spec.claim_ref.unwrap_or_default();
    let claim = format!("{}/{}", claim.namespace.unwrap_or_default(), claim.name.unwrap_or_default());
    field("Claim", if claim == "/" { "" } else { &claim });
    field("Reclaim Policy", spec.persistent_volume_reclaim_policy.as_deref().unwrap_or_default());
    field("Access Modes", &short_modes(&spec.access_modes.unwrap_or_default()));
    field("VolumeMode", spec.volume_mode.as_deref().unwrap_or_default());
    let capacity = spec.capacity.and_then(|mut own| own.remove("storage"));
    field("Capacity", capacity.as_ref().map_or("", |Quantity(text)| text));
    field("Node Affinity", "<none>");
    field("Message", status.message.as_deref().unwrap_or_default());
    page.line(0, "Source:");
    let mut field = |label: &str, value: &str| page.line(2, format!("{label}:\t{value}"));
    if let Some(host) = &spec.host_path {
        field("Type", "HostPath (bare host directory volume)");
        field("Path", &host.path);
        field("HostPathType", host.type_.as_deref().unwrap_or("<none>"));
    } else if let Some(local) = &spec.local {
        field("Type", "LocalVolume (a persistent volume backed by local storage on a node)");
        field("Path", &local.path);
    }
    page.line(0, "Events:\t<none>");
    tabs::align(&page.text(), 0, 2)
}

fn identity(page: &mut Page, metadata: &ObjectMeta) {
    labels(page, "Labels", metadata.labels.iter().flatten());
    annotations(page, metadata.annotations.iter().flatten());
    page.line(0, format!("Finalizers:\t[{}]", metadata.finalizers.clone().unwrap_or_default().join(" ")));
}
