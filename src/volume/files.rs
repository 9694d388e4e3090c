//! Mounts of single files: `hostPath` of a file, `subPath` of one.
//!
//! ```text
//!  a file mount ─┬─ in no other mount ────► the container's tree: a tmpfs, with the file's directory ─► preopen of that
//!                └─ below a mounted directory ─► the container's view of the directory: a bind mount ─► its preopen
//!                                                   in both: a mount point, and the file bound over it
//! ```
//!
//! A component can be given directories only, so it gets the directory that the file lies in. Both kinds are of one
//! container, in the pod's own mount namespace, and made anew for each of its runs: a file that was replaced
//! meanwhile is seen by the next run, as in Kubernetes, and nobody else's directory is touched, except that a view
//! makes a mount point that is missing in the volume: an empty file, as container runtimes do.
//!
//! Whether a file or a directory can be written to is up to its bind mount, because WASI's permissions are those of a
//! whole preopen. The directories of the tree can never be: they are no volume. It holds `hosts`, `resolv.conf` and
//! `hostname` too where it takes the place of the pod's `/etc`, and the termination message file where it takes that
//! of its directory. A mount point is in use: it cannot be renamed or removed (EBUSY).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use nix::sys::stat::{SFlag, fstat, major, minor};

use super::preopen::Preopen;
use super::{ETC, VolumeError};
use crate::spec::{Container, Mount};
use crate::sys::mount::{self, Restriction};

/// Bytes on the tmpfs of a container's tree: for its termination message, one page of the largest kind; all else is
/// mount points.
const TREE_BYTES: u64 = 64 * 1024;

/// Memory devices that every container may open: null, zero, full, random, urandom (the default devices of the OCI
/// runtime specification, config-linux.md).
const COMMON_DEVICES: [u64; 5] = [3, 5, 7, 8, 9];

/// The major number of those (devices.txt of the kernel).
const MEMORY_MAJOR: u64 = 1;

/// A mount of a container that is no directory.
pub(super) struct FileMount<'m> {
    pub(super) mount: &'m Mount,
    /// Opened as a place only (`O_PATH`).
    pub(super) file: OwnedFd,
    /// Where it is, for messages.
    pub(super) path: PathBuf,
    pub(super) read_only: bool,
}

impl FileMount<'_> {
    fn guest_path(&self) -> &Path {
        Path::new(&self.mount.path)
    }

    fn refused(&self, container: &Container, reason: String) -> VolumeError {
        VolumeError::FileMount {
            container: container.name.clone(),
            volume: self.mount.volume.clone(),
            mount_path: self.mount.path.clone(),
            path: self.path.clone(),
            reason,
        }
    }
}

/// The directory that one container's trees and views are in, and what is put there for it.
pub(super) struct Place<'a> {
    pub(super) container: &'a Container,
    /// Of this container alone.
    pub(super) root: PathBuf,
    /// The pod's own `/etc`.
    pub(super) etc: Option<&'a Dir>,
}

impl Place<'_> {
    /// Puts `files` where their mounts say: in views of `directories`, which take their places there, and in directories
    /// that are added.
    pub(super) fn put(
        &self,
        files: &[FileMount<'_>],
        directories: &mut Vec<Preopen>,
    ) -> Result<(), VolumeError> {
        let Some(first) = files.first() else { return Ok(()) };
        self.fresh(files).map_err(|error| first.refused(self.container, advised(&error)))?;
        let mut below: BTreeMap<Option<usize>, Vec<&FileMount<'_>>> = BTreeMap::new();
        for file in files {
            below.entry(directory_of(file.guest_path(), directories)).or_default().push(file);
        }
        for (directory, files) in below {
            match directory {
                Some(index) => self.view(index, &mut directories[index], &files)?,
                None => self.tree(&files, directories)?,
            }
        }
        mount::restrict(&self.root, Restriction::ReadOnly)
            .map_err(|error| first.refused(self.container, advised(&error)))
    }

    /// An empty tmpfs in the place of that of the run before.
    fn fresh(&self, files: &[FileMount<'_>]) -> io::Result<()> {
        std::fs::create_dir_all(&self.root)?;
        mount::detach(&self.root)?;
        let parts = |file: &FileMount<'_>| file.guest_path().components().count() as u64;
        // A tree and its root, a view and its files, what the pod and peapod add.
        let inodes = 16 + files.iter().map(|file| 2 + parts(file)).sum::<u64>();
        mount::small_tmpfs(&self.root, TREE_BYTES, inodes)
    }

    /// A bind mount of `directory` with `files` in it.
    fn view(
        &self,
        index: usize,
        directory: &mut Preopen,
        files: &[&FileMount<'_>],
    ) -> Result<(), VolumeError> {
        let at = self.root.join(index.to_string());
        let seen = || {
            std::fs::create_dir(&at)?;
            mount::bind_tree(&directory.host_path(), &at)?;
            Dir::open_ambient_dir(&at, ambient_authority())
        };
        let dir = seen().map_err(|error| files[0].refused(self.container, advised(&error)))?;
        let mut places = Vec::new();
        for file in files {
            let relative = file.guest_path().strip_prefix(&directory.guest_path).unwrap_or(file.guest_path());
            let place = mount_point(&dir, relative, directory.read_only)
                .map_err(|reason| file.refused(self.container, reason))?;
            places.push((*file, place));
        }
        if directory.read_only {
            mount::restrict(&at, Restriction::ReadOnlyTree)
                .map_err(|error| files[0].refused(self.container, advised(&error)))?;
        }
        self.bind(&places, &dir, Path::new(&directory.guest_path))?;
        directory.read_only &= files.iter().all(|file| file.read_only);
        directory.set_dir(dir);
        Ok(())
    }

    /// The directories of `files` that lie in no mount.
    fn tree(&self, files: &[&FileMount<'_>], directories: &mut Vec<Preopen>) -> Result<(), VolumeError> {
        let at = self.root.join("root");
        let made = || {
            std::fs::create_dir(&at)?;
            Dir::open_ambient_dir(&at, ambient_authority())
        };
        let dir = made().map_err(|error| files[0].refused(self.container, advised(&error)))?;
        let (mut places, mut parents) = (Vec::new(), BTreeSet::new());
        for file in files {
            let refused = |reason| file.refused(self.container, reason);
            let path = file.guest_path();
            let (Some(parent), Ok(relative)) = (path.parent(), path.strip_prefix("/")) else {
                return Err(refused("a file cannot be everything that there is: give it a name".to_owned()));
            };
            places.push((*file, mount_point(&dir, relative, false).map_err(refused)?));
            parents.insert(parent);
        }
        self.bind(&places, &dir, Path::new("/"))?;
        let added = || {
            if parents.contains(Path::new(ETC)) {
                self.add_etc(&dir)?;
            }
            let message = self.add_message(&dir, &parents)?;
            let open = |parent: &&Path| {
                let relative = parent.strip_prefix("/").unwrap_or(parent);
                let own =
                    if relative.as_os_str().is_empty() { dir.try_clone() } else { dir.open_dir(relative) };
                let mut preopen = Preopen::new(parent.to_string_lossy().into_owned(), own?);
                preopen.read_only = message != Some(*parent)
                    && files.iter().all(|file| file.read_only || !file.guest_path().starts_with(parent));
                preopen.is_tree = true;
                Ok(preopen)
            };
            parents.iter().map(open).collect::<io::Result<Vec<_>>>()
        };
        let added: io::Result<Vec<Preopen>> = added();
        directories.extend(added.map_err(|error| files[0].refused(self.container, advised(&error)))?);
        Ok(())
    }

    /// Binds every file over its mount point, which was found beneath `dir`: `base` for the guest.
    fn bind(&self, places: &[(&FileMount<'_>, File)], dir: &Dir, base: &Path) -> Result<(), VolumeError> {
        for (file, place) in places {
            let bound = || {
                mount::bind(&of_fd(file.file.as_fd()), &of_fd(place.as_fd()))?;
                // The place is below the new mount now; looked up again, it is the mount.
                let relative = file.guest_path().strip_prefix(base).unwrap_or(file.guest_path());
                let on_top = place_of(dir, relative)?;
                if file.read_only {
                    mount::restrict(&of_fd(on_top.as_fd()), Restriction::ReadOnly)?;
                }
                if is_special_device(file.file.as_fd())? {
                    mount::restrict(&of_fd(on_top.as_fd()), Restriction::NoDevices)?;
                }
                Ok(())
            };
            bound().map_err(|error: io::Error| file.refused(self.container, advised(&error)))?;
        }
        Ok(())
    }

    /// The files of the pod's `/etc` where no mount has their place.
    fn add_etc(&self, tree: &Dir) -> io::Result<()> {
        let Some(etc) = self.etc else { return Ok(()) };
        let own = tree.open_dir("etc")?;
        for entry in etc.entries()? {
            let name = entry?.file_name();
            if own.symlink_metadata(&name).is_ok() {
                continue;
            }
            own.create(&name)?;
            let (file, place) = (place_of(etc, Path::new(&name))?, place_of(&own, Path::new(&name))?);
            mount::bind(&of_fd(file.as_fd()), &of_fd(place.as_fd()))?;
            let on_top = place_of(&own, Path::new(&name))?;
            mount::restrict(&of_fd(on_top.as_fd()), Restriction::ReadOnly)?;
        }
        Ok(())
    }

    /// An empty file for the last words, where its directory is one of these; that directory. A mount of its own
    /// leaves it writable in a tree that is not.
    fn add_message<'p>(&self, tree: &Dir, parents: &BTreeSet<&'p Path>) -> io::Result<Option<&'p Path>> {
        let path = Path::new(&self.container.termination_message.path);
        let Some(parent) = path.parent().and_then(|parent| parents.get(parent)) else { return Ok(None) };
        let Ok(relative) = path.strip_prefix("/") else { return Ok(None) };
        if path.file_name().is_none() || tree.symlink_metadata(relative).is_ok() {
            return Ok(None);
        }
        tree.create(relative)?;
        let place = place_of(tree, relative)?;
        mount::bind(&of_fd(place.as_fd()), &of_fd(place.as_fd()))?;
        Ok(Some(parent))
    }
}

/// Which of `directories` a path of the guest lies in: the innermost.
fn directory_of(path: &Path, directories: &[Preopen]) -> Option<usize> {
    let around = directories.iter().enumerate().filter(|(_, preopen)| {
        !preopen.is_tree && path != Path::new(&preopen.guest_path) && path.starts_with(&preopen.guest_path)
    });
    around.max_by_key(|(_, preopen)| preopen.guest_path.len()).map(|(index, _)| index)
}

/// A file beneath `dir` to bind another over; made, with its directories, when it is missing and may be.
fn mount_point(dir: &Dir, path: &Path, read_only: bool) -> Result<File, String> {
    let found = match place_of(dir, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && read_only => {
            return Err(
                "it lies in a mount that is read-only and has no file of that name: add an empty one to \
                 that volume, or mount the file elsewhere"
                    .to_owned(),
            );
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = path.parent().map_or(Ok(()), |parent| dir.create_dir_all(parent));
            made.and_then(|()| dir.create(path)).and_then(|_| place_of(dir, path))
        }
        found => found,
    };
    let found = found.map_err(|error| advised(&error))?;
    match found.metadata() {
        Ok(metadata) if metadata.is_dir() => Err("a directory is there already".to_owned()),
        Ok(_) => Ok(found),
        Err(error) => Err(error.to_string()),
    }
}

/// What is at `path` beneath `dir`, as a place only: opening it neither waits nor needs permission.
pub(super) fn place_of(dir: &Dir, path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_PATH);
    dir.open_with(path, &options).map(cap_std::fs::File::into_std)
}

/// A path to an open place, whatever has been renamed or linked since (proc_pid_fd(5)).
fn of_fd(fd: BorrowedFd<'_>) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

/// Whether it is a device that a container may see but not open, as none may in Kubernetes that is not privileged.
fn is_special_device(file: BorrowedFd<'_>) -> io::Result<bool> {
    let stat = fstat(file)?;
    let is_common = || major(stat.st_rdev) == MEMORY_MAJOR && COMMON_DEVICES.contains(&minor(stat.st_rdev));
    Ok(match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFBLK => true,
        SFlag::S_IFCHR => !is_common(),
        _ => false,
    })
}

/// The system's answer, and what to do.
fn advised(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => format!(
            "{error}: a file takes a bind mount, which is not allowed here: mount the directory that holds it"
        ),
        Some(libc::ENOTDIR | libc::EEXIST) => format!("{error}: another file is in the way"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
