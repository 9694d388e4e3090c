//! UDP sockets, on the kernel plane.
//!
//! A socket is one kernel socket from creation to [`Endpoint::close`](super::Endpoint::close). Bound
//! ports need no table: the kernel judges all binds, and no datagram bypasses it yet.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::{io, mem};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, sockopt};
use tokio::io::Interest;

use super::addr::{self, Family};
use super::endpoint::{Member, Shared};
use super::meter::{Plane, Traffic};
use super::observe::{Socket, SocketState, Transport};
use super::options::{Change, Options};
use super::policy::Request;
use super::{Error, Result};

/// Largest datagram, in bytes: what the length field of UDP can say. The kernel's limit is lower.
pub const MAX_DATAGRAM: usize = u16::MAX as usize;

enum State {
    /// Exits: `Closed`.
    Open(Open),
    /// The endpoint was closed. Final.
    Closed,
}

struct Open {
    socket: tokio::net::UdpSocket,
    bound: bool,
    connected: Option<SocketAddr>,
    options: Options,
}

pub(super) struct Inner {
    endpoint: Arc<Shared>,
    id: u64,
    family: Family,
    traffic: Traffic,
    state: Mutex<State>,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs on the open socket.
    fn with<T>(&self, f: impl FnOnce(&mut Open) -> Result<T>) -> Result<T> {
        match &mut *self.lock() {
            State::Open(open) => f(open),
            State::Closed => Err(Error::InvalidState),
        }
    }
}

impl Member for Inner {
    fn close(&self) {
        let _old = mem::replace(&mut *self.lock(), State::Closed);
    }

    fn describe(&self) -> Option<Socket> {
        let mut state = self.lock();
        let State::Open(open) = &mut *state else { return None };
        if !open.is_bound(self.family) {
            return None;
        }
        let (bytes_in, bytes_out) = self.traffic.bytes();
        let (recv_queue, send_queue) = crate::sys::socket::queue_memory(&open.socket).unwrap_or_default();
        Some(Socket {
            container: self.traffic.meter().container().to_owned(),
            transport: Transport::Udp,
            plane: Some(Plane::Kernel),
            state: open.connected.map_or(SocketState::Unconnected, |_| SocketState::Established),
            local: open.socket.local_addr().ok()?,
            peer: open.connected,
            peer_container: None,
            recv_queue,
            send_queue,
            bytes_in,
            bytes_out,
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.endpoint.forget(self.id);
    }
}

/// A UDP socket of one container; clones are the same socket.
#[derive(Clone)]
pub struct UdpSocket {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UdpSocket").field("id", &self.inner.id).finish_non_exhaustive()
    }
}

impl UdpSocket {
    pub(super) fn new(endpoint: Arc<Shared>, family: Family) -> Result<Self> {
        let domain = match family {
            Family::V4 => AddressFamily::INET,
            Family::V6 => AddressFamily::INET6,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(domain, SocketType::DGRAM, flags, None)?;
        if family == Family::V6 {
            // WIT: "On IPv6 sockets, IPV6_V6ONLY is enabled by default and can't be configured otherwise."
            sockopt::set_ipv6_v6only(&fd, true)?;
        }
        let socket = tokio::net::UdpSocket::from_std(fd.into())?;
        let open = Open { socket, bound: false, connected: None, options: Options::default() };
        let state = Mutex::new(State::Open(open));
        let traffic = Traffic::new(endpoint.meter.clone());
        let inner = endpoint.clone().register(|id| Inner { endpoint, id, family, traffic, state })?;
        Ok(Self { inner })
    }

    /// The family given at creation.
    pub fn family(&self) -> Family {
        self.inner.family
    }

    /// Binds to the address; port 0 takes a free one.
    ///
    /// # Errors
    /// [`Error::InvalidState`] when bound already, [`Error::InvalidArgument`] for an address of the
    /// other family, and the kernel's.
    pub fn bind(&self, local: SocketAddr) -> Result<()> {
        self.inner.with(|open| {
            if open.is_bound(self.inner.family) {
                return Err(Error::InvalidState);
            }
            addr::check_udp_bind(self.inner.family, local)?;
            self.inner.endpoint.check(Request::UdpBind(local))?;
            rustix::net::bind(&open.socket, &local)?;
            open.bound = true;
            Ok(())
        })
    }

    /// Whether the socket has a local address, by `bind` or by the kernel's own choice.
    pub fn is_bound(&self) -> bool {
        self.inner.with(|open| Ok(open.is_bound(self.inner.family))).unwrap_or(false)
    }

    /// Sends to, and receives from, one peer only; binds if it must. May be called again.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an address of the other family, unspecified, or with port 0;
    /// [`Error::AccessDenied`]; the kernel's [`Error::RemoteUnreachable`] and [`Error::AddressInUse`].
    pub fn connect(&self, remote: SocketAddr) -> Result<()> {
        self.inner.with(|open| {
            addr::check_udp_remote(self.inner.family, remote)?;
            self.check_send(open, remote)?;
            let mut connected = rustix::net::connect(&open.socket, &remote);
            if connected == Err(Errno::INVAL) && open.connected.is_some() {
                // Linux keeps the source address of the first association; when it cannot reach the
                // new peer from there, it has to be dissolved first.
                let _ = rustix::net::connect_unspec(&open.socket);
                connected = rustix::net::connect(&open.socket, &remote);
            }
            open.connected = open.socket.peer_addr().ok();
            open.bound |= connected.is_ok();
            Ok(connected?)
        })
    }

    fn check_send(&self, open: &mut Open, remote: SocketAddr) -> Result<()> {
        if !open.is_bound(self.inner.family) {
            self.inner.endpoint.check(Request::UdpBind(self.inner.family.unspecified()))?;
        }
        self.inner.endpoint.check(Request::UdpSend(remote))
    }

    /// Undoes [`Self::connect`].
    ///
    /// # Errors
    /// [`Error::InvalidState`] when not connected.
    pub fn disconnect(&self) -> Result<()> {
        self.inner.with(|open| {
            if open.connected.take().is_none() {
                return Err(Error::InvalidState);
            }
            Ok(rustix::net::connect_unspec(&open.socket)?)
        })
    }

    /// Sends one datagram, to the connected peer when `remote` is absent. The future does what this
    /// polls; `Pending` means that the kernel's buffer is full.
    ///
    /// # Errors
    /// [`Error::DatagramTooLarge`]; [`Error::InvalidArgument`] without a destination, or with one that
    /// is not the connected peer, or not sendable; [`Error::AccessDenied`]; the kernel's.
    pub fn poll_send(
        &self,
        cx: &mut Context<'_>,
        data: &[u8],
        remote: Option<SocketAddr>,
    ) -> Poll<Result<()>> {
        let mut state = self.inner.lock();
        let State::Open(open) = &mut *state else { return Poll::Ready(Err(Error::InvalidState)) };
        if data.len() > MAX_DATAGRAM {
            return Poll::Ready(Err(Error::DatagramTooLarge));
        }
        let destination = match (remote, open.connected) {
            (Some(remote), connected) => {
                addr::check_udp_remote(self.inner.family, remote)?;
                if connected.is_some_and(|c| c != remote) {
                    return Poll::Ready(Err(Error::InvalidArgument));
                }
                remote
            }
            (None, Some(connected)) => connected,
            (None, None) => return Poll::Ready(Err(Error::InvalidArgument)),
        };
        self.check_send(open, destination)?;
        let socket = &open.socket;
        let send = || match open.connected {
            Some(_) => rustix::net::send(socket, data, SendFlags::empty()),
            None => rustix::net::sendto(socket, data, SendFlags::empty(), &destination),
        };
        // The first try does not ask tokio, which learns only with the next turn of its loop that a
        // new socket can be written to; guests expect it at once.
        match send() {
            Ok(_) => return self.sent(data),
            Err(Errno::WOULDBLOCK) => {}
            Err(errno) => return Poll::Ready(Err(errno.into())),
        }
        loop {
            match socket.try_io(Interest::WRITABLE, || send().map_err(io::Error::from)) {
                Ok(_) => return self.sent(data),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready!(socket.poll_send_ready(cx))?,
                Err(e) => return Poll::Ready(Err(e.into())),
            }
        }
    }

    fn sent(&self, data: &[u8]) -> Poll<Result<()>> {
        self.inner.traffic.datagram_sent(Plane::Kernel, data.len());
        Poll::Ready(Ok(()))
    }

    /// Waits until [`Self::poll_send`] may succeed again after it was `Pending`.
    pub fn poll_send_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &*self.inner.lock() {
            State::Open(open) => open.socket.poll_send_ready(cx).map(|_| ()),
            State::Closed => Poll::Ready(()),
        }
    }

    /// Waits until [`Self::poll_receive`] has an answer.
    pub fn poll_receive_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &*self.inner.lock() {
            State::Open(open) => open.socket.poll_recv_ready(cx).map(|_| ()),
            State::Closed => Poll::Ready(()),
        }
    }

    /// One datagram and its sender; only the peer's when connected.
    ///
    /// # Errors
    /// [`Error::InvalidState`] when not bound; the kernel's, such as [`Error::ConnectionRefused`] for
    /// an earlier datagram.
    pub fn poll_receive(&self, cx: &mut Context<'_>) -> Poll<Result<(Vec<u8>, SocketAddr)>> {
        let mut state = self.inner.lock();
        let State::Open(open) = &mut *state else { return Poll::Ready(Err(Error::InvalidState)) };
        if !open.is_bound(self.inner.family) {
            return Poll::Ready(Err(Error::InvalidState));
        }
        let mut buffer = Vec::new();
        loop {
            ready!(open.socket.poll_recv_ready(cx))?;
            buffer.reserve(MAX_DATAGRAM);
            match open.socket.try_recv_buf_from(&mut buffer) {
                // Linux filters when a datagram arrives: what came before connect is still there.
                Ok((_, from)) if open.connected.is_some_and(|c| c != from) => buffer.clear(),
                Ok((_, from)) => {
                    buffer.shrink_to_fit();
                    self.inner.traffic.datagram_received(Plane::Kernel, buffer.len());
                    return Poll::Ready(Ok((buffer, from)));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e.into())),
            }
        }
    }

    /// The local address.
    ///
    /// # Errors
    /// [`Error::InvalidState`] when not bound.
    pub fn local_address(&self) -> Result<SocketAddr> {
        self.inner.with(|open| {
            if !open.is_bound(self.inner.family) {
                return Err(Error::InvalidState);
            }
            Ok(open.socket.local_addr()?)
        })
    }

    /// The connected peer.
    ///
    /// # Errors
    /// [`Error::InvalidState`] when not connected.
    pub fn remote_address(&self) -> Result<SocketAddr> {
        self.inner.with(|open| open.connected.ok_or(Error::InvalidState))
    }

    fn set(&self, change: Change) -> Result<()> {
        self.inner.with(|open| {
            change.apply(open.socket.as_fd(), self.inner.family)?;
            open.options.set(change);
            Ok(())
        })
    }

    /// IP_TTL or IPV6_UNICAST_HOPS.
    ///
    /// # Errors
    /// [`Error::InvalidState`] after the endpoint was closed; so the other options.
    pub fn hop_limit(&self) -> Result<u8> {
        self.inner.with(|open| Ok(open.options.hop_limit()))
    }

    /// Sets the hop limit.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for 0; so the other options.
    pub fn set_hop_limit(&self, hops: u8) -> Result<()> {
        self.set(Change::hop_limit(hops)?)
    }

    /// Bytes.
    ///
    /// # Errors
    /// See [`Self::hop_limit`].
    pub fn receive_buffer_size(&self) -> Result<u64> {
        self.inner.with(|open| Ok(open.options.receive_buffer() as u64))
    }

    /// Bytes, clamped.
    ///
    /// # Errors
    /// See [`Self::set_hop_limit`].
    pub fn set_receive_buffer_size(&self, bytes: u64) -> Result<()> {
        self.set(Change::receive_buffer(bytes)?)
    }

    /// Bytes.
    ///
    /// # Errors
    /// See [`Self::hop_limit`].
    pub fn send_buffer_size(&self) -> Result<u64> {
        self.inner.with(|open| Ok(open.options.send_buffer() as u64))
    }

    /// Bytes, clamped.
    ///
    /// # Errors
    /// See [`Self::set_hop_limit`].
    pub fn set_send_buffer_size(&self, bytes: u64) -> Result<()> {
        self.set(Change::send_buffer(bytes)?)
    }
}

impl Open {
    /// The kernel binds by itself when a datagram is sent, so it is asked. Once bound, always bound:
    /// after a disconnect Linux may say 0.0.0.0:0 again.
    fn is_bound(&mut self, family: Family) -> bool {
        if !self.bound {
            self.bound = self.socket.local_addr().is_ok_and(|a| a != family.unspecified());
        }
        self.bound
    }
}
