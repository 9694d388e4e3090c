//! `wasi:sockets` 0.3 on the pod's network.
//!
//! Operations are async functions, data are streams: the polls of [`crate::net`] are polled with the
//! component model's own wakers, and bytes are copied between the guest's memory and the pipe or the
//! kernel directly.

pub mod bindings;
mod lookup;
mod tcp;
mod tcp_stream;
mod udp;

use wasmtime::component::Linker;
use wasmtime_wasi::p3;

use self::bindings::wasi::sockets::{ip_name_lookup, types};
use super::{FilesView, Sockets, SocketsCtxView, SocketsView, filesystem};
use crate::net;
use crate::wasi::convert::address_conversions;

/// What a socket call of 0.3 fails with.
pub type SocketError = super::SocketError<types::ErrorCode>;

/// Result of a socket call of 0.3.
pub type SocketResult<T> = Result<T, SocketError>;

address_conversions!(self::bindings::wasi::sockets::types);

/// Adds WASI 0.3 to the linker: peapod's sockets, wasmtime-wasi's everything else.
pub(super) fn add_to_linker<T>(linker: &mut Linker<T>) -> wasmtime::Result<()>
where
    T: FilesView + SocketsView + 'static,
{
    p3::cli::add_to_linker(linker)?;
    p3::clocks::add_to_linker(linker)?;
    filesystem::add_p3_to_linker(linker)?;
    p3::random::add_to_linker(linker)?;
    ip_name_lookup::add_to_linker::<T, Sockets>(linker, <T as SocketsView>::sockets)?;
    types::add_to_linker::<T, Sockets>(linker, <T as SocketsView>::sockets)
}

impl types::Host for SocketsCtxView<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<types::ErrorCode> {
        error.into_code()
    }
}

impl From<net::Error> for types::ErrorCode {
    fn from(error: net::Error) -> Self {
        match error {
            net::Error::AccessDenied => Self::AccessDenied,
            net::Error::NotSupported => Self::NotSupported,
            net::Error::InvalidArgument => Self::InvalidArgument,
            net::Error::OutOfMemory => Self::OutOfMemory,
            net::Error::Timeout => Self::Timeout,
            net::Error::InvalidState => Self::InvalidState,
            net::Error::AddressNotBindable => Self::AddressNotBindable,
            net::Error::AddressInUse => Self::AddressInUse,
            net::Error::RemoteUnreachable => Self::RemoteUnreachable,
            net::Error::ConnectionRefused => Self::ConnectionRefused,
            net::Error::ConnectionBroken => Self::ConnectionBroken,
            net::Error::ConnectionReset => Self::ConnectionReset,
            net::Error::ConnectionAborted => Self::ConnectionAborted,
            net::Error::DatagramTooLarge => Self::DatagramTooLarge,
            net::Error::TooManySockets
            | net::Error::NameUnresolvable
            | net::Error::TemporaryResolverFailure
            | net::Error::PermanentResolverFailure
            | net::Error::Other(_) => Self::Other(Some(error.to_string())),
        }
    }
}
