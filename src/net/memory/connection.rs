//! What both ends of a connection share: its state, and its place in the port table.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::net::capture::Tap;
use crate::net::pipe::{Pipe, Readable};
use crate::net::stack::SharedPorts;
use crate::net::wakes::Wakes;
use crate::net::{Error, Result};

/// Which end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::net) enum Side {
    Client = 0,
    Server = 1,
}

impl Side {
    pub(in crate::net) fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

#[derive(Debug)]
pub(super) enum Phase {
    /// The listener's backlog is full. Exits: `Established` when there is room, `Refused` when the
    /// listener closes.
    Waiting(Option<Waker>),
    /// In the backlog or accepted; data flows. Final.
    Established,
    /// Final.
    Refused,
}

#[derive(Debug, Default)]
pub(super) struct End {
    /// `close` was called: nothing is read or written here any more.
    pub(super) closed: bool,
    /// RST came, or was sent by this end.
    pub(super) reset: bool,
    /// What the next call fails with, once (Linux's `sk_err`).
    pub(super) error: Option<Error>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) phase: Phase,
    ends: [End; 2],
    /// `pipes[side]` is what that side receives.
    pipes: [Pipe; 2],
    /// Whether the 4-tuple is in the port table.
    entered: bool,
    pub(super) tap: Tap,
}

impl State {
    pub(super) fn end(&mut self, side: Side) -> &mut End {
        &mut self.ends[side as usize]
    }

    /// What `side` reads from.
    pub(super) fn incoming(&mut self, side: Side) -> &mut Pipe {
        &mut self.pipes[side as usize]
    }

    /// What `side` writes to.
    pub(super) fn outgoing(&mut self, side: Side) -> &mut Pipe {
        &mut self.pipes[side.peer() as usize]
    }

    /// RST arrives at `side`.
    pub(super) fn reset(&mut self, side: Side, wakes: &mut Wakes) {
        let received_fin = self.incoming(side).is_finished();
        let sent_fin = self.outgoing(side).is_finished();
        self.tap.reset(side);
        let end = self.end(side);
        if end.closed || end.reset {
            return;
        }
        end.reset = true;
        end.error = match (received_fin, sent_fin) {
            (false, _) => Some(Error::ConnectionReset),
            (true, false) => Some(Error::ConnectionBroken),
            (true, true) => None,
        };
        self.incoming(side).wake(wakes);
        self.outgoing(side).wake(wakes);
    }

    /// Whether data written by `side` can arrive: `Err` with what the write fails with, `Ok(false)`
    /// when it is lost and answered by RST.
    pub(super) fn route(&mut self, side: Side) -> Result<bool> {
        if let Some(error) = self.end(side).error.take() {
            return Err(error);
        }
        if self.end(side).reset || self.end(side).closed || self.outgoing(side).is_finished() {
            return Err(Error::ConnectionBroken);
        }
        let peer = side.peer();
        let peer_takes_no_data = self.incoming(peer).is_shut() && self.outgoing(peer).is_finished();
        Ok(!(self.end(peer).closed || self.end(peer).reset || peer_takes_no_data))
    }

    /// Whether nothing can go either way any more: TCP's CLOSED (without TIME_WAIT).
    pub(super) fn is_over(&self) -> bool {
        self.ends.iter().any(|end| end.reset) || self.pipes.iter().all(Pipe::is_finished)
    }

    pub(super) fn resize(&mut self, reader: Side, old: usize, new: usize, wakes: &mut Wakes) {
        let pipe = self.incoming(reader);
        // The buffer may have been another when the connection was made: an accepted socket has its listener's
        // options of now. A direction without any room would be dead.
        let capacity = (pipe.capacity() + new).saturating_sub(old).max(new);
        pipe.set_capacity(capacity, wakes);
    }

    pub(super) fn readable(&mut self, side: Side) -> Option<Readable> {
        let found = self.incoming(side).readable();
        let end = self.end(side);
        found.or_else(|| (end.reset || end.closed).then_some(Readable::Eof))
    }
}

#[derive(Debug)]
pub(super) struct Connection {
    state: Mutex<State>,
    pub(super) client: SocketAddr,
    pub(super) server: SocketAddr,
    pub(super) ports: SharedPorts,
}

/// For the statement of what a connection costs.
#[cfg(test)]
pub(in crate::net) const CONNECTION_BYTES: usize = size_of::<Connection>();

impl Connection {
    /// A connection in [`Phase::Waiting`], whose 4-tuple is in the table.
    pub(super) fn new(
        ports: SharedPorts,
        client: SocketAddr,
        server: SocketAddr,
        pipes: [Pipe; 2],
        tap: Tap,
    ) -> Self {
        let (phase, ends) = (Phase::Waiting(None), Default::default());
        let state = Mutex::new(State { phase, ends, pipes, entered: true, tap });
        Self { state, client, server, ports }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the 4-tuple back if the connection is over, though its sockets may still be open: as Linux
    /// gives the port back.
    pub(super) fn settle(&self, state: &mut State) {
        if state.entered && state.is_over() {
            state.entered = false;
            self.disconnect();
        }
    }

    pub(super) fn disconnect(&self) {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).disconnect(self.client, self.server);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.lock().entered {
            self.disconnect();
        }
    }
}
