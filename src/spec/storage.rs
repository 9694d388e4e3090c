//! What claims ask for, and what volumes there are for them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::network_policy::LabelSelector;

/// Labels of an object, by key.
type Labels = BTreeMap<String, String>;

/// The PersistentVolumeClaims and PersistentVolumes that stand beside the Pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Storage {
    /// Of the pod's namespace, by name.
    pub claims: BTreeMap<String, Claim>,
    /// By name.
    pub volumes: BTreeMap<String, PersistentVolume>,
}

/// A validated PersistentVolumeClaim.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claim {
    /// `metadata.labels`.
    pub labels: Labels,
    /// `spec.accessModes`.
    pub access_modes: Vec<AccessMode>,
    /// `spec.resources.requests.storage`, bytes.
    pub storage_bytes: u64,
    /// `spec.storageClassName`: empty is none, for volumes without a class only; `None`: the default one, peapod's own,
    /// as `DefaultStorageClass` fills it in (`plugin/pkg/admission/storage/storageclass/setdefault`).
    pub storage_class: Option<String>,
    /// `spec.volumeName`: this volume and no other.
    pub volume_name: Option<String>,
    /// `spec.selector`: volumes with these labels only.
    pub selector: Option<LabelSelector>,
}

/// A validated PersistentVolume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersistentVolume {
    /// `metadata.labels`.
    pub labels: Labels,
    /// `hostPath.path` or `local.path`.
    pub path: PathBuf,
    /// Which of the two, and what must be there.
    pub kind: PersistentVolumeKind,
    /// `spec.capacity.storage`, bytes.
    pub capacity_bytes: u64,
    /// `spec.accessModes`.
    pub access_modes: Vec<AccessMode>,
    /// `spec.storageClassName`; empty is none.
    pub storage_class: String,
    /// `spec.persistentVolumeReclaimPolicy`.
    pub reclaim_policy: ReclaimPolicy,
    /// `spec.claimRef`: for this claim only, namespace and name.
    pub claim: Option<(String, String)>,
}

impl PersistentVolume {
    /// Why its data is not deleted with its claim where its [`ReclaimPolicy`] is `Delete`, in Kubernetes' words; `None`:
    /// it is. Only a hostPath below `/tmp` is (`hostPathDeleter` in `pkg/volume/hostpath/host_path.go`, which looks for
    /// `/tmp/` anywhere in the path; here it begins with that), and for `local` there is no deleter
    /// (`deleteVolumeOperation` in `pkg/controller/volume/persistentvolume/pv_controller.go`).
    pub fn deletion_refused(&self) -> Option<String> {
        let path = self.path.display();
        match self.kind {
            PersistentVolumeKind::Local => Some(
                "error getting deleter volume plugin for volume: no deletable volume plugin matched"
                    .to_owned(),
            ),
            _ if self.path.strip_prefix("/tmp").is_ok_and(|below| below != Path::new("")) => None,
            _ => Some(format!("host_path deleter only supports /tmp/.+ but received provided {path}")),
        }
    }
}

/// What is behind a PersistentVolume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PersistentVolumeKind {
    /// `hostPath` of `type` `""` or `Directory`: a directory that is there.
    HostPath,
    /// `hostPath` of `type: DirectoryOrCreate`: a directory that is made where it is missing.
    HostPathOrCreate,
    /// `local`: a directory that is there.
    Local,
}

/// `persistentVolumeReclaimPolicy`: what becomes of a volume whose claim is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReclaimPolicy {
    /// `Retain`: its data is kept, and no other claim gets it.
    #[default]
    Retain,
    /// `Delete`: its data goes with the claim; see [`PersistentVolume::deletion_refused`].
    Delete,
}

impl ReclaimPolicy {
    /// As the manifest has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retain => "Retain",
            Self::Delete => "Delete",
        }
    }
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

impl AccessMode {
    /// All, as the manifest has them, in the order that kubectl lists them in
    /// (`GetAccessModesAsString` in `pkg/apis/core/v1/helper/helpers.go`).
    pub const ALL: [(&'static str, Self); 4] = [
        ("ReadWriteOnce", Self::ReadWriteOnce),
        ("ReadOnlyMany", Self::ReadOnlyMany),
        ("ReadWriteMany", Self::ReadWriteMany),
        ("ReadWriteOncePod", Self::ReadWriteOncePod),
    ];

    /// As the manifest has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadWriteOnce => "ReadWriteOnce",
            Self::ReadOnlyMany => "ReadOnlyMany",
            Self::ReadWriteMany => "ReadWriteMany",
            Self::ReadWriteOncePod => "ReadWriteOncePod",
        }
    }

    /// As kubectl's tables have it.
    pub fn short(self) -> &'static str {
        match self {
            Self::ReadWriteOnce => "RWO",
            Self::ReadOnlyMany => "ROX",
            Self::ReadWriteMany => "RWX",
            Self::ReadWriteOncePod => "RWOP",
        }
    }
}

impl fmt::Display for AccessMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
