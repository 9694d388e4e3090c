//! UDP sockets, on both planes.
//!
//! ```text
//!            bind, or the first send or connect            connect
//!  Unbound ──────────────────────────────────────► Bound ◄─────────► Connected
//!                                                          disconnect
//!     (any) ── Endpoint::close ──► Closed
//!
//!  send ─► policy ─► bind ─► table ─┬─ a container's socket ─► its inbox ─┐
//!                                   └─ anything else ─► kernel socket     ├─► receive, in turns
//!                        native processes, the world ─► kernel socket ────┘
//! ```
//!
//! * Every socket is one kernel socket from creation to close. It holds the port, is connected when the socket
//!   is, and so makes the errors of bind and connect the kernel's own, and lets native processes reach it.
//! * A datagram to one of the pod's own addresses, to a port that a container's socket is bound to, is put into
//!   that socket's [`inbox`] and never enters the kernel. When the [`table`] has nobody, the kernel carries it:
//!   to native processes, to the world, or to nobody, of which a connected sender hears
//!   [`Error::ConnectionRefused`].
//! * Between one sender and one receiver the order is kept as long as the plane is the same. It changes only
//!   with a bind, a disconnect (a widened socket empties its inbox first) or a close.
//!
//! Lock order: socket, table; socket, inbox. Table and inbox are never held together.

mod inbox;
mod kernel;
mod options;
mod table;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

use std::mem;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use self::inbox::{Datagram, Delivery, Inbox};
use self::kernel::Kernel;
use self::table::Place;
use super::addr::{self, Family};
use super::endpoint::{Member, Shared};
use super::options::Options;
use super::policy::Request;
use super::{Error, Result};

pub(super) use self::inbox::Queued;
pub(super) use self::table::Table;

/// Largest datagram, in bytes: what the length field of UDP can say. What can be sent is less: see
/// [`max_payload`].
pub const MAX_DATAGRAM: usize = u16::MAX as usize;

/// Largest payload, in bytes: what the length field of the IP header leaves after the headers that it counts.
/// IPv4's counts its own header of 20 bytes, IPv6's does not; both count UDP's of 8.
const fn max_payload(family: Family) -> usize {
    match family {
        Family::V4 => MAX_DATAGRAM - 20 - 8,
        Family::V6 => MAX_DATAGRAM - 8,
    }
}

/// Whose turn it is when both planes have a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plane {
    Memory,
    Kernel,
}

#[derive(Debug, Clone, Copy)]
struct Binding {
    /// The address that bind was given, with the real port: what a disconnect goes back to.
    bound: SocketAddr,
    /// The peer, as connect was given it.
    remote: Option<SocketAddr>,
    /// Connect turns a wildcard into a specific address.
    place: Place,
}

struct Open {
    kernel: Kernel,
    binding: Option<Binding>,
    options: Options,
    turn: Plane,
    /// The kernel has carried a datagram to the connected peer and may have an error to report, which the next
    /// call has to, whatever its plane.
    asked_kernel: bool,
}

enum State {
    /// Exits: `Closed`.
    Open(Open),
    /// The endpoint was closed. Final.
    Closed,
}

struct Inner {
    endpoint: Arc<Shared>,
    id: u64,
    family: Family,
    inbox: Arc<Inbox>,
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

    /// Puts the socket into another place of the table.
    fn rebind(&self, open: &mut Open, binding: Option<Binding>) {
        let old = mem::replace(&mut open.binding, binding);
        let mut table = self.endpoint.stack.udp_table();
        if let Some(old) = old {
            table.leave(old.place, &self.inbox);
        }
        if let Some(new) = binding {
            table.enter(new.place, &self.inbox);
        }
    }

    fn bind(&self, open: &mut Open, requested: SocketAddr) -> Result<Binding> {
        self.endpoint.check(Request::UdpBind(requested))?;
        let bound = open.kernel.bind(requested)?;
        let place = Place { local: bound, remote: None, widened: false };
        let binding = Binding { bound, remote: None, place };
        self.rebind(open, Some(binding));
        Ok(binding)
    }

    /// Binds to a free port unless the socket is bound.
    fn implicit_bind(&self, open: &mut Open) -> Result<Binding> {
        match open.binding {
            Some(binding) => Ok(binding),
            None => self.bind(open, self.family.unspecified()),
        }
    }

    /// Dissolves the association of a connected socket.
    fn disconnect(&self, open: &mut Open, binding: Binding) -> Result<Binding> {
        let local = match open.kernel.disconnect(binding.bound) {
            Ok(local) => local,
            Err(error) => {
                self.rebind(open, None);
                return Err(error);
            }
        };
        let place = Place {
            local,
            remote: None,
            widened: binding.place.widened || local.ip() != binding.place.local.ip(),
        };
        // The port may be another than before.
        let bound = SocketAddr::new(binding.bound.ip(), local.port());
        let binding = Binding { bound, remote: None, place };
        self.rebind(open, Some(binding));
        Ok(binding)
    }

    fn connect(&self, open: &mut Open, remote: SocketAddr) -> Result<()> {
        let mut binding = self.implicit_bind(open)?;
        // Linux keeps the source address of an earlier association, from where the new peer may be
        // unreachable. WIT: "if (was previously connected) connect(s, AF_UNSPEC)".
        let before = binding.place;
        if binding.remote.is_some() {
            binding = self.disconnect(open, binding)?;
        }
        let local = open.kernel.connect(remote)?;
        binding.remote = Some(remote);
        // Nobody can have bound an overlapping address when the socket is where it was.
        let widened = binding.place.widened && (before.widened || local != before.local);
        binding.place = Place { local, remote: Some(remote), widened };
        self.rebind(open, Some(binding));
        Ok(())
    }

    /// `woken` is to be woken when the socket is unlocked.
    fn poll_send(
        &self,
        open: &mut Open,
        cx: &mut Context<'_>,
        data: &mut Vec<u8>,
        remote: Option<SocketAddr>,
        woken: &mut Option<Waker>,
    ) -> Poll<Result<()>> {
        let destination = open.destination(self.family, remote)?;
        self.endpoint.check(Request::UdpSend(destination))?;
        let binding = self.implicit_bind(open)?;
        if let Some((inbox, from)) = self.receiver(&binding, destination) {
            if data.len() > max_payload(self.family) {
                return Poll::Ready(Err(Error::DatagramTooLarge));
            }
            if mem::take(&mut open.asked_kernel) {
                open.kernel.take_error()?;
            }
            match inbox.deliver(Datagram { data: mem::take(data), from }) {
                Delivery::Queued(reader) => {
                    *woken = reader;
                    return Poll::Ready(Ok(()));
                }
                Delivery::Dropped => return Poll::Ready(Ok(())),
                // Gone since it was looked up.
                Delivery::Closed(datagram) => *data = datagram.data,
            }
        }
        let connected = binding.remote.is_some();
        open.asked_kernel = connected;
        let sent = open.kernel.poll_send(cx, data, (!connected).then_some(destination));
        if open.kernel.take_registered_anew() {
            *woken = self.inbox.take_reader();
        }
        sent
    }

    /// The inbox of the container's socket that the datagram is for.
    fn receiver(&self, binding: &Binding, destination: SocketAddr) -> Option<(Arc<Inbox>, SocketAddr)> {
        let stack = &self.endpoint.stack;
        // What a socket bound to a group sends from is the kernel's to choose.
        if !stack.in_memory(destination.ip()) || addr::is_group(binding.place.local.ip()) {
            return None;
        }
        let source = source(binding.place.local, destination);
        let inbox = stack.udp_table().lookup(source, destination)?.clone();
        Some((inbox, source))
    }

    fn close(&self) {
        let mut state = self.lock();
        if let State::Open(open) = &mut *state {
            // First out of the table: whoever does not find the socket there finds nobody in the kernel.
            self.rebind(open, None);
        }
        let old = mem::replace(&mut *state, State::Closed);
        drop(state);
        drop(old);
        if let Some(waiting) = self.inbox.close() {
            waiting.wake();
        }
    }
}

impl Member for Inner {
    fn close(&self) {
        self.close();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
        self.endpoint.forget(self.id);
    }
}

/// The sender's address as the receiver sees it, chosen as Linux routes to local addresses: 127.0.0.1 for all
/// of 127.0.0.0/8, otherwise the destination.
fn source(local: SocketAddr, destination: SocketAddr) -> SocketAddr {
    let routed = match destination.ip() {
        IpAddr::V4(v4) if v4.is_loopback() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip => ip,
    };
    let ip = local.ip();
    let ip = if ip.is_unspecified() { routed } else { ip };
    SocketAddr::new(ip, local.port())
}

/// Whether a datagram is from the connected peer. The scope of a link-local address is the kernel's to judge.
fn is_from(remote: SocketAddr, from: SocketAddr) -> bool {
    remote.ip() == from.ip() && remote.port() == from.port()
}

impl Open {
    fn remote(&self) -> Option<SocketAddr> {
        self.binding.and_then(|binding| binding.remote)
    }

    /// The destination of a datagram.
    fn destination(&self, family: Family, remote: Option<SocketAddr>) -> Result<SocketAddr> {
        match (remote, self.remote()) {
            (Some(remote), connected) => {
                addr::check_udp_remote(family, remote)?;
                if connected.is_some_and(|c| c != remote) {
                    return Err(Error::InvalidArgument);
                }
                Ok(remote)
            }
            (None, Some(connected)) => Ok(connected),
            (None, None) => Err(Error::InvalidArgument),
        }
    }

    /// A datagram of either plane, in turns when both have one.
    fn take(&mut self, inbox: &Inbox) -> Option<Result<Datagram>> {
        // The inbox of a widened socket gets nothing any more: what it has is older than the kernel's.
        if self.turn == Plane::Memory || self.binding.is_some_and(|binding| binding.place.widened) {
            self.take_memory(inbox).or_else(|| self.kernel.try_receive())
        } else {
            self.take_kernel().or_else(|| inbox.take().map(Ok))
        }
    }

    fn take_memory(&mut self, inbox: &Inbox) -> Option<Result<Datagram>> {
        let datagram = inbox.take()?;
        self.turn = Plane::Kernel;
        Some(Ok(datagram))
    }

    fn take_kernel(&mut self) -> Option<Result<Datagram>> {
        let datagram = self.kernel.try_receive()?;
        self.turn = Plane::Memory;
        Some(datagram)
    }

    /// Waits until [`Self::take`] may have an answer.
    fn poll_ready(&mut self, cx: &mut Context<'_>, inbox: &Inbox) -> Poll<Result<()>> {
        // Both, so that both know who waits.
        match (inbox.poll_ready(cx), self.kernel.poll_receive_ready(cx)) {
            (Poll::Pending, kernel) => kernel,
            (Poll::Ready(()), _) => Poll::Ready(Ok(())),
        }
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
        let open = Open {
            kernel: Kernel::new(family)?,
            binding: None,
            options: Options::default(),
            turn: Plane::Memory,
            asked_kernel: false,
        };
        let state = Mutex::new(State::Open(open));
        let inbox = Arc::new(Inbox::new(endpoint.stack.budget.clone(), endpoint.queued.clone()));
        let inner = endpoint.clone().register(|id| Inner { endpoint, id, family, inbox, state })?;
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
            if open.binding.is_some() {
                return Err(Error::InvalidState);
            }
            addr::check_udp_bind(self.inner.family, local)?;
            self.inner.bind(open, local).map(drop)
        })
    }

    /// Whether the socket has a local address, by `bind`, `connect` or the first datagram it sent.
    pub fn is_bound(&self) -> bool {
        self.inner.with(|open| Ok(open.binding.is_some())).unwrap_or(false)
    }

    /// Sends to, and receives from, one peer only; binds if it must. May be called again: the earlier
    /// association is dissolved first, also when the new one fails.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an address of the other family, unspecified, or with port 0;
    /// [`Error::AccessDenied`]; the kernel's [`Error::RemoteUnreachable`] and [`Error::AddressInUse`].
    pub fn connect(&self, remote: SocketAddr) -> Result<()> {
        self.inner.with(|open| {
            addr::check_udp_remote(self.inner.family, remote)?;
            self.inner.endpoint.check(Request::UdpSend(remote))?;
            self.inner.connect(open, remote)
        })
    }

    /// Undoes [`Self::connect`]. The socket stays bound.
    ///
    /// # Errors
    /// [`Error::InvalidState`] when not connected.
    pub fn disconnect(&self) -> Result<()> {
        self.inner.with(|open| match open.binding {
            Some(binding) if binding.remote.is_some() => self.inner.disconnect(open, binding).map(drop),
            _ => Err(Error::InvalidState),
        })
    }

    /// Sends one datagram, to the connected peer when `remote` is absent. `data` is left empty when it was
    /// handed over in memory. `Pending` means that the kernel's buffer is full; on the memory plane a full
    /// receiver drops.
    ///
    /// # Errors
    /// [`Error::DatagramTooLarge`]; [`Error::InvalidArgument`] without a destination, or with one that
    /// is not the connected peer, or not sendable; [`Error::AccessDenied`]; the kernel's.
    pub fn poll_send(
        &self,
        cx: &mut Context<'_>,
        data: &mut Vec<u8>,
        remote: Option<SocketAddr>,
    ) -> Poll<Result<()>> {
        let mut woken = None;
        let result = match &mut *self.inner.lock() {
            State::Open(open) => self.inner.poll_send(open, cx, data, remote, &mut woken),
            State::Closed => Poll::Ready(Err(Error::InvalidState)),
        };
        woken.into_iter().for_each(Waker::wake);
        result
    }

    /// Waits until [`Self::poll_send`] may succeed again after it was `Pending`.
    pub fn poll_send_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &*self.inner.lock() {
            State::Open(open) => open.kernel.poll_send_ready(cx),
            State::Closed => Poll::Ready(()),
        }
    }

    /// Waits until [`Self::poll_receive`] has an answer.
    pub fn poll_receive_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut *self.inner.lock() {
            State::Open(open) => open.poll_ready(cx, &self.inner.inbox).map(drop),
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
        if open.binding.is_none() {
            return Poll::Ready(Err(Error::InvalidState));
        }
        loop {
            let Some(received) = open.take(&self.inner.inbox) else {
                ready!(open.poll_ready(cx, &self.inner.inbox))?;
                continue;
            };
            let Datagram { data, from } = received?;
            // Linux filters when a datagram arrives: what came before connect is still there.
            if open.remote().is_none_or(|remote| is_from(remote, from)) {
                return Poll::Ready(Ok((data, from)));
            }
        }
    }

    /// The local address.
    ///
    /// # Errors
    /// [`Error::InvalidState`] when not bound.
    pub fn local_address(&self) -> Result<SocketAddr> {
        self.inner.with(|open| Ok(open.binding.ok_or(Error::InvalidState)?.place.local))
    }

    /// The connected peer.
    ///
    /// # Errors
    /// [`Error::InvalidState`] when not connected.
    pub fn remote_address(&self) -> Result<SocketAddr> {
        self.inner.with(|open| open.remote().ok_or(Error::InvalidState))
    }
}
