//! The directory with compiled code.
//!
//! ```text
//! <cache>/                 0700, owned by this user
//!   code/<digest>-<engine>.cwasm   0600, complete from the moment it has this name, never changed
//!   code/.new-<pid>-<n>            being written; left behind only by a crash
//!   index/…                        see [`super::index`]
//!   pruned                         its mtime: when old code was last looked for
//! ```
//!
//! Mapped code is run, so whoever can write here can do what this user can. That is why every
//! directory and file is looked at *after* it was opened, through descriptors that were opened without
//! following symbolic links: a directory of somebody else's is an error, a suspicious file is not used
//! and the code is made anew in its place.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use cap_fs_ext::{DirExt, FollowSymlinks, OpenOptionsFollowExt};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, DirBuilder, DirBuilderExt, MetadataExt, OpenOptions, OpenOptionsExt, PermissionsExt};

use crate::engine::code::TrustedCode;

/// Code that was not used for this long is removed.
pub const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Bytes of code that are kept; beyond it the code that was not used for longest is removed.
pub const MAX_BYTES: u64 = 4 << 30;

/// How often old code is looked for.
pub const PRUNE_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// An unfinished file of this age was left behind by a crash: no compilation takes as long.
const ABANDONED: Duration = Duration::from_secs(60 * 60);

/// Code whose last use was noted this recently is not noted again: a write saved on nearly every start.
const USE_GRANULARITY: Duration = PRUNE_INTERVAL;

/// Permission bits that let others write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// How a file begins that is being written.
const UNFINISHED: &str = ".new-";

/// Why the cache cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A system call failed.
    #[error("cache {}: cannot {operation}: {error}; PEAPOD_ROOT or XDG_CACHE_HOME moves it", .path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// A directory belongs to somebody else.
    #[error(
        "cache {} belongs to user {owner}, who could make peapod run any code; remove it, or set PEAPOD_ROOT \
         to a directory of your own", .path.display()
    )]
    ForeignOwner {
        /// The directory.
        path: PathBuf,
        /// Its owner's uid.
        owner: u32,
    },
    /// Others may write into a directory.
    #[error(
        "cache {} can be written by other users (mode {mode:03o}), who could make peapod run any code; \
         remove it, or chmod go-w it if nobody did", .path.display()
    )]
    WritableByOthers {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// One directory of the cache, checked. All access goes through its descriptor.
#[derive(Debug)]
pub struct CacheDir {
    dir: Dir,
    path: PathBuf,
}

/// A file being written. Removed when dropped before it was [`Unfinished::publish`]ed.
#[derive(Debug)]
pub struct Unfinished<'a> {
    cache: &'a CacheDir,
    name: Option<String>,
    file: File,
}

impl CacheDir {
    /// Opens the cache itself, creating it (mode 0700) and the directories above it as needed.
    ///
    /// # Errors
    ///
    /// Names the directory and what is wrong with it.
    pub fn open(path: &Path) -> Result<Self, CacheError> {
        let io = |operation, at: &Path, error| CacheError::Io { path: at.to_owned(), operation, error };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io("use this as a directory", path, io::ErrorKind::InvalidInput.into()));
        };
        std::fs::create_dir_all(parent).map_err(|error| io("create", parent, error))?;
        let parent_dir =
            Dir::open_ambient_dir(parent, ambient_authority()).map_err(|error| io("open", parent, error))?;
        Self::open_at(&parent_dir, name, path.to_owned())
    }

    /// Opens a directory of the cache, creating it as needed.
    ///
    /// # Errors
    ///
    /// As [`CacheDir::open`].
    pub fn subdirectory(&self, name: &str) -> Result<Self, CacheError> {
        Self::open_at(&self.dir, OsStr::new(name), self.path.join(name))
    }

    fn open_at(parent: &Dir, name: &OsStr, path: PathBuf) -> Result<Self, CacheError> {
        let fail = |operation| {
            let path = path.clone();
            move |error| CacheError::Io { path, operation, error }
        };
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        match parent.create_dir_with(name, &builder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(fail("create")(error)),
            _ => {}
        }
        let dir = parent.open_dir_nofollow(name).map_err(fail("open"))?;
        let metadata = dir.dir_metadata().map_err(fail("stat"))?;
        if metadata.uid() != euid() {
            return Err(CacheError::ForeignOwner { path, owner: metadata.uid() });
        }
        let mode = metadata.permissions().mode() & 0o777;
        if mode & WRITABLE_BY_OTHERS != 0 {
            return Err(CacheError::WritableByOthers { path, mode });
        }
        Ok(Self { dir, path })
    }

    /// Where this directory is, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file that only this user can have written. `None` when there is none, or one that
    /// must not be trusted: then it is as good as absent, and [`Unfinished::publish`] replaces it.
    pub fn open_trusted(&self, name: &str) -> Option<File> {
        let mut options = OpenOptions::new();
        // Non-blocking, so that a FIFO does not hang the open; without meaning for a regular file.
        options.read(true).follow(FollowSymlinks::No).custom_flags(libc::O_NONBLOCK);
        let file = self.dir.open_with(name, &options).ok()?.into_std();
        let metadata = file.metadata().ok()?;
        let mode = std::os::unix::fs::MetadataExt::mode(&metadata);
        let owner = std::os::unix::fs::MetadataExt::uid(&metadata);
        let trusted = metadata.is_file() && owner == euid() && mode & WRITABLE_BY_OTHERS == 0;
        trusted.then_some(file)
    }

    /// Opens code for mapping, and notes that it was used.
    pub fn open_code(&self, name: &str) -> Option<TrustedCode> {
        let file = self.open_trusted(name)?;
        let used = file.metadata().and_then(|metadata| metadata.modified());
        if used.is_ok_and(|used| is_older(used, USE_GRANULARITY)) {
            // Only pruning looks at it: where it cannot be noted the code goes a little early.
            let _ = file.set_modified(SystemTime::now());
        }
        Some(TrustedCode::new(file))
    }

    /// Begins a file, mode 0600.
    ///
    /// # Errors
    ///
    /// Names the directory, for example when the disk is full.
    pub fn begin(&self) -> Result<Unfinished<'_>, CacheError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).follow(FollowSymlinks::No);
        loop {
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{UNFINISHED}{}-{n}", std::process::id());
            match self.dir.open_with(&name, &options) {
                Ok(file) => return Ok(Unfinished { cache: self, name: Some(name), file: file.into_std() }),
                // Left behind by an earlier process with this id.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(self.error("create a file in it", error)),
            }
        }
    }

    /// Writes a whole small file under its final name.
    ///
    /// # Errors
    ///
    /// As [`CacheDir::begin`].
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), CacheError> {
        let unfinished = self.begin()?;
        unfinished.file().write_all(content).map_err(|error| self.error("write", error))?;
        unfinished.publish(name)
    }

    /// Removes files that were not used for [`MAX_AGE`], then the least recently used ones until the rest
    /// is at most `max_bytes`, and what crashes left behind. Files that others are just mapping stay
    /// alive until they are done.
    pub fn prune(&self, max_bytes: u64) {
        let Ok(entries) = self.dir.entries() else { return };
        let mut files: Vec<(SystemTime, u64, OsString)> = Vec::new();
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            let Ok(used) = metadata.modified().map(cap_std::time::SystemTime::into_std) else { continue };
            let unfinished = entry.file_name().as_bytes().starts_with(UNFINISHED.as_bytes());
            if is_older(used, if unfinished { ABANDONED } else { MAX_AGE }) {
                self.remove(&entry.file_name());
            } else if !unfinished {
                files.push((used, metadata.len(), entry.file_name()));
            }
        }
        files.sort_unstable_by(|a, b| b.cmp(a));
        let mut kept = 0_u64;
        for (_, size, name) in files {
            kept = kept.saturating_add(size);
            if kept > max_bytes {
                self.remove(&name);
            }
        }
    }

    /// Whether it is time to prune; if so, the next time is [`PRUNE_INTERVAL`] from now.
    pub fn prune_is_due(&self) -> bool {
        const STAMP: &str = "pruned";
        let last = self
            .dir
            .symlink_metadata(STAMP)
            .and_then(|m| m.modified())
            .map(cap_std::time::SystemTime::into_std);
        let due = last.map_or(true, |last| is_older(last, PRUNE_INTERVAL));
        due && self.write(STAMP, b"").is_ok()
    }

    /// Removes a file. It may be gone already, and a directory by that name is none of ours: both
    /// leave the cache as usable as it was.
    fn remove(&self, name: &OsStr) {
        let _ = self.dir.remove_file(name);
    }

    fn error(&self, operation: &'static str, error: io::Error) -> CacheError {
        CacheError::Io { path: self.path.clone(), operation, error }
    }
}

impl Unfinished<'_> {
    /// To write to.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its final name, atomically and only after its content is on the disk, so that no
    /// power cut leaves a name with half its content.
    ///
    /// # Errors
    ///
    /// Names the directory; the file is removed.
    pub fn publish(mut self, name: &str) -> Result<(), CacheError> {
        self.file.sync_data().map_err(|error| self.cache.error("write", error))?;
        if let Some(unfinished) = &self.name {
            let dir = &self.cache.dir;
            dir.rename(unfinished, dir, name)
                .map_err(|error| self.cache.error("rename a file in it", error))?;
        }
        self.name = None;
        Ok(())
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            self.cache.remove(OsStr::new(name));
        }
    }
}

fn euid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// A time in the future (a clock that was set back) is not old.
fn is_older(time: SystemTime, age: Duration) -> bool {
    SystemTime::now().duration_since(time).is_ok_and(|elapsed| elapsed > age)
}
