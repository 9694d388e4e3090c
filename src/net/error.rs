//! The errors of sockets and name lookups, for every version of WASI.
//!
//! Each variant is one errno (or one `EAI_` code); [`crate::wasi`] maps them to the error codes of
//! the WIT it serves. A kernel error and the same error of the memory plane are one value.

use std::io;

use rustix::io::Errno;

/// Why a socket operation or a name lookup failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// EACCES, EPERM: a privileged port, or the pod's policy forbids it.
    #[error("access denied")]
    AccessDenied,
    /// EOPNOTSUPP and its relatives.
    #[error("not supported")]
    NotSupported,
    /// EINVAL.
    #[error("invalid argument")]
    InvalidArgument,
    /// ENOMEM, ENOBUFS.
    #[error("out of memory")]
    OutOfMemory,
    /// ETIMEDOUT.
    #[error("timed out")]
    Timeout,
    /// EISCONN, ENOTCONN, EDESTADDRREQ, and EINVAL where the socket's state is the reason.
    #[error("not valid in the socket's state")]
    InvalidState,
    /// EMFILE, ENFILE, or more sockets in one container than [`super::MAX_SOCKETS`] or its share of the
    /// process's open files.
    #[error("too many sockets")]
    TooManySockets,
    /// EADDRNOTAVAIL.
    #[error("address not available here")]
    AddressNotBindable,
    /// EADDRINUSE, or no ephemeral port is left.
    #[error("address in use")]
    AddressInUse,
    /// EHOSTUNREACH, EHOSTDOWN, ENETUNREACH, ENETDOWN, ENONET.
    #[error("remote unreachable")]
    RemoteUnreachable,
    /// ECONNREFUSED.
    #[error("connection refused")]
    ConnectionRefused,
    /// EPIPE: written to a connection that can no longer be written to.
    #[error("connection broken")]
    ConnectionBroken,
    /// ECONNRESET.
    #[error("connection reset")]
    ConnectionReset,
    /// ECONNABORTED.
    #[error("connection aborted")]
    ConnectionAborted,
    /// EMSGSIZE.
    #[error("datagram too large")]
    DatagramTooLarge,
    /// EAI_NONAME, EAI_NODATA.
    #[error("name does not resolve")]
    NameUnresolvable,
    /// EAI_AGAIN.
    #[error("the resolver failed for now; try again")]
    TemporaryResolverFailure,
    /// EAI_FAIL.
    #[error("the resolver failed")]
    PermanentResolverFailure,
    /// Any other errno; 0 when the error carried none.
    #[error("i/o error (errno {0})")]
    Other(i32),
}

/// Result of a socket operation.
pub type Result<T> = std::result::Result<T, Error>;

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::PERM | Errno::ACCESS => Self::AccessDenied,
            Errno::OPNOTSUPP
            | Errno::NOPROTOOPT
            | Errno::PFNOSUPPORT
            | Errno::PROTONOSUPPORT
            | Errno::PROTOTYPE
            | Errno::SOCKTNOSUPPORT
            | Errno::AFNOSUPPORT => Self::NotSupported,
            Errno::INVAL => Self::InvalidArgument,
            Errno::NOMEM | Errno::NOBUFS => Self::OutOfMemory,
            Errno::TIMEDOUT => Self::Timeout,
            Errno::ISCONN | Errno::NOTCONN | Errno::DESTADDRREQ => Self::InvalidState,
            Errno::MFILE | Errno::NFILE => Self::TooManySockets,
            Errno::ADDRNOTAVAIL => Self::AddressNotBindable,
            Errno::ADDRINUSE => Self::AddressInUse,
            Errno::HOSTUNREACH | Errno::HOSTDOWN | Errno::NETDOWN | Errno::NETUNREACH | Errno::NONET => {
                Self::RemoteUnreachable
            }
            Errno::CONNREFUSED => Self::ConnectionRefused,
            Errno::PIPE => Self::ConnectionBroken,
            Errno::CONNRESET => Self::ConnectionReset,
            Errno::CONNABORTED => Self::ConnectionAborted,
            Errno::MSGSIZE => Self::DatagramTooLarge,
            other => Self::Other(other.raw_os_error()),
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            Some(errno) => errno.into(),
            None => Self::Other(0),
        }
    }
}
