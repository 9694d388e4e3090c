//! Making a pod's volumes.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;

use super::host_path::{Found, check_or_create};
use super::ownership::{self, Access};
use super::{VolumeError, projected};
use crate::spec::{Container, FsGroup, Pod, Volume, VolumeSource};
use crate::sys::mount;

/// Permissions of an emptyDir, as the kubelet gives (`perm` in `pkg/volume/emptydir/empty_dir.go`): every
/// container may write, whatever its user. The pod's own directory keeps others out.
const EMPTY_DIR_MODE: u32 = 0o777;

/// Where a pod's emptyDirs are below its state directory, as the kubelet has them.
const EMPTY_DIRS: &str = "volumes/kubernetes.io~empty-dir";

/// The directories that the supervisor has found or made for claims and images, by volume.
pub type Bound = BTreeMap<String, PathBuf>;

/// The volumes of one pod.
#[derive(Debug)]
pub struct Volumes {
    pub(super) by_name: BTreeMap<String, Prepared>,
    /// What containers see at `/etc` that mount nothing there.
    pub(super) etc: Option<Dir>,
    fs_group: Option<FsGroup>,
}

/// How far a volume is.
#[derive(Debug)]
pub(super) enum Prepared {
    /// A directory that containers can be given.
    Open {
        path: PathBuf,
        dir: Dir,
        /// Whatever the mount says.
        read_only: bool,
    },
    /// A directory that is still to be covered by a tmpfs of this size in bytes.
    Memory {
        path: PathBuf,
        size: Option<u64>,
    },
    File {
        path: PathBuf,
    },
}

impl Volumes {
    /// Makes the emptyDirs of `pod` below `pod_dir`, its state directory, and checks or makes its hostPaths; `bound`
    /// are the directories of claims and images.
    ///
    /// Mounts that cannot work are found here, before any container starts. What was made below
    /// `pod_dir` is left to its owner to remove, also after an error.
    pub fn prepare(pod: &Pod, pod_dir: &Path, bound: &Bound) -> Result<Self, VolumeError> {
        let prepared = |volume: &Volume| Ok((volume.name.clone(), prepare(volume, pod, pod_dir, bound)?));
        let by_name = pod.volumes.iter().map(prepared).collect::<Result<_, _>>()?;
        let volumes = Self { by_name, etc: None, fs_group: pod.fs_group };
        pod.all_containers().try_for_each(|container| volumes.refuse_file_mounts(container))?;
        Ok(volumes)
    }

    /// Mounts the tmpfs of every emptyDir with `medium: Memory`. To be called once, in the pod's own mount
    /// namespace, with its mounts private: the tmpfs goes with the namespace.
    pub fn mount_memory(&mut self) -> Result<(), VolumeError> {
        for (name, prepared) in &mut self.by_name {
            if let Prepared::Memory { path, size } = prepared {
                // As in Kubernetes, a limit of 0 is none.
                let size = size.filter(|size| *size > 0);
                mount::volume_tmpfs(path, size, EMPTY_DIR_MODE).map_err(io_error(
                    name,
                    "mount a tmpfs on",
                    path,
                ))?;
                give(name, path, self.fs_group.map(always), Access::ReadWrite)?;
                *prepared = open(name, path, false)?;
            }
        }
        Ok(())
    }

    /// Gives a directory to every container that has nothing of its own there, to read, as `/etc`.
    pub fn offer_etc(&mut self, directory: Dir) {
        self.etc = Some(directory);
    }

    /// The directory of a volume that is open.
    pub fn directory(&self, volume: &str) -> Option<&Dir> {
        match self.by_name.get(volume)? {
            Prepared::Open { dir, .. } => Some(dir),
            Prepared::Memory { .. } | Prepared::File { .. } => None,
        }
    }

    fn refuse_file_mounts(&self, container: &Container) -> Result<(), VolumeError> {
        for mount in &container.mounts {
            if let Some(Prepared::File { path }) = self.by_name.get(&mount.volume) {
                return Err(VolumeError::FileMount {
                    container: container.name.clone(),
                    volume: mount.volume.clone(),
                    mount_path: mount.path.clone(),
                    path: path.clone(),
                });
            }
        }
        Ok(())
    }
}

fn prepare(volume: &Volume, pod: &Pod, pod_dir: &Path, bound: &Bound) -> Result<Prepared, VolumeError> {
    let name = &volume.name;
    match &volume.source {
        VolumeSource::EmptyDir { memory, size_limit } => {
            let path = pod_dir.join(EMPTY_DIRS).join(name);
            fs::create_dir_all(&path).map_err(io_error(name, "create directory", &path))?;
            fs::set_permissions(&path, Permissions::from_mode(EMPTY_DIR_MODE)).map_err(io_error(
                name,
                "set the permissions of",
                &path,
            ))?;
            match memory {
                true => Ok(Prepared::Memory { path, size: *size_limit }),
                false => {
                    give(name, &path, pod.fs_group.map(always), Access::ReadWrite)?;
                    open(name, &path, false)
                }
            }
        }
        VolumeSource::HostPath { path, kind } => match check_or_create(name, path, *kind)? {
            Found::Directory => open(name, path, false),
            Found::File => Ok(Prepared::File { path: path.clone() }),
        },
        VolumeSource::Projected { .. } => {
            let prepared = projected::prepare(volume, pod, pod_dir)?;
            if let Prepared::Open { path, .. } = &prepared {
                give(name, path, pod.fs_group.map(always), Access::ReadOnly)?;
            }
            Ok(prepared)
        }
        VolumeSource::Claim { read_only, .. } => {
            let path = bound_to(name, bound)?;
            if !read_only && is_own(path, pod) {
                give(name, path, pod.fs_group, Access::ReadWrite)?;
            }
            open(name, path, *read_only)
        }
        VolumeSource::Image { .. } => open(name, bound_to(name, bound)?, true),
    }
}

/// A volume to which `fsGroupChangePolicy` does not apply: the kubelet passes it on for claims only.
fn always(group: FsGroup) -> FsGroup {
    FsGroup { on_root_mismatch: false, ..group }
}

/// Whether a claim's directory is peapod's: one that the manifest's PersistentVolumes name is the host's, and its
/// owners are the host's matter, as with hostPath (`Managed` in `pkg/volume/hostpath/host_path.go`).
fn is_own(path: &Path, pod: &Pod) -> bool {
    pod.storage.volumes.values().all(|volume| volume.path != path)
}

fn give(volume: &str, path: &Path, group: Option<FsGroup>, access: Access) -> Result<(), VolumeError> {
    let Some(group) = group else { return Ok(()) };
    ownership::give(path, group, access).map_err(io_error(volume, "give to fsGroup", path))
}

fn bound_to<'b>(volume: &str, bound: &'b Bound) -> Result<&'b Path, VolumeError> {
    let missing = || VolumeError::Unbound { volume: volume.to_owned() };
    bound.get(volume).map(PathBuf::as_path).ok_or_else(missing)
}

pub(super) fn open(volume: &str, path: &Path, read_only: bool) -> Result<Prepared, VolumeError> {
    let dir = Dir::open_ambient_dir(path, ambient_authority()).map_err(io_error(volume, "open", path))?;
    Ok(Prepared::Open { path: path.to_owned(), dir, read_only })
}

fn io_error(volume: &str, operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> VolumeError {
    move |source| VolumeError::Io { volume: volume.to_owned(), operation, path: path.to_owned(), source }
}
