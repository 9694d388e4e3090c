//! The states of a TCP socket. Each owns what it needs, and gives it back when it is dropped.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Sleep;

use super::super::files::File;
use super::super::listener::{Listener, Ticket};
use super::super::meter::{Count, Meter, Plane};
use super::super::options::Options;
use super::super::stack::SharedPorts;
use super::super::stream::Stream;
use super::super::{Error, Result, kernel, memory};

/// How long a client waits for room in a backlog: Linux gives up after `tcp_syn_retries` = 6
/// retransmissions of the SYN, "after 131seconds" (ip-sysctl in the kernel's documentation).
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(131);

/// A port noted as bound in the port table.
#[derive(Debug)]
pub(super) struct Claim {
    ports: SharedPorts,
    port: u16,
}

impl Claim {
    pub(super) fn new(ports: &SharedPorts, port: u16) -> Self {
        ports.lock().unwrap_or_else(PoisonError::into_inner).claim(port);
        Self { ports: ports.clone(), port }
    }

    /// Claims the port of an address that will be bound.
    ///
    /// # Errors
    /// [`Error::AddressInUse`] when a memory-plane connection has it.
    pub(super) fn of_free(ports: &SharedPorts, addr: SocketAddr) -> Result<Self> {
        let mut table = ports.lock().unwrap_or_else(PoisonError::into_inner);
        table.check_bind(addr)?;
        table.claim(addr.port());
        Ok(Self { ports: ports.clone(), port: addr.port() })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).release(self.port);
    }
}

/// A kernel socket that holds a port, and the note of it.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) socket: OwnedFd,
    pub(super) local: SocketAddr,
    pub(super) claim: Claim,
}

/// A listener that closes with the state that owns it.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) listener: Arc<Listener>,
    pub(super) _claim: Claim,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.listener.close();
    }
}

pub(super) enum Connecting {
    Memory {
        /// Present until it is connected.
        stream: Option<memory::Stream>,
        /// Present if the backlog was full.
        waiting: Option<Waiting>,
        /// Holds the port if the socket was bound.
        bound: Option<Bound>,
    },
    Kernel {
        attempt: kernel::Connecting,
        remote: SocketAddr,
        /// Present if the socket was bound.
        claim: Option<Claim>,
    },
}

/// A client's place in the queue for a full backlog, and until when.
pub(super) struct Waiting {
    _ticket: Ticket,
    /// Made by the first poll.
    pub(super) timeout: Option<Pin<Box<Sleep>>>,
}

impl Waiting {
    pub(super) fn new(ticket: Ticket) -> Self {
        Self { _ticket: ticket, timeout: None }
    }

    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.timeout.get_or_insert_with(|| Box::pin(tokio::time::sleep(CONNECT_TIMEOUT))).as_mut().poll(cx)
    }
}

impl Connecting {
    pub(super) fn local(&self) -> Result<SocketAddr> {
        match self {
            Self::Memory { stream, .. } => {
                stream.as_ref().map(memory::Stream::local).ok_or(Error::InvalidState)
            }
            Self::Kernel { attempt, .. } => Ok(attempt.local()),
        }
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        // Given up: the listener must not admit it later.
        if let Self::Memory { stream: Some(stream), .. } = self {
            stream.close();
        }
    }
}

/// What keeps the local port of a connection taken.
#[derive(Debug)]
pub(super) enum Holds {
    /// An ephemeral port, or the accepted end of a connection.
    Nothing,
    /// The kernel plane after an explicit bind: the connected socket itself holds the port.
    Claim { _claim: Claim },
    /// The memory plane after an explicit bind.
    Bound { _bound: Bound },
}

/// A connection that closes with the state that owns it.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) stream: Stream,
    _holds: Holds,
    pub(super) receive_taken: bool,
    pub(super) send_taken: bool,
}

impl Connected {
    pub(super) fn new(stream: Stream, holds: Holds) -> Self {
        Self { stream, _holds: holds, receive_taken: false, send_taken: false }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.stream.close();
    }
}

pub(super) enum State {
    /// New. Exits: `Bound`, `Listening`, `Connecting`, `Closed`.
    Unbound,
    /// Holds a port. Exits: `Listening`, `Connecting`, `Closed`.
    Bound(Bound),
    /// Accepts on both planes. Exit: `Closed`.
    Listening(Listening),
    /// Exits: `Connected`, `Closed`.
    Connecting(Connecting),
    /// Exit: `Closed`.
    Connected(Connected),
    /// Failed to connect, or the endpoint was closed. Final.
    Closed(Error),
}

impl State {
    /// Which way its connection goes, or will go.
    fn plane(&self) -> Plane {
        match self {
            Self::Connecting(Connecting::Memory { .. }) => Plane::Memory,
            Self::Connected(connected) => connected.stream.plane(),
            _ => Plane::Kernel,
        }
    }
}

pub(super) struct Core {
    pub(super) state: State,
    pub(super) options: Options,
    /// For `listen`, in connections.
    pub(super) backlog: u32,
    /// Present from when it has a kernel socket.
    pub(super) file: Option<File>,
}

impl Core {
    pub(super) fn poll_connect(&mut self, cx: &mut Context<'_>, meter: &Meter) -> Poll<Result<()>> {
        let plane = self.state.plane();
        let outcome = match &mut self.state {
            State::Connecting(Connecting::Memory { stream, waiting, bound }) => {
                let attempt = stream.as_ref().ok_or(Error::InvalidState)?;
                let connected = match (attempt.poll_connect(cx), waiting) {
                    (Poll::Ready(connected), _) => connected,
                    (Poll::Pending, None) => return Poll::Pending,
                    (Poll::Pending, Some(waiting)) => {
                        ready!(waiting.poll_timeout(cx));
                        Err(Error::Timeout)
                    }
                };
                connected.and_then(|()| stream.take().ok_or(Error::InvalidState)).map(|stream| {
                    let holds = bound.take().map_or(Holds::Nothing, |bound| Holds::Bound { _bound: bound });
                    Connected::new(Stream::Memory(stream), holds)
                })
            }
            State::Connecting(Connecting::Kernel { attempt, claim, .. }) => {
                let connected = ready!(attempt.poll(cx));
                connected.map(|stream| {
                    let holds = claim.take().map_or(Holds::Nothing, |claim| Holds::Claim { _claim: claim });
                    Connected::new(Stream::Kernel(stream), holds)
                })
            }
            State::Connected(_) => return Poll::Ready(Ok(())),
            State::Closed(error) => return Poll::Ready(Err(*error)),
            _ => return Poll::Ready(Err(Error::InvalidState)),
        };
        let (state, result) = match outcome {
            Ok(connected) => {
                meter.count(plane, Count::TcpOpened);
                (State::Connected(connected), Ok(()))
            }
            Err(error) => {
                if error == Error::ConnectionRefused {
                    meter.count(plane, Count::TcpRefused);
                }
                (State::Closed(error), Err(error))
            }
        };
        self.state = state;
        Poll::Ready(result)
    }
}
