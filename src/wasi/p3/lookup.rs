//! `ip-name-lookup`.

use wasmtime::component::Accessor;

use super::bindings::wasi::sockets::ip_name_lookup::{ErrorCode, Host, HostWithStore};
use super::bindings::wasi::sockets::types::IpAddress;
use crate::net;
use crate::wasi::{Sockets, SocketsCtxView};

impl<T> HostWithStore<T> for Sockets {
    async fn resolve_addresses(
        store: &Accessor<T, Self>,
        name: String,
    ) -> wasmtime::Result<Result<Vec<IpAddress>, ErrorCode>> {
        let lookup = store.with(|mut view| view.get().ctx.endpoint.resolve(name));
        let found = lookup.await.map_err(ErrorCode::from);
        Ok(found.map(|addresses| addresses.into_iter().map(IpAddress::from).collect()))
    }
}

impl Host for SocketsCtxView<'_> {}

impl From<net::Error> for ErrorCode {
    fn from(error: net::Error) -> Self {
        match error {
            net::Error::AccessDenied => Self::AccessDenied,
            net::Error::InvalidArgument => Self::InvalidArgument,
            net::Error::NameUnresolvable => Self::NameUnresolvable,
            net::Error::TemporaryResolverFailure => Self::TemporaryResolverFailure,
            net::Error::PermanentResolverFailure => Self::PermanentResolverFailure,
            error => Self::Other(Some(error.to_string())),
        }
    }
}
