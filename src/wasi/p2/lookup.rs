//! `ip-name-lookup`.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::vec;

use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::runtime::AbortOnDropJoinHandle;
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};

use super::bindings::wasi::sockets::ip_name_lookup::{Host, HostResolveAddressStream};
use super::bindings::wasi::sockets::network::{ErrorCode, IpAddress};
use super::{Network, SocketError, SocketResult};
use crate::net;
use crate::wasi::SocketsCtxView;

/// The addresses of one lookup.
pub enum ResolveAddressStream {
    /// Exits: `Found`, `Failed`.
    Pending(AbortOnDropJoinHandle<net::Result<Vec<IpAddr>>>),
    /// Final.
    Found(vec::IntoIter<IpAddr>),
    /// Final.
    Failed(net::Error),
}

impl ResolveAddressStream {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Pending(lookup) = self {
            let found = ready!(Pin::new(lookup).poll(cx));
            *self = found.into();
        }
        Poll::Ready(())
    }
}

impl From<net::Result<Vec<IpAddr>>> for ResolveAddressStream {
    fn from(found: net::Result<Vec<IpAddr>>) -> Self {
        match found {
            Ok(addresses) => Self::Found(addresses.into_iter()),
            Err(error) => Self::Failed(error),
        }
    }
}

#[async_trait]
impl Pollable for ResolveAddressStream {
    async fn ready(&mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }
}

impl Host for SocketsCtxView<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> SocketResult<Resource<ResolveAddressStream>> {
        self.check_network(&network)?;
        let mut lookup = Box::pin(self.ctx.endpoint.resolve(name));
        let stream = match lookup.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            // What fails at once, fails here.
            Poll::Ready(found) => ResolveAddressStream::Found(found?.into_iter()),
            Poll::Pending => ResolveAddressStream::Pending(wasmtime_wasi::runtime::spawn(lookup)),
        };
        Ok(self.table.push(stream)?)
    }
}

impl HostResolveAddressStream for SocketsCtxView<'_> {
    fn resolve_next_address(
        &mut self,
        this: Resource<ResolveAddressStream>,
    ) -> SocketResult<Option<IpAddress>> {
        let stream = self.table.get_mut(&this)?;
        let _ = stream.poll(&mut Context::from_waker(Waker::noop()));
        match stream {
            ResolveAddressStream::Pending(_) => Err(SocketError::Code(ErrorCode::WouldBlock)),
            ResolveAddressStream::Found(addresses) => Ok(addresses.next().map(IpAddress::from)),
            ResolveAddressStream::Failed(error) => Err((*error).into()),
        }
    }

    fn subscribe(&mut self, this: Resource<ResolveAddressStream>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Resource<ResolveAddressStream>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
