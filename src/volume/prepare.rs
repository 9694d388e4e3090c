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
use super::projected::Generations;
use super::{VolumeError, VolumeErrors, projected};
use crate::sandbox::cgroup::memory_limit;
use crate::spec::environment::Allocatable;
use crate::spec::{FsGroup, Pod, Volume, VolumeSource};
use crate::sys::mount;

/// Permissions of an emptyDir, as the kubelet gives (`perm` in `pkg/volume/emptydir/empty_dir.go`): every
/// container may write, whatever its user. The pod's own directory keeps others out.
pub(super) const EMPTY_DIR_MODE: u32 = 0o777;

/// Where a pod's emptyDirs are below its state directory, as the kubelet has them.
const EMPTY_DIRS: &str = "volumes/kubernetes.io~empty-dir";

/// Where mounts of single files are put in place below a pod's state directory.
const FILES: &str = "files";

/// Where the directories of artifacts are below it, which the kubelet has none of: container runtimes mount them.
const IMAGES: &str = "volumes/peapod~image";

/// The directories that the supervisor has found or made for claims and images, by volume.
pub type Bound = BTreeMap<String, BoundDirectory>;

/// What the supervisor has found or made for a claim or an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundDirectory {
    /// A directory, or an artifact's file.
    pub path: PathBuf,
    /// Whether its owners are the host's matter, whatever `fsGroup` says: of PersistentVolumes with `hostPath`
    /// (`SupportsMount` and `Managed` in `pkg/volume/hostpath/host_path.go`), not of those with `local`
    /// (`pkg/volume/local/local.go`).
    pub is_the_hosts: bool,
}

/// The volumes of one pod.
#[derive(Debug)]
pub struct Volumes {
    pub(super) by_name: BTreeMap<String, Prepared>,
    /// What containers see at `/etc` that mount nothing there.
    pub(super) etc: Option<Dir>,
    pub(super) generations: Generations,
    /// What the node has for pods.
    pub(super) node: Allocatable,
    /// Where mounts of single files are put in place, a directory for each container.
    pub(super) files: PathBuf,
    fs_group: Option<FsGroup>,
}

/// How far a volume is.
#[derive(Debug)]
pub(super) enum Prepared {
    /// A directory that containers can be given.
    Open { path: PathBuf, dir: Dir, writers: Writers },
    /// A directory that is still to be covered by a tmpfs of this size in bytes.
    Memory { path: PathBuf, size: Option<u64>, writers: Writers },
    /// A file of the host, or a socket or device. Looked up again for each run, as container runtimes do: such a
    /// file is replaced more often than it is written to.
    File { path: PathBuf },
}

/// Who writes to a volume, whatever its mounts say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writers {
    /// Its containers.
    Containers,
    /// Peapod alone, which makes its files. A `subPath` that is missing is made too: the kubelet's `SafeMakeDir` does
    /// not ask what kind of volume it is in.
    Peapod,
    /// Nobody: it is mounted read-only, and for the kubelet too.
    Nobody,
}

impl Volumes {
    /// Makes the emptyDirs of `pod`, and the directories that [`Self::refresh`] fills, below `pod_dir`, its state
    /// directory, and checks or makes its hostPaths; `bound`
    /// are the directories of claims and images.
    ///
    /// What was made below `pod_dir` is left to its owner to remove, also after an error.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn prepare(pod: &Pod, pod_dir: &Path, bound: &Bound) -> Result<Self, VolumeErrors> {
        let (volumes, errors) = Self::prepare_all(pod, pod_dir, bound);
        VolumeErrors::none_of(errors).map(|()| volumes)
    }

    /// [Prepares](Self::prepare) the volumes, mounts those in memory and
    /// [fills](Self::refresh) them, which resources of `node` without a limit may be in.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn set_up(pod: &Pod, pod_dir: &Path, bound: &Bound, node: Allocatable) -> Result<Self, VolumeErrors> {
        let (volumes, mut errors) = Self::prepare_all(pod, pod_dir, bound);
        let mut volumes = Self { node, ..volumes };
        errors.extend(volumes.mount_memory());
        match volumes.refresh(pod) {
            Ok(refresh) => errors.extend(refresh.run(pod).1),
            Err(error) => errors.push(error),
        }
        VolumeErrors::none_of(errors).map(|()| volumes)
    }

    /// Those that can be had, and what is wrong with the others.
    fn prepare_all(pod: &Pod, pod_dir: &Path, bound: &Bound) -> (Self, Vec<VolumeError>) {
        let (mut by_name, mut errors) = (BTreeMap::new(), Vec::new());
        for volume in &pod.volumes {
            match prepare(volume, pod, pod_dir, bound) {
                Ok(prepared) => drop(by_name.insert(volume.name.clone(), prepared)),
                Err(error) => errors.push(error),
            }
        }
        let volumes = Self {
            by_name,
            etc: None,
            generations: Generations::default(),
            node: Allocatable::default(),
            files: pod_dir.join(FILES),
            fs_group: pod.fs_group,
        };
        (volumes, errors)
    }

    /// Mounts the tmpfs of every emptyDir with `medium: Memory`, and of every secret, downward API and projected
    /// volume. To be called once, in the pod's own mount
    /// namespace, with its mounts private: the tmpfs goes with the namespace. Returns what went wrong.
    pub(super) fn mount_memory(&mut self) -> Vec<VolumeError> {
        let group = self.fs_group.map(always);
        let mount = |(name, prepared): (&String, &mut Prepared)| {
            let Prepared::Memory { path, size, writers } = prepared else { return None };
            let mounted = mount_memory(name, path, *size, *writers, group);
            mounted.map(|open| *prepared = open).err()
        };
        self.by_name.iter_mut().filter_map(mount).collect()
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
                true => {
                    let size = memory_size(*size_limit, memory_limit(pod));
                    Ok(Prepared::Memory { path, size, writers: Writers::Containers })
                }
                false => {
                    give(name, &path, pod.fs_group.map(always), Access::ReadWrite)?;
                    open(name, &path, Writers::Containers)
                }
            }
        }
        VolumeSource::HostPath { path, kind } => match check_or_create(name, path, *kind)? {
            Found::Directory => open(name, path, Writers::Containers),
            Found::File => Ok(Prepared::File { path: path.clone() }),
        },
        VolumeSource::Projected { plugin, .. } => projected::prepare(volume, *plugin, pod_dir),
        VolumeSource::Claim { read_only, .. } => {
            let BoundDirectory { path, is_the_hosts } = bound_to(name, bound)?;
            if !read_only && !is_the_hosts {
                give(name, path, pod.fs_group, Access::ReadWrite)?;
            }
            open(name, path, if *read_only { Writers::Nobody } else { Writers::Containers })
        }
        VolumeSource::Ephemeral { .. } => {
            let BoundDirectory { path, .. } = bound_to(name, bound)?;
            give(name, path, pod.fs_group, Access::ReadWrite)?;
            open(name, path, Writers::Containers)
        }
        VolumeSource::Image { .. } => image(name, &bound_to(name, bound)?.path, pod_dir),
    }
}

fn mount_memory(
    volume: &str,
    path: &Path,
    size: Option<u64>,
    writers: Writers,
    group: Option<FsGroup>,
) -> Result<Prepared, VolumeError> {
    let mounted = mount::volume_tmpfs(path, size, EMPTY_DIR_MODE);
    mounted.map_err(io_error(volume, "mount a tmpfs on", path))?;
    if writers == Writers::Containers {
        give(volume, path, group, Access::ReadWrite)?;
    }
    open(volume, path, writers)
}

/// The size of a tmpfs: `sizeLimit`, and no more than the pod's memory (`calculateEmptyDirMemorySize` in
/// `pkg/volume/emptydir/empty_dir.go`). As there, 0 is no limit.
fn memory_size(size_limit: Option<u64>, memory_limit: Option<u64>) -> Option<u64> {
    [size_limit, memory_limit].into_iter().flatten().filter(|bytes| *bytes > 0).min()
}

/// An image's directory, which is kept in the cache as long as this is open; of an artifact, a directory that has its
/// file alone. That is a bind mount: to be called in the pod's own mount namespace.
fn image(name: &str, bound: &Path, pod_dir: &Path) -> Result<Prepared, VolumeError> {
    let path = match bound.file_name() {
        Some(file) if bound.is_file() => {
            let path = pod_dir.join(IMAGES).join(name);
            let place = path.join(file);
            fs::create_dir_all(&path).map_err(io_error(name, "create directory", &path))?;
            fs::File::create(&place).map_err(io_error(name, "create file", &place))?;
            mount::bind(bound, &place).map_err(io_error(name, "mount the artifact on", &place))?;
            path
        }
        _ => bound.to_owned(),
    };
    let prepared = open(name, &path, Writers::Nobody)?;
    if let Prepared::Open { dir, .. } = &prepared {
        // Whoever clears the cache looks for it. Somebody else's lock is theirs, and no reason to wait.
        let file = dir.try_clone().map_err(io_error(name, "open", &path))?.into_std_file();
        let _ = file.try_lock_shared();
    }
    Ok(prepared)
}

/// A volume to which `fsGroupChangePolicy` does not apply: the kubelet passes it on for claims only.
pub(super) fn always(group: FsGroup) -> FsGroup {
    FsGroup { on_root_mismatch: false, ..group }
}

fn give(volume: &str, path: &Path, group: Option<FsGroup>, access: Access) -> Result<(), VolumeError> {
    let Some(group) = group else { return Ok(()) };
    ownership::give(path, group, access).map_err(io_error(volume, "give to fsGroup", path))
}

fn bound_to<'b>(volume: &str, bound: &'b Bound) -> Result<&'b BoundDirectory, VolumeError> {
    let missing = || VolumeError::Unbound { volume: volume.to_owned() };
    bound.get(volume).ok_or_else(missing)
}

pub(super) fn open(volume: &str, path: &Path, writers: Writers) -> Result<Prepared, VolumeError> {
    let dir = Dir::open_ambient_dir(path, ambient_authority()).map_err(io_error(volume, "open", path))?;
    Ok(Prepared::Open { path: path.to_owned(), dir, writers })
}

pub(super) fn io_error(
    volume: &str,
    operation: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> VolumeError {
    move |source| VolumeError::Io { volume: volume.to_owned(), operation, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tmpfs_is_no_larger_than_the_pods_memory() {
        for (size_limit, memory_limit, expected) in [
            (None, None, None),
            (Some(0), None, None),
            (Some(10), None, Some(10)),
            (Some(10), Some(5), Some(5)),
            (Some(5), Some(10), Some(5)),
            (None, Some(10), Some(10)),
            (Some(0), Some(10), Some(10)),
            (Some(10), Some(0), Some(10)),
        ] {
            assert_eq!(memory_size(size_limit, memory_limit), expected);
        }
    }
}
