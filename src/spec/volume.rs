//! Volumes of a pod.

use std::path::PathBuf;

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
}
