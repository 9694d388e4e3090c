//! A file that is written to, for both versions of WASI, by threads of the container's user.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use rustix::io::{ReadWriteFlags, pwritev2};

use crate::container::user::FileUser;

/// Where bytes are written to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// Behind what is there.
    End,
    /// At this offset.
    At(u64),
}

/// A file, where it is written to, and by whom.
pub(super) struct Writer {
    file: Arc<File>,
    place: Place,
    pub(super) user: FileUser,
}

impl Writer {
    pub(super) fn new(file: Arc<File>, place: Place, user: FileUser) -> Self {
        Self { file, place, user }
    }

    /// What a thread does to write all of them.
    pub(super) fn writing(&self, bytes: Bytes) -> impl FnOnce() -> io::Result<()> + Send + use<> {
        let (file, place) = (Arc::clone(&self.file), self.place);
        move || match place {
            Place::At(offset) => file.write_all_at(&bytes, offset),
            Place::End => append(&file, bytes),
        }
    }

    /// So many bytes have been written.
    pub(super) fn wrote(&mut self, count: usize) {
        if let Place::At(offset) = &mut self.place {
            *offset = offset.saturating_add(count as u64);
        }
    }
}

fn append(file: &File, mut bytes: Bytes) -> io::Result<()> {
    while !bytes.is_empty() {
        match pwritev2(file, &[IoSlice::new(&bytes)], 0, ReadWriteFlags::APPEND) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes.advance(written),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_at_its_place() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let mut at = Writer::new(Arc::clone(&file), Place::At(2), FileUser::default());
        let mut end = Writer::new(Arc::clone(&file), Place::End, FileUser::default());
        for _ in 0..2 {
            for writer in [&mut at, &mut end] {
                writer.writing(Bytes::from_static(b"ab"))().unwrap();
                writer.wrote(2);
            }
        }
        let mut read = [7; 16];
        let length = file.read_at(&mut read, 0).unwrap();
        // The second at 4 covers what was then the end.
        assert_eq!(&read[..length], b"\0\0ababab");
        let beyond = Writer::new(file, Place::At(u64::MAX), FileUser::default());
        assert!(beyond.writing(Bytes::from_static(b"x"))().is_err());
    }
}
