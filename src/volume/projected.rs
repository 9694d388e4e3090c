//! `configMap`, `secret`, `downwardAPI` and `projected`: files made from objects and fields.
//!
//! ```text
//! prepare: a directory, as the kubelet has it; secrets, downward API and projected: to be covered by a tmpfs
//!    ▼
//! refresh: sources + Pod ─► payload: files with bytes and modes ─► writer: a new generation, one swap
//!    ▲                                                                 │ the one before is removed,
//!    └─ before containers start, and whenever the pod has changed      ▼ unless a subPath mount holds it
//! ```
//!
//! Guests only read. A mount of a part of such a volume, and a working directory in it, stay with the files that were there when
//! the container started, as in Kubernetes; [`Generation`] keeps them.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use cap_std::fs::Dir;

use super::VolumeError;
use super::prepare::{EMPTY_DIR_MODE, Prepared, Volumes, io_error, open};
use crate::spec::volume::ProjectedPlugin;
use crate::spec::{Pod, Volume, VolumeSource};
use writer::Written;

mod downward;
mod node;
mod payload;
mod writer;

pub use payload::PayloadError;

/// One state of a volume's files. Its directory stays for as long as somebody has it.
pub(super) type Generation = Arc<OsString>;

/// Makes the directory for `volume` below `pod_dir`. What is in it, [`Volumes::refresh`] makes.
pub(super) fn prepare(
    volume: &Volume,
    plugin: ProjectedPlugin,
    pod_dir: &Path,
) -> Result<Prepared, VolumeError> {
    // The kubelet's names, and which of them it has in memory (`wrappedVolumeSpec` of each in `pkg/volume`).
    let (directory, memory) = match plugin {
        ProjectedPlugin::ConfigMap => ("kubernetes.io~configmap", false),
        ProjectedPlugin::Secret => ("kubernetes.io~secret", true),
        ProjectedPlugin::DownwardApi => ("kubernetes.io~downward-api", true),
        ProjectedPlugin::Projected => ("kubernetes.io~projected", true),
    };
    let name = &volume.name;
    let path = pod_dir.join("volumes").join(directory).join(name);
    fs::create_dir_all(&path).map_err(io_error(name, "create directory", &path))?;
    let mode = Permissions::from_mode(EMPTY_DIR_MODE);
    fs::set_permissions(&path, mode).map_err(io_error(name, "set the permissions of", &path))?;
    match memory {
        true => Ok(Prepared::Memory { path, size: None, read_only: true }),
        false => open(name, &path, true),
    }
}

impl Volumes {
    /// Makes the files of every such volume, for the first time or again where what they are made from has changed:
    /// objects, labels, annotations and resources of `pod`. One swap for each volume, so that readers see all of the
    /// old or all of the new. Returns the volumes that were changed, and what went wrong; those keep their files.
    pub fn refresh(&mut self, pod: &Pod) -> (Vec<String>, Vec<VolumeError>) {
        let (mut changed, mut errors) = (Vec::new(), Vec::new());
        for volume in &pod.volumes {
            match self.refresh_one(volume, pod) {
                Ok(true) => changed.push(volume.name.clone()),
                Ok(false) => {}
                Err(error) => errors.push(error),
            }
        }
        (changed, errors)
    }

    fn refresh_one(&mut self, volume: &Volume, pod: &Pod) -> Result<bool, VolumeError> {
        let VolumeSource::Projected { plugin: _, sources, default_mode } = &volume.source else {
            return Ok(false);
        };
        let Some(Prepared::Open { path, dir, .. }) = self.by_name.get(&volume.name) else { return Ok(false) };
        let payload = payload::payload(sources, *default_mode, pod, &node::allocatable(dir));
        let payload = payload.map_err(|error| VolumeError::Payload { volume: volume.name.clone(), error })?;
        let failed = || io_error(&volume.name, "write the files of", path);
        let Written::Changed { before: _, now } = writer::write(dir, &payload, own).map_err(failed())? else {
            return Ok(false);
        };
        let generations = self.generations.entry(volume.name.clone()).or_default();
        let old = std::mem::replace(generations, vec![Arc::new(now)]);
        for generation in old {
            match Arc::strong_count(&generation) {
                1 => writer::discard(dir, &generation).map_err(failed())?,
                _ => generations.insert(0, generation),
            }
        }
        Ok(true)
    }

    /// What keeps the files of `volume` that are there now, if it is such a volume.
    pub(super) fn generation(&self, volume: &str) -> Option<Generation> {
        self.generations.get(volume)?.last().cloned()
    }
}

/// Gives the files of a new generation their owner: the pod process's own, which made them.
fn own(_generation: &Dir) -> io::Result<()> {
    Ok(())
}
