//! A TCP connection between two containers of the pod that the kernel never sees: two
//! [pipes](super::pipe) and what TCP does at their ends.
//!
//! ```text
//!              admit                  both ends closed
//!  Waiting ───────────► Established ────────────────────► gone
//!     │ the listener closes             │ close with unread data, or data for a closed end
//!     ▼                                 ▼
//!  Refused                       the other end is reset
//! ```
//!
//! The rules are Linux's (`net/ipv4/tcp.c`, `tcp_input.c`), as seen through the socket calls:
//!
//! * Closing with unread data sends RST, otherwise FIN.
//! * Data for an end that is closed, or that has sent FIN and shut its receiving side, is taken and
//!   lost, and RST comes back.
//! * After RST, what had arrived is still read; then one call fails with ECONNRESET (or EPIPE if the
//!   peer's FIN had come first); after that reads find the end and writes fail with EPIPE.
//! * An end that only shut its receiving side throws away what comes. Linux would let it pile up
//!   until the peer blocks, which no one can see from the data but holds memory.

mod connection;

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

#[cfg(test)]
pub(super) use self::connection::CONNECTION_BYTES;
pub(super) use self::connection::Side;
use self::connection::{Connection, Phase};
use super::budget::Budget;
use super::capture::{Kept, Tap};
use super::observe::{Look, SocketState};
use super::pipe::{Pipe, Readable};
use super::stack::SharedPorts;
use super::wakes::{Wakes, remember};
use super::{Error, Result};

/// What to write: handed over or copied.
pub(super) enum Data<'a> {
    Bytes(&'a mut Bytes),
    Slice(&'a [u8]),
}

impl Data<'_> {
    fn lose(self) -> usize {
        match self {
            Self::Bytes(bytes) => std::mem::take(bytes).len(),
            Self::Slice(slice) => slice.len(),
        }
    }
}

/// One end of a connection. A handle: clones are the same end, and dropping them does not close it.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    connection: Arc<Connection>,
    side: Side,
}

impl Stream {
    /// A connection in [`Phase::Waiting`], as (client, server). The 4-tuple must be entered in the
    /// table; it is removed when the connection is over, at the latest with the last handle.
    ///
    /// `to_client` and `to_server` are the capacities of the two directions, in bytes.
    pub(super) fn pair(
        ports: SharedPorts,
        client: SocketAddr,
        server: SocketAddr,
        to_client: usize,
        to_server: usize,
        budget: &Budget,
        tap: Tap,
    ) -> (Self, Self) {
        let pipes = [to_client, to_server].map(|capacity| Pipe::new(capacity, budget.clone()));
        let connection = Arc::new(Connection::new(ports, client, server, pipes, tap));
        (Self { connection: connection.clone(), side: Side::Client }, Self { connection, side: Side::Server })
    }

    pub(super) fn local(&self) -> SocketAddr {
        match self.side {
            Side::Client => self.connection.client,
            Side::Server => self.connection.server,
        }
    }

    pub(super) fn remote(&self) -> SocketAddr {
        match self.side {
            Side::Client => self.connection.server,
            Side::Server => self.connection.client,
        }
    }

    /// The listener takes the connection into its backlog.
    pub(super) fn admit(&self, wakes: &mut Wakes) {
        self.leave_waiting(Phase::Established, wakes);
    }

    /// The listener closes before it had room.
    pub(super) fn refuse(&self, wakes: &mut Wakes) {
        self.leave_waiting(Phase::Refused, wakes);
    }

    fn leave_waiting(&self, phase: Phase, wakes: &mut Wakes) {
        let mut state = self.connection.lock();
        if let Phase::Waiting(connector) = &mut state.phase {
            wakes.add(connector.take());
            match phase {
                Phase::Refused => state.tap.refused(),
                _ => state.tap.admitted(),
            }
            state.phase = phase;
        }
    }

    pub(super) fn poll_connect(&self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match &mut self.connection.lock().phase {
            Phase::Waiting(connector) => {
                remember(connector, cx.waker());
                Poll::Pending
            }
            Phase::Established => Poll::Ready(Ok(())),
            Phase::Refused => Poll::Ready(Err(Error::ConnectionRefused)),
        }
    }

    /// How many bytes the next write takes, at least 1.
    pub(super) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<Result<usize>> {
        let mut state = self.connection.lock();
        if !state.route(self.side)? {
            return Poll::Ready(Ok(usize::MAX));
        }
        let pipe = state.outgoing(self.side);
        pipe.poll_writable(cx).map(|()| Ok(pipe.free()))
    }

    /// Like [`Self::poll_writable`] without taking the pending error.
    pub(super) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.connection.lock();
        if state.end(self.side).error.is_some() || !matches!(state.route(self.side), Ok(true)) {
            return Poll::Ready(());
        }
        state.outgoing(self.side).poll_writable(cx)
    }

    pub(super) fn poll_write(&self, cx: &mut Context<'_>, data: Data<'_>) -> Poll<Result<usize>> {
        let mut wakes = Wakes::default();
        let mut state = self.connection.lock();
        if !state.route(self.side)? {
            if state.tap.is_recording() {
                state.tap.lost(self.side, Kept::of(&data).first(usize::MAX));
            }
            state.reset(self.side, &mut wakes);
            self.connection.settle(&mut state);
            return Poll::Ready(Ok(data.lose()));
        }
        let pipe = state.outgoing(self.side);
        if pipe.poll_writable(cx).is_pending() {
            return Poll::Pending;
        }
        let kept = state.tap.is_recording().then(|| Kept::of(&data));
        let pipe = state.outgoing(self.side);
        let n = match data {
            Data::Bytes(bytes) => pipe.write(bytes, &mut wakes),
            Data::Slice(slice) => pipe.write_slice(slice, &mut wakes),
        };
        if let Some(kept) = kept {
            let room = state.outgoing(self.side).free();
            state.tap.wrote(self.side, kept.first(n), room);
        }
        Poll::Ready(Ok(n))
    }

    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.connection.lock();
        if state.readable(self.side).is_some() {
            return Poll::Ready(());
        }
        state.incoming(self.side).await_data(cx);
        Poll::Pending
    }

    /// Up to `max` (at least 1) bytes; none is the end.
    pub(super) fn poll_read_bytes(&self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Bytes>> {
        self.poll_read_with(cx, |pipe, wakes| pipe.read(max, wakes))
    }

    /// Fills the front of `out` (not empty); 0 is the end.
    pub(super) fn poll_read(&self, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<Result<usize>> {
        self.poll_read_with(cx, |pipe, wakes| pipe.read_into(out, wakes))
    }

    fn poll_read_with<T: Default>(
        &self,
        cx: &mut Context<'_>,
        read: impl FnOnce(&mut Pipe, &mut Wakes) -> T,
    ) -> Poll<Result<T>> {
        let mut wakes = Wakes::default();
        let mut state = self.connection.lock();
        match state.readable(self.side) {
            Some(Readable::Data) => Poll::Ready(Ok(read(state.incoming(self.side), &mut wakes))),
            Some(Readable::Eof) => {
                // After the peer's FIN, or on a side that was shut, the end comes before the error.
                let pipe = state.incoming(self.side);
                let at_end = pipe.is_finished() || pipe.is_shut();
                match state.end(self.side).error {
                    Some(error) if !at_end => {
                        state.end(self.side).error = None;
                        Poll::Ready(Err(error))
                    }
                    _ => Poll::Ready(Ok(T::default())),
                }
            }
            None => {
                state.incoming(self.side).await_data(cx);
                Poll::Pending
            }
        }
    }

    /// `shutdown(SHUT_WR)`: FIN.
    pub(super) fn shutdown_write(&self) {
        let mut wakes = Wakes::default();
        let mut state = self.connection.lock();
        let end = state.end(self.side);
        // A half that is dropped after `close` sends no FIN behind its RST.
        if !end.reset && !end.closed {
            state.outgoing(self.side).finish(&mut wakes);
            state.tap.finished(self.side);
            self.connection.settle(&mut state);
        }
    }

    /// `shutdown(SHUT_RD)`.
    pub(super) fn shutdown_read(&self) {
        let mut wakes = Wakes::default();
        self.connection.lock().incoming(self.side).shut(&mut wakes);
    }

    /// `close`: FIN, or RST when data is lost by it.
    pub(super) fn close(&self) {
        let mut wakes = Wakes::default();
        let mut state = self.connection.lock();
        if state.end(self.side).closed {
            return;
        }
        let loses_data = state.incoming(self.side).loses_data();
        let was_reset = state.end(self.side).reset;
        state.end(self.side).closed = true;
        state.incoming(self.side).shut(&mut wakes);
        if loses_data {
            state.reset(self.side.peer(), &mut wakes);
        } else if !was_reset {
            state.outgoing(self.side).finish(&mut wakes);
            state.tap.finished(self.side);
        }
        // A writer that waits for room learns that there is no reader.
        state.outgoing(self.side).wake(&mut wakes);
        self.connection.settle(&mut state);
    }

    /// Closes without ever having been accepted: always RST.
    pub(super) fn abort(&self, wakes: &mut Wakes) {
        let mut state = self.connection.lock();
        state.end(self.side).closed = true;
        state.incoming(self.side).shut(wakes);
        state.reset(self.side.peer(), wakes);
        self.connection.settle(&mut state);
    }

    /// What there is to see of this end.
    pub(super) fn look(&self) -> Look {
        let mut state = self.connection.lock();
        let unread = state.incoming(self.side).len() as u64;
        let untaken = state.outgoing(self.side).len() as u64;
        let sent_fin = state.outgoing(self.side).is_finished();
        let received_fin = state.incoming(self.side).is_finished();
        let was_reset = state.end(self.side).reset;
        Look {
            state: match state.phase {
                Phase::Waiting(_) => SocketState::SynSent,
                _ if was_reset => SocketState::Unconnected,
                _ => SocketState::of_memory(sent_fin, received_fin, untaken > 0),
            },
            peer: Some(match self.side {
                Side::Client => self.connection.server,
                Side::Server => self.connection.client,
            }),
            peer_container: Some(state.tap.container(self.side.peer()).to_owned()),
            unread,
            untaken,
        }
    }

    /// This end's receive buffer changes from `old` to `new` bytes. A direction holds what the
    /// sender's and the receiver's buffer hold together.
    pub(super) fn resize_incoming(&self, old: usize, new: usize) {
        let mut wakes = Wakes::default();
        self.connection.lock().resize(self.side, old, new, &mut wakes);
    }

    /// This end's send buffer changes from `old` to `new` bytes.
    pub(super) fn resize_outgoing(&self, old: usize, new: usize) {
        let mut wakes = Wakes::default();
        self.connection.lock().resize(self.side.peer(), old, new, &mut wakes);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::task::Waker;

    use super::super::meter::Meter;
    use super::super::ports::{EPHEMERAL_PORTS, Ports};
    use super::*;

    fn tap(client: SocketAddr, server: SocketAddr) -> Tap {
        let meters = ["client", "server"].map(|name| Arc::new(Meter::new(name)));
        Tap::open(meters, None, [client, server], [16; 2])
    }

    fn connected() -> (Stream, Stream, SharedPorts) {
        let ports: SharedPorts = Arc::new(Mutex::new(Ports::new(EPHEMERAL_PORTS)));
        let server: SocketAddr = "127.0.0.1:80".parse().expect("address");
        let client = ports.lock().expect("lock").connect(server.ip(), None, server).expect("port");
        let (c, s) =
            Stream::pair(ports.clone(), client, server, 16, 16, &Budget::default(), tap(client, server));
        s.admit(&mut Wakes::default());
        (c, s, ports)
    }

    fn write(stream: &Stream, data: &[u8]) -> Poll<Result<usize>> {
        stream.poll_write(&mut Context::from_waker(Waker::noop()), Data::Slice(data))
    }

    fn read(stream: &Stream) -> Poll<Result<Vec<u8>>> {
        stream.poll_read_bytes(&mut Context::from_waker(Waker::noop()), 100).map_ok(|b| b.to_vec())
    }

    fn data(bytes: &[u8]) -> Poll<Result<Vec<u8>>> {
        Poll::Ready(Ok(bytes.to_vec()))
    }

    const END: Poll<Result<Vec<u8>>> = Poll::Ready(Ok(Vec::new()));
    const RESET: Poll<Result<Vec<u8>>> = Poll::Ready(Err(Error::ConnectionReset));
    const BROKEN: Poll<Result<usize>> = Poll::Ready(Err(Error::ConnectionBroken));

    #[test]
    fn both_directions_with_back_pressure() {
        let (c, s, _) = connected();
        assert_eq!(write(&c, &[1; 20]), Poll::Ready(Ok(16)));
        assert_eq!(write(&c, &[1; 4]), Poll::Pending);
        assert_eq!(write(&s, b"hello"), Poll::Ready(Ok(5)));
        assert_eq!(read(&c), data(b"hello"));
        assert_eq!(read(&s), data(&[1; 16]));
        assert_eq!(write(&c, &[1; 4]), Poll::Ready(Ok(4)));
        assert_eq!(read(&c), Poll::Pending);
    }

    #[test]
    fn half_close_each_way() {
        let (c, s, _) = connected();
        write(&c, b"request").is_ready();
        c.shutdown_write();
        assert_eq!(write(&c, b"x"), BROKEN);
        assert_eq!(read(&s), data(b"request"));
        assert_eq!(read(&s), END);
        assert_eq!(write(&s, b"reply"), Poll::Ready(Ok(5)));
        s.close();
        assert_eq!(read(&c), data(b"reply"));
        assert_eq!(read(&c), END);
    }

    #[test]
    fn close_with_unread_data_resets() {
        let (c, s, _) = connected();
        write(&s, b"partial").is_ready();
        write(&c, b"unread").is_ready();
        s.close();
        assert_eq!(read(&c), data(b"partial"), "what had arrived is still read");
        assert_eq!(read(&c), RESET);
        assert_eq!(read(&c), END);
        assert_eq!(write(&c, b"x"), BROKEN);
    }

    #[test]
    fn a_half_that_goes_after_the_close_does_not_turn_the_reset_into_an_end() {
        let (c, s, _) = connected();
        write(&c, b"unread").is_ready();
        s.close();
        s.shutdown_write();
        s.shutdown_read();
        assert_eq!(read(&c), RESET);
        assert_eq!(read(&c), END);
    }

    #[test]
    fn clean_close_is_eof_and_the_second_write_breaks() {
        let (c, s, _) = connected();
        s.close();
        assert_eq!(read(&c), END);
        assert_eq!(write(&c, b"lost"), Poll::Ready(Ok(4)), "RST comes back only now");
        assert_eq!(write(&c, b"x"), BROKEN);
        assert_eq!(write(&c, b"x"), BROKEN);
        assert_eq!(read(&c), END);
    }

    #[test]
    fn shut_receive_side_swallows_until_fin() {
        let (c, s, _) = connected();
        s.shutdown_read();
        assert_eq!(read(&s), END);
        for _ in 0..10 {
            assert_eq!(write(&c, &[0; 16]), Poll::Ready(Ok(16)));
        }
        assert_eq!(write(&s, b"still"), Poll::Ready(Ok(5)));
        s.shutdown_write();
        assert_eq!(write(&c, b"lost"), Poll::Ready(Ok(4)));
        assert_eq!(write(&c, b"x"), BROKEN);
        assert_eq!(read(&c), data(b"still"));
        assert_eq!(read(&c), END);
    }

    #[test]
    fn ports_come_back_when_the_connection_is_over() {
        let (c, s, ports) = connected();
        c.close();
        s.close();
        assert!(ports.lock().expect("lock").is_empty(), "both have closed");
        let (c, s, ports) = connected();
        write(&s, b"unread").is_ready();
        c.close();
        assert!(ports.lock().expect("lock").is_empty(), "reset");
        let (c, s, ports) = connected();
        c.close();
        drop(c);
        assert!(!ports.lock().expect("lock").is_empty(), "half closed");
        drop(s);
        assert!(ports.lock().expect("lock").is_empty());
    }

    #[test]
    fn waiting_then_admitted_or_refused() {
        let cx = &mut Context::from_waker(Waker::noop());
        for refuse in [false, true] {
            let (c, s, _) = connected();
            let ports = s.connection.ports.clone();
            let tap = tap(c.local(), s.local());
            let (c, s) = Stream::pair(ports, c.local(), s.local(), 1, 1, &Budget::default(), tap);
            assert_eq!(c.poll_connect(cx), Poll::Pending);
            let expected = if refuse {
                s.refuse(&mut Wakes::default());
                Err(Error::ConnectionRefused)
            } else {
                s.admit(&mut Wakes::default());
                Ok(())
            };
            assert_eq!(c.poll_connect(cx), Poll::Ready(expected));
        }
    }
}
