//! `instance-network` and `network`: the capability, and the error codes.

use wasmtime::component::Resource;

use super::bindings::wasi::sockets::network::{ErrorCode, Host, HostNetwork};
use super::bindings::wasi::sockets::{instance_network, network};
use super::{SocketError, SocketResult};
use crate::net;
use crate::wasi::SocketsCtxView;
use crate::wasi::convert::address_conversions;

/// The capability to use the network. It says nothing by itself: what a container may do is decided
/// by its pod's [policy](crate::net::policy).
#[derive(Debug)]
pub struct Network(());

address_conversions!(super::bindings::wasi::sockets::network);

impl instance_network::Host for SocketsCtxView<'_> {
    fn instance_network(&mut self) -> wasmtime::Result<Resource<Network>> {
        Ok(self.table.push(Network(()))?)
    }
}

impl Host for SocketsCtxView<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        error.into_code()
    }

    fn network_error_code(&mut self, error: Resource<network::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        Ok(self.table.get(&error)?.downcast_ref::<net::Error>().map(|e| (*e).into()))
    }
}

impl HostNetwork for SocketsCtxView<'_> {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        self.table.delete(network)?;
        Ok(())
    }
}

impl SocketsCtxView<'_> {
    /// The guest must hold the capability that it shows.
    pub(super) fn check_network(&self, network: &Resource<Network>) -> SocketResult<()> {
        self.table.get(network)?;
        Ok(())
    }
}

impl From<net::Error> for ErrorCode {
    fn from(error: net::Error) -> Self {
        match error {
            net::Error::AccessDenied => Self::AccessDenied,
            net::Error::NotSupported => Self::NotSupported,
            net::Error::InvalidArgument => Self::InvalidArgument,
            net::Error::OutOfMemory => Self::OutOfMemory,
            net::Error::Timeout => Self::Timeout,
            net::Error::InvalidState => Self::InvalidState,
            net::Error::TooManySockets => Self::NewSocketLimit,
            net::Error::AddressNotBindable => Self::AddressNotBindable,
            net::Error::AddressInUse => Self::AddressInUse,
            net::Error::RemoteUnreachable => Self::RemoteUnreachable,
            net::Error::ConnectionRefused => Self::ConnectionRefused,
            net::Error::ConnectionReset => Self::ConnectionReset,
            net::Error::ConnectionAborted => Self::ConnectionAborted,
            net::Error::DatagramTooLarge => Self::DatagramTooLarge,
            net::Error::NameUnresolvable => Self::NameUnresolvable,
            net::Error::TemporaryResolverFailure => Self::TemporaryResolverFailure,
            net::Error::PermanentResolverFailure => Self::PermanentResolverFailure,
            // 0.2 has no EPIPE; its streams say `closed` instead.
            net::Error::ConnectionBroken | net::Error::Other(_) => Self::Unknown,
        }
    }
}
