//! Opening, making and unlinking segments.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::sync::{Arc, Weak};

use nix::fcntl::OFlag;

use super::words::Words;
use super::{Opened, Segment, Shared, lock, unlink};
use crate::ipc::handle::Handle;
use crate::ipc::{Access, Errno, Name, Open, Result};

/// Tries to open a segment that others make and remove at the same time.
const ATTEMPTS: usize = 8;

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
        let place = self.file_place()?;
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
            words: Arc::new(Words::new(file)),
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
