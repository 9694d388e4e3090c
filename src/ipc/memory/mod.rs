//! Shared memory: files in the pod's own `/dev/shm`, which native processes map too.
//!
//! ```text
//!  Segment (a run's) ─► Shared (one for each file) ─┬─ read, write, copy ─► pread(2), pwrite(2)
//!                                                   ├─ atomic operations ─► its one mapping
//!                                                   └─ wait, notify ──────► who waits on which address
//! ```
//!
//! Bytes go through the kernel, which copies them without a data race in this process, says when there is no memory
//! left, and reads short where a native process has made the file shorter. Only numbers are accessed in the mapping,
//! atomically; [`crate::sys::shared`] turns a page that is not there any more into an error. The mapping is made when
//! it is first needed, again when the file has grown, and never again used after a fault.
//!
//! A segment's memory is allocated when it is made longer, so that running out of it is an error of `resize`.

mod addresses;

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use nix::errno::Errno as Kernel;
use nix::fcntl::{FallocateFlags, OFlag, fallocate};
use tokio::sync::Notify;

use self::addresses::{Addresses, Ticket};
use super::handle::{Handle, Place};
use super::holders::Holders;
use super::queue::Access;
use super::wait;
use super::{Errno, Ipc, Name, Open, Result};
use crate::sys::shared::{Atomic, Mapping};

/// Most bytes that are read at once, and so that the host allocates for it. As for files and sockets.
pub const MAX_READ: u64 = 64 << 10;

/// Most bytes that are copied at once: a tenth of a millisecond.
pub const MAX_COPY: u64 = 1 << 20;

/// Bytes that are allocated at once without another thread's help: a tenth of a millisecond.
const ALLOCATED_AT_ONCE: u64 = 1 << 20;

/// Tries to open a segment that others make and remove at the same time.
const ATTEMPTS: usize = 8;

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitResult {
    /// By `notify`.
    Notified,
    /// The number was not the expected one.
    Mismatch,
}

/// The pod's segments.
#[derive(Debug)]
pub(super) struct Table {
    directory: PathBuf,
    /// By device and inode: a name may be another file's by now.
    open: Mutex<HashMap<(u64, u64), Weak<Shared>>>,
}

impl Table {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, open: Mutex::default() }
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
    file: File,
    mapping: Mutex<Option<Mapping>>,
    addresses: Mutex<Addresses>,
    notified: Notify,
    holders: Arc<Holders>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let mut open = lock(&self.ipc.memory.open);
        if open.get(&self.key).is_some_and(|shared| shared.strong_count() == 0) {
            open.remove(&self.key);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn size(&self) -> Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Does something with the number at `offset`.
    fn with<A: Atomic, R>(&self, offset: u64, access: impl FnOnce(&A) -> R) -> Result<R> {
        let size = size_of::<A>() as u64;
        if !offset.is_multiple_of(size) {
            return Err(Errno::Invalid);
        }
        let end = offset.checked_add(size).ok_or(Errno::Fault)?;
        let mut mapping = lock(&self.mapping);
        if mapping.as_ref().is_none_or(|mapping| (mapping.length() as u64) < end) {
            let length = self.size()?;
            if length < end {
                return Err(Errno::Fault);
            }
            *mapping = None;
            let length = usize::try_from(length).map_err(|_| Errno::TooBig)?;
            *mapping = Some(Mapping::new(&self.file, length)?);
        }
        match mapping.as_ref().and_then(|mapping| mapping.with(offset as usize, access)) {
            Some(Ok(result)) => Ok(result),
            Some(Err(_)) => {
                *mapping = None;
                Err(Errno::Fault)
            }
            None => Err(Errno::Fault),
        }
    }
}

impl Handle {
    /// Opens a segment; one that is made gets this size.
    ///
    /// # Errors
    /// [`Errno::Access`], [`Errno::Exist`], [`Errno::TooBig`], [`Errno::Invalid`], [`Errno::NoEntry`],
    /// [`Errno::NoSpace`], [`Errno::NotSupported`], [`Errno::TooManyHandles`].
    pub async fn open_segment(
        &self,
        name: &Name,
        access: Access,
        open: Open,
        size: Option<u64>,
    ) -> Result<Segment> {
        let writable = match access {
            Access::Read => false,
            Access::Both => true,
            Access::Write => return Err(Errno::Invalid),
        };
        let place = self.place()?;
        let (file, is_new) = self.segment_file(name, open)?;
        let shared = self.shared(file)?;
        let place = place.of(&shared.holders);
        let segment = Segment(Arc::new(Opened { shared, writable, place }));
        if let Some(size) = size.filter(|size| is_new && *size > 0)
            && let Err(error) = segment.grow(0, size).await
        {
            // Nobody is left with a segment that is not as it was to be.
            let _ = self.unlink_segment(name);
            return Err(error);
        }
        Ok(segment)
    }

    /// The segment's file, and whether it was made.
    fn segment_file(&self, name: &Name, open: Open) -> Result<(File, bool)> {
        let table = &self.ipc.memory;
        let path = table.path(name);
        let mut options = OpenOptions::new();
        // Not what a symbolic link leads to, and without waiting for the other end of a pipe.
        options
            .read(true)
            .write(true)
            .mode(0o600)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
        for _ in 0..ATTEMPTS {
            if open != Open::Exclusive {
                match options.open(&path) {
                    Ok(file) => return Ok((file, false)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound && open == Open::Create => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let there = fs::read_dir(&table.directory).map_err(|_| Errno::NotSupported)?.count() as u64;
            if there >= self.ipc.limits.segments {
                return Err(if open == Open::Exclusive && path.exists() {
                    Errno::Exist
                } else {
                    Errno::NoSpace
                });
            }
            match options.clone().create_new(true).open(&path) {
                Ok(file) => return Ok((file, true)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && open == Open::Create => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Errno::Again)
    }

    fn shared(&self, file: File) -> Result<Arc<Shared>> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(Errno::Invalid);
        }
        let key = (metadata.dev(), metadata.ino());
        let mut open = lock(&self.ipc.memory.open);
        if let Some(shared) = open.get(&key).and_then(Weak::upgrade) {
            return Ok(shared);
        }
        let shared = Arc::new(Shared {
            ipc: Arc::clone(&self.ipc),
            key,
            file,
            mapping: Mutex::new(None),
            addresses: Mutex::default(),
            notified: Notify::new(),
            holders: Arc::default(),
        });
        open.insert(key, Arc::downgrade(&shared));
        Ok(shared)
    }

    /// Removes a segment's name.
    ///
    /// # Errors
    /// [`Errno::Access`], [`Errno::NoEntry`], [`Errno::NotSupported`].
    pub fn unlink_segment(&self, name: &Name) -> Result<()> {
        unlink(&self.ipc.memory, name)
    }
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
            waiting: shared.as_ref().map_or(0, |shared| lock(&shared.addresses).len()),
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
    /// How long it is, bytes.
    ///
    /// # Errors
    /// The kernel's; none is known.
    pub fn size(&self) -> Result<u64> {
        self.0.shared.size()
    }

    /// Makes it longer or shorter.
    ///
    /// # Errors
    /// [`Errno::Access`], [`Errno::TooBig`], [`Errno::NoSpace`].
    pub async fn resize(&self, size: u64) -> Result<()> {
        self.check_writable()?;
        let now = self.size()?;
        if size > now {
            return self.grow(now, size).await;
        }
        Ok(self.0.shared.file.set_len(size)?)
    }

    /// Allocates the bytes from `now` to `size`.
    async fn grow(&self, now: u64, size: u64) -> Result<()> {
        let allocate = {
            let file = self.0.shared.file.try_clone()?;
            let (begin, length) = (i64::try_from(now), i64::try_from(size - now));
            let (begin, length) = (begin.map_err(|_| Errno::TooBig)?, length.map_err(|_| Errno::TooBig)?);
            move || fallocate(&file, FallocateFlags::empty(), begin, length)
        };
        let allocated = if size - now <= ALLOCATED_AT_ONCE {
            allocate()
        } else {
            tokio::task::spawn_blocking(allocate).await.map_err(|_| Errno::Io)?
        };
        Ok(allocated?)
    }

    /// Reads up to `length` bytes, at most `MAX_READ`; fewer where the segment ends.
    ///
    /// # Errors
    /// [`Errno::Fault`] behind the end.
    pub fn read(&self, offset: u64, length: u64) -> Result<Vec<u8>> {
        let left = self.size()?.checked_sub(offset).ok_or(Errno::Fault)?;
        let mut bytes = vec![0; length.min(left).min(MAX_READ) as usize];
        let read = self.0.shared.file.read_at(&mut bytes, offset)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Writes all of the bytes.
    ///
    /// # Errors
    /// [`Errno::Access`], [`Errno::Fault`] when they do not fit, [`Errno::NoSpace`].
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.check_writable()?;
        let end = offset.checked_add(bytes.len() as u64).ok_or(Errno::Fault)?;
        if end > self.size()? {
            return Err(Errno::Fault);
        }
        Ok(self.0.shared.file.write_all_at(bytes, offset)?)
    }

    /// Copies bytes of another segment, or of this one, also where they overlap.
    ///
    /// # Errors
    /// As [`Self::write`]; [`Errno::Invalid`] for more than `MAX_COPY`.
    pub fn copy_from(&self, offset: u64, source: &Self, source_offset: u64, length: u64) -> Result<()> {
        self.check_writable()?;
        if length > MAX_COPY {
            return Err(Errno::Invalid);
        }
        let end = source_offset.checked_add(length).ok_or(Errno::Fault)?;
        if end > source.size()? {
            return Err(Errno::Fault);
        }
        let mut bytes = vec![0; length as usize];
        source.0.shared.file.read_exact_at(&mut bytes, source_offset).map_err(|_| Errno::Fault)?;
        self.write(offset, &bytes)
    }

    /// # Errors
    /// [`Errno::Fault`], [`Errno::Invalid`].
    pub fn load_u32(&self, offset: u64) -> Result<u32> {
        self.0.shared.with(offset, |number: &AtomicU32| u32::from_le(number.load(Ordering::SeqCst)))
    }

    /// # Errors
    /// [`Errno::Fault`], [`Errno::Invalid`].
    pub fn load_u64(&self, offset: u64) -> Result<u64> {
        self.0.shared.with(offset, |number: &AtomicU64| u64::from_le(number.load(Ordering::SeqCst)))
    }

    /// # Errors
    /// [`Errno::Access`], [`Errno::Fault`], [`Errno::Invalid`].
    pub fn store_u32(&self, offset: u64, value: u32) -> Result<()> {
        self.change(offset, |number: &AtomicU32| number.store(value.to_le(), Ordering::SeqCst))
    }

    /// # Errors
    /// [`Errno::Access`], [`Errno::Fault`], [`Errno::Invalid`].
    pub fn store_u64(&self, offset: u64, value: u64) -> Result<()> {
        self.change(offset, |number: &AtomicU64| number.store(value.to_le(), Ordering::SeqCst))
    }

    /// Adds, and returns what was there. Numbers are little-endian; where the machine is not, this is a loop.
    ///
    /// # Errors
    /// [`Errno::Access`], [`Errno::Fault`], [`Errno::Invalid`].
    pub fn fetch_add_u32(&self, offset: u64, value: u32) -> Result<u32> {
        self.change(offset, |number: &AtomicU32| {
            if cfg!(target_endian = "little") {
                return number.fetch_add(value, Ordering::SeqCst);
            }
            let add = |old: u32| Some(u32::from_le(old).wrapping_add(value).to_le());
            let was = number.fetch_update(Ordering::SeqCst, Ordering::SeqCst, add);
            u32::from_le(was.unwrap_or_default())
        })
    }

    /// As [`Self::fetch_add_u32`].
    ///
    /// # Errors
    /// [`Errno::Access`], [`Errno::Fault`], [`Errno::Invalid`].
    pub fn fetch_add_u64(&self, offset: u64, value: u64) -> Result<u64> {
        self.change(offset, |number: &AtomicU64| {
            if cfg!(target_endian = "little") {
                return number.fetch_add(value, Ordering::SeqCst);
            }
            let add = |old: u64| Some(u64::from_le(old).wrapping_add(value).to_le());
            let was = number.fetch_update(Ordering::SeqCst, Ordering::SeqCst, add);
            u64::from_le(was.unwrap_or_default())
        })
    }

    /// Replaces the expected number; returns what was there.
    ///
    /// # Errors
    /// [`Errno::Access`], [`Errno::Fault`], [`Errno::Invalid`].
    pub fn compare_and_swap_u32(&self, offset: u64, expected: u32, new: u32) -> Result<u32> {
        let (expected, new) = (expected.to_le(), new.to_le());
        self.change(offset, |number: &AtomicU32| {
            let was = number.compare_exchange(expected, new, Ordering::SeqCst, Ordering::SeqCst);
            u32::from_le(was.unwrap_or_else(|was| was))
        })
    }

    /// Replaces the expected number; returns what was there.
    ///
    /// # Errors
    /// [`Errno::Access`], [`Errno::Fault`], [`Errno::Invalid`].
    pub fn compare_and_swap_u64(&self, offset: u64, expected: u64, new: u64) -> Result<u64> {
        let (expected, new) = (expected.to_le(), new.to_le());
        self.change(offset, |number: &AtomicU64| {
            let was = number.compare_exchange(expected, new, Ordering::SeqCst, Ordering::SeqCst);
            u64::from_le(was.unwrap_or_else(|was| was))
        })
    }

    fn change<A: Atomic, R>(&self, offset: u64, change: impl FnOnce(&A) -> R) -> Result<R> {
        self.check_writable()?;
        self.0.shared.with(offset, change)
    }

    fn check_writable(&self) -> Result<()> {
        if self.0.writable { Ok(()) } else { Err(Errno::Access) }
    }

    /// Waits for [`Self::notify`] where the number is the expected one.
    ///
    /// # Errors
    /// [`Errno::Canceled`], [`Errno::TimedOut`], [`Errno::Fault`], [`Errno::Invalid`], [`Errno::NoMemory`].
    pub async fn wait(&self, offset: u64, expected: u32, timeout: Option<Duration>) -> Result<WaitResult> {
        let waiting = self.begin_wait(offset, expected)?;
        if !waiting.is_waiting() {
            return Ok(WaitResult::Mismatch);
        }
        let shared = &self.0.shared;
        let attempt = || if waiting.is_over() { Ok(WaitResult::Notified) } else { Err(Errno::Again) };
        wait::until(self.0.place.handle(), timeout, || shared.notified.notified(), attempt).await
    }

    /// Begins to wait: see [`AddressWait::ready`]. It counts as a handle.
    ///
    /// # Errors
    /// [`Errno::Fault`], [`Errno::Invalid`], [`Errno::NoMemory`].
    pub fn begin_wait(&self, offset: u64, expected: u32) -> Result<AddressWait> {
        let place = self.0.place.handle().place().map_err(|_| Errno::NoMemory)?;
        let shared = Arc::clone(&self.0.shared);
        let mut addresses = lock(&shared.addresses);
        let now = self.load_u32(offset)?;
        let ticket = (now == expected).then(|| addresses.enqueue(offset));
        drop(addresses);
        Ok(AddressWait { shared, ticket, place })
    }

    /// Wakes up to `count` of those who wait at `offset`; how many.
    ///
    /// # Errors
    /// [`Errno::Fault`], [`Errno::Invalid`].
    pub fn notify(&self, offset: u64, count: u32) -> Result<u32> {
        self.load_u32(offset)?;
        let shared = &self.0.shared;
        let woken = lock(&shared.addresses).notify(offset, count);
        shared.notified.notify_waiters();
        let native = match &*lock(&shared.mapping) {
            Some(mapping) => mapping.wake(offset as usize, count - woken),
            None => 0,
        };
        Ok(woken + native)
    }
}

/// A wait on an address, ended by being dropped.
#[derive(Debug)]
pub struct AddressWait {
    shared: Arc<Shared>,
    /// None: the number was not the expected one.
    ticket: Option<Ticket>,
    place: Place,
}

impl AddressWait {
    fn is_waiting(&self) -> bool {
        self.ticket.is_some()
    }

    fn is_over(&self) -> bool {
        self.ticket.is_none_or(|ticket| lock(&self.shared.addresses).is_notified(ticket))
    }

    /// Ends when it is notified, or was never to wait, or the container is asked to end.
    pub async fn ready(&self) {
        let handle = self.place.handle();
        wait::ready(handle, || self.shared.notified.notified(), || self.is_over()).await;
    }
}

impl Drop for AddressWait {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            lock(&self.shared.addresses).remove(ticket);
        }
    }
}
