//! Volumes of a pod.

use std::path::PathBuf;

use super::environment::{Field, ObjectRef, ResourceField};
use super::storage::Claim;
use crate::image::Reference;

/// A validated volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// `name`: a DNS label, unique in the pod.
    pub name: String,
    /// What is behind it.
    pub source: VolumeSource,
}

/// What is behind a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeSource {
    /// `emptyDir`: a fresh directory that lives as long as the pod.
    EmptyDir {
        /// `medium: Memory`: a tmpfs instead of the disk.
        memory: bool,
        /// `sizeLimit`, bytes. A tmpfs enforces it; on disk it is for the pod to measure.
        size_limit: Option<u64>,
    },
    /// `hostPath`: a path of the host.
    HostPath {
        /// Absolute, normalised.
        path: PathBuf,
        /// What must be there, or is created.
        kind: HostPathType,
    },
    /// `configMap`, `secret`, `downwardAPI` and `projected`: files that follow what they were made from. Never
    /// to be written to.
    Projected {
        /// Which of the four: names its directory.
        plugin: ProjectedPlugin,
        /// What the files are made from, in order.
        sources: Vec<Projection>,
        /// `defaultMode`, 0644 when absent.
        default_mode: u32,
    },
    /// `persistentVolumeClaim`: a directory that outlives the pod, found or made by the supervisor.
    Claim {
        /// `claimName`.
        name: String,
        /// `readOnly`: for all mounts.
        read_only: bool,
    },
    /// `ephemeral`: a claim of the pod's own, named `<pod>-<volume>`, made for it and deleted with it.
    Ephemeral {
        /// `volumeClaimTemplate`.
        claim: Claim,
    },
    /// `image`: a directory or the content of an artifact, to read; found by the supervisor.
    Image {
        /// `reference`.
        reference: Reference,
    },
}

/// The kind of a [`VolumeSource::Projected`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProjectedPlugin {
    /// `configMap`.
    ConfigMap,
    /// `secret`: its files are in memory only.
    Secret,
    /// `downwardAPI`.
    DownwardApi,
    /// `projected`: its files are in memory only.
    Projected,
}

/// What files of a [`VolumeSource::Projected`] are made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Projection {
    /// A ConfigMap or a Secret.
    Object {
        /// Which.
        object: ObjectRef,
        /// `items`: only these keys. `None`: all, each in a file of its name.
        items: Option<Vec<KeyToPath>>,
    },
    /// Fields of the pod.
    DownwardApi(Vec<DownwardFile>),
}

/// An entry of `items`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyToPath {
    /// `key`.
    pub key: String,
    /// `path`: relative, without `..`.
    pub path: PathBuf,
    /// `mode`; `None`: the volume's.
    pub mode: Option<u32>,
}

/// An entry of `items` of a downward API volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownwardFile {
    /// `path`: relative, without `..`.
    pub path: PathBuf,
    /// What is in it.
    pub content: DownwardContent,
    /// `mode`; `None`: the volume's.
    pub mode: Option<u32>,
}

/// `fieldRef` or `resourceFieldRef` of a downward API volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DownwardContent {
    /// `fieldRef`.
    Field(Field),
    /// `resourceFieldRef`; its container is always named.
    Resource(ResourceField),
}

/// `hostPath.type` (<https://kubernetes.io/docs/concepts/storage/volumes/#hostpath>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostPathType {
    /// `""`: no check.
    #[default]
    Any,
    /// Created as a directory with mode 0755 when absent.
    DirectoryOrCreate,
    /// Must be a directory.
    Directory,
    /// Created as an empty file with mode 0644 when absent.
    FileOrCreate,
    /// Must be a file.
    File,
    /// Must be a UNIX socket.
    Socket,
    /// Must be a character device.
    CharDevice,
    /// Must be a block device.
    BlockDevice,
}
