//! Shared memory: bytes by copy, numbers in place.

use std::time::Duration;

use crate::bindings::peapod::ipc::shared_memory::{self, Access, OpenFlags, WaitResult};
use crate::{Result, nanoseconds};

/// An open segment.
pub struct SharedMemory(shared_memory::Segment);

impl SharedMemory {
    /// Opens a segment that is there, to read and to write.
    pub fn open(name: &str) -> Result<Self> {
        Ok(Self(shared_memory::Segment::open(name, Access::ReadWrite, OpenFlags::empty(), None)?))
    }

    /// Opens a segment that is there, to read only.
    pub fn open_read_only(name: &str) -> Result<Self> {
        Ok(Self(shared_memory::Segment::open(name, Access::ReadOnly, OpenFlags::empty(), None)?))
    }

    /// Opens a segment; makes it with so many zeros where it is not there.
    pub fn create(name: &str, size: u64) -> Result<Self> {
        Ok(Self(shared_memory::Segment::open(name, Access::ReadWrite, OpenFlags::CREATE, Some(size))?))
    }

    /// Removes a segment's name.
    pub fn unlink(name: &str) -> Result<()> {
        Ok(shared_memory::unlink(name)?)
    }

    /// Bytes.
    pub fn size(&self) -> Result<u64> {
        Ok(self.0.size()?)
    }

    /// Makes it longer or shorter.
    pub fn resize(&self, size: u64) -> Result<()> {
        Ok(self.0.resize(size)?)
    }

    /// Fills the buffer from `offset` on; how much there was.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            let bytes = self.0.read(offset + done as u64, (buffer.len() - done) as u64)?;
            if bytes.is_empty() {
                break;
            }
            buffer[done..done + bytes.len()].copy_from_slice(&bytes);
            done += bytes.len();
        }
        Ok(done)
    }

    /// Writes all bytes from `offset` on.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        Ok(self.0.write(offset, bytes)?)
    }

    /// Copies bytes of another segment to `offset`.
    pub fn copy_from(&self, offset: u64, source: &Self, source_offset: u64, length: u64) -> Result<()> {
        Ok(self.0.copy_from(offset, &source.0, source_offset, length)?)
    }

    /// The number at `offset`, a multiple of 4.
    pub fn u32_at(&self, offset: u64) -> SharedU32<'_> {
        SharedU32 { segment: &self.0, offset }
    }

    /// The number at `offset`, a multiple of 8.
    pub fn u64_at(&self, offset: u64) -> SharedU64<'_> {
        SharedU64 { segment: &self.0, offset }
    }

    /// The resource, for pollables.
    pub fn as_resource(&self) -> &shared_memory::Segment {
        &self.0
    }
}

/// A number in a segment, changed in place.
#[derive(Clone, Copy)]
pub struct SharedU32<'a> {
    segment: &'a shared_memory::Segment,
    offset: u64,
}

impl SharedU32<'_> {
    /// The number.
    pub fn load(self) -> Result<u32> {
        Ok(self.segment.load_u32(self.offset)?)
    }

    /// Replaces it.
    pub fn store(self, value: u32) -> Result<()> {
        Ok(self.segment.store_u32(self.offset, value)?)
    }

    /// Adds; returns what it was.
    pub fn fetch_add(self, value: u32) -> Result<u32> {
        Ok(self.segment.fetch_add_u32(self.offset, value)?)
    }

    /// Replaces the expected number; the inner result is what it was, as of `AtomicU32::compare_exchange`.
    pub fn compare_exchange(self, expected: u32, new: u32) -> Result<std::result::Result<u32, u32>> {
        let was = self.segment.compare_and_swap_u32(self.offset, expected, new)?;
        Ok(if was == expected { Ok(was) } else { Err(was) })
    }

    /// Waits for a notification while the number is the expected one; false when it is another one. Look at the number
    /// again in any case: a wait may end before there is a change.
    pub fn wait(self, expected: u32) -> Result<bool> {
        Ok(self.segment.wait(self.offset, expected, None)? == WaitResult::Notified)
    }

    /// Like [`Self::wait`], but no longer.
    pub fn wait_timeout(self, expected: u32, timeout: Duration) -> Result<bool> {
        Ok(self.segment.wait(self.offset, expected, nanoseconds(timeout))? == WaitResult::Notified)
    }

    /// Wakes one who waits; whether there was one.
    pub fn notify_one(self) -> Result<bool> {
        Ok(self.segment.notify(self.offset, 1)? > 0)
    }

    /// Wakes all who wait; how many.
    pub fn notify_all(self) -> Result<u32> {
        Ok(self.segment.notify(self.offset, u32::MAX)?)
    }
}

/// A number in a segment, changed in place.
#[derive(Clone, Copy)]
pub struct SharedU64<'a> {
    segment: &'a shared_memory::Segment,
    offset: u64,
}

impl SharedU64<'_> {
    /// The number.
    pub fn load(self) -> Result<u64> {
        Ok(self.segment.load_u64(self.offset)?)
    }

    /// Replaces it.
    pub fn store(self, value: u64) -> Result<()> {
        Ok(self.segment.store_u64(self.offset, value)?)
    }

    /// Adds; returns what it was.
    pub fn fetch_add(self, value: u64) -> Result<u64> {
        Ok(self.segment.fetch_add_u64(self.offset, value)?)
    }

    /// Replaces the expected number; the inner result is what it was, as of `AtomicU64::compare_exchange`.
    pub fn compare_exchange(self, expected: u64, new: u64) -> Result<std::result::Result<u64, u64>> {
        let was = self.segment.compare_and_swap_u64(self.offset, expected, new)?;
        Ok(if was == expected { Ok(was) } else { Err(was) })
    }
}
