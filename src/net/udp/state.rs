//! The state of one UDP socket: where it is bound and connected, and the way of its datagrams.

use std::mem;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;

use super::MAX_DATAGRAM;
use super::inbox::{Datagram, Delivery, Inbox};
use super::kernel::Kernel;
use super::table::Place;
use crate::net::addr::{self, Family};
use crate::net::endpoint::{Member, Shared};
use crate::net::files::File;
use crate::net::meter::{Plane, Traffic};
use crate::net::observe::{Socket, SocketState, Transport};
use crate::net::options::Options;
use crate::net::policy::{Exchanges, Request};
use crate::net::{Error, Result};
use crate::sys::socket::queue_memory;

/// Largest payload, in bytes: what the length field of the IP header leaves after the headers that it counts.
/// IPv4's counts its own header of 20 bytes, IPv6's does not; both count UDP's of 8.
pub(super) const fn max_payload(family: Family) -> usize {
    match family {
        Family::V4 => MAX_DATAGRAM - 20 - 8,
        Family::V6 => MAX_DATAGRAM - 8,
    }
}

/// Datagrams that one call may throw away before it yields: whoever floods a socket with what it may not receive
/// must not hold up the other containers.
const MAX_REFUSED: usize = 64;

#[derive(Debug, Clone, Copy)]
pub(super) struct Binding {
    /// The address that bind was given, with the real port: what a disconnect goes back to.
    bound: SocketAddr,
    /// The peer, as connect was given it.
    pub(super) remote: Option<SocketAddr>,
    /// Connect turns a wildcard into a specific address.
    pub(super) place: Place,
}

pub(super) struct Open {
    pub(super) kernel: Kernel,
    _file: File,
    pub(super) binding: Option<Binding>,
    pub(super) options: Options,
    /// Whose turn it is when both planes have a datagram.
    turn: Plane,
    /// The kernel has carried a datagram to the connected peer and may have an error to report, which the next
    /// call has to, whatever its plane.
    asked_kernel: bool,
    /// For the policy: whose datagrams are replies.
    exchanges: Exchanges,
    /// Whether its container chose the port.
    pub(super) serves: bool,
    /// Whether the next receive that finds nothing has to say that the container is asked to end.
    stopping: bool,
}

pub(super) enum State {
    /// Exits: `Closed`.
    Open(Box<Open>),
    /// The endpoint was closed. Final.
    Closed,
}

pub(super) struct Inner {
    pub(super) endpoint: Arc<Shared>,
    pub(super) id: u64,
    pub(super) family: Family,
    pub(super) inbox: Arc<Inbox>,
    traffic: Traffic,
    state: Mutex<State>,
    /// Whose turn it is to wait: each direction remembers one waker.
    pub(super) sending: tokio::sync::Mutex<()>,
    pub(super) receiving: tokio::sync::Mutex<()>,
}

impl Inner {
    pub(super) fn new(endpoint: Arc<Shared>, id: u64, family: Family, inbox: Inbox, open: Open) -> Self {
        let state = Mutex::new(State::Open(Box::new(open)));
        let traffic = Traffic::new(endpoint.meter.clone());
        let (sending, receiving) = Default::default();
        Self { endpoint, id, family, inbox: Arc::new(inbox), traffic, state, sending, receiving }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs on the open socket.
    pub(super) fn with<T>(&self, f: impl FnOnce(&mut Open) -> Result<T>) -> Result<T> {
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

    pub(super) fn bind(&self, open: &mut Open, requested: SocketAddr) -> Result<Binding> {
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
    pub(super) fn disconnect(&self, open: &mut Open, binding: Binding) -> Result<Binding> {
        let keep = |datagram| self.inbox.keep(datagram);
        let disconnected = match self.family {
            Family::V4 => open.kernel.disconnect(binding.bound),
            Family::V6 => open.kernel.replace(binding.bound, &open.options, keep),
        };
        let local = match disconnected {
            Ok(local) => local,
            Err(error) => {
                self.rebind(open, None);
                return Err(error);
            }
        };
        let place = Place {
            local,
            remote: None,
            // A new socket was bound anew: its address is its own.
            widened: self.family == Family::V4
                && (binding.place.widened || local.ip() != binding.place.local.ip()),
        };
        // The port may be another than before.
        let bound = SocketAddr::new(binding.bound.ip(), local.port());
        let binding = Binding { bound, remote: None, place };
        self.rebind(open, Some(binding));
        Ok(binding)
    }

    pub(super) fn connect(&self, open: &mut Open, remote: SocketAddr) -> Result<()> {
        self.check_send(open, remote)?;
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
    pub(super) fn poll_send(
        &self,
        open: &mut Open,
        cx: &mut Context<'_>,
        data: &mut Vec<u8>,
        remote: Option<SocketAddr>,
        woken: &mut Option<Waker>,
    ) -> Poll<Result<()>> {
        let destination = open.destination(self.family, remote)?;
        self.check_send(open, destination)?;
        let binding = self.implicit_bind(open)?;
        if let Some((inbox, from)) = self.receiver(&binding, destination) {
            if data.len() > max_payload(self.family) {
                return Poll::Ready(Err(Error::DatagramTooLarge));
            }
            if mem::take(&mut open.asked_kernel) {
                open.kernel.take_error()?;
            }
            let bytes = data.len();
            let captured = self.endpoint.stack.capture.as_ref();
            let captured = captured.map(|capture| (capture, Bytes::copy_from_slice(data)));
            let delivered = inbox.deliver(Datagram { data: mem::take(data), from });
            if let Delivery::Closed(datagram) = delivered {
                // Gone since it was looked up.
                *data = datagram.data;
            } else {
                if let Some((capture, payload)) = captured {
                    capture.datagram(from, destination, payload);
                }
                self.traffic.datagram_sent(Plane::Memory, bytes);
                if let Delivery::Queued(reader) = delivered {
                    *woken = reader;
                }
                return Poll::Ready(Ok(()));
            }
        }
        let connected = binding.remote.is_some();
        open.asked_kernel = connected;
        let sent = open.kernel.poll_send(cx, data, (!connected).then_some(destination));
        if open.kernel.take_registered_anew() {
            *woken = self.inbox.take_reader();
        }
        if let Poll::Ready(Ok(())) = sent {
            self.traffic.datagram_sent(Plane::Kernel, data.len());
        }
        sent
    }

    /// A datagram that the socket may have: only the peer's when connected.
    pub(super) fn poll_receive(&self, open: &mut Open, cx: &mut Context<'_>) -> Poll<Result<Datagram>> {
        if open.binding.is_none() {
            return Poll::Ready(Err(Error::InvalidState));
        }
        for _ in 0..MAX_REFUSED {
            let Some((plane, received)) = open.take(&self.inbox) else {
                if mem::take(&mut open.stopping) {
                    return Poll::Ready(Err(Error::ConnectionAborted));
                }
                ready!(open.poll_ready(cx, &self.inbox))?;
                continue;
            };
            let datagram = received?;
            // Linux filters when a datagram arrives: what came before connect is still there.
            let is_peer = open.remote().is_none_or(|remote| is_from(remote, datagram.from));
            if is_peer && open.may_receive(&self.endpoint, datagram.from) {
                self.traffic.datagram_received(plane, datagram.data.len());
                return Poll::Ready(Ok(datagram));
            }
        }
        // There is more: the others' turn first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn check_send(&self, open: &mut Open, remote: SocketAddr) -> Result<()> {
        let is_reply = open.exchanges.has_received_from(remote);
        self.endpoint.check(Request::UdpSend { remote, is_reply })?;
        self.endpoint.guard.sent(&mut open.exchanges, remote);
        Ok(())
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
    fn stop_listening(&self) {
        if let State::Open(open) = &mut *self.lock() {
            open.stopping = open.serves && open.remote().is_none();
        }
        self.inbox.take_reader().into_iter().for_each(Waker::wake);
    }

    fn close(&self) {
        self.close();
    }

    fn describe(&self) -> Option<Socket> {
        let state = self.lock();
        let State::Open(open) = &*state else { return None };
        let binding = open.binding?;
        let (bytes_in, bytes_out) = self.traffic.bytes();
        let (recv_queue, send_queue) = queue_memory(&open.kernel).unwrap_or_default();
        Some(Socket {
            container: self.traffic.meter().container().to_owned(),
            transport: Transport::Udp,
            // It receives from both.
            plane: None,
            state: binding.remote.map_or(SocketState::Unconnected, |_| SocketState::Established),
            local: binding.place.local,
            peer: binding.remote,
            peer_container: None,
            recv_queue: recv_queue + self.inbox.bytes(),
            send_queue,
            bytes_in,
            bytes_out,
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
        self.endpoint.forget(self.id);
    }
}

/// The sender's address as the receiver sees it.
fn source(local: SocketAddr, destination: SocketAddr) -> SocketAddr {
    let ip = if local.ip().is_unspecified() { addr::source_of(destination.ip()) } else { local.ip() };
    SocketAddr::new(ip, local.port())
}

/// Whether a datagram is from the connected peer. The scope of a link-local address is the kernel's to judge.
pub(super) fn is_from(remote: SocketAddr, from: SocketAddr) -> bool {
    remote.ip() == from.ip() && remote.port() == from.port()
}

impl Open {
    pub(super) fn new(kernel: Kernel, file: File) -> Self {
        let options = Options::default();
        let exchanges = Exchanges::default();
        Self {
            kernel,
            _file: file,
            binding: None,
            options,
            turn: Plane::Memory,
            asked_kernel: false,
            exchanges,
            serves: false,
            stopping: false,
        }
    }

    pub(super) fn remote(&self) -> Option<SocketAddr> {
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
    fn take(&mut self, inbox: &Inbox) -> Option<(Plane, Result<Datagram>)> {
        // The inbox of a widened socket gets nothing any more: what it has is older than the kernel's.
        let memory_first = self.turn == Plane::Memory || self.binding.is_some_and(|b| b.place.widened);
        let order =
            if memory_first { [Plane::Memory, Plane::Kernel] } else { [Plane::Kernel, Plane::Memory] };
        for (plane, other) in order.into_iter().zip(order.into_iter().rev()) {
            let received = match plane {
                Plane::Memory => inbox.take().map(Ok),
                Plane::Kernel => self.kernel.try_receive(),
            };
            if let Some(received) = received {
                self.turn = other;
                return Some((plane, received));
            }
        }
        None
    }

    /// Whether the policy lets a datagram in.
    fn may_receive(&mut self, endpoint: &Shared, remote: SocketAddr) -> bool {
        if endpoint.guard.allows_all() {
            return true;
        }
        let Some(binding) = self.binding else { return false };
        let is_reply = self.exchanges.has_sent_to(remote);
        let request = Request::UdpReceive { local: binding.place.local, remote, is_reply };
        let may = endpoint.check(request).is_ok();
        if may {
            endpoint.guard.received(&mut self.exchanges, remote);
        }
        may
    }

    /// Whether [`Self::take`] has an answer; where there is none, [`Self::poll_ready`] waits for a new one.
    pub(super) fn has_something(&self, inbox: &Inbox) -> bool {
        self.stopping || !inbox.is_empty() || self.kernel.has_something()
    }

    /// Waits until [`Self::take`] may have an answer.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>, inbox: &Inbox) -> Poll<Result<()>> {
        if self.stopping {
            return Poll::Ready(Ok(()));
        }
        // Both, so that both know who waits.
        match (inbox.poll_ready(cx), self.kernel.poll_receive_ready(cx)) {
            (Poll::Pending, kernel) => kernel,
            (Poll::Ready(()), _) => Poll::Ready(Ok(())),
        }
    }
}
