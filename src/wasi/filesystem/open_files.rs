//! The files that one run of a container has open.
//!
//! ```text
//! open-at ─ OpenFiles::take ─► Descriptor of the container's share ─ opened ─┐
//!                                                                           ▼
//!  a descriptor, its streams, operations under way ─ all hold ─► the file ◄─ known here, weakly
//! ```
//!
//! A guest may drop a descriptor and keep its streams, which keep the file open; wasmtime-wasi has no room for more in
//! either. The file itself, which all of them share, says who still holds it.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::{Resource, ResourceTable, ResourceTableError};
use wasmtime_wasi::filesystem;

use crate::descriptors::{Descriptor, Share};

/// Streams of one run: each may hold 64 KiB that the guest has not read, or the disk not taken. All are half of what
/// the pod's cgroup has for the runtime (`sandbox::cgroup::RUNTIME_MEMORY_BYTES`).
pub(super) const MAX_STREAMS: usize = 512;

/// Directories of one run that are being listed: each holds some of its entries, and what the kernel told of more.
pub(super) const MAX_LISTINGS: usize = 64;

/// Files known here before the first look for those that are closed.
const FIRST_LOOK: usize = 64;

/// The files that one run of a container has open; clones are the same.
#[derive(Debug, Clone)]
pub struct OpenFiles {
    share: Share,
    files: Arc<Mutex<Files>>,
    listings: Arc<Semaphore>,
}

#[derive(Debug)]
struct Files {
    /// By address, which no other file has as long as it is known here.
    known: HashMap<usize, Known>,
    /// How many are known when those that are closed are looked for.
    next_look: usize,
    /// Streams, and operations under way, when they were last counted, and those that were made since.
    streams: usize,
}

#[derive(Debug)]
struct Known {
    file: Weak<File>,
    /// Whether the guest has dropped the descriptor.
    is_dropped: bool,
    /// Given back when nobody has the file any more.
    _descriptor: Descriptor,
}

impl Known {
    fn is_open(&self) -> bool {
        self.file.strong_count() > 0
    }
}

/// A place among the listings, and the descriptor that it takes.
#[derive(Debug)]
pub(super) struct ListingPlace {
    _descriptor: Descriptor,
    _permit: OwnedSemaphorePermit,
}

fn file_of<'a>(table: &'a ResourceTable, fd: &Resource<filesystem::Descriptor>) -> Option<&'a Arc<File>> {
    match table.get(fd).ok()? {
        filesystem::Descriptor::File(file) => Some(&file.file),
        filesystem::Descriptor::Dir(directory) => Some(&directory.dir),
    }
}

fn address(file: &Arc<File>) -> usize {
    Arc::as_ptr(file).addr()
}

impl OpenFiles {
    /// Those of a run of the container whose share this is.
    pub fn new(share: Share) -> Self {
        let files = Files { known: HashMap::new(), next_look: FIRST_LOOK, streams: 0 };
        Self { share, files: Arc::new(Mutex::new(files)), listings: Semaphore::new(MAX_LISTINGS).into() }
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to open one more file, before that is tried. `None`: the container has its share.
    pub(super) fn take(&self) -> Option<Descriptor> {
        self.share.take().or_else(|| {
            self.lock().forget_closed();
            self.share.take()
        })
    }

    /// A file was opened.
    pub(super) fn opened(
        &self,
        table: &ResourceTable,
        fd: &Resource<filesystem::Descriptor>,
        descriptor: Descriptor,
    ) {
        let Some(file) = file_of(table, fd) else { return };
        let known = Known { file: Arc::downgrade(file), is_dropped: false, _descriptor: descriptor };
        let mut files = self.lock();
        files.known.insert(address(file), known);
        if files.known.len() >= files.next_look {
            files.forget_closed();
            files.next_look = FIRST_LOOK.max(2 * files.known.len());
        }
    }

    /// The guest drops a descriptor.
    pub(super) fn close(
        &self,
        table: &mut ResourceTable,
        fd: Resource<filesystem::Descriptor>,
    ) -> Result<(), ResourceTableError> {
        let file = file_of(table, &fd).map(address);
        table.delete(fd)?;
        let mut files = self.lock();
        if let Some(file) = file
            && let Some(known) = files.known.get_mut(&file)
        {
            known.is_dropped = true;
            if !known.is_open() {
                files.known.remove(&file);
            }
        }
        Ok(())
    }

    /// Whether there may be one more stream, which is counted then.
    pub(super) fn may_stream(&self) -> bool {
        let mut files = self.lock();
        if files.streams >= MAX_STREAMS {
            files.streams = files.known.values().map(Known::holders).sum();
        }
        let may = files.streams < MAX_STREAMS;
        files.streams += usize::from(may);
        may
    }

    /// A place for one more listing. `None`: there are too many, or the container has its share of files.
    pub(super) fn listing(&self) -> Option<ListingPlace> {
        let permit = Arc::clone(&self.listings).try_acquire_owned().ok()?;
        Some(ListingPlace { _descriptor: self.take()?, _permit: permit })
    }
}

impl Known {
    /// Streams and operations under way.
    fn holders(&self) -> usize {
        self.file.strong_count().saturating_sub(usize::from(!self.is_dropped))
    }
}

impl Files {
    fn forget_closed(&mut self) {
        self.known.retain(|_, known| known.is_open());
    }
}

#[cfg(test)]
mod tests {
    use wasmtime_wasi::FsPerms;
    use wasmtime_wasi::filesystem::{Descriptor as Wasi, File as WasiFile, OpenMode};

    use super::*;
    use crate::descriptors::Descriptors;

    fn open(files: &OpenFiles, table: &mut ResourceTable) -> Option<Resource<Wasi>> {
        let descriptor = files.take()?;
        let file = File::open("/dev/null").unwrap();
        let file = WasiFile::new(file, FsPerms::ReadOnly, OpenMode::READ, false);
        let fd = table.push(Wasi::File(file)).unwrap();
        files.opened(table, &fd, descriptor);
        Some(fd)
    }

    #[test]
    fn a_file_counts_until_its_last_stream_is_gone() {
        let (files, mut table) =
            (OpenFiles::new(Descriptors::guaranteed(2).share("a")), ResourceTable::new());
        let first = open(&files, &mut table).unwrap();
        let stream = Arc::clone(file_of(&table, &first).unwrap());
        let second = open(&files, &mut table).unwrap();
        assert!(open(&files, &mut table).is_none());
        files.close(&mut table, first).unwrap();
        assert!(open(&files, &mut table).is_none(), "its stream has it");
        files.close(&mut table, second).unwrap();
        let third = open(&files, &mut table).unwrap();
        assert!(open(&files, &mut table).is_none());
        drop(stream);
        let fourth = open(&files, &mut table).unwrap();
        files.close(&mut table, third).unwrap();
        files.close(&mut table, fourth).unwrap();
        assert!(files.lock().known.is_empty());
    }

    #[test]
    fn streams_are_counted_by_whom_the_files_are_held() {
        let (files, mut table) =
            (OpenFiles::new(Descriptors::guaranteed(100).share("a")), ResourceTable::new());
        let fds: Vec<_> = (0..50).map(|_| open(&files, &mut table).unwrap()).collect();
        let mut streams = Vec::new();
        for n in 0..MAX_STREAMS {
            assert!(files.may_stream());
            streams.push(Arc::clone(file_of(&table, &fds[n % 50]).unwrap()));
        }
        assert!(!files.may_stream());
        for fd in fds {
            files.close(&mut table, fd).unwrap();
        }
        assert!(!files.may_stream());
        streams.pop();
        assert!(files.may_stream());
        streams.clear();
        assert!(files.may_stream());
    }

    #[test]
    fn listings_are_few() {
        let files = OpenFiles::new(Descriptors::guaranteed(1000).share("a"));
        let mut places: Vec<_> = std::iter::from_fn(|| files.listing()).collect();
        assert_eq!(places.len(), MAX_LISTINGS);
        places.pop();
        assert!(files.listing().is_some());
    }
}
