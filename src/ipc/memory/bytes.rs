//! The bytes of a segment: its length, reading, writing, copying. The kernel does all of it.

use std::os::unix::fs::FileExt;

use nix::fcntl::{FallocateFlags, fallocate};

use super::Segment;
use crate::ipc::{Errno, Result};

/// Most bytes that are read at once, and so that the host allocates for it. As for files and sockets.
const MAX_READ: u64 = 64 << 10;

/// Most bytes that are copied at once: a tenth of a millisecond.
const MAX_COPY: u64 = 1 << 20;

/// Bytes that are allocated at once without another thread's help: a tenth of a millisecond.
const ALLOCATED_AT_ONCE: u64 = 1 << 20;

impl Segment {
    /// How long it is, bytes.
    ///
    /// # Errors
    /// The kernel's; none is known.
    pub fn size(&self) -> Result<u64> {
        self.0.shared.words.size()
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
        Ok(self.0.shared.words.file.set_len(size)?)
    }

    /// Allocates the bytes from `now` to `size`.
    pub(super) async fn grow(&self, now: u64, size: u64) -> Result<()> {
        let allocate = {
            let file = self.0.shared.words.file.try_clone()?;
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
        let read = self.0.shared.words.file.read_at(&mut bytes, offset)?;
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
        Ok(self.0.shared.words.file.write_all_at(bytes, offset)?)
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
        source.0.shared.words.file.read_exact_at(&mut bytes, source_offset).map_err(|_| Errno::Fault)?;
        self.write(offset, &bytes)
    }
}
