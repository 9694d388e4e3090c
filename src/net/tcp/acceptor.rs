//! Accepting.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::super::listener::Listener;
use super::super::meter::Count;
use super::super::stream::Stream;
use super::super::{Error, Result};
use super::state::{Connected, Holds, State};
use super::{Inner, TcpSocket};

/// Where a listening socket's connections come out. Keeps the socket open.
pub struct Acceptor {
    pub(super) socket: Arc<Inner>,
    pub(super) listener: Arc<Listener>,
    /// Accepted by [`Self::poll_ready`], not yet handed out.
    pub(super) pending: Option<Result<TcpSocket>>,
}

impl Acceptor {
    /// Waits until [`Self::poll_accept`] has an answer.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.pending.is_none() {
            let accepted = ready!(self.listener.poll_accept(cx));
            self.pending = Some(accepted.and_then(|stream| self.adopt(stream)));
        }
        Poll::Ready(())
    }

    /// The next connection, with the listener's options.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the socket no longer listens, for ever;
    /// [`Error::TooManySockets`] and the like, after which accepting may be tried again.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<TcpSocket>> {
        ready!(self.poll_ready(cx));
        Poll::Ready(self.pending.take().unwrap_or(Err(Error::InvalidArgument)))
    }

    fn adopt(&self, stream: Stream) -> Result<TcpSocket> {
        self.socket.endpoint.meter.count(stream.plane(), Count::TcpAccepted);
        let options = self.socket.lock().options.clone();
        let state = State::Connected(Connected::new(stream, Holds::Nothing));
        TcpSocket::with(self.socket.endpoint.clone(), self.socket.family, state, options)
    }
}
