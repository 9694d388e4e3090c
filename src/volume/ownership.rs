//! `fsGroup`: the group that a pod's volumes belong to.
//!
//! ```text
//! volume's directory, FsGroup ─► right already? (OnRootMismatch) ─► the directory and all below: group, mode
//! ```
//!
//! As `SetVolumeOwnership` in `pkg/volume/volume_linux.go`: everything belongs to the group, the group may read and
//! write (only read, in a volume that nobody writes to), and directories have the set-group-ID bit, so that what is
//! made in them belongs to the group as well. A link is changed itself, never what it leads to.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, DirEntry, MetadataExt};
use nix::fcntl::AtFlags;
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use nix::unistd::{Gid, fchownat};

use crate::spec::FsGroup;
use crate::sys::user::has_group;

/// What the group may do with files.
const READ_WRITE: u32 = 0o660;
/// [`READ_WRITE`] of volumes that nobody writes to.
const READ_ONLY: u32 = 0o440;
/// What it may do with directories besides.
const SEARCH: u32 = 0o110;
/// The set-group-ID bit, inode(7).
const SET_GID: u32 = 0o2000;

/// How a volume is to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    ReadWrite,
    ReadOnly,
}

impl Access {
    fn of_file(self) -> u32 {
        match self {
            Self::ReadWrite => READ_WRITE,
            Self::ReadOnly => READ_ONLY,
        }
    }

    fn of_directory(self) -> u32 {
        self.of_file() | SEARCH | SET_GID
    }
}

/// Gives a directory and all below it to a group. Where the user namespace has no such group, as without root, nothing
/// changes.
///
/// # Errors
/// The file system's.
pub(super) fn give(directory: &Path, group: FsGroup, access: Access) -> io::Result<()> {
    if !has_group(group.gid)? {
        return Ok(());
    }
    let root = Dir::open_ambient_dir(directory, ambient_authority())?;
    let metadata = root.dir_metadata()?;
    let needed = access.of_directory();
    if group.on_root_mismatch && metadata.gid() == group.gid && metadata.mode() & needed == needed {
        return Ok(());
    }
    let gid = Gid::from_raw(group.gid);
    change(&root, Path::new("."), metadata.mode(), gid, access.of_directory())?;
    // By their paths, so that however deep it goes one directory is open at a time.
    let mut left = vec![PathBuf::from(".")];
    while let Some(path) = left.pop() {
        let directory = root.open_dir(&path)?;
        for entry in directory.entries()? {
            let entry = entry?;
            if change_entry(&directory, &entry, gid, access)? {
                left.push(path.join(entry.file_name()));
            }
        }
    }
    Ok(())
}

/// Whether the entry is a directory. What others have removed meanwhile is no error.
fn change_entry(directory: &Dir, entry: &DirEntry, gid: Gid, access: Access) -> io::Result<bool> {
    let name = PathBuf::from(entry.file_name());
    let changed = directory.symlink_metadata(&name).and_then(|metadata| {
        if metadata.is_symlink() {
            // It has no permissions of its own.
            fchownat(directory.as_fd(), &name, None, Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
            return Ok(false);
        }
        let mode = if metadata.is_dir() { access.of_directory() } else { access.of_file() };
        change(directory, &name, metadata.mode(), gid, mode)?;
        Ok(metadata.is_dir())
    });
    match changed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        changed => changed,
    }
}

/// Gives one file to the group, and its group these permissions.
fn change(directory: &Dir, name: &Path, mode: u32, gid: Gid, more: u32) -> io::Result<()> {
    fchownat(directory.as_fd(), name, None, Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_bits_truncate((mode | more) & 0o7777);
    Ok(fchmodat(directory.as_fd(), name, mode, FchmodatFlags::NoFollowSymlink)?)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    const ALWAYS: FsGroup = FsGroup { gid: 2000, on_root_mismatch: false };
    const ON_MISMATCH: FsGroup = FsGroup { gid: 2000, on_root_mismatch: true };

    fn is(path: impl AsRef<Path>) -> (u32, u32) {
        let metadata = fs::symlink_metadata(path).unwrap();
        (metadata.gid(), metadata.mode() & 0o7777)
    }

    /// A volume with a file, a directory with a file, and a link to a file outside.
    fn volume() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        fs::create_dir_all(volume.join("sub")).unwrap();
        for (file, mode) in [("volume/file", 0o600), ("volume/sub/deep", 0o755), ("outside", 0o600)] {
            fs::write(dir.path().join(file), "x").unwrap();
            fs::set_permissions(dir.path().join(file), Permissions::from_mode(mode)).unwrap();
        }
        for directory in ["volume", "volume/sub"] {
            fs::set_permissions(dir.path().join(directory), Permissions::from_mode(0o700)).unwrap();
        }
        symlink("../outside", volume.join("link")).unwrap();
        symlink("missing", volume.join("dangling")).unwrap();
        dir
    }

    #[test]
    fn everything_belongs_to_the_group_and_nothing_else_does() {
        if !crate::testing::needs_root() {
            return;
        }
        for (access, file, deep, directory) in
            [(Access::ReadWrite, 0o660, 0o775, 0o2770), (Access::ReadOnly, 0o640, 0o755, 0o2750)]
        {
            let dir = volume();
            let volume = dir.path().join("volume");
            give(&volume, ALWAYS, access).unwrap();
            assert_eq!(is(&volume), (2000, directory));
            assert_eq!(is(volume.join("sub")), (2000, directory));
            assert_eq!(is(volume.join("file")), (2000, file));
            assert_eq!(is(volume.join("sub/deep")), (2000, deep));
            assert_eq!(is(volume.join("link")).0, 2000);
            assert_eq!(is(dir.path().join("outside")), (0, 0o600));
        }
    }

    #[test]
    fn a_volume_whose_root_is_right_is_left_alone_when_asked() {
        if !crate::testing::needs_root() {
            return;
        }
        let dir = volume();
        let volume = dir.path().join("volume");
        give(&volume, ON_MISMATCH, Access::ReadWrite).unwrap();
        assert_eq!(is(volume.join("file")), (2000, 0o660));
        fs::write(volume.join("new"), "x").unwrap();
        fs::set_permissions(volume.join("new"), Permissions::from_mode(0o600)).unwrap();
        give(&volume, ON_MISMATCH, Access::ReadWrite).unwrap();
        assert_eq!(is(volume.join("new")), (2000, 0o600), "the directory's group, by its bit, and no more");
        give(&volume, ALWAYS, Access::ReadWrite).unwrap();
        assert_eq!(is(volume.join("new")), (2000, 0o660));
        fs::set_permissions(&volume, Permissions::from_mode(0o770)).unwrap();
        fs::set_permissions(volume.join("new"), Permissions::from_mode(0o600)).unwrap();
        give(&volume, ON_MISMATCH, Access::ReadWrite).unwrap();
        assert_eq!(is(volume.join("new")), (2000, 0o660), "without its bit the root is not right");
    }
}
