//! TCP sockets: the state machine that both versions of `wasi:sockets` drive.
//!
//! ```text
//!  Unbound ─ bind ─► Bound ─ listen ─► Listening ─ Acceptor::poll_accept ─► Connected (a new socket)
//!     │ listen: binds first │
//!     └── start_connect ────┴─► Connecting ─ poll_connect ─► Connected ─► halves
//!                                   │ fails
//!  any ── Endpoint::close ──► Closed ◄┘
//! ```
//!
//! The plane is chosen by `start_connect`: memory when a container of the pod listens there, else
//! kernel. A connection's two directions are taken once each, as [`ReceiveHalf`] and [`SendHalf`];
//! dropping a half shuts its direction down. The socket is closed when the handle, the halves and
//! the acceptor are all gone (the WIT's shared ownership).

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;

use super::addr::{self, Family};
use super::endpoint::{Member, Shared};
use super::listener::{DEFAULT_BACKLOG, Listener};
use super::memory::Data;
use super::options::{Change, Options};
use super::policy::Request;
use super::stack::SharedPorts;
use super::stream::Stream;
use super::{Error, Result, kernel, memory};

/// A port noted as bound in the port table.
#[derive(Debug)]
struct Claim {
    ports: SharedPorts,
    port: u16,
}

impl Claim {
    fn new(ports: &SharedPorts, port: u16) -> Self {
        ports.lock().unwrap_or_else(PoisonError::into_inner).claim(port);
        Self { ports: ports.clone(), port }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).release(self.port);
    }
}

/// A kernel socket that holds a port, and the note of it.
#[derive(Debug)]
struct Bound {
    socket: tokio::net::TcpSocket,
    local: SocketAddr,
    claim: Claim,
}

/// A listener that closes with the state that owns it.
#[derive(Debug)]
struct Listening {
    listener: Arc<Listener>,
    _claim: Claim,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.listener.close();
    }
}

enum Connecting {
    Memory {
        /// Present until it is connected.
        stream: Option<memory::Stream>,
        /// Holds the port if the socket was bound.
        bound: Option<Bound>,
    },
    Kernel {
        attempt: kernel::Connecting,
        claim: Option<Claim>,
    },
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
enum Holds {
    /// An ephemeral port, or the accepted end of a connection.
    Nothing,
    /// The kernel plane after an explicit bind: the connected socket itself holds the port.
    Claim { _claim: Claim },
    /// The memory plane after an explicit bind.
    Bound { _bound: Bound },
}

/// A connection that closes with the state that owns it.
#[derive(Debug)]
struct Connected {
    stream: Stream,
    _holds: Holds,
    receive_taken: bool,
    send_taken: bool,
}

impl Connected {
    fn new(stream: Stream, holds: Holds) -> Self {
        Self { stream, _holds: holds, receive_taken: false, send_taken: false }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.stream.close();
    }
}

enum State {
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

struct Core {
    state: State,
    options: Options,
    backlog: u32,
}

pub(super) struct Inner {
    endpoint: Arc<Shared>,
    id: u64,
    family: Family,
    core: Mutex<Core>,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ports(&self) -> &SharedPorts {
        &self.endpoint.stack.ports
    }
}

impl Member for Inner {
    fn stop_listening(&self) {
        if let State::Listening(listening) = &self.lock().state {
            listening.listener.close();
        }
    }

    fn close(&self) {
        // Dropped after the lock is released.
        let _old = std::mem::replace(&mut self.lock().state, State::Closed(Error::ConnectionAborted));
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.endpoint.forget(self.id);
    }
}

/// A TCP socket of one container; clones are the same socket.
#[derive(Clone)]
pub struct TcpSocket {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for TcpSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TcpSocket").field("id", &self.inner.id).finish_non_exhaustive()
    }
}

impl TcpSocket {
    pub(super) fn new(endpoint: Arc<Shared>, family: Family) -> Result<Self> {
        Self::with(endpoint, family, State::Unbound, Options::default())
    }

    fn with(endpoint: Arc<Shared>, family: Family, state: State, options: Options) -> Result<Self> {
        let core = Mutex::new(Core { state, options, backlog: DEFAULT_BACKLOG });
        let inner = endpoint.clone().register(|id| Inner { endpoint, id, family, core })?;
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
    /// other family or not unicast, and the kernel's: [`Error::AddressInUse`],
    /// [`Error::AddressNotBindable`], [`Error::AccessDenied`].
    pub fn bind(&self, local: SocketAddr) -> Result<()> {
        let mut core = self.inner.lock();
        if !matches!(core.state, State::Unbound) {
            return Err(Error::InvalidState);
        }
        addr::check_tcp_bind(self.inner.family, local)?;
        core.state = State::Bound(self.bind_kernel(&core.options, local)?);
        Ok(())
    }

    fn bind_kernel(&self, options: &Options, local: SocketAddr) -> Result<Bound> {
        self.inner.endpoint.check(Request::TcpBind(local))?;
        let socket = kernel::socket(self.inner.family, options)?;
        let local = kernel::bind(&socket, local)?;
        Ok(Bound { socket, local, claim: Claim::new(self.inner.ports(), local.port()) })
    }

    /// Whether the socket has a local address.
    pub fn is_bound(&self) -> bool {
        !matches!(self.inner.lock().state, State::Unbound)
    }

    /// Whether the socket listens.
    pub fn is_listening(&self) -> bool {
        matches!(self.inner.lock().state, State::Listening(_))
    }

    /// Begins to listen; binds to the wildcard address and a free port first if it must.
    ///
    /// # Errors
    /// [`Error::InvalidState`] in any other state; [`Error::InvalidArgument`] when the container no
    /// longer listens; the kernel's [`Error::AddressInUse`].
    pub fn listen(&self) -> Result<Acceptor> {
        self.inner.endpoint.check_may_listen()?;
        let mut core = self.inner.lock();
        let core = &mut *core;
        if let State::Unbound = core.state {
            core.state = State::Bound(self.bind_kernel(&core.options, self.inner.family.unspecified())?);
        }
        let State::Bound(bound) = &core.state else { return Err(Error::InvalidState) };
        self.inner.endpoint.check(Request::TcpListen(bound.local))?;
        kernel::listen(&bound.socket, core.backlog)?;
        let State::Bound(bound) = std::mem::replace(&mut core.state, State::Closed(Error::InvalidState))
        else {
            return Err(Error::InvalidState);
        };
        let Bound { socket, local, claim } = bound;
        let kernel = kernel::listener(socket, core.backlog)?;
        let ports = self.inner.ports();
        let listener =
            Arc::new(Listener::new(local, kernel, core.backlog, core.options.clone(), ports.clone()));
        ports.lock().unwrap_or_else(PoisonError::into_inner).listen(local, listener.clone())?;
        core.state = State::Listening(Listening { listener: listener.clone(), _claim: claim });
        Ok(Acceptor { socket: self.inner.clone(), listener, pending: None })
    }

    /// Chooses the plane and begins to connect. What fails later is told by [`Self::poll_connect`].
    ///
    /// # Errors
    /// [`Error::InvalidState`] unless unbound or bound; [`Error::InvalidArgument`] for an address of
    /// the other family, not unicast, unspecified, or with port 0; [`Error::AccessDenied`].
    pub fn start_connect(&self, remote: SocketAddr) -> Result<()> {
        let mut core = self.inner.lock();
        let core = &mut *core;
        if !matches!(core.state, State::Unbound | State::Bound(_)) {
            return Err(Error::InvalidState);
        }
        addr::check_tcp_remote(self.inner.family, remote)?;
        let endpoint = &self.inner.endpoint;
        if matches!(core.state, State::Unbound) {
            endpoint.check(Request::TcpBind(self.inner.family.unspecified()))?;
        }
        endpoint.check(Request::TcpConnect(remote))?;

        let bound = match std::mem::replace(&mut core.state, State::Closed(Error::InvalidState)) {
            State::Bound(bound) => Some(bound),
            _ => None,
        };
        core.state = match self.connecting(&core.options, bound, remote) {
            Ok(connecting) => State::Connecting(connecting),
            Err(error) => State::Closed(error),
        };
        // The kernel's attempt only starts with its first poll.
        if let State::Connecting(Connecting::Kernel { .. }) = core.state {
            let _ = core.poll_connect(&mut Context::from_waker(Waker::noop()));
        }
        Ok(())
    }

    fn connecting(&self, options: &Options, bound: Option<Bound>, remote: SocketAddr) -> Result<Connecting> {
        let stack = &self.inner.endpoint.stack;
        if let Some(listener) = stack.memory_listener(remote) {
            let local = stack.connect(bound.as_ref().map(|b| b.local), remote)?;
            let stream = Some(listener.connect(local, remote, options));
            return Ok(Connecting::Memory { stream, bound });
        }
        let (socket, claim) = match bound {
            Some(bound) => (bound.socket, Some(bound.claim)),
            None => (kernel::socket(self.inner.family, options)?, None),
        };
        Ok(Connecting::Kernel { attempt: kernel::connect(socket, remote), claim })
    }

    /// Waits for the connection.
    ///
    /// # Errors
    /// [`Error::ConnectionRefused`], [`Error::RemoteUnreachable`], [`Error::Timeout`] and the like;
    /// the same again on every later call. [`Error::InvalidState`] if nothing was started.
    pub fn poll_connect(&self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.lock().poll_connect(cx)
    }

    /// The local address.
    ///
    /// # Errors
    /// [`Error::InvalidState`] while unbound or connecting.
    pub fn local_address(&self) -> Result<SocketAddr> {
        match &self.inner.lock().state {
            State::Bound(bound) => Ok(bound.local),
            State::Listening(listening) => Ok(listening.listener.local()),
            State::Connected(connected) => Ok(connected.stream.local()),
            State::Unbound | State::Connecting(_) => Err(Error::InvalidState),
            State::Closed(error) => Err(*error),
        }
    }

    /// The peer's address.
    ///
    /// # Errors
    /// [`Error::InvalidState`] unless connected.
    pub fn remote_address(&self) -> Result<SocketAddr> {
        match &self.inner.lock().state {
            State::Connected(connected) => Ok(connected.stream.remote()),
            State::Closed(error) => Err(*error),
            _ => Err(Error::InvalidState),
        }
    }

    /// Takes the receiving direction.
    ///
    /// # Errors
    /// [`Error::InvalidState`] unless connected, and when taken already.
    pub fn take_receive_half(&self) -> Result<ReceiveHalf> {
        match &mut self.inner.lock().state {
            State::Connected(c) if !c.receive_taken => {
                c.receive_taken = true;
                Ok(ReceiveHalf { stream: c.stream.clone(), _socket: self.inner.clone() })
            }
            State::Closed(error) => Err(*error),
            _ => Err(Error::InvalidState),
        }
    }

    /// Takes the sending direction.
    ///
    /// # Errors
    /// [`Error::InvalidState`] unless connected, and when taken already.
    pub fn take_send_half(&self) -> Result<SendHalf> {
        match &mut self.inner.lock().state {
            State::Connected(c) if !c.send_taken => {
                c.send_taken = true;
                Ok(SendHalf { stream: c.stream.clone(), _socket: self.inner.clone() })
            }
            State::Closed(error) => Err(*error),
            _ => Err(Error::InvalidState),
        }
    }

    /// Whether the connection is on the memory plane.
    pub fn is_memory(&self) -> bool {
        matches!(&self.inner.lock().state, State::Connected(c) if matches!(c.stream, Stream::Memory(_)))
    }

    /// Hints the backlog, in connections.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for 0, [`Error::InvalidState`] when connecting or connected.
    pub fn set_backlog(&self, backlog: u64) -> Result<()> {
        if backlog == 0 {
            return Err(Error::InvalidArgument);
        }
        let backlog = u32::try_from(backlog).unwrap_or(u32::MAX).min(i32::MAX as u32);
        let mut core = self.inner.lock();
        match &core.state {
            State::Unbound | State::Bound(_) => {}
            State::Listening(listening) => listening.listener.set_backlog(backlog)?,
            State::Connecting(_) | State::Connected(_) => return Err(Error::InvalidState),
            State::Closed(error) => return Err(*error),
        }
        core.backlog = backlog;
        Ok(())
    }

    /// Closes the socket as `close(2)` does, whoever else holds it or its halves: the peer sees the end
    /// of the stream, or a reset if not all it sent was read.
    pub fn close(&self) {
        self.inner.close();
    }

    fn get<T>(&self, get: impl FnOnce(&Options) -> T) -> Result<T> {
        let core = self.inner.lock();
        match &core.state {
            State::Closed(error) => Err(*error),
            _ => Ok(get(&core.options)),
        }
    }

    fn set(&self, change: Change) -> Result<()> {
        let mut core = self.inner.lock();
        let family = self.inner.family;
        match &core.state {
            State::Unbound => {}
            State::Bound(bound) => change.apply(bound.socket.as_fd(), family)?,
            State::Listening(listening) => listening.listener.apply(change, family)?,
            State::Connecting(_) => return Err(Error::InvalidState),
            State::Connected(connected) => connected.stream.apply(change, &core.options, family)?,
            State::Closed(error) => return Err(*error),
        }
        core.options.set(change);
        Ok(())
    }
}

/// The socket options. All setters fail with [`Error::InvalidArgument`] for 0 and clamp the rest to
/// what Linux takes; setting fails with [`Error::InvalidState`] while connecting.
#[allow(missing_docs, reason = "named after the WIT's functions, which document them")]
impl TcpSocket {
    pub fn keep_alive_enabled(&self) -> Result<bool> {
        self.get(Options::keep_alive)
    }

    pub fn set_keep_alive_enabled(&self, on: bool) -> Result<()> {
        self.set(Change::KeepAlive(on))
    }

    /// Nanoseconds.
    pub fn keep_alive_idle_time(&self) -> Result<u64> {
        self.get(Options::keep_alive_idle)
    }

    /// Nanoseconds, rounded up to seconds.
    pub fn set_keep_alive_idle_time(&self, nanos: u64) -> Result<()> {
        self.set(Change::keep_alive_idle(nanos)?)
    }

    /// Nanoseconds.
    pub fn keep_alive_interval(&self) -> Result<u64> {
        self.get(Options::keep_alive_interval)
    }

    /// Nanoseconds, rounded up to seconds.
    pub fn set_keep_alive_interval(&self, nanos: u64) -> Result<()> {
        self.set(Change::keep_alive_interval(nanos)?)
    }

    pub fn keep_alive_count(&self) -> Result<u32> {
        self.get(Options::keep_alive_count)
    }

    pub fn set_keep_alive_count(&self, probes: u32) -> Result<()> {
        self.set(Change::keep_alive_count(probes)?)
    }

    pub fn hop_limit(&self) -> Result<u8> {
        self.get(Options::hop_limit)
    }

    pub fn set_hop_limit(&self, hops: u8) -> Result<()> {
        self.set(Change::hop_limit(hops)?)
    }

    /// Bytes.
    pub fn receive_buffer_size(&self) -> Result<u64> {
        self.get(|o| o.receive_buffer() as u64)
    }

    /// Bytes.
    pub fn set_receive_buffer_size(&self, bytes: u64) -> Result<()> {
        self.set(Change::receive_buffer(bytes)?)
    }

    /// Bytes.
    pub fn send_buffer_size(&self) -> Result<u64> {
        self.get(|o| o.send_buffer() as u64)
    }

    /// Bytes.
    pub fn set_send_buffer_size(&self, bytes: u64) -> Result<()> {
        self.set(Change::send_buffer(bytes)?)
    }
}

impl Core {
    fn poll_connect(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let outcome = match &mut self.state {
            State::Connecting(Connecting::Memory { stream, bound }) => {
                let attempt = stream.as_ref().ok_or(Error::InvalidState)?;
                let connected = ready!(attempt.poll_connect(cx));
                connected.and_then(|()| stream.take().ok_or(Error::InvalidState)).map(|stream| {
                    let holds = bound.take().map_or(Holds::Nothing, |bound| Holds::Bound { _bound: bound });
                    Connected::new(Stream::Memory(stream), holds)
                })
            }
            State::Connecting(Connecting::Kernel { attempt, claim }) => {
                let connected = ready!(attempt.as_mut().poll(cx));
                connected.map_err(Error::from).and_then(kernel::Stream::new).map(|stream| {
                    let holds = claim.take().map_or(Holds::Nothing, |claim| Holds::Claim { _claim: claim });
                    Connected::new(Stream::Kernel(stream), holds)
                })
            }
            State::Connected(_) => return Poll::Ready(Ok(())),
            State::Closed(error) => return Poll::Ready(Err(*error)),
            _ => return Poll::Ready(Err(Error::InvalidState)),
        };
        let (state, result) = match outcome {
            Ok(connected) => (State::Connected(connected), Ok(())),
            Err(error) => (State::Closed(error), Err(error)),
        };
        self.state = state;
        Poll::Ready(result)
    }
}

/// Where a listening socket's connections come out. Keeps the socket open.
pub struct Acceptor {
    socket: Arc<Inner>,
    listener: Arc<Listener>,
    /// Accepted by [`Self::poll_ready`], not yet handed out.
    pending: Option<Result<TcpSocket>>,
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
        let options = self.socket.lock().options.clone();
        let state = State::Connected(Connected::new(stream, Holds::Nothing));
        TcpSocket::with(self.socket.endpoint.clone(), self.socket.family, state, options)
    }
}

/// The receiving direction of a connection. Dropping it is `shutdown(SHUT_RD)`.
pub struct ReceiveHalf {
    stream: Stream,
    _socket: Arc<Inner>,
}

impl ReceiveHalf {
    /// Waits until a read has an answer.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_read_ready(cx)
    }

    /// Up to `max` bytes as they came, without copying on the memory plane. Empty is the end.
    ///
    /// # Errors
    /// [`Error::ConnectionReset`] and what else the kernel reports.
    pub fn poll_read_bytes(&self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Bytes>> {
        if max == 0 { Poll::Ready(Ok(Bytes::new())) } else { self.stream.poll_read_bytes(cx, max) }
    }

    /// Fills the front of the buffer. 0 is the end (or an empty buffer).
    ///
    /// # Errors
    /// As [`Self::poll_read_bytes`].
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<Result<usize>> {
        if buffer.is_empty() { Poll::Ready(Ok(0)) } else { self.stream.poll_read(cx, buffer) }
    }
}

impl Drop for ReceiveHalf {
    fn drop(&mut self) {
        self.stream.shutdown_read();
    }
}

/// The sending direction of a connection. Dropping it is `shutdown(SHUT_WR)`.
pub struct SendHalf {
    stream: Stream,
    _socket: Arc<Inner>,
}

impl SendHalf {
    /// Waits until a write takes something or fails.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_write_ready(cx)
    }

    /// How many bytes [`Self::poll_write_bytes`] is certain to take at once, if that can be known:
    /// only on the memory plane, as nobody else fills the pipe.
    ///
    /// # Errors
    /// As [`Self::poll_write_bytes`].
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<Option<usize>>> {
        match &self.stream {
            Stream::Memory(stream) => stream.poll_writable(cx).map_ok(Some),
            Stream::Kernel(stream) => stream.poll_write_ready(cx).map(|()| Ok(None)),
        }
    }

    /// Takes bytes from the front of `data` (not empty), without copying on the memory plane.
    ///
    /// # Errors
    /// [`Error::ConnectionBroken`], [`Error::ConnectionReset`], and what else the kernel reports.
    pub fn poll_write_bytes(&self, cx: &mut Context<'_>, data: &mut Bytes) -> Poll<Result<usize>> {
        self.stream.poll_write(cx, Data::Bytes(data))
    }

    /// Copies from the front of `data` (not empty).
    ///
    /// # Errors
    /// As [`Self::poll_write_bytes`].
    pub fn poll_write(&self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize>> {
        self.stream.poll_write(cx, Data::Slice(data))
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        self.stream.shutdown_write();
    }
}
