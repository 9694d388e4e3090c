//! Why an operation failed.

use std::{fmt, io};

use crate::bindings::peapod::ipc::types::Errno;

/// The name that POSIX has for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Error(pub Errno);

/// Result of an operation.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Whether the container is asked to end: time to clean up and return.
    pub fn is_stop(self) -> bool {
        self.0 == Errno::Ecanceled
    }

    /// Whether it would have had to wait (`try_…`), or has waited as long as it should.
    pub fn is_timeout(self) -> bool {
        matches!(self.0, Errno::Eagain | Errno::Etimedout)
    }
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Self(errno)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name().to_uppercase().replace('-', ""))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}: {}", self.0.message().lines().next().unwrap_or_default())
    }
}

impl std::error::Error for Error {}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.0 {
            Errno::Eacces => io::ErrorKind::PermissionDenied,
            Errno::Eagain => io::ErrorKind::WouldBlock,
            Errno::Eexist => io::ErrorKind::AlreadyExists,
            Errno::Einval | Errno::Efault | Errno::Enametoolong => io::ErrorKind::InvalidInput,
            Errno::Enoent => io::ErrorKind::NotFound,
            Errno::Enomem => io::ErrorKind::OutOfMemory,
            Errno::Epipe => io::ErrorKind::BrokenPipe,
            Errno::Etimedout => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
