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
//! * Every socket is one kernel socket from creation to close (an IPv6 one gets another with disconnect). It
//!   holds the port, is connected when the socket is, and so makes the errors of bind and connect the kernel's
//!   own, and lets native processes reach it.
//! * A datagram to one of the pod's own addresses, to a port that a container's socket is bound to, is put into
//!   that socket's [`inbox`] and never enters the kernel. When the [`table`] has nobody, the kernel carries it:
//!   to native processes, to the world, or to nobody, of which a connected sender hears
//!   [`Error::ConnectionRefused`].
//! * Between one sender and one receiver the order is kept as long as the plane is the same. It changes only
//!   with a bind, a disconnect (a widened socket empties its inbox first) or a close.
//!
//! * A graceful stop is told to a socket that serves: one that its container bound to a port of its choice and did
//!   not connect. UDP has no end of its own; a plain `recv_from` loop would wait for its kill. So one receive fails,
//!   as with an error that waits in SO_ERROR (socket(7)), when there is nothing left to receive. Once, because
//!   an event loop that goes on after it would spin, and because it may have peers to say goodbye to. Sockets of
//!   clients are not told: what they wait for is part of the work to finish.
//!
//! Lock order: socket, table; socket, inbox. Table and inbox are never held together.

mod inbox;
mod kernel;
mod options;
mod state;
mod table;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use self::inbox::Inbox;
use self::kernel::Kernel;
use self::state::{Inner, Open, State};
use super::addr::{self, Family};
use super::endpoint::Shared;
use super::{Error, Result};

pub(super) use self::inbox::Queued;
pub(super) use self::table::Table;

/// Largest datagram, in bytes: what the length field of UDP can say. What can be sent is less, as the
/// headers count too.
pub const MAX_DATAGRAM: usize = u16::MAX as usize;

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
        let file = endpoint.files.take()?;
        let open = Open::new(Kernel::new(family)?, file);
        let inbox = Inbox::new(endpoint.budget.clone(), endpoint.queued.clone(), endpoint.meter.clone());
        let inner = endpoint.clone().register(|id| Inner::new(endpoint, id, family, inbox, open))?;
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
            self.inner.bind(open, local)?;
            open.serves = local.port() != 0;
            Ok(())
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
        let connected = self.inner.with(|open| {
            addr::check_udp_remote(self.inner.family, remote)?;
            self.inner.connect(open, remote)
        });
        self.wake_receiver();
        connected
    }

    /// Undoes [`Self::connect`]. The socket stays bound.
    ///
    /// # Errors
    /// [`Error::InvalidState`] when not connected.
    pub fn disconnect(&self) -> Result<()> {
        let disconnected = self.inner.with(|open| match open.binding {
            Some(binding) if binding.remote.is_some() => self.inner.disconnect(open, binding).map(drop),
            _ => Err(Error::InvalidState),
        });
        self.wake_receiver();
        disconnected
    }

    /// Who waits to receive may wait on a kernel socket that was replaced, also by what failed in the end.
    fn wake_receiver(&self) {
        self.inner.inbox.take_reader().into_iter().for_each(Waker::wake);
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
            // tokio's word that there is something may be old: only a receive that fails takes it back, and whoever
            // waits here and receives then is not to wait there.
            State::Open(open) => loop {
                let failed = ready!(open.poll_ready(cx, &self.inner.inbox)).is_err();
                if failed || open.has_something(&self.inner.inbox) {
                    return Poll::Ready(());
                }
            },
            State::Closed => Poll::Ready(()),
        }
    }

    /// One datagram and its sender; only the peer's when connected.
    ///
    /// # Errors
    /// [`Error::InvalidState`] when not bound; the kernel's, such as [`Error::ConnectionRefused`] for
    /// an earlier datagram; [`Error::ConnectionAborted`], once, of a server that is asked to end.
    pub fn poll_receive(&self, cx: &mut Context<'_>) -> Poll<Result<(Vec<u8>, SocketAddr)>> {
        match &mut *self.inner.lock() {
            State::Open(open) => {
                self.inner.poll_receive(open, cx).map_ok(|datagram| (datagram.data, datagram.from))
            }
            State::Closed => Poll::Ready(Err(Error::InvalidState)),
        }
    }

    /// [`Self::poll_send`] of callers of whom several may wait at the same time: each has its turn.
    ///
    /// # Errors
    /// As [`Self::poll_send`].
    pub async fn send(&self, mut data: Vec<u8>, remote: Option<SocketAddr>) -> Result<()> {
        let _turn = self.inner.sending.lock().await;
        poll_fn(|cx| self.poll_send(cx, &mut data, remote)).await
    }

    /// [`Self::poll_receive`] of callers of whom several may wait at the same time: each has its turn.
    ///
    /// # Errors
    /// As [`Self::poll_receive`].
    pub async fn receive(&self) -> Result<(Vec<u8>, SocketAddr)> {
        let _turn = self.inner.receiving.lock().await;
        poll_fn(|cx| self.poll_receive(cx)).await
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
