//! How claims and volumes are written down: JSON with Kubernetes' names.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::inventory::{BoundClaim, KnownVolume};
use crate::spec::{AccessMode, PersistentVolume, PersistentVolumeKind, ReclaimPolicy};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClaimFile {
    uid: String,
    created: Timestamp,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    access_modes: Vec<Mode>,
    storage: u64,
    storage_class_name: String,
    #[serde(default)]
    selector: Vec<String>,
    volume_name: Option<String>,
    owner: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct VolumeFile {
    uid: String,
    created: Timestamp,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    source: Source,
    path: PathBuf,
    storage: u64,
    access_modes: Vec<Mode>,
    storage_class_name: String,
    reclaim_policy: Policy,
    reserved: Option<(String, String)>,
    claim: Option<((String, String), String)>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(remote = "AccessMode")]
#[allow(clippy::enum_variant_names, reason = "the names are Kubernetes'")]
enum ModeDef {
    ReadWriteOnce,
    ReadOnlyMany,
    ReadWriteMany,
    ReadWriteOncePod,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(transparent)]
struct Mode(#[serde(with = "ModeDef")] AccessMode);

#[derive(Serialize, Deserialize)]
#[serde(remote = "ReclaimPolicy")]
enum PolicyDef {
    Retain,
    Delete,
}

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Policy(#[serde(with = "PolicyDef")] ReclaimPolicy);

#[derive(Serialize, Deserialize)]
#[serde(remote = "PersistentVolumeKind", rename_all = "camelCase")]
enum SourceDef {
    HostPath,
    HostPathOrCreate,
    Local,
}

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Source(#[serde(with = "SourceDef")] PersistentVolumeKind);

fn written_modes(modes: &[AccessMode]) -> Vec<Mode> {
    modes.iter().copied().map(Mode).collect()
}

fn read_modes(modes: Vec<Mode>) -> Vec<AccessMode> {
    modes.into_iter().map(|Mode(mode)| mode).collect()
}

/// The record of a claim.
pub fn write_claim(claim: &BoundClaim) -> io::Result<Vec<u8>> {
    let BoundClaim { uid, created, labels, access_modes, request_bytes, .. } = claim.clone();
    let BoundClaim { storage_class, selector, volume, owner, .. } = claim.clone();
    Ok(serde_json::to_vec(&ClaimFile {
        uid,
        created,
        labels,
        access_modes: written_modes(&access_modes),
        storage: request_bytes,
        storage_class_name: storage_class,
        selector,
        volume_name: volume,
        owner,
    })?)
}

/// A claim from its record.
pub fn read_claim(text: &[u8]) -> io::Result<BoundClaim> {
    let file: ClaimFile = serde_json::from_slice(text)?;
    Ok(BoundClaim {
        uid: file.uid,
        created: file.created,
        labels: file.labels,
        access_modes: read_modes(file.access_modes),
        request_bytes: file.storage,
        storage_class: file.storage_class_name,
        selector: file.selector,
        volume: file.volume_name,
        owner: file.owner,
    })
}

/// The record of a volume.
pub fn write_volume(volume: &KnownVolume) -> io::Result<Vec<u8>> {
    let KnownVolume { uid, created, spec, claim } = volume.clone();
    Ok(serde_json::to_vec(&VolumeFile {
        uid,
        created,
        labels: spec.labels,
        source: Source(spec.kind),
        path: spec.path,
        storage: spec.capacity_bytes,
        access_modes: written_modes(&spec.access_modes),
        storage_class_name: spec.storage_class,
        reclaim_policy: Policy(spec.reclaim_policy),
        reserved: spec.claim,
        claim,
    })?)
}

/// A volume from its record.
pub fn read_volume(text: &[u8]) -> io::Result<KnownVolume> {
    let file: VolumeFile = serde_json::from_slice(text)?;
    Ok(KnownVolume {
        uid: file.uid,
        created: file.created,
        spec: PersistentVolume {
            labels: file.labels,
            path: file.path,
            kind: file.source.0,
            capacity_bytes: file.storage,
            access_modes: read_modes(file.access_modes),
            storage_class: file.storage_class_name,
            reclaim_policy: file.reclaim_policy.0,
            claim: file.reserved,
        },
        claim: file.claim,
    })
}
