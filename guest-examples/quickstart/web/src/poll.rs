//! The C library's `poll`, which the standard library does not offer: wait for many sockets at once.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

/// What to wait for on one descriptor, and what came of it: `struct pollfd` of wasi-libc's `poll.h`.
#[repr(C)]
pub struct Interest {
    fd: RawFd,
    events: i16,
    revents: i16,
}

const POLLIN: i16 = 0x1;
const POLLOUT: i16 = 0x2;

unsafe extern "C" {
    fn poll(fds: *mut Interest, count: usize, timeout_ms: i32) -> i32;
}

/// Interest in input, or in a connection to accept.
pub fn readable(fd: RawFd) -> Interest {
    Interest { fd, events: POLLIN, revents: 0 }
}

/// Interest in room for output.
pub fn writable(fd: RawFd) -> Interest {
    Interest { fd, events: POLLOUT, revents: 0 }
}

impl Interest {
    /// Whether the last [`wait`] reported anything; errors count, the next call on the socket returns them.
    pub fn is_ready(&self) -> bool {
        self.revents != 0
    }
}

/// Sleeps until at least one interest is ready or `timeout` is over.
pub fn wait(interests: &mut [Interest], timeout: Duration) -> io::Result<()> {
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: `Interest` has the layout of `struct pollfd`, and the slice is valid for its own length.
    let ready = unsafe { poll(interests.as_mut_ptr(), interests.len(), timeout_ms) };
    if ready < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
