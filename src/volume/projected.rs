//! `configMap`, `secret`, `downwardAPI` and `projected`: files made from objects and fields.

use std::path::Path;

use super::VolumeError;
use super::prepare::{Prepared, Volumes};
use crate::spec::{Pod, Volume};

/// Makes the files of `volume` below `pod_dir`.
pub(super) fn prepare(volume: &Volume, pod: &Pod, pod_dir: &Path) -> Result<Prepared, VolumeError> {
    let _ = (pod, pod_dir);
    Err(VolumeError::Unbound { volume: volume.name.clone() })
}

impl Volumes {
    /// Makes the files of every such volume again where what they are made from has changed: objects, labels,
    /// annotations and resources of `pod`. One swap for each volume, so that readers see all of the old or all of the
    /// new. Returns the volumes that were changed, and what went wrong; those keep their files.
    pub fn refresh(&mut self, pod: &Pod) -> (Vec<String>, Vec<VolumeError>) {
        let _ = pod;
        (Vec::new(), Vec::new())
    }
}
