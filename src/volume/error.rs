//! What can be wrong with a volume.

use std::path::PathBuf;
use std::{fmt, io};

use thiserror::Error;

use super::projected::PayloadError;

/// Why a volume cannot be made or mounted. Every message names the volume and the path.
#[derive(Debug, Error)]
pub enum VolumeError {
    /// The operating system refused.
    #[error("volume {volume:?}: cannot {operation} {}: {source}", path.display())]
    Io {
        /// The volume.
        volume: String,
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A `hostPath` of no type is not there.
    #[error(
        "volume {volume:?}: hostPath {} does not exist: create it, or set type: DirectoryOrCreate",
        path.display()
    )]
    Missing {
        /// The volume.
        volume: String,
        /// The path on the host.
        path: PathBuf,
    },
    /// A `hostPath` is something else than its `type` says, or not there (`checkTypeInternal` in
    /// `pkg/volume/hostpath/host_path.go`).
    #[error("volume {volume:?}: hostPath type check failed: {} is not a {expected}: {advice}", path.display())]
    WrongType {
        /// The volume.
        volume: String,
        /// The path on the host.
        path: PathBuf,
        /// The kubelet's word for what the type asks for.
        expected: &'static str,
        /// What is there instead, and what to do.
        advice: &'static str,
    },
    /// A mount of a single file that cannot be put in its place.
    #[error(
        "container {container:?} mounts volume {volume:?} at {mount_path}: cannot put the file {} there: {reason}",
        path.display()
    )]
    FileMount {
        /// The container.
        container: String,
        /// The volume.
        volume: String,
        /// `mountPath`.
        mount_path: String,
        /// The file.
        path: PathBuf,
        /// Why not, and what to do.
        reason: String,
    },
    /// A `subPath` that cannot be made or opened beneath its volume, in the words of `makeMounts`
    /// (`pkg/kubelet/kubelet_pods.go`). The kubelet keeps the reason to itself, which may tell of the host; here none
    /// does: every way out of the volume is refused alike.
    #[error(
        "failed to {} for volumeMount {volume:?} of container {container:?}: {}, for {mount_path}: {source}",
        step.as_str(), sub_path.display()
    )]
    SubPath {
        /// What failed.
        step: SubPathStep,
        /// The container.
        container: String,
        /// The volume.
        volume: String,
        /// `mountPath`.
        mount_path: String,
        /// `subPath`.
        sub_path: PathBuf,
        /// The system's answer; a way out of the volume is refused as `PermissionDenied`.
        source: io::Error,
    },
    /// A working directory that cannot be made or opened.
    #[error("container {container:?}: cannot open workingDir {path}: {source}")]
    WorkingDir {
        /// The container.
        container: String,
        /// `workingDir`.
        path: String,
        /// The system's answer; a way out of the volume is refused as `PermissionDenied`.
        source: io::Error,
    },
    /// The pod's own `/etc` cannot be given.
    #[error("container {container:?}: cannot open the pod's /etc: {source}")]
    Etc {
        /// The container.
        container: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A claim or an image without its directory.
    #[error("volume {volume:?} is bound to nothing")]
    Unbound {
        /// The volume.
        volume: String,
    },
    /// The files of a configMap, secret, downwardAPI or projected volume.
    #[error("volume {volume:?}: {error}")]
    Payload {
        /// The volume.
        volume: String,
        /// What is missing.
        error: PayloadError,
    },
    /// A mount of a volume that is not there or not mounted yet.
    #[error("container {container:?} mounts volume {volume:?} at {mount_path}: the volume is not ready")]
    NotReady {
        /// The container.
        container: String,
        /// The volume.
        volume: String,
        /// `mountPath`.
        mount_path: String,
    },
}

/// Everything that is wrong with a pod's volumes: each on a line of its own. Not empty.
#[derive(Debug)]
pub struct VolumeErrors(pub(super) Vec<VolumeError>);

impl VolumeErrors {
    /// Of those, if there are any.
    ///
    /// # Errors
    /// There are.
    pub(super) fn none_of(errors: Vec<VolumeError>) -> Result<(), Self> {
        if errors.is_empty() { Ok(()) } else { Err(Self(errors)) }
    }
}

impl std::error::Error for VolumeErrors {}

impl fmt::Display for VolumeErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join("\n"))
    }
}

/// What is done with a `subPath`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubPathStep {
    /// It is missing, and made.
    Create,
    /// It is there, and opened.
    Prepare,
}

impl SubPathStep {
    fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create subPath directory",
            Self::Prepare => "prepare subPath",
        }
    }
}

impl VolumeError {
    /// Whether the container waits with `CreateContainerConfigError` and is tried again (`startContainer` in
    /// `pkg/kubelet/kuberuntime/kuberuntime_container.go`): else its start has failed.
    pub fn is_of_configuration(&self) -> bool {
        matches!(self, Self::SubPath { .. })
    }
}
