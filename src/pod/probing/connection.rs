//! A TCP connection of the host's into the pod's network, as tokio has connections.
//!
//! ```text
//! host, port ─► names ─► each address in turn ─► Connection: memory plane ─► a container's listener
//!                                                         └► kernel plane ─► everybody else
//! ```
//!
//! It belongs to nobody but its holder: dropping it closes it, and nothing of it is left in the port table. What it
//! buffers is bounded as every connection's is ([`crate::net`]).

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Place, go};
use crate::net::{Endpoint, Error, Family, ReceiveHalf, SendHalf, Stack, TcpSocket};

/// How many of the first bytes received are remembered: those by which one tells HTTP where TLS was expected, as
/// Go's `crypto/tls` does by the header of a record.
const FIRST_BYTES: usize = 5;

/// A connection. Dropping it is `close(2)`: the peer sees the end, or a reset when it had sent what was not read.
pub(super) struct Connection {
    local: SocketAddr,
    remote: SocketAddr,
    receive: ReceiveHalf,
    /// `None` once this side has sent its end.
    send: Option<SendHalf>,
    first: Vec<u8>,
    socket: TcpSocket,
    /// Open for as long as the connection is.
    _endpoint: Endpoint,
}

impl Connection {
    /// A connected socket of `endpoint`.
    ///
    /// # Errors
    /// Those of [`TcpSocket`]'s addresses and halves.
    pub(super) fn new(endpoint: Endpoint, socket: TcpSocket) -> Result<Self, Error> {
        Ok(Self {
            local: socket.local_address()?,
            remote: socket.remote_address()?,
            receive: socket.take_receive_half()?,
            send: Some(socket.take_send_half()?),
            first: Vec::new(),
            socket,
            _endpoint: endpoint,
        })
    }

    /// The peer's address.
    pub(super) fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Whether what was received begins as an HTTP response does.
    pub(super) fn has_answered_in_http(&self) -> bool {
        self.first == b"HTTP/"
    }

    fn failed(&self, operation: &str, error: Error) -> io::Error {
        let kind = match error {
            Error::ConnectionReset => io::ErrorKind::ConnectionReset,
            Error::ConnectionBroken => io::ErrorKind::BrokenPipe,
            Error::Timeout => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, go::operation(operation, self.local, self.remote, error))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.socket.close();
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(self.receive.poll_read(cx, buffer.initialize_unfilled()));
        let n = read.map_err(|error| self.failed("read", error))?;
        let missing = FIRST_BYTES - self.first.len();
        let start = &buffer.initialize_unfilled()[..n.min(missing)];
        self.first.extend_from_slice(start);
        buffer.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let Some(send) = &self.send else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        send.poll_write(cx, data).map_err(|error| self.failed("write", error))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.send = None;
        Poll::Ready(Ok(()))
    }
}

/// The first wait before a connection that was refused is tried again, doubled up to [`MAX_WAIT`].
const MIN_WAIT: Duration = Duration::from_micros(500);
/// Short next to what a server takes to listen, long next to a connection in memory.
const MAX_WAIT: Duration = Duration::from_millis(20);

/// Connects to the first of the host's addresses that accepts, a name by the pod's own resolver; again and again
/// while it is refused and the place has patience.
///
/// # Errors
/// In Go's words, of the first address that was tried.
pub(super) async fn dial(place: &Place, host: &str, port: u16) -> Result<Connection, String> {
    let end = Instant::now() + place.patience;
    let mut wait = MIN_WAIT;
    loop {
        match dial_once(&place.stack, host, port).await {
            Err((_, true)) if Instant::now() + wait < end => tokio::time::sleep(wait).await,
            answer => return answer.map_err(|(why, _)| why),
        }
        wait = MAX_WAIT.min(wait * 2);
    }
}

/// The error comes with whether it is that nobody listens there.
async fn dial_once(stack: &Arc<Stack>, host: &str, port: u16) -> Result<Connection, (String, bool)> {
    let endpoint = stack.attach_host();
    let addresses =
        endpoint.resolve(host.to_owned()).await.map_err(|error| (go::lookup_failed(host, error), false))?;
    let mut first = None;
    for address in addresses.into_iter().map(|ip| SocketAddr::new(ip, port)) {
        match connect(&endpoint, address).await {
            Ok(connection) => return Ok(connection),
            Err(error) => {
                let refused = error == Error::ConnectionRefused;
                first = first.or_else(|| Some((go::dial_failed(address, error), refused)));
            }
        }
    }
    Err(first.unwrap_or_else(|| (go::lookup_failed(host, Error::NameUnresolvable), false)))
}

async fn connect(endpoint: &Endpoint, address: SocketAddr) -> Result<Connection, Error> {
    let socket = endpoint.tcp_socket(Family::of(address.ip()))?;
    socket.start_connect(address)?;
    poll_fn(|cx| socket.poll_connect(cx)).await?;
    Connection::new(endpoint.clone(), socket)
}
