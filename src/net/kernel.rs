//! Kernel sockets of the TCP kernel plane, in the process's network namespace.
//!
//! ```text
//!  socket ─ bind ─► listen ─► listener (with the event loop)
//!     └───── connect ─► Connecting ─► Stream
//! ```
//!
//! A socket joins the event loop only when it listens or connects: one that merely holds a port costs no
//! registration.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sockopt};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::coop;

use super::addr::Family;
use super::memory::Data;
use super::observe::{Look, SocketState};
use super::options::{Change, Options};
use super::{Error, Result};
use crate::sys::socket;

/// A new kernel socket with the options set.
pub(super) fn socket(family: Family, options: &Options) -> Result<OwnedFd> {
    let domain = match family {
        Family::V4 => AddressFamily::INET,
        Family::V6 => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(domain, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    if family == Family::V6 {
        // WIT: "On IPv6 sockets, IPV6_V6ONLY is enabled by default and can't be configured otherwise."
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    // wasi:sockets has no such option, and wasi-libc sends the parts of a writev one by one: with Nagle's algorithm
    // (RFC 1122, section 4.2.3.4) an HTTP server on a kept connection waits 40 ms for each delayed ACK. Accepted
    // sockets inherit it.
    sockopt::set_tcp_nodelay(&socket, true)?;
    options.apply(&socket, family)?;
    Ok(socket)
}

/// Binds, and returns the address with the real port.
pub(super) fn bind(socket: &OwnedFd, addr: SocketAddr) -> Result<SocketAddr> {
    // WIT: "The bind operation shouldn't be affected by the TIME_WAIT state of a recently closed
    // socket on the same local address."
    sockopt::set_socket_reuseaddr(socket, true)?;
    rustix::net::bind(socket, &addr)?;
    local_address(socket)
}

fn local_address(socket: impl AsFd) -> Result<SocketAddr> {
    SocketAddr::try_from(rustix::net::getsockname(socket)?).map_err(Error::from)
}

/// A connection attempt in progress.
#[derive(Debug)]
pub(super) struct Connecting {
    stream: Option<TcpStream>,
    local: SocketAddr,
    remote: SocketAddr,
}

/// Starts to connect: the SYN is on its way when this returns.
pub(super) fn connect(socket: OwnedFd, remote: SocketAddr) -> Result<Connecting> {
    match rustix::net::connect(&socket, &remote) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(errno) => return Err(errno.into()),
    }
    let local = local_address(&socket)?;
    Ok(Connecting { stream: Some(TcpStream::from_std(socket.into())?), local, remote })
}

impl Connecting {
    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Waits for the connection; call it no more once it is ready.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stream>> {
        let stream = self.stream.as_ref().ok_or(Error::InvalidState)?;
        // Over loopback the answer is there when connect(2) returns: no turn of the event loop is needed.
        if stream.peer_addr().is_err() {
            if let Some(error) = stream.take_error()? {
                return Poll::Ready(Err(error.into()));
            }
            ready!(stream.poll_write_ready(cx))?;
        }
        if let Some(error) = stream.take_error()? {
            return Poll::Ready(Err(error.into()));
        }
        let stream = self.stream.take().ok_or(Error::InvalidState)?;
        Poll::Ready(Ok(Stream::new(stream, self.local, self.remote)))
    }
}

/// `listen(2)`, also to change the backlog. A bound socket on which it fails stays bound.
pub(super) fn listen(socket: impl AsFd, backlog: u32) -> Result<()> {
    Ok(rustix::net::listen(socket, backlog.try_into().unwrap_or(i32::MAX))?)
}

/// A socket on which [`listen`] succeeded, ready to accept.
pub(super) fn listener(socket: OwnedFd) -> Result<TcpListener> {
    Ok(TcpListener::from_std(socket.into())?)
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
    socket: Arc<Socket>,
    local: SocketAddr,
    remote: SocketAddr,
}

#[derive(Debug)]
struct Socket {
    stream: Mutex<Option<TcpStream>>,
    /// Whether the last read filled its buffer: then tokio, which has not met the end of the data, takes the socket
    /// for readable although it may not be.
    filled: AtomicBool,
    /// What was taken from the container and not yet by the kernel: see [`Stream::keep`].
    rest: Mutex<Bytes>,
}

impl Stream {
    fn new(stream: TcpStream, local: SocketAddr, remote: SocketAddr) -> Self {
        let (stream, rest) = (Mutex::new(Some(stream)), Mutex::default());
        let socket = Socket { stream, filled: AtomicBool::new(false), rest };
        Self { socket: Arc::new(socket), local, remote }
    }

    /// An accepted connection; accept(2) said who the peer is, which may be gone already.
    ///
    /// # Errors
    /// getsockname(2)'s.
    pub(super) fn accepted(stream: TcpStream, remote: SocketAddr) -> Result<Self> {
        let local = stream.local_addr()?;
        Ok(Self::new(stream, local, remote))
    }

    fn lock(&self) -> MutexGuard<'_, Option<TcpStream>> {
        self.socket.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_filled(&self, filled: bool) {
        self.socket.filled.store(filled, Ordering::Relaxed);
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

    /// Exact: a guest that is told that there is something may wait for it with no way out.
    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let guard = self.lock();
        let Some(stream) = &*guard else { return Poll::Ready(()) };
        if self.socket.filled.swap(false, Ordering::Relaxed) {
            // If there is nothing, tokio knows it from now on.
            let _ = stream.try_io(Interest::READABLE, || socket::has_something(stream));
        }
        stream.poll_read_ready(cx).map(|_| ())
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
            // What was reserved may be more than what was asked for, and a guest is given no more than that.
            match stream.try_read_buf(&mut (&mut buffer).limit(max)) {
                Ok(n) => {
                    self.has_filled(n >= max);
                    return Poll::Ready(Ok(buffer.freeze()));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e.into())),
            }
        }
    }

    /// Yields now and then even when there is always something: a guest may let the host copy from one connection
    /// to another, where no guest code runs that would be interrupted.
    pub(super) fn poll_read(&self, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<Result<usize>> {
        let guard = self.lock();
        let Some(stream) = &*guard else { return Poll::Ready(Ok(0)) };
        let turn = ready!(coop::poll_proceed(cx));
        loop {
            match stream.try_read(out) {
                Ok(n) => {
                    self.has_filled(n == out.len());
                    turn.made_progress();
                    return Poll::Ready(Ok(n));
                }
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

    /// What the container was told is written, and the kernel has yet to take. [`Self::close`] makes it take it: as
    /// after a write(2), the end of the program is not the end of its data.
    pub(super) fn keep(&self, rest: Bytes) {
        *self.socket.rest.lock().unwrap_or_else(PoisonError::into_inner) = rest;
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

    /// `close(2)`, now. The kernel goes on sending what it has, and gets the rest for that.
    pub(super) fn close(&self) {
        let Some(stream) = self.lock().take() else { return };
        let rest = std::mem::take(&mut *self.socket.rest.lock().unwrap_or_else(PoisonError::into_inner));
        if !rest.is_empty() {
            socket::make_room(&stream, rest.len());
            // Where the kernel gives no room the rest is lost, as it would be with the machine.
            let _ = rustix::net::send(&stream, &rest, SendFlags::NOSIGNAL);
        }
    }
}
