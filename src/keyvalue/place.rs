//! Where a store's file is.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use cap_fs_ext::{DirExt, FollowSymlinks, OpenOptionsFollowExt};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, DirBuilder, DirBuilderExt, OpenOptions, OpenOptionsExt};

/// The directory of a volume that is peapod's.
const DIRECTORY: &str = ".peapod";

/// The store in it.
const FILE: &str = "keyvalue.redb";

/// Where a store's file is.
#[derive(Debug)]
pub(super) enum Place {
    /// In a directory of the pod's own.
    Own(PathBuf),
    /// In a volume, which containers may write to.
    Volume {
        /// The volume.
        name: String,
        /// Its directory.
        directory: Dir,
        /// Whether it outlives the pod, and so a write has to be on the disk.
        durable: bool,
    },
}

impl Place {
    /// Opens the file; makes it, empty, where it is not there. A symbolic link is not followed: a container may have
    /// put it there.
    pub(super) fn open(&self) -> io::Result<File> {
        let directory = match self {
            Self::Own(path) => {
                std::fs::create_dir_all(path)?;
                Dir::open_ambient_dir(path, ambient_authority())?
            }
            Self::Volume { directory, .. } => {
                match directory.create_dir_with(DIRECTORY, DirBuilder::new().mode(0o700)) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                    _ => directory.open_dir_nofollow(DIRECTORY)?,
                }
            }
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).mode(0o600).follow(FollowSymlinks::No);
        // Opening a pipe would wait.
        options.custom_flags(libc::O_NONBLOCK);
        let file = directory.open_with(FILE, &options)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no file"));
        }
        if let Self::Volume { directory: volume, durable: true, .. } = self {
            // A file that is on the disk is lost without its name (fsync(2)).
            for directory in [&directory, volume] {
                directory.open(".")?.sync_all()?;
            }
        }
        Ok(file.into_std())
    }

    /// The file, for messages.
    pub(super) fn file(&self) -> String {
        match self {
            Self::Own(path) => path.join(FILE).display().to_string(),
            Self::Volume { name, .. } => format!("{DIRECTORY}/{FILE} of volume {name:?}"),
        }
    }

    /// Whether a write has to be on the disk before it returns.
    pub(super) fn is_durable(&self) -> bool {
        matches!(self, Self::Volume { durable: true, .. })
    }

    /// The directory that is the pod's own.
    pub(super) fn own_directory(&self) -> Option<&Path> {
        match self {
            Self::Own(path) => Some(path),
            Self::Volume { .. } => None,
        }
    }
}
