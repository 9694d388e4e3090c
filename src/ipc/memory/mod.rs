//! Shared memory: files in the pod's own `/dev/shm`, which native processes map too.
//!
//! ```text
//!  Segment (a run's) ─► Shared (one for each file) ─┬─ read, write, copy ─► pread(2), pwrite(2)
//!                                                   ├─ atomic operations ─► its one mapping
//!                                                   └─ wait, notify ──────► who waits on which address
//!                          FUTEX_WAKE of native processes ─► a thread that watches ┘
//! ```
//!
//! Bytes go through the kernel, which copies them without a data race in this process, says when there is no memory
//! left, and reads short where a native process has made the file shorter. Only numbers are accessed in the mapping,
//! atomically; [`crate::sys::shared`] turns a page that is not there any more into an error. The mapping is made when
//! it is first needed, again when the file has grown, and never again used after a fault.
//!
//! A segment's memory is allocated when it is made longer, so that running out of it is an error of `resize`.

mod addresses;
mod bytes;
mod numbers;
mod open;
mod waits;
mod watch;
mod watcher;
mod words;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use nix::errno::Errno as Kernel;

use self::watcher::Watcher;
use self::words::Words;
use super::handle::Place;
use super::holders::Holders;
use super::{Errno, Ipc, Name, Result};

pub use self::waits::{AddressWait, WaitResult};

/// The pod's segments.
#[derive(Debug)]
pub(super) struct Table {
    directory: PathBuf,
    /// By device and inode: a name may be another file's by now.
    open: Mutex<HashMap<(u64, u64), Weak<Shared>>>,
    watcher: Watcher,
}

impl Table {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, open: Mutex::default(), watcher: Watcher::default() }
    }

    fn path(&self, name: &Name) -> PathBuf {
        self.directory.join(name.file_name())
    }
}

/// A segment that is open in this process.
#[derive(Debug)]
struct Shared {
    ipc: Arc<Ipc>,
    key: (u64, u64),
    words: Arc<Words>,
    holders: Arc<Holders>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let table = &self.ipc.memory;
        if lock(&self.words.addresses).is_watched() {
            table.watcher.forget(&self.words);
        }
        let mut open = lock(&table.open);
        if open.get(&self.key).is_some_and(|shared| shared.strong_count() == 0) {
            open.remove(&self.key);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn unlink(table: &Table, name: &Name) -> Result<()> {
    match fs::remove_file(table.path(name)) {
        Err(error) if error.raw_os_error() == Some(Kernel::EISDIR as i32) => Err(Errno::Invalid),
        removed => Ok(removed?),
    }
}

/// A segment as it is now.
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) size: u64,
    /// Who waits on it.
    pub(super) waiting: usize,
    pub(super) containers: Vec<String>,
}

/// All segments, also those of native processes; at most `limit`.
pub(super) fn list(table: &Table, limit: usize) -> Vec<Listed> {
    let Ok(entries) = fs::read_dir(&table.directory) else { return Vec::new() };
    let row = |entry: fs::DirEntry| {
        let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
        let shared = lock(&table.open).get(&(metadata.dev(), metadata.ino())).and_then(Weak::upgrade);
        Some(Listed {
            name: format!("/{}", entry.file_name().to_string_lossy()),
            size: metadata.len(),
            waiting: shared.as_ref().map_or(0, |shared| lock(&shared.words.addresses).len()),
            containers: shared.map_or_else(Vec::new, |shared| shared.holders.names()),
        })
    };
    let mut all: Vec<_> = entries.flatten().filter_map(row).take(limit).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// A run's handle on a segment; clones are the same handle.
#[derive(Debug, Clone)]
pub struct Segment(Arc<Opened>);

#[derive(Debug)]
struct Opened {
    shared: Arc<Shared>,
    writable: bool,
    place: Place,
}

impl Segment {
    fn check_writable(&self) -> Result<()> {
        if self.0.writable { Ok(()) } else { Err(Errno::Access) }
    }
}
