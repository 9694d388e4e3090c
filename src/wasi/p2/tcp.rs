//! `tcp` and `tcp-create-socket`.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream};

use super::bindings::wasi::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress};
use super::bindings::wasi::sockets::tcp::{Host, HostTcpSocket, ShutdownType};
use super::bindings::wasi::sockets::tcp_create_socket;
use super::tcp_stream::{Reader, Writer};
use super::{Network, SocketError, SocketResult};
use crate::net;
use crate::wasi::SocketsCtxView;

/// What was started and not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Bind,
    Connect,
    Listen,
}

/// A TCP socket of 0.2.
pub struct TcpSocket {
    socket: net::TcpSocket,
    operation: Option<Operation>,
    acceptor: Option<net::Acceptor>,
    /// Present once connected.
    streams: Option<(Reader, Writer)>,
}

impl Drop for TcpSocket {
    /// Before the halves go, so that the peer sees one `close` and not two `shutdown`s first. A write that goes on
    /// has the connection until it is done.
    fn drop(&mut self) {
        if !self.streams.as_ref().is_some_and(|(_, writer)| writer.lingers()) {
            self.socket.close();
        }
    }
}

impl TcpSocket {
    fn new(socket: net::TcpSocket) -> Self {
        Self { socket, operation: None, acceptor: None, streams: None }
    }

    fn start(
        &mut self,
        operation: Operation,
        run: impl FnOnce(&mut Self) -> SocketResult<()>,
    ) -> SocketResult<()> {
        if self.operation.is_some() {
            return Err(SocketError::Code(ErrorCode::ConcurrencyConflict));
        }
        run(self)?;
        self.operation = Some(operation);
        Ok(())
    }

    fn check_in_progress(&self, operation: Operation) -> SocketResult<()> {
        if self.operation == Some(operation) {
            Ok(())
        } else {
            Err(SocketError::Code(ErrorCode::NotInProgress))
        }
    }

    fn open_streams(&mut self) -> SocketResult<(DynInputStream, DynOutputStream)> {
        let reader = Reader::new(self.socket.take_receive_half()?);
        let writer = Writer::new(self.socket.take_send_half()?);
        self.streams = Some((reader.clone(), writer.clone()));
        Ok((Box::new(reader), Box::new(writer)))
    }
}

/// A poll with no one to wake: the guest asks, or has subscribed.
fn poll_now<T>(poll: impl FnOnce(&mut Context<'_>) -> Poll<net::Result<T>>) -> SocketResult<T> {
    match poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Ok(result?),
        Poll::Pending => Err(SocketError::Code(ErrorCode::WouldBlock)),
    }
}

#[async_trait]
impl Pollable for TcpSocket {
    async fn ready(&mut self) {
        match (self.operation, &mut self.acceptor) {
            (Some(Operation::Connect), _) => {
                let _ = poll_fn(|cx| self.socket.poll_connect(cx)).await;
            }
            (None, Some(acceptor)) => poll_fn(|cx| acceptor.poll_ready(cx)).await,
            _ => {}
        }
    }
}

impl tcp_create_socket::Host for SocketsCtxView<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        let socket = self.ctx.endpoint.tcp_socket(family.into())?;
        Ok(self.table.push(TcpSocket::new(socket))?)
    }
}

impl Host for SocketsCtxView<'_> {}

impl SocketsCtxView<'_> {
    fn tcp(&self, this: &Resource<TcpSocket>) -> SocketResult<&net::TcpSocket> {
        Ok(&self.table.get(this)?.socket)
    }
}

impl HostTcpSocket for SocketsCtxView<'_> {
    fn start_bind(
        &mut self,
        this: Resource<TcpSocket>,
        network: Resource<Network>,
        local: IpSocketAddress,
    ) -> SocketResult<()> {
        self.check_network(&network)?;
        self.table.get_mut(&this)?.start(Operation::Bind, |s| Ok(s.socket.bind(local.into())?))
    }

    fn finish_bind(&mut self, this: Resource<TcpSocket>) -> SocketResult<()> {
        let socket = self.table.get_mut(&this)?;
        socket.check_in_progress(Operation::Bind)?;
        socket.operation = None;
        Ok(())
    }

    fn start_connect(
        &mut self,
        this: Resource<TcpSocket>,
        network: Resource<Network>,
        remote: IpSocketAddress,
    ) -> SocketResult<()> {
        self.check_network(&network)?;
        let socket = self.table.get_mut(&this)?;
        socket.start(Operation::Connect, |s| Ok(s.socket.start_connect(remote.into())?))
    }

    fn finish_connect(
        &mut self,
        this: Resource<TcpSocket>,
    ) -> SocketResult<(Resource<DynInputStream>, Resource<DynOutputStream>)> {
        let socket = self.table.get_mut(&this)?;
        socket.check_in_progress(Operation::Connect)?;
        let connected = poll_now(|cx| socket.socket.poll_connect(cx));
        if !matches!(connected, Err(SocketError::Code(ErrorCode::WouldBlock))) {
            socket.operation = None;
        }
        connected?;
        let (input, output) = socket.open_streams()?;
        Ok((self.table.push_child(input, &this)?, self.table.push_child(output, &this)?))
    }

    fn start_listen(&mut self, this: Resource<TcpSocket>) -> SocketResult<()> {
        self.table.get_mut(&this)?.start(Operation::Listen, |s| {
            // Unlike later versions, 0.2 wants an explicit bind.
            if !s.socket.is_bound() {
                return Err(SocketError::Code(ErrorCode::InvalidState));
            }
            s.acceptor = Some(s.socket.listen()?);
            Ok(())
        })
    }

    fn finish_listen(&mut self, this: Resource<TcpSocket>) -> SocketResult<()> {
        let socket = self.table.get_mut(&this)?;
        socket.check_in_progress(Operation::Listen)?;
        socket.operation = None;
        Ok(())
    }

    fn accept(
        &mut self,
        this: Resource<TcpSocket>,
    ) -> SocketResult<(Resource<TcpSocket>, Resource<DynInputStream>, Resource<DynOutputStream>)> {
        let acceptor = self.table.get_mut(&this)?.acceptor.as_mut();
        let acceptor = acceptor.ok_or(SocketError::Code(ErrorCode::InvalidState))?;
        let mut accepted = TcpSocket::new(poll_now(|cx| acceptor.poll_accept(cx))?);
        let (input, output) = accepted.open_streams()?;
        let socket = self.table.push(accepted)?;
        let input = self.table.push_child(input, &socket)?;
        let output = self.table.push_child(output, &socket)?;
        Ok((socket, input, output))
    }

    fn local_address(&mut self, this: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        Ok(self.tcp(&this)?.local_address()?.into())
    }

    fn remote_address(&mut self, this: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        Ok(self.tcp(&this)?.remote_address()?.into())
    }

    fn is_listening(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<bool> {
        Ok(self.table.get(&this)?.socket.is_listening())
    }

    fn address_family(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<IpAddressFamily> {
        Ok(self.table.get(&this)?.socket.family().into())
    }

    fn set_listen_backlog_size(&mut self, this: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        Ok(self.tcp(&this)?.set_backlog(value)?)
    }

    fn keep_alive_enabled(&mut self, this: Resource<TcpSocket>) -> SocketResult<bool> {
        Ok(self.tcp(&this)?.keep_alive_enabled()?)
    }

    fn set_keep_alive_enabled(&mut self, this: Resource<TcpSocket>, value: bool) -> SocketResult<()> {
        Ok(self.tcp(&this)?.set_keep_alive_enabled(value)?)
    }

    fn keep_alive_idle_time(&mut self, this: Resource<TcpSocket>) -> SocketResult<u64> {
        Ok(self.tcp(&this)?.keep_alive_idle_time()?)
    }

    fn set_keep_alive_idle_time(&mut self, this: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        Ok(self.tcp(&this)?.set_keep_alive_idle_time(value)?)
    }

    fn keep_alive_interval(&mut self, this: Resource<TcpSocket>) -> SocketResult<u64> {
        Ok(self.tcp(&this)?.keep_alive_interval()?)
    }

    fn set_keep_alive_interval(&mut self, this: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        Ok(self.tcp(&this)?.set_keep_alive_interval(value)?)
    }

    fn keep_alive_count(&mut self, this: Resource<TcpSocket>) -> SocketResult<u32> {
        Ok(self.tcp(&this)?.keep_alive_count()?)
    }

    fn set_keep_alive_count(&mut self, this: Resource<TcpSocket>, value: u32) -> SocketResult<()> {
        Ok(self.tcp(&this)?.set_keep_alive_count(value)?)
    }

    fn hop_limit(&mut self, this: Resource<TcpSocket>) -> SocketResult<u8> {
        Ok(self.tcp(&this)?.hop_limit()?)
    }

    fn set_hop_limit(&mut self, this: Resource<TcpSocket>, value: u8) -> SocketResult<()> {
        Ok(self.tcp(&this)?.set_hop_limit(value)?)
    }

    fn receive_buffer_size(&mut self, this: Resource<TcpSocket>) -> SocketResult<u64> {
        Ok(self.tcp(&this)?.receive_buffer_size()?)
    }

    fn set_receive_buffer_size(&mut self, this: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        Ok(self.tcp(&this)?.set_receive_buffer_size(value)?)
    }

    fn send_buffer_size(&mut self, this: Resource<TcpSocket>) -> SocketResult<u64> {
        Ok(self.tcp(&this)?.send_buffer_size()?)
    }

    fn set_send_buffer_size(&mut self, this: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        Ok(self.tcp(&this)?.set_send_buffer_size(value)?)
    }

    fn subscribe(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn shutdown(&mut self, this: Resource<TcpSocket>, how: ShutdownType) -> SocketResult<()> {
        let streams = self.table.get(&this)?.streams.as_ref();
        let (reader, writer) = streams.ok_or(SocketError::Code(ErrorCode::InvalidState))?;
        if let ShutdownType::Receive | ShutdownType::Both = how {
            reader.shutdown();
        }
        if let ShutdownType::Send | ShutdownType::Both = how {
            writer.shutdown();
        }
        Ok(())
    }

    fn drop(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
