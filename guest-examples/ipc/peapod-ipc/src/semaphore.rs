//! Semaphores, with permits that are given back when they go out of scope.

use std::time::Duration;

use crate::bindings::peapod::ipc::semaphore;
use crate::bindings::peapod::ipc::types::OpenFlags;
use crate::{Result, nanoseconds};

/// An open semaphore. What it has acquired and not released is given back when this is dropped, or when the container
/// ends, however that happens.
pub struct Semaphore(semaphore::Semaphore);

impl Semaphore {
    /// Opens a semaphore that is there.
    pub fn open(name: &str) -> Result<Self> {
        Ok(Self(semaphore::Semaphore::open(name, OpenFlags::empty(), 0, true)?))
    }

    /// Opens a semaphore; makes it with so many permits where it is not there. With 1 it is a lock.
    pub fn create(name: &str, permits: u32) -> Result<Self> {
        Ok(Self(semaphore::Semaphore::open(name, OpenFlags::CREATE, permits, true)?))
    }

    /// Like [`Self::create`], for a semaphore that counts things: what was acquired stays so when the container ends.
    pub fn create_counter(name: &str, permits: u32) -> Result<Self> {
        Ok(Self(semaphore::Semaphore::open(name, OpenFlags::CREATE, permits, false)?))
    }

    /// Removes a semaphore's name.
    pub fn unlink(name: &str) -> Result<()> {
        Ok(semaphore::unlink(name)?)
    }

    /// Acquires a permit, in turn.
    pub fn acquire(&self) -> Result<Permits<'_>> {
        self.0.acquire(1, None)?;
        Ok(Permits { semaphore: self, count: 1 })
    }

    /// Acquires a permit, in turn, but waits no longer.
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permits<'_>> {
        self.0.acquire(1, nanoseconds(timeout))?;
        Ok(Permits { semaphore: self, count: 1 })
    }

    /// Acquires several permits at once, in turn.
    pub fn acquire_many(&self, count: u32) -> Result<Permits<'_>> {
        self.0.acquire(count, None)?;
        Ok(Permits { semaphore: self, count })
    }

    /// Acquires a permit if one is there.
    pub fn try_acquire(&self) -> Result<Permits<'_>> {
        self.0.try_acquire(1)?;
        Ok(Permits { semaphore: self, count: 1 })
    }

    /// Adds permits.
    pub fn release(&self, count: u32) -> Result<()> {
        Ok(self.0.release(count)?)
    }

    /// Permits that are there.
    pub fn value(&self) -> u32 {
        self.0.value()
    }

    /// The resource, for pollables.
    pub fn as_resource(&self) -> &semaphore::Semaphore {
        &self.0
    }
}

/// Acquired permits, released when they are dropped.
pub struct Permits<'a> {
    semaphore: &'a Semaphore,
    count: u32,
}

impl Permits<'_> {
    /// Keeps them: somebody else releases.
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Permits<'_> {
    fn drop(&mut self) {
        // There is room for what was taken, unless somebody else released too much.
        let _ = self.semaphore.release(self.count);
    }
}
