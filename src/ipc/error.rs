//! Why an operation failed: POSIX' names, which `peapod:ipc` passes on.

use std::io;

use nix::errno::Errno as Kernel;

/// The errors of `peapod:ipc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Errno {
    /// EACCES, EPERM.
    #[error("permission denied")]
    Access,
    /// EAGAIN: it would have to wait.
    #[error("it would have to wait")]
    Again,
    /// ECANCELED: the container is asked to end.
    #[error("the container is asked to end")]
    Canceled,
    /// EEXIST.
    #[error("it is there already")]
    Exist,
    /// EFAULT: outside a segment.
    #[error("outside the segment")]
    Fault,
    /// EFBIG.
    #[error("too large")]
    TooBig,
    /// EINVAL.
    #[error("invalid argument")]
    Invalid,
    /// EIO, and whatever has no name here.
    #[error("input or output failed")]
    Io,
    /// EMFILE, ENFILE: too many handles.
    #[error("too many handles")]
    TooManyHandles,
    /// EMSGSIZE.
    #[error("the message is too long")]
    MessageSize,
    /// ENAMETOOLONG.
    #[error("the name is too long")]
    NameTooLong,
    /// ENOENT.
    #[error("there is none of this name")]
    NoEntry,
    /// ENOMEM.
    #[error("not enough memory, or too many that wait")]
    NoMemory,
    /// ENOSPC: a limit of the pod.
    #[error("a limit of the pod is reached, or its shared memory is full")]
    NoSpace,
    /// ENOSYS, ENODEV.
    #[error("not supported by this kernel")]
    NotSupported,
    /// EOVERFLOW.
    #[error("the value would be too large")]
    Overflow,
    /// EPIPE.
    #[error("nobody receives any more")]
    Pipe,
    /// ETIMEDOUT.
    #[error("timed out")]
    TimedOut,
}

/// Result of an operation.
pub type Result<T> = std::result::Result<T, Errno>;

impl From<Kernel> for Errno {
    fn from(errno: Kernel) -> Self {
        match errno {
            // ELOOP: a symbolic link in the place of a segment.
            Kernel::EACCES | Kernel::EPERM | Kernel::EROFS | Kernel::ELOOP => Self::Access,
            Kernel::EAGAIN => Self::Again,
            Kernel::EEXIST => Self::Exist,
            Kernel::EFAULT => Self::Fault,
            Kernel::EFBIG => Self::TooBig,
            // EISDIR, ENXIO: something in the place of a segment that is no file.
            Kernel::EINVAL | Kernel::EISDIR | Kernel::ENXIO => Self::Invalid,
            Kernel::EMFILE | Kernel::ENFILE => Self::TooManyHandles,
            // Of a descriptor that was not opened for it (mq_send(3), write(2)).
            Kernel::EBADF => Self::Access,
            Kernel::EMSGSIZE => Self::MessageSize,
            Kernel::ENAMETOOLONG => Self::NameTooLong,
            Kernel::ENOENT => Self::NoEntry,
            Kernel::ENOMEM => Self::NoMemory,
            Kernel::ENOSPC | Kernel::EDQUOT => Self::NoSpace,
            Kernel::ENOSYS | Kernel::ENODEV | Kernel::EOPNOTSUPP => Self::NotSupported,
            Kernel::EOVERFLOW => Self::Overflow,
            Kernel::ETIMEDOUT => Self::TimedOut,
            _ => Self::Io,
        }
    }
}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Self {
        error.raw_os_error().map_or(Self::Io, |raw| Kernel::from_raw(raw).into())
    }
}
