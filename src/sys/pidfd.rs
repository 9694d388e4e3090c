//! A process as a file descriptor (`pidfd_open(2)`): no pid is ever signalled after its process has ended.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With an exit code.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

impl Exit {
    /// The code a shell would show: the exit code, or 128 + the signal.
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// A descriptor of process `pid`.
///
/// # Errors
/// ESRCH when there is no such process.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Sends `signal`. A process that has ended already is no error.
///
/// # Errors
/// `pidfd_send_signal(2)`'s other errors.
pub fn signal(process: impl AsFd, signal: Signal) -> io::Result<()> {
    // SAFETY: an open descriptor, a valid signal number, no siginfo, no flags.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_fd().as_raw_fd(),
            signal as i32,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    match result {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            error => Err(error),
        },
    }
}

/// Waits until the child has ended and reaps it.
///
/// # Errors
/// ECHILD when it is not a child of this process, or was reaped already.
pub fn wait(process: impl AsFd) -> io::Result<Exit> {
    loop {
        match waitid(Id::PIDFd(process.as_fd()), WaitPidFlag::WEXITED) {
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(status) => {
                if let Some(exit) = ended(status) {
                    return Ok(exit);
                }
            }
        }
    }
}

/// [`wait`] without waiting: `None` while the child lives.
///
/// # Errors
/// As [`wait`].
pub fn try_wait(process: impl AsFd) -> io::Result<Option<Exit>> {
    Ok(ended(waitid(Id::PIDFd(process.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG)?))
}

fn ended(status: WaitStatus) -> Option<Exit> {
    match status {
        WaitStatus::Exited(_, code) => Some(Exit::Code(code)),
        WaitStatus::Signaled(_, signal, _) => Some(Exit::Signal(signal as i32)),
        _ => None,
    }
}
