//! How many kernel sockets a container has. The memory plane's sockets are none: they cost memory, which is
//! bounded by [`super::MAX_SOCKETS`] and the pod's [`budget`](super::budget), and no open file.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Error, MAX_SOCKETS, Result};

/// A container's kernel sockets take no more than one in so many of the files that the pod process may open: the
/// other containers' sockets, volumes and logs need theirs.
const SHARE_OF_FILES: usize = 4;

/// The most kernel sockets of one container in a process that may open `files` files.
pub(super) fn limit(files: u64) -> usize {
    usize::try_from(files).unwrap_or(usize::MAX).div_ceil(SHARE_OF_FILES).min(MAX_SOCKETS)
}

/// The kernel sockets of one container; clones are the same count.
#[derive(Debug, Clone)]
pub(super) struct Files {
    taken: Arc<AtomicUsize>,
    limit: usize,
}

/// The right to one kernel socket, given back when it is dropped.
#[derive(Debug)]
pub(super) struct File(Arc<AtomicUsize>);

impl Files {
    pub(super) fn new(limit: usize) -> Self {
        Self { taken: Arc::default(), limit }
    }

    /// # Errors
    /// [`Error::TooManySockets`].
    pub(super) fn take(&self) -> Result<File> {
        let add = |taken| (taken < self.limit).then_some(taken + 1);
        match self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) {
            Ok(_) => Ok(File(self.taken.clone())),
            Err(_) => Err(Error::TooManySockets),
        }
    }

    /// Sees to it that there is one.
    ///
    /// # Errors
    /// [`Error::TooManySockets`].
    pub(super) fn ensure(&self, file: &mut Option<File>) -> Result<()> {
        if file.is_none() {
            *file = Some(self.take()?);
        }
        Ok(())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_leaves_files_to_the_others() {
        assert_eq!(limit(1024), 256);
        assert_eq!(limit(1 << 20), MAX_SOCKETS);
        assert_eq!(limit(u64::MAX), MAX_SOCKETS);
    }

    #[test]
    fn what_is_dropped_may_be_taken_again() {
        let files = Files::new(1);
        let mut first = None;
        files.ensure(&mut first).expect("one");
        files.ensure(&mut first).expect("it is there already");
        assert_eq!(files.take().err(), Some(Error::TooManySockets));
        drop(first);
        assert!(files.take().is_ok());
    }
}
