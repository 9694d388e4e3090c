//! Removes a directory tree that hostile programs wrote to: never through a symbolic link, never into another
//! mount, however deep it is nested and however many entries it has.

use std::collections::HashSet;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use thiserror::Error;

/// Directories below directories that are descended into with one open descriptor each; what is deeper is
/// moved to the top first.
const DEPTH_MAX: usize = 64;
/// Entries of a directory held in memory at once.
const ENTRIES_MAX: usize = 1024;

/// An entry that stays.
#[derive(Debug, Error)]
#[error("cannot remove {}: {source}", path.display())]
pub struct TreeError {
    path: PathBuf,
    source: io::Error,
}

/// Removes `path` and everything below it. Absent already is success. A mount point, and what is above it,
/// stays and is an error.
pub fn remove(path: &Path) -> Vec<TreeError> {
    let mut walk = Walk { moved: 0, errors: Vec::new() };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        walk.error(path, Errno::EINVAL);
        return walk.errors;
    };
    match nix::fcntl::open(parent, OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()) {
        Ok(parent) => walk.remove_directory(&parent, name, path, None),
        Err(Errno::ENOENT) => {}
        Err(errno) => walk.error(parent, errno),
    }
    walk.errors
}

struct Walk {
    /// Directories moved to the top so far: names them.
    moved: usize,
    errors: Vec<TreeError>,
}

/// Where a directory is in the tree.
#[derive(Clone, Copy)]
struct Place<'a> {
    top: &'a OwnedFd,
    depth: usize,
}

impl Walk {
    fn error(&mut self, path: &Path, errno: Errno) {
        self.errors.push(TreeError { path: path.into(), source: errno.into() });
    }

    /// Empties directory `name` of `parent` and removes it. `None`: it is the top itself.
    fn remove_directory(&mut self, parent: &OwnedFd, name: &OsStr, path: &Path, place: Option<Place<'_>>) {
        let directory = match open_below(parent, name) {
            Ok(directory) => directory,
            Err(Errno::ENOENT) => return,
            Err(errno) => return self.error(path, errno),
        };
        let errors = self.errors.len();
        let place = place.unwrap_or(Place { top: &directory, depth: 0 });
        self.empty(&directory, path, place);
        match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            // Why it is not empty has been said.
            Err(Errno::ENOTEMPTY) if self.errors.len() > errors => {}
            Err(errno) => self.error(path, errno),
        }
    }

    fn empty(&mut self, directory: &OwnedFd, path: &Path, place: Place<'_>) {
        let mut stays = HashSet::new();
        loop {
            let names = match entries(directory, &stays) {
                Ok(names) => names,
                Err(errno) => return self.error(path, errno),
            };
            if names.is_empty() || stays.len() >= ENTRIES_MAX {
                return;
            }
            for name in names {
                let below = path.join(OsStr::from_bytes(name.to_bytes()));
                let errors = self.errors.len();
                self.remove_entry(directory, &name, &below, place);
                if self.errors.len() > errors || is_there(directory, &name) {
                    stays.insert(name);
                }
            }
        }
    }

    fn remove_entry(&mut self, directory: &OwnedFd, name: &CStr, path: &Path, place: Place<'_>) {
        match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => return,
            // Linux says EISDIR, POSIX EPERM.
            Err(Errno::EISDIR | Errno::EPERM) => {}
            Err(errno) => return self.error(path, errno),
        }
        if place.depth >= DEPTH_MAX {
            self.moved += 1;
            let fresh = format!(".peapod-removed-{}", self.moved);
            if let Err(errno) = renameat(directory, name, place.top, fresh.as_str()) {
                self.error(path, errno);
            }
            return;
        }
        let place = Place { depth: place.depth + 1, ..place };
        self.remove_directory(directory, OsStr::from_bytes(name.to_bytes()), path, Some(place));
    }
}

/// Opens directory `name` of `parent`, on the same mount, whatever its mode.
fn open_below(parent: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new().flags(OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).resolve(
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV,
    );
    match openat2(parent, name, how) {
        // Without root, a directory of mode 0 is closed to its own owner.
        Err(Errno::EACCES) => {
            fchmodat(parent, name, Mode::S_IRWXU, FchmodatFlags::NoFollowSymlink)?;
            openat2(parent, name, how)
        }
        result => result,
    }
}

/// Some names in `directory` other than those in `without`.
fn entries(directory: &OwnedFd, without: &HashSet<CString>) -> Result<Vec<CString>, Errno> {
    let mut stream =
        Dir::openat(directory.as_fd(), c".", OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let names = stream.iter().map(|entry| entry.map(|entry| entry.file_name().to_owned()));
    names
        .filter(|name| {
            !name.as_ref().is_ok_and(|name| matches!(name.to_bytes(), b"." | b"..") || without.contains(name))
        })
        .take(ENTRIES_MAX)
        .collect()
}

fn is_there(directory: &OwnedFd, name: &CStr) -> bool {
    nix::sys::stat::fstatat(directory, name, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_removed_and_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let outside = directory.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("precious"), "x").unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        symlink(&outside, tree.join("a/link")).unwrap();
        fs::write(tree.join("a/b/file"), "x").unwrap();
        assert!(remove(&tree).is_empty());
        assert!(!tree.exists());
        assert!(outside.join("precious").exists());

        let link = directory.path().join("top-link");
        symlink(&outside, &link).unwrap();
        assert_eq!(remove(&link).len(), 1);
        assert!(outside.join("precious").exists());
    }

    #[test]
    fn absent_trees_are_removed_already() {
        assert!(remove(Path::new("/nonexistent/a/b")).is_empty());
        assert_eq!(remove(Path::new("/")).len(), 1);
    }

    #[test]
    fn deeper_than_descriptors_and_paths_go() {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let mut at = nix::fcntl::open(&tree, OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        for depth in 0..3000 {
            nix::sys::stat::mkdirat(&at, "d", Mode::S_IRWXU).unwrap();
            if depth % 100 == 0 {
                drop(
                    nix::fcntl::openat(&at, "file", OFlag::O_CREAT | OFlag::O_WRONLY, Mode::S_IRUSR).unwrap(),
                );
            }
            at = nix::fcntl::openat(&at, "d", OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        }
        let errors = remove(&tree);
        assert!(errors.is_empty(), "{errors:?}");
        assert!(!tree.exists());
    }

    #[test]
    fn more_entries_than_are_held_at_once_go() {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir(&tree).unwrap();
        for index in 0..ENTRIES_MAX * 2 + 1 {
            fs::write(tree.join(index.to_string()), "").unwrap();
        }
        assert!(remove(&tree).is_empty());
        assert!(!tree.exists());
    }
}
