//! A descriptor that is readable when something has happened, on tokio's event loop.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The longest of what is read at once, bytes: some events of inotify(7).
const READ_BYTES: usize = 4096;

/// Waits for notices and does not care what they say: eventfd(2), inotify(7).
#[derive(Debug)]
pub struct Notices(AsyncFd<OwnedFd>);

impl Notices {
    /// Of a descriptor that does not block. To be called on the event loop.
    ///
    /// # Errors
    /// epoll_ctl(2)'s.
    pub fn new(descriptor: OwnedFd) -> io::Result<Self> {
        // SAFETY: an `OwnedFd` is open, and the same, until it is dropped, which the `AsyncFd` that owns it alone
        // sees to.
        let waiting = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
        Ok(Self(waiting.map_err(io::Error::from)?))
    }

    /// Waits for the next. Safe to cancel.
    ///
    /// # Errors
    /// read(2)'s.
    pub async fn next(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut buffer = [0; READ_BYTES];
            let read = |fd: &AsyncFd<OwnedFd>| {
                nix::unistd::read(fd.get_ref().as_fd(), &mut buffer).map_err(io::Error::from)
            };
            if let Ok(read) = ready.try_io(read) {
                return read.map(drop);
            }
        }
    }
}
