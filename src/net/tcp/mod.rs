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

mod acceptor;
mod half;
mod look;
mod socket_options;
mod state;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

pub use acceptor::Acceptor;
pub use half::{ReceiveHalf, SendHalf};

use self::state::{Bound, Claim, Connecting, Core, Listening, State};
use super::addr::{self, Family};
use super::endpoint::{Member, Shared};
use super::listener::{DEFAULT_BACKLOG, Listener};
use super::meter::Traffic;
use super::observe::Socket;
use super::options::Options;
use super::policy::Request;
use super::stack::SharedPorts;
use super::{Error, Result, kernel};

pub(in crate::net) struct Inner {
    endpoint: Arc<Shared>,
    id: u64,
    family: Family,
    traffic: Traffic,
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
        let listener = match &self.lock().state {
            State::Listening(listening) => Some(listening.listener.clone()),
            _ => None,
        };
        // Not under the lock: closing wakes who waits.
        if let Some(listener) = listener {
            listener.close();
        }
    }

    fn close(&self) {
        // Dropped after the lock is released.
        let _old = std::mem::replace(&mut self.lock().state, State::Closed(Error::ConnectionAborted));
    }

    fn describe(&self) -> Option<Socket> {
        self.look()
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
    pub(in crate::net) fn new(endpoint: Arc<Shared>, family: Family) -> Result<Self> {
        Self::with(endpoint, family, State::Unbound, Options::default())
    }

    fn with(endpoint: Arc<Shared>, family: Family, state: State, options: Options) -> Result<Self> {
        let core = Mutex::new(Core { state, options, backlog: DEFAULT_BACKLOG });
        let traffic = Traffic::new(endpoint.meter.clone());
        let inner = endpoint.clone().register(|id| Inner { endpoint, id, family, traffic, core })?;
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
        let options = core.options.clone();
        let listener = Listener::new(local, kernel, core.backlog, options, &self.inner.endpoint);
        let listener = Arc::new(listener);
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
            let _ = core.poll_connect(&mut Context::from_waker(Waker::noop()), &endpoint.meter);
        }
        Ok(())
    }

    fn connecting(&self, options: &Options, bound: Option<Bound>, remote: SocketAddr) -> Result<Connecting> {
        let stack = &self.inner.endpoint.stack;
        if let Some(listener) = stack.memory_listener(remote) {
            let local = stack.connect(bound.as_ref().map(|b| b.local), remote)?;
            let meter = &self.inner.endpoint.meter;
            let stream = Some(listener.connect(local, remote, options, meter));
            return Ok(Connecting::Memory { stream, bound });
        }
        let (socket, claim) = match bound {
            Some(bound) => (bound.socket, Some(bound.claim)),
            None => (kernel::socket(self.inner.family, options)?, None),
        };
        Ok(Connecting::Kernel { attempt: kernel::connect(socket, remote), remote, claim })
    }

    /// Waits for the connection.
    ///
    /// # Errors
    /// [`Error::ConnectionRefused`], [`Error::RemoteUnreachable`], [`Error::Timeout`] and the like;
    /// the same again on every later call. [`Error::InvalidState`] if nothing was started.
    pub fn poll_connect(&self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.lock().poll_connect(cx, &self.inner.endpoint.meter)
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
                Ok(ReceiveHalf { stream: c.stream.clone(), socket: self.inner.clone() })
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
                Ok(SendHalf { stream: c.stream.clone(), socket: self.inner.clone() })
            }
            State::Closed(error) => Err(*error),
            _ => Err(Error::InvalidState),
        }
    }

    /// Whether the connection is on the memory plane.
    #[cfg(test)]
    pub(crate) fn is_memory(&self) -> bool {
        matches!(&self.inner.lock().state, State::Connected(c) if matches!(c.stream, super::stream::Stream::Memory(_)))
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
}
