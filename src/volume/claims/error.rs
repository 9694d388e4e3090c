//! Why a claim cannot be had.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::CLASS;
use crate::sandbox::record::RecordError;

/// Why a pod does not get a claim, or a claim or volume cannot be deleted. Every message names it.
#[derive(Debug, Error)]
pub enum ClaimError {
    /// It is in no document, and there is none from an earlier run.
    #[error(
        "{field}: persistentvolumeclaim {claim:?} not found: add a document of kind PersistentVolumeClaim{hint}"
    )]
    NotFound {
        /// Where the pod names it.
        field: String,
        /// The claim.
        claim: String,
        /// Names that there are, as a continuation of the sentence.
        hint: String,
    },
    /// The document says something else than the claim that is there.
    #[error(
        "persistentvolumeclaim {claim:?}: {field}: forbidden: spec is immutable after creation except \
         resources.requests; it is {is}, write that or delete the claim first"
    )]
    Immutable {
        /// The claim.
        claim: String,
        /// Which field.
        field: &'static str,
        /// Its value.
        is: String,
    },
    /// The document asks for less than before.
    #[error(
        "persistentvolumeclaim {claim:?}: spec.resources.requests.storage: forbidden: field can not be less than \
         status.capacity, {capacity}"
    )]
    Shrunk {
        /// The claim.
        claim: String,
        /// What it has.
        capacity: String,
    },
    /// The document asks for more of a volume that peapod has not made.
    #[error(
        "persistentvolumeclaim {claim:?}: spec.resources.requests.storage: forbidden: only dynamically provisioned \
         pvc can be resized"
    )]
    NotResizable {
        /// The claim.
        claim: String,
    },
    /// `volumeName` names no volume.
    #[error(
        "persistentvolumeclaim {claim:?}: volume {volume:?} not found: add a document of kind PersistentVolume"
    )]
    VolumeNotFound {
        /// The claim.
        claim: String,
        /// The volume.
        volume: String,
    },
    /// `volumeName` names a volume that does not fit.
    #[error("persistentvolumeclaim {claim:?}: cannot bind to requested volume {volume:?}: {why}")]
    Mismatch {
        /// The claim.
        claim: String,
        /// The volume.
        volume: String,
        /// In the words of `checkVolumeSatisfyClaim` in
        /// `pkg/controller/volume/persistentvolume/pv_controller.go`.
        why: &'static str,
    },
    /// `volumeName` names a volume that another claim has, or had.
    #[error(
        "persistentvolumeclaim {claim:?}: volume {volume:?} already bound to a different claim; one that is Released \
         is free again after `peapod delete pv {volume}`"
    )]
    VolumeTaken {
        /// The claim.
        claim: String,
        /// The volume.
        volume: String,
    },
    /// No volume fits, and no class says how to make one.
    #[error(
        "persistentvolumeclaim {claim:?}: no persistent volumes available for this claim and no storage class is set; \
         leave out storageClassName for a directory that peapod makes"
    )]
    NoVolume {
        /// The claim.
        claim: String,
    },
    /// No volume fits, and the class is not peapod's.
    #[error(
        "persistentvolumeclaim {claim:?}: no persistent volume fits, and storageclass.storage.k8s.io {class:?} not \
         found; peapod's own is {CLASS:?}, or leave out storageClassName"
    )]
    ClassNotFound {
        /// The claim.
        claim: String,
        /// Its class.
        class: String,
    },
    /// No volume fits, and one that peapod makes has no labels to select it by.
    #[error(
        "persistentvolumeclaim {claim:?}: no persistent volume fits, and claim.spec.selector is not supported for \
         dynamic provisioning; remove the selector or add a PersistentVolume with such labels"
    )]
    Selector {
        /// The claim.
        claim: String,
    },
    /// The claim's volume is gone.
    #[error(
        "persistentvolumeclaim {claim:?} is Lost: its volume {volume:?} is gone; add its PersistentVolume again, or \
         delete the claim"
    )]
    Lost {
        /// The claim.
        claim: String,
        /// The volume.
        volume: String,
    },
    /// An `ephemeral` volume's claim is somebody else's.
    #[error("PVC {claim} was not created for pod {pod} (pod is not owner); rename the volume or the pod")]
    NotOwner {
        /// The claim.
        claim: String,
        /// The pod.
        pod: String,
    },
    /// An `ephemeral` volume's claim cannot have such a name.
    #[error("PVC name {claim:?}: {why}")]
    Name {
        /// The claim.
        claim: String,
        /// What is wrong with it.
        why: String,
    },
    /// A PersistentVolume that is there is at another place.
    #[error(
        "persistentvolume {volume:?}: spec.persistentvolumesource: forbidden: is immutable after creation; it is at \
         {}, write that or delete the volume first",
        path.display()
    )]
    SourceChanged {
        /// The volume.
        volume: String,
        /// Where it is.
        path: PathBuf,
    },
    /// A pod has it, and nobody else may.
    #[error(
        "persistentvolumeclaim {claim:?}: node has pod using PersistentVolumeClaim with the same name and \
         ReadWriteOncePod access mode: {pods}; wait until it has ended"
    )]
    InUse {
        /// The claim.
        claim: String,
        /// Who.
        pods: String,
    },
    /// It cannot be deleted while pods use it.
    #[error(
        "persistentvolumeclaim {claim:?} is used by {pods}: the finalizer kubernetes.io/pvc-protection keeps it; \
         delete it again when they have ended"
    )]
    Protected {
        /// The claim.
        claim: String,
        /// Who.
        pods: String,
    },
    /// It cannot be deleted while a claim has it.
    #[error(
        "persistentvolume {volume:?} is bound to claim {claim}: the finalizer kubernetes.io/pv-protection keeps it; \
         delete the claim first"
    )]
    VolumeProtected {
        /// The volume.
        volume: String,
        /// `namespace/name`.
        claim: String,
    },
    /// There is no such claim or volume.
    #[error("{kind} {name:?} not found")]
    Unknown {
        /// In the plural, as kubectl says it.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The directory of a volume is not there, or is none.
    #[error("persistentvolume {volume:?}: {} {what}", path.display())]
    Directory {
        /// The volume.
        volume: String,
        /// Where.
        path: PathBuf,
        /// What is wrong, and what to do.
        what: &'static str,
    },
    /// A record makes no sense.
    #[error("{} makes no sense: {source}; restore it, or remove its directory with the data in it", path.display())]
    Record {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] RecordError),
    /// The files cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What failed.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ClaimError {
    /// Whether another manifest would do: else the host, or another pod, is in the way.
    pub fn is_of_manifest(&self) -> bool {
        !matches!(
            self,
            Self::InUse { .. }
                | Self::Lost { .. }
                | Self::Directory { .. }
                | Self::Record { .. }
                | Self::State(_)
                | Self::File { .. }
        )
    }
}
