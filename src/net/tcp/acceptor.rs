//! Accepting.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::super::listener::Listener;
use super::super::policy::Request;
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
        while self.pending.is_none() {
            let accepted = ready!(self.listener.poll_accept(cx));
            // Who may not come in finds the connection closed. Inside the pod the client was asked.
            if let Ok(Stream::Kernel(stream)) = &accepted {
                // Without a peer it was reset meanwhile.
                let local = stream.local();
                let asked = stream.remote().map(|remote| Request::TcpAccept { local, remote });
                if asked.and_then(|request| self.socket.endpoint.check(request)).is_err() {
                    continue;
                }
            }
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
        let options = self.socket.lock().options.clone();
        let state = State::Connected(Connected::new(stream, Holds::Nothing));
        TcpSocket::with(self.socket.endpoint.clone(), self.socket.family, state, options)
    }
}
