//! `udp` and `udp-create-socket`.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker, ready};

use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};

use super::bindings::wasi::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress};
use super::bindings::wasi::sockets::udp::{
    Host, HostIncomingDatagramStream, HostOutgoingDatagramStream, HostUdpSocket, IncomingDatagram,
    OutgoingDatagram,
};
use super::bindings::wasi::sockets::udp_create_socket;
use super::{Network, SocketError, SocketResult};
use crate::net;
use crate::wasi::{MAX_TRANSFER, SocketsCtxView};

/// Most datagrams one call sends or receives. wasmtime-wasi's number.
const MAX_DATAGRAMS: usize = 16;

/// A UDP socket of 0.2.
pub struct UdpSocket {
    socket: net::UdpSocket,
    binding: bool,
}

/// What a UDP socket receives.
pub struct IncomingDatagramStream {
    socket: net::UdpSocket,
    /// Met after datagrams that the same call returned; the next call's.
    error: Option<net::Error>,
}

/// What a UDP socket sends.
pub struct OutgoingDatagramStream {
    socket: net::UdpSocket,
    /// Datagrams that the last `check-send` allowed.
    permit: usize,
    /// The kernel's buffer was full at the last send.
    blocked: bool,
}

impl OutgoingDatagramStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.blocked {
            ready!(self.socket.poll_send_ready(cx));
            self.blocked = false;
        }
        Poll::Ready(())
    }
}

#[async_trait]
impl Pollable for UdpSocket {
    /// Nothing of the socket itself ever waits.
    async fn ready(&mut self) {}
}

#[async_trait]
impl Pollable for IncomingDatagramStream {
    async fn ready(&mut self) {
        if self.error.is_none() {
            poll_fn(|cx| self.socket.poll_receive_ready(cx)).await;
        }
    }
}

#[async_trait]
impl Pollable for OutgoingDatagramStream {
    async fn ready(&mut self) {
        poll_fn(|cx| self.poll_ready(cx)).await;
    }
}

impl udp_create_socket::Host for SocketsCtxView<'_> {
    fn create_udp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<UdpSocket>> {
        let socket = self.ctx.endpoint.udp_socket(family.into())?;
        Ok(self.table.push(UdpSocket { socket, binding: false })?)
    }
}

impl Host for SocketsCtxView<'_> {}

impl SocketsCtxView<'_> {
    fn udp(&self, this: &Resource<UdpSocket>) -> SocketResult<&net::UdpSocket> {
        Ok(&self.table.get(this)?.socket)
    }
}

impl HostUdpSocket for SocketsCtxView<'_> {
    fn start_bind(
        &mut self,
        this: Resource<UdpSocket>,
        network: Resource<Network>,
        local: IpSocketAddress,
    ) -> SocketResult<()> {
        self.check_network(&network)?;
        let udp = self.table.get_mut(&this)?;
        if udp.binding {
            return Err(SocketError::Code(ErrorCode::ConcurrencyConflict));
        }
        udp.socket.bind(local.into())?;
        udp.binding = true;
        Ok(())
    }

    fn finish_bind(&mut self, this: Resource<UdpSocket>) -> SocketResult<()> {
        let udp = self.table.get_mut(&this)?;
        if !std::mem::take(&mut udp.binding) {
            return Err(SocketError::Code(ErrorCode::NotInProgress));
        }
        Ok(())
    }

    fn stream(
        &mut self,
        this: Resource<UdpSocket>,
        remote: Option<IpSocketAddress>,
    ) -> SocketResult<(Resource<IncomingDatagramStream>, Resource<OutgoingDatagramStream>)> {
        let has_streams = self
            .table
            .iter_children(&this)?
            .any(|child| child.is::<IncomingDatagramStream>() || child.is::<OutgoingDatagramStream>());
        if has_streams {
            return Err(SocketError::Trap(wasmtime::format_err!("the socket's streams are not dropped yet")));
        }
        let socket = self.udp(&this)?.clone();
        // Unlike later versions, 0.2 wants an explicit bind.
        if !socket.is_bound() {
            return Err(SocketError::Code(ErrorCode::InvalidState));
        }
        match remote {
            Some(remote) => socket.connect(remote.into())?,
            None if socket.remote_address().is_ok() => socket.disconnect()?,
            None => {}
        }
        let incoming = IncomingDatagramStream { socket: socket.clone(), error: None };
        let outgoing = OutgoingDatagramStream { socket, permit: 0, blocked: false };
        Ok((self.table.push_child(incoming, &this)?, self.table.push_child(outgoing, &this)?))
    }

    fn local_address(&mut self, this: Resource<UdpSocket>) -> SocketResult<IpSocketAddress> {
        Ok(self.udp(&this)?.local_address()?.into())
    }

    fn remote_address(&mut self, this: Resource<UdpSocket>) -> SocketResult<IpSocketAddress> {
        Ok(self.udp(&this)?.remote_address()?.into())
    }

    fn address_family(&mut self, this: Resource<UdpSocket>) -> wasmtime::Result<IpAddressFamily> {
        Ok(self.table.get(&this)?.socket.family().into())
    }

    fn unicast_hop_limit(&mut self, this: Resource<UdpSocket>) -> SocketResult<u8> {
        Ok(self.udp(&this)?.hop_limit()?)
    }

    fn set_unicast_hop_limit(&mut self, this: Resource<UdpSocket>, value: u8) -> SocketResult<()> {
        Ok(self.udp(&this)?.set_hop_limit(value)?)
    }

    fn receive_buffer_size(&mut self, this: Resource<UdpSocket>) -> SocketResult<u64> {
        Ok(self.udp(&this)?.receive_buffer_size()?)
    }

    fn set_receive_buffer_size(&mut self, this: Resource<UdpSocket>, value: u64) -> SocketResult<()> {
        Ok(self.udp(&this)?.set_receive_buffer_size(value)?)
    }

    fn send_buffer_size(&mut self, this: Resource<UdpSocket>) -> SocketResult<u64> {
        Ok(self.udp(&this)?.send_buffer_size()?)
    }

    fn set_send_buffer_size(&mut self, this: Resource<UdpSocket>, value: u64) -> SocketResult<()> {
        Ok(self.udp(&this)?.set_send_buffer_size(value)?)
    }

    fn subscribe(&mut self, this: Resource<UdpSocket>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Resource<UdpSocket>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl HostIncomingDatagramStream for SocketsCtxView<'_> {
    fn receive(
        &mut self,
        this: Resource<IncomingDatagramStream>,
        max_results: u64,
    ) -> SocketResult<Vec<IncomingDatagram>> {
        let stream = self.table.get_mut(&this)?;
        let max = usize::try_from(max_results).unwrap_or(usize::MAX).min(MAX_DATAGRAMS);
        if max > 0
            && let Some(error) = stream.error.take()
        {
            return Err(error.into());
        }
        let mut datagrams = Vec::new();
        let mut bytes = 0;
        while datagrams.len() < max && bytes < MAX_TRANSFER {
            match stream.socket.poll_receive(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok((data, from))) => {
                    bytes += data.len();
                    datagrams.push(IncomingDatagram { data, remote_address: from.into() });
                }
                Poll::Ready(Err(error)) if datagrams.is_empty() => return Err(error.into()),
                Poll::Ready(Err(error)) => {
                    stream.error = Some(error);
                    break;
                }
                Poll::Pending => break,
            }
        }
        Ok(datagrams)
    }

    fn subscribe(
        &mut self,
        this: Resource<IncomingDatagramStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Resource<IncomingDatagramStream>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl HostOutgoingDatagramStream for SocketsCtxView<'_> {
    fn check_send(&mut self, this: Resource<OutgoingDatagramStream>) -> SocketResult<u64> {
        let stream = self.table.get_mut(&this)?;
        let ready = stream.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready();
        stream.permit = if ready { MAX_DATAGRAMS } else { 0 };
        Ok(stream.permit as u64)
    }

    fn send(
        &mut self,
        this: Resource<OutgoingDatagramStream>,
        datagrams: Vec<OutgoingDatagram>,
    ) -> SocketResult<u64> {
        let stream = self.table.get_mut(&this)?;
        if datagrams.is_empty() {
            return Ok(0);
        }
        if datagrams.len() > std::mem::take(&mut stream.permit) {
            return Err(SocketError::Trap(wasmtime::format_err!("send of more datagrams than permitted")));
        }
        let mut sent = 0;
        for mut datagram in datagrams {
            let remote = datagram.remote_address.map(SocketAddr::from);
            let mut cx = Context::from_waker(Waker::noop());
            match stream.socket.poll_send(&mut cx, &mut datagram.data, remote) {
                Poll::Ready(Ok(())) => sent += 1,
                Poll::Ready(Err(error)) if sent == 0 => return Err(error.into()),
                Poll::Ready(Err(_)) => break,
                Poll::Pending => {
                    stream.blocked = true;
                    break;
                }
            }
        }
        Ok(sent)
    }

    fn subscribe(
        &mut self,
        this: Resource<OutgoingDatagramStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Resource<OutgoingDatagramStream>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
