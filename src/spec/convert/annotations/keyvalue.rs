//! `peapod.dev/keyvalue` and `peapod.dev/keyvalue.<bucket>`: a volume of the pod that can be written to.

use super::Around;
use crate::spec::{HostPathType, Volume, VolumeSource};

/// The volume's name, where it will do.
pub(super) fn volume(name: &str, around: &Around<'_>) -> Result<String, Vec<String>> {
    let known = &around.volumes;
    match known.volumes.iter().find(|volume| volume.name == name) {
        Some(volume) => match unfit(volume) {
            Some(why) => Err(vec![format!("volume {name:?} cannot hold buckets: {why}")]),
            None => Ok(name.to_owned()),
        },
        // One that is broken; its own error says how.
        None if known.names.contains(name) && !known.left_out.contains(name) => Ok(name.to_owned()),
        None => {
            let mut names: Vec<&str> = known.volumes.iter().map(|volume| volume.name.as_str()).collect();
            names.sort_unstable();
            let hint = crate::manifest::hint(name, names.iter().copied());
            let all = if names.is_empty() { "the pod has none".to_owned() } else { names.join(", ") };
            Err(vec![format!("there is no volume {name:?}{hint} (volumes: {all})")])
        }
    }
}

/// Why nothing can be written there.
fn unfit(volume: &Volume) -> Option<&'static str> {
    match &volume.source {
        VolumeSource::EmptyDir { .. }
        | VolumeSource::Ephemeral { .. }
        | VolumeSource::Claim { read_only: false, .. } => None,
        VolumeSource::Claim { read_only: true, .. } => Some("it is readOnly"),
        VolumeSource::Projected { .. } => {
            Some("its files are made from objects and fields, nothing else is kept there")
        }
        VolumeSource::Image { .. } => Some("an image is read-only"),
        VolumeSource::HostPath { kind, .. } => match kind {
            HostPathType::Any | HostPathType::Directory | HostPathType::DirectoryOrCreate => None,
            _ => Some("its hostPath is no directory"),
        },
    }
}
