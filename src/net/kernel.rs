//! Kernel sockets of the TCP kernel plane, in the process's network namespace.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::{future::Future, io, pin::Pin};

use bytes::{Buf, Bytes, BytesMut};
use rustix::io::Errno;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::addr::Family;
use super::memory::Data;
use super::observe::{Look, SocketState};
use super::options::{Change, Options};
use super::{Error, Result};
use crate::sys::socket;

/// A connection attempt in progress.
pub(super) type Connecting = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// A new kernel socket with the options set.
pub(super) fn socket(family: Family, options: &Options) -> Result<TcpSocket> {
    let socket = match family {
        Family::V4 => TcpSocket::new_v4()?,
        Family::V6 => {
            let socket = TcpSocket::new_v6()?;
            // WIT: "On IPv6 sockets, IPV6_V6ONLY is enabled by default and can't be configured otherwise."
            sockopt::set_ipv6_v6only(&socket, true)?;
            socket
        }
    };
    options.apply(&socket, family)?;
    Ok(socket)
}

/// Binds, and returns the address with the real port.
pub(super) fn bind(socket: &TcpSocket, addr: SocketAddr) -> Result<SocketAddr> {
    // WIT: "The bind operation shouldn't be affected by the TIME_WAIT state of a recently closed
    // socket on the same local address."
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket.local_addr()?)
}

/// Starts to connect: the SYN is on its way when this returns.
pub(super) fn connect(socket: TcpSocket, remote: SocketAddr) -> Connecting {
    Box::pin(socket.connect(remote))
}

/// `listen(2)`, also to change the backlog. A bound socket on which it fails stays bound.
pub(super) fn listen(socket: impl AsFd, backlog: u32) -> Result<()> {
    Ok(rustix::net::listen(socket, backlog.try_into().unwrap_or(i32::MAX))?)
}

/// A socket on which [`listen`] succeeded, ready to accept.
pub(super) fn listener(socket: TcpSocket, backlog: u32) -> Result<TcpListener> {
    // tokio's listen consumes the socket even when it fails; that is why `listen` went before.
    Ok(socket.listen(backlog)?)
}

/// Errors that Linux reports from accept although they belong to the connection that was about to be
/// accepted (`accept(2)`, "Error handling"), and the connection that was aborted meanwhile.
pub(super) fn is_transient_accept_error(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::CONNABORTED
                | Errno::CONNRESET
                | Errno::NETRESET
                | Errno::HOSTUNREACH
                | Errno::HOSTDOWN
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::PROTO
                | Errno::NOPROTOOPT
                | Errno::NONET
                | Errno::OPNOTSUPP
                | Errno::INTR
        )
    )
}

/// A connected kernel socket. A handle: clones are the same socket; [`Self::close`] closes it for all.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    socket: Arc<Mutex<Option<TcpStream>>>,
    local: SocketAddr,
    remote: SocketAddr,
}

impl Stream {
    pub(super) fn new(stream: TcpStream) -> Result<Self> {
        let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
        Ok(Self { socket: Arc::new(Mutex::new(Some(stream))), local, remote })
    }

    fn lock(&self) -> MutexGuard<'_, Option<TcpStream>> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    pub(super) fn remote(&self) -> SocketAddr {
        self.remote
    }

    pub(super) fn apply(&self, change: Change, family: Family) -> Result<()> {
        match &*self.lock() {
            Some(stream) => change.apply(stream.as_fd(), family),
            None => Err(Error::InvalidState),
        }
    }

    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &*self.lock() {
            Some(stream) => stream.poll_read_ready(cx).map(|_| ()),
            None => Poll::Ready(()),
        }
    }

    pub(super) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &*self.lock() {
            Some(stream) => stream.poll_write_ready(cx).map(|_| ()),
            None => Poll::Ready(()),
        }
    }

    pub(super) fn poll_read_bytes(&self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Bytes>> {
        let guard = self.lock();
        let Some(stream) = &*guard else { return Poll::Ready(Ok(Bytes::new())) };
        let mut buffer = BytesMut::new();
        loop {
            // Allocated only once there is something to read: an idle connection costs nothing.
            ready!(stream.poll_read_ready(cx))?;
            buffer.reserve(max);
            match stream.try_read_buf(&mut buffer) {
                Ok(_) => return Poll::Ready(Ok(buffer.freeze())),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e.into())),
            }
        }
    }

    pub(super) fn poll_read(&self, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<Result<usize>> {
        let guard = self.lock();
        let Some(stream) = &*guard else { return Poll::Ready(Ok(0)) };
        loop {
            match stream.try_read(out) {
                Ok(n) => return Poll::Ready(Ok(n)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready!(stream.poll_read_ready(cx))?,
                Err(e) => return Poll::Ready(Err(e.into())),
            }
        }
    }

    pub(super) fn poll_write(&self, cx: &mut Context<'_>, data: Data<'_>) -> Poll<Result<usize>> {
        let guard = self.lock();
        let Some(stream) = &*guard else { return Poll::Ready(Err(Error::ConnectionBroken)) };
        let slice = match &data {
            Data::Bytes(bytes) => &bytes[..],
            Data::Slice(slice) => slice,
        };
        let n = loop {
            match stream.try_write(slice) {
                Ok(n) => break n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready!(stream.poll_write_ready(cx))?,
                Err(e) => return Poll::Ready(Err(e.into())),
            }
        };
        if let Data::Bytes(bytes) = data {
            bytes.advance(n);
        }
        Poll::Ready(Ok(n))
    }

    /// What there is to see of it; `None` when it is closed.
    pub(super) fn look(&self) -> Option<Look> {
        let guard = self.lock();
        let stream = guard.as_ref()?;
        let info = socket::tcp_info(stream).ok()?;
        Some(Look {
            state: SocketState::of_kernel(info.state),
            peer: stream.peer_addr().ok(),
            peer_container: None,
            unread: rustix::io::ioctl_fionread(stream).unwrap_or(0),
            untaken: socket::unsent(stream).unwrap_or(0),
        })
    }

    /// `shutdown(2)`. Errors mean that the connection is gone already.
    pub(super) fn shutdown(&self, how: rustix::net::Shutdown) {
        if let Some(stream) = &*self.lock() {
            let _ = rustix::net::shutdown(stream, how);
        }
    }

    /// `close(2)`, now.
    pub(super) fn close(&self) {
        drop(self.lock().take());
    }
}
