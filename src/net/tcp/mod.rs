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

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod model_tests;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

pub use acceptor::Acceptor;
pub use half::{ReceiveHalf, SendHalf};

use self::state::{Bound, Claim, Connecting, Core, Listening, State, Waiting};
use super::addr::{self, Family};
use super::endpoint::{Member, Shared};
use super::files::File;
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
        let mut core = self.lock();
        let _old =
            (std::mem::replace(&mut core.state, State::Closed(Error::ConnectionAborted)), core.file.take());
        drop(core);
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
        let core =
            Core { state: State::Unbound, options: Options::default(), backlog: DEFAULT_BACKLOG, file: None };
        Self::with(endpoint, family, core)
    }

    fn with(endpoint: Arc<Shared>, family: Family, core: Core) -> Result<Self> {
        let core = Mutex::new(core);
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
        let core = &mut *core;
        if !matches!(core.state, State::Unbound) {
            return Err(Error::InvalidState);
        }
        addr::check_tcp_bind(self.inner.family, local)?;
        self.inner.endpoint.check(Request::TcpBind(local))?;
        core.state = State::Bound(self.bind_kernel(&mut core.file, &core.options, local)?);
        Ok(())
    }

    /// Holds a port with a kernel socket.
    fn bind_kernel(&self, file: &mut Option<File>, options: &Options, local: SocketAddr) -> Result<Bound> {
        let ports = self.inner.ports();
        // A port that the kernel will choose is none of the memory plane's.
        let claim = if local.port() == 0 { None } else { Some(Claim::of_free(ports, local)?) };
        self.inner.endpoint.files.ensure(file)?;
        let socket = kernel::socket(self.inner.family, options)?;
        let local = kernel::bind(&socket, local)?;
        Ok(Bound { socket, local, claim: claim.unwrap_or_else(|| Claim::new(ports, local.port())) })
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
            let any = self.inner.family.unspecified();
            self.inner.endpoint.check(Request::TcpBind(any))?;
            core.state = State::Bound(self.bind_kernel(&mut core.file, &core.options, any)?);
        }
        let State::Bound(bound) = &core.state else { return Err(Error::InvalidState) };
        self.inner.endpoint.check(Request::TcpListen(bound.local))?;
        kernel::listen(&bound.socket, core.backlog)?;
        let State::Bound(bound) = std::mem::replace(&mut core.state, State::Closed(Error::InvalidState))
        else {
            return Err(Error::InvalidState);
        };
        let Bound { socket, local, claim } = bound;
        let endpoint = &self.inner.endpoint;
        let ports = self.inner.ports();
        let listener = Arc::new(Listener::new(
            local,
            kernel::listener(socket)?,
            core.backlog,
            core.options.clone(),
            endpoint.clone(),
        ));
        ports.lock().unwrap_or_else(PoisonError::into_inner).listen(local, listener.clone())?;
        core.state = State::Listening(Listening { listener: listener.clone(), _claim: claim });
        // The container may have been stopped meanwhile, when this socket did not listen yet.
        endpoint.check_may_listen().inspect_err(|_| listener.close())?;
        Ok(Acceptor { socket: self.inner.clone(), listener })
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
        core.state = match self.connecting(&mut core.file, &core.options, bound, remote) {
            Ok(connecting) => State::Connecting(connecting),
            Err(error) => State::Closed(error),
        };
        Ok(())
    }

    fn connecting(
        &self,
        file: &mut Option<File>,
        options: &Options,
        mut bound: Option<Bound>,
        remote: SocketAddr,
    ) -> Result<Connecting> {
        let stack = &self.inner.endpoint.stack;
        let local = |bound: &Option<Bound>| bound.as_ref().map(|b| b.local);
        let mut route = stack.connect(local(&bound), remote);
        if matches!(route, Err(Error::AddressInUse)) && bound.is_none() {
            // The memory plane has no port left (or none at all, beside the kernel's): one of the kernel's.
            let source = SocketAddr::new(addr::source_of(remote.ip()), 0);
            bound = Some(self.bind_kernel(file, options, source)?);
            route = stack.connect(local(&bound), remote);
        }
        if let Some((listener, local)) = route? {
            let (stream, ticket) = listener.connect(local, remote, options, &self.inner.endpoint);
            return Ok(Connecting::Memory { stream: Some(stream), waiting: ticket.map(Waiting::new), bound });
        }
        let (socket, claim) = match bound {
            Some(bound) => (bound.socket, Some(bound.claim)),
            None => {
                self.inner.endpoint.files.ensure(file)?;
                (kernel::socket(self.inner.family, options)?, None)
            }
        };
        let attempt = kernel::connect(socket, remote).map_err(|error| match error {
            // WIT: "address-in-use: Tried to perform an implicit bind, but there were no ephemeral ports
            // available. (EADDRINUSE, EADDRNOTAVAIL on Linux, EAGAIN on BSD)"
            Error::AddressNotBindable if claim.is_none() => Error::AddressInUse,
            error => error,
        })?;
        Ok(Connecting::Kernel { attempt, remote, claim })
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
    /// [`Error::InvalidState`] while unbound.
    pub fn local_address(&self) -> Result<SocketAddr> {
        match &self.inner.lock().state {
            State::Bound(bound) => Ok(bound.local),
            State::Listening(listening) => Ok(listening.listener.local()),
            State::Connected(connected) => Ok(connected.stream.local()),
            State::Connecting(connecting) => connecting.local(),
            State::Unbound => Err(Error::InvalidState),
            State::Closed(error) => Err(*error),
        }
    }

    /// The peer's address, also when the connection is over: the WIT's `connected` state has no way back, and
    /// where Linux says ENOTCONN, wasi-libc answers [`Error::InvalidState`] with `abort`.
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
                Ok(SendHalf::new(c.stream.clone(), self.inner.clone()))
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
