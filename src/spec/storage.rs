//! What claims ask for, and what volumes there are for them.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// The PersistentVolumeClaims and PersistentVolumes that stand beside the Pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Storage {
    /// Of the pod's namespace, by name.
    pub claims: BTreeMap<String, Claim>,
    /// By name.
    pub volumes: BTreeMap<String, PersistentVolume>,
}

/// A validated PersistentVolumeClaim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// `spec.accessModes`.
    pub access_modes: Vec<AccessMode>,
    /// `spec.resources.requests.storage`, bytes.
    pub storage_bytes: u64,
    /// `spec.storageClassName`: `None` and `local` are peapod's own provisioner, empty is none.
    pub storage_class: Option<String>,
    /// `spec.volumeName`: this volume and no other.
    pub volume_name: Option<String>,
}

/// A validated PersistentVolume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersistentVolume {
    /// `hostPath.path` or `local.path`.
    pub path: PathBuf,
    /// Whether `hostPath.type` says that it is made where it is missing.
    pub create: bool,
    /// `spec.capacity.storage`, bytes.
    pub capacity_bytes: u64,
    /// `spec.accessModes`.
    pub access_modes: Vec<AccessMode>,
    /// `spec.storageClassName`.
    pub storage_class: Option<String>,
    /// `spec.claimRef`: for this claim only, namespace and name.
    pub claim: Option<(String, String)>,
}

/// How a volume may be used (<https://kubernetes.io/docs/concepts/storage/persistent-volumes/#access-modes>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AccessMode {
    /// `ReadWriteOnce`: by pods of one node.
    ReadWriteOnce,
    /// `ReadOnlyMany`: by many, to read.
    ReadOnlyMany,
    /// `ReadWriteMany`: by many.
    ReadWriteMany,
    /// `ReadWriteOncePod`: by one pod.
    ReadWriteOncePod,
}
