//! A segment's file, its one mapping, and who waits on its addresses.

use std::fs::File;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::addresses::Addresses;
use super::lock;
use crate::ipc::{Errno, Result};
use crate::sys::shared::{Atomic, Mapping};

/// What all who have a segment open share, and the thread that watches it.
#[derive(Debug)]
pub(super) struct Words {
    pub(super) file: File,
    mapping: Mutex<Option<Arc<Mapping>>>,
    /// Taken before the mapping.
    pub(super) addresses: Mutex<Addresses>,
    pub(super) notified: Notify,
}

impl Words {
    pub(super) fn new(file: File) -> Self {
        Self { file, mapping: Mutex::new(None), addresses: Mutex::default(), notified: Notify::new() }
    }

    pub(super) fn size(&self) -> Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Does something with the number at `offset`.
    pub(super) fn with<A: Atomic, R>(&self, offset: u64, access: impl FnOnce(&A) -> R) -> Result<R> {
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
            *mapping = Some(Arc::new(Mapping::new(&self.file, length)?));
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

    /// The number at `offset`.
    pub(super) fn number(&self, offset: u64) -> Result<u32> {
        self.with(offset, |number: &AtomicU32| u32::from_le(number.load(Ordering::SeqCst)))
    }

    /// The mapping, after [`Self::with`].
    pub(super) fn mapped(&self) -> Option<Arc<Mapping>> {
        lock(&self.mapping).clone()
    }

    /// Wakes up to `count` threads that wait at `offset` in the kernel; how many.
    pub(super) fn wake(&self, offset: u64, count: u32) -> u32 {
        lock(&self.mapping).as_ref().map_or(0, |mapping| mapping.wake(offset as usize, count))
    }
}
