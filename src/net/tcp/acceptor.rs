//! Accepting.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::super::Result;
use super::super::listener::{DEFAULT_BACKLOG, Listener};
use super::super::meter::Count;
use super::state::{Connected, Core, Holds, State};
use super::{Inner, TcpSocket};

/// Where a listening socket's connections come out. Keeps the socket open.
pub struct Acceptor {
    pub(super) socket: Arc<Inner>,
    pub(super) listener: Arc<Listener>,
}

impl Acceptor {
    /// Waits until a connection is there, or the socket no longer listens.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.listener.poll_ready(cx)
    }

    /// The next connection, with the listener's options.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::net::Error::InvalidArgument) when the socket no longer listens, for
    /// ever; [`Error::TooManySockets`](crate::net::Error::TooManySockets), at once and with the connections
    /// left where they are, as EMFILE of `accept(2)`; and what the kernel says, after which accepting may be
    /// tried again.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<TcpSocket>> {
        let endpoint = &self.socket.endpoint;
        endpoint.check_room()?;
        let (stream, file) = ready!(self.listener.poll_accept(cx))?;
        endpoint.meter.count(stream.plane(), Count::TcpAccepted);
        let options = self.socket.lock().options.clone();
        let state = State::Connected(Connected::new(stream, Holds::Nothing));
        let core = Core { state, options, backlog: DEFAULT_BACKLOG, file };
        Poll::Ready(TcpSocket::with(endpoint.clone(), self.socket.family, core))
    }
}
