//! A file that is read from an offset on, for both versions of WASI.
//!
//! ```text
//! read ─► is it in memory? ─ yes ─► copied at once (RWF_NOWAIT)
//!                          └ no ──► a thread of the container's user
//! ```
//!
//! A read of what is in the page cache takes the kernel a microsecond; to hand it to a thread and back takes as much
//! on one CPU, and many times that on two. The kernel promises to fail rather than to wait for a disk.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rustix::fs::fstat;
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::container::user::FileUser;

/// A file, where it is read, and by whom.
pub(super) struct Reader {
    file: Arc<File>,
    /// Of the next byte.
    pub(super) position: u64,
    pub(super) user: FileUser,
    /// Whether the file can be asked for what is in memory: not those of tmpfs, overlayfs and network file systems.
    has_cache: bool,
}

impl Reader {
    pub(super) fn new(file: Arc<File>, position: u64, user: FileUser) -> Self {
        Self { file, position, user, has_cache: true }
    }

    /// Reads into the buffer what is in memory: so many bytes, 0 at the end of the file. `None`: a thread has to read it,
    /// or to say what is wrong with it.
    pub(super) fn read_cached_into(&mut self, buffer: &mut [u8]) -> Option<usize> {
        // -1 is another call: it reads at the file's own offset (preadv2(2)).
        if !self.has_cache || i64::try_from(self.position).is_err() {
            return None;
        }
        let read = preadv2(&self.file, &mut [IoSliceMut::new(buffer)], self.position, ReadWriteFlags::NOWAIT);
        self.has_cache = !matches!(read, Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM));
        let read = read.ok()?;
        // Linux 5.9 and 5.10 say 0 as well where they would have to wait (preadv2(2), bugs).
        (read > 0 || self.is_at_end()).then_some(read)
    }

    /// Whether there is nothing to read, as far as the file's size tells.
    fn is_at_end(&self) -> bool {
        fstat(&self.file)
            .is_ok_and(|stat| u64::try_from(stat.st_size).is_ok_and(|size| size <= self.position))
    }

    /// [`Self::read_cached_into`] a buffer of this size.
    pub(super) fn read_cached(&mut self, size: usize) -> Option<Bytes> {
        if !self.has_cache {
            return None;
        }
        let mut buffer = BytesMut::zeroed(size);
        let read = self.read_cached_into(&mut buffer)?;
        buffer.truncate(read);
        Some(buffer.freeze())
    }

    /// What a thread does to read up to `size` bytes; none at the end of the file.
    pub(super) fn reading(&self, size: usize) -> impl FnOnce() -> io::Result<Bytes> + Send + use<> {
        let (file, position) = (Arc::clone(&self.file), self.position);
        move || {
            let mut buffer = BytesMut::zeroed(size);
            let read = loop {
                match file.read_at(&mut buffer, position) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => break read?,
                }
            };
            buffer.truncate(read);
            Ok(buffer.freeze())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(file: &File, position: u64) -> Reader {
        Reader::new(Arc::new(file.try_clone().unwrap()), position, FileUser::default())
    }

    #[test]
    fn reads_what_is_there_with_and_without_a_thread() {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, b"0123456789").unwrap();
        for (position, size, expected) in
            [(0, 4, &b"0123"[..]), (8, 4, b"89"), (10, 4, b""), (1 << 40, 4, b"")]
        {
            let mut reader = reader(&file, position);
            assert_eq!(reader.reading(size)().unwrap(), expected, "{position}");
            // Just written: in memory, wherever the file system can tell.
            if let Some(read) = reader.read_cached(size) {
                assert_eq!(read, expected, "{position}");
            }
            assert_eq!(reader.is_at_end(), expected.is_empty(), "{position}");
        }
        for position in [u64::MAX, 1 << 63] {
            let mut reader = reader(&file, position);
            assert!(reader.read_cached(4).is_none());
            assert!(reader.reading(4)().is_err());
        }
    }
}
