//! inotify(7) on tokio's event loop.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::inotify::{Inotify, InotifyEvent};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// An inotify instance whose events are waited for.
#[derive(Debug)]
pub struct Events {
    inotify: Inotify,
    /// A second descriptor of it, for waiting.
    waiting: AsyncFd<OwnedFd>,
}

impl Events {
    /// Waits for the events of `inotify`, which does not block (`IN_NONBLOCK`). To be called on the event loop.
    ///
    /// # Errors
    /// dup(2)'s and epoll_ctl(2)'s.
    pub fn new(inotify: Inotify) -> io::Result<Self> {
        let descriptor = inotify.as_fd().try_clone_to_owned()?;
        // SAFETY: an `OwnedFd` is open, and the same, until it is dropped, which the `AsyncFd` that owns it alone
        // sees to.
        let waiting = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
        Ok(Self { inotify, waiting: waiting.map_err(io::Error::from)? })
    }

    /// The instance, for adding watches.
    pub fn inotify(&self) -> &Inotify {
        &self.inotify
    }

    /// The next events, at least one. Safe to cancel.
    ///
    /// # Errors
    /// read(2)'s.
    pub async fn next(&self) -> io::Result<Vec<InotifyEvent>> {
        loop {
            let mut ready = self.waiting.readable().await?;
            if let Ok(events) = ready.try_io(|_| self.inotify.read_events().map_err(io::Error::from)) {
                return events;
            }
        }
    }
}
