//! Claims and volumes as Kubernetes' objects. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    HostPathVolumeSource, LocalVolumeSource, ObjectReference, PersistentVolume, PersistentVolumeClaim,
    PersistentVolumeClaimSpec, PersistentVolumeClaimStatus, PersistentVolumeSpec, PersistentVolumeStatus,
    VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::spec::quantity::Bytes;
use crate::spec::{AccessMode, PersistentVolumeKind};
use crate::volume::claims;
use crate::volume::claims::inventory::{
    BoundClaim, ClaimKey, Inventory, KnownVolume, PROVISIONED_POLICY, Phase,
};

/// `volumeMode`.
const FILESYSTEM: &str = "Filesystem";

/// All claims, by namespace and name.
pub fn claims(inventory: &Inventory) -> Vec<PersistentVolumeClaim> {
    inventory.claims.iter().map(|(key, own)| claim(inventory, key, own)).collect()
}

/// All volumes, by name; `data`: the directory that peapod made for a claim.
pub fn volumes(inventory: &Inventory, data: impl Fn(&ClaimKey) -> PathBuf) -> Vec<PersistentVolume> {
    let known = inventory.volumes.iter().map(|(name, own)| volume(inventory, name, own));
    let made = inventory.claims.iter().filter(|(_, claim)| claim.volume.is_none());
    let mut all: Vec<_> = known.chain(made.map(|(key, claim)| made_volume(key, claim, data(key)))).collect();
    all.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    all
}

fn claim(inventory: &Inventory, key: &ClaimKey, claim: &BoundClaim) -> PersistentVolumeClaim {
    let (namespace, name) = key.clone();
    let mut metadata =
        metadata(&name, &claim.uid, claim.created, &claim.labels, "kubernetes.io/pvc-protection");
    metadata.namespace = Some(namespace);
    let known = claim.volume.as_ref().map(|volume| inventory.volumes.get(volume));
    // Once bound, a claim has what its volume has.
    let modes = match known {
        None => Some(&claim.access_modes),
        Some(known) => known.map(|known| &known.spec.access_modes),
    };
    PersistentVolumeClaim {
        metadata,
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(names(&claim.access_modes)),
            resources: Some(VolumeResourceRequirements {
                requests: Some(storage(claim.request_bytes)),
                limits: None,
            }),
            storage_class_name: Some(claim.storage_class.clone()),
            volume_mode: Some(FILESYSTEM.to_owned()),
            volume_name: Some(claim.volume_name()),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: Some(PersistentVolumeClaimStatus {
            access_modes: modes.map(|modes| names(modes)),
            capacity: modes.map(|_| storage(inventory.capacity_bytes(claim))),
            phase: Some(if modes.is_some() { "Bound" } else { "Lost" }.to_owned()),
            ..PersistentVolumeClaimStatus::default()
        }),
    }
}

fn volume(inventory: &Inventory, name: &str, known: &KnownVolume) -> PersistentVolume {
    let KnownVolume { uid, created, spec, claim } = known;
    let phase = match inventory.phase(known) {
        Phase::Available => "Available",
        Phase::Bound => "Bound",
        Phase::Released => "Released",
        Phase::Failed => "Failed",
    };
    let path = spec.path.display().to_string();
    let host_path = |type_: &str| HostPathVolumeSource { path: path.clone(), type_: Some(type_.to_owned()) };
    let (host_path, local) = match spec.kind {
        PersistentVolumeKind::HostPath => (Some(host_path("")), None),
        PersistentVolumeKind::HostPathOrCreate => (Some(host_path("DirectoryOrCreate")), None),
        PersistentVolumeKind::Local => (None, Some(LocalVolumeSource { path: path.clone(), fs_type: None })),
    };
    let reserved = spec.claim.as_ref().map(|key| reference(key, None));
    PersistentVolume {
        metadata: metadata(name, uid, *created, &spec.labels, "kubernetes.io/pv-protection"),
        spec: Some(PersistentVolumeSpec {
            access_modes: Some(names(&spec.access_modes)),
            capacity: Some(storage(spec.capacity_bytes)),
            claim_ref: claim.as_ref().map(|(key, uid)| reference(key, Some(uid))).or(reserved),
            host_path,
            local,
            persistent_volume_reclaim_policy: Some(spec.reclaim_policy.as_str().to_owned()),
            storage_class_name: Some(spec.storage_class.clone()).filter(|class| !class.is_empty()),
            volume_mode: Some(FILESYSTEM.to_owned()),
            ..PersistentVolumeSpec::default()
        }),
        status: Some(PersistentVolumeStatus {
            message: claims::failure(inventory, known),
            phase: Some(phase.to_owned()),
            ..Default::default()
        }),
    }
}

/// The volume that a provisioner would have made of a claim's directory.
fn made_volume(key: &ClaimKey, claim: &BoundClaim, data: PathBuf) -> PersistentVolume {
    let name = claim.volume_name();
    PersistentVolume {
        metadata: metadata(&name, &claim.uid, claim.created, &BTreeMap::new(), "kubernetes.io/pv-protection"),
        spec: Some(PersistentVolumeSpec {
            access_modes: Some(names(&claim.access_modes)),
            capacity: Some(storage(claim.request_bytes)),
            claim_ref: Some(reference(key, Some(&claim.uid))),
            local: Some(LocalVolumeSource { path: data.display().to_string(), fs_type: None }),
            persistent_volume_reclaim_policy: Some(PROVISIONED_POLICY.as_str().to_owned()),
            storage_class_name: Some(claim.storage_class.clone()),
            volume_mode: Some(FILESYSTEM.to_owned()),
            ..PersistentVolumeSpec::default()
        }),
        status: Some(PersistentVolumeStatus { phase: Some("Bound".to_owned()), ..Default::default() }),
    }
}

fn metadata(
    name: &str,
    uid: &str,
    created: Timestamp,
    labels: &BTreeMap<String, String>,
    finalizer: &str,
) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        uid: Some(uid.to_owned()),
        creation_timestamp: Some(Time(created)),
        labels: Some(labels.clone()).filter(|labels| !labels.is_empty()),
        finalizers: Some(vec![finalizer.to_owned()]),
        ..ObjectMeta::default()
    }
}

fn reference((namespace, name): &ClaimKey, uid: Option<&str>) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("PersistentVolumeClaim".to_owned()),
        namespace: Some(namespace.clone()),
        name: Some(name.clone()),
        uid: uid.map(str::to_owned),
        ..ObjectReference::default()
    }
}

fn names(modes: &[AccessMode]) -> Vec<String> {
    modes.iter().map(|mode| mode.as_str().to_owned()).collect()
}

fn storage(bytes: u64) -> BTreeMap<String, Quantity> {
    BTreeMap::from([("storage".to_owned(), Quantity(Bytes(bytes).to_string()))])
}
