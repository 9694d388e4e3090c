//! A listening socket: one address, two planes.
//!
//! ```text
//!  container ─► waiting ─► backlog ─┐
//!               (full)     (bound)  ├─► accept, in turns
//!  kernel's accept queue ───────────┘
//! ```
//!
//! The kernel socket really listens; the port table leads the pod's containers here. A connection in
//! the backlog is established as far as its client can tell. When the backlog is full, clients wait:
//! Linux drops their SYN and they send it again; here they are woken when there is room.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::net::TcpListener;

use super::addr::Family;
use super::budget::Budget;
use super::capture::{Capture, Tap};
use super::endpoint::Shared;
use super::meter::Meter;
use super::options::{Change, Options};
use super::stack::SharedPorts;
use super::stream::Stream;
use super::wakes::{Wakes, remember};
use super::{Error, Result, kernel, memory};
use crate::sys::socket;

/// Largest backlog, in connections: Linux's `net.core.somaxconn`.
const MAX_BACKLOG: u32 = 4096;

/// Most clients that wait for room in one backlog, in connections; more are refused. Linux has no
/// such bound, its waiting clients cost it nothing.
const MAX_WAITING: usize = 4096;

/// Backlog of a listener that did not choose one, in connections: what Rust's std asks for.
pub(super) const DEFAULT_BACKLOG: u32 = 128;

/// Whose turn it is when both planes have a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Memory,
    Kernel,
}

#[derive(Debug)]
struct Open {
    kernel: TcpListener,
    backlog: VecDeque<memory::Stream>,
    /// Linux's accept queue holds one more than the backlog says; so does this one.
    limit: usize,
    waiting: VecDeque<memory::Stream>,
    acceptor: Option<Waker>,
    turn: Turn,
    options: Options,
}

#[derive(Debug)]
enum State {
    /// Exit: `Closed`, by [`Listener::close`].
    Open(Box<Open>),
    /// Final.
    Closed,
}

#[derive(Debug)]
pub(super) struct Listener {
    local: SocketAddr,
    ports: SharedPorts,
    budget: Budget,
    meter: Arc<Meter>,
    capture: Option<Capture>,
    state: Mutex<State>,
}

impl Listener {
    pub(super) fn new(
        local: SocketAddr,
        kernel: TcpListener,
        backlog: u32,
        options: Options,
        endpoint: &Shared,
    ) -> Self {
        let open = Open {
            kernel,
            backlog: VecDeque::new(),
            limit: backlog.min(MAX_BACKLOG) as usize,
            waiting: VecDeque::new(),
            acceptor: None,
            turn: Turn::Memory,
            options,
        };
        Self {
            local,
            ports: endpoint.stack.ports.clone(),
            budget: endpoint.stack.budget.clone(),
            meter: endpoint.meter.clone(),
            capture: endpoint.stack.capture.clone(),
            state: Mutex::new(State::Open(Box::new(open))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Connections that wait to be accepted, on both planes, and how many may on each.
    pub(super) fn backlog(&self) -> (u64, u64) {
        match &*self.lock() {
            State::Open(open) => {
                let kernel = socket::tcp_info(&open.kernel).map_or(0, |info| info.unacked.into());
                (open.backlog.len() as u64 + kernel, open.limit as u64)
            }
            State::Closed => (0, 0),
        }
    }

    /// A client of the memory plane. `to_client` and `to_server` are made from the listener's options,
    /// which the accepted socket inherits.
    pub(super) fn connect(
        &self,
        client: SocketAddr,
        server: SocketAddr,
        options: &Options,
        meter: &Arc<Meter>,
    ) -> memory::Stream {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        let mine = match &*state {
            State::Open(open) => open.options.clone(),
            State::Closed => Options::default(),
        };
        let to_client = options.receive_buffer() + mine.send_buffer();
        let to_server = mine.receive_buffer() + options.send_buffer();
        let meters = [meter.clone(), self.meter.clone()];
        let tap = Tap::open(meters, self.capture.as_ref(), [client, server], [to_client, to_server]);
        let (near, far) =
            memory::Stream::pair(self.ports.clone(), client, server, to_client, to_server, &self.budget, tap);
        match &mut *state {
            State::Closed => far.refuse(&mut wakes),
            State::Open(open) => open.enqueue(far, &mut wakes),
        }
        near
    }

    /// The next connection of either plane, in turns when both have one.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the listener was closed (EINVAL, as `accept(2)` on a socket that
    /// was shut down); [`Error::TooManySockets`] and the like from the kernel. Errors that belong to a single connection are skipped.
    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Result<Stream>> {
        let mut wakes = Wakes::default();
        match &mut *self.lock() {
            State::Open(open) => open.poll_accept(cx, &mut wakes),
            State::Closed => Poll::Ready(Err(Error::InvalidArgument)),
        }
    }

    pub(super) fn set_backlog(&self, backlog: u32) -> Result<()> {
        let mut wakes = Wakes::default();
        match &mut *self.lock() {
            State::Open(open) => {
                kernel::listen(&open.kernel, backlog)?;
                open.limit = backlog.min(MAX_BACKLOG) as usize;
                open.admit_waiting(&mut wakes);
                Ok(())
            }
            State::Closed => Err(Error::InvalidState),
        }
    }

    pub(super) fn apply(&self, change: Change, family: Family) -> Result<()> {
        match &mut *self.lock() {
            State::Open(open) => {
                change.apply(std::os::fd::AsFd::as_fd(&open.kernel), family)?;
                open.options.set(change);
                Ok(())
            }
            State::Closed => Err(Error::InvalidState),
        }
    }

    /// Stops listening on both planes. Clients in the backlog are reset, those waiting are refused, a
    /// waiting accept fails.
    pub(super) fn close(&self) {
        let mut wakes = Wakes::default();
        let State::Open(open) = std::mem::replace(&mut *self.lock(), State::Closed) else { return };
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).unlisten(self.local);
        wakes.add(open.acceptor);
        open.backlog.iter().for_each(|client| client.abort(&mut wakes));
        open.waiting.iter().for_each(|client| client.refuse(&mut wakes));
    }
}

impl Open {
    fn enqueue(&mut self, client: memory::Stream, wakes: &mut Wakes) {
        if self.backlog.len() <= self.limit {
            client.admit(wakes);
            self.backlog.push_back(client);
            wakes.add(self.acceptor.take());
            return;
        }
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.retain(|c| !c.peer_is_closed());
        }
        if self.waiting.len() >= MAX_WAITING {
            client.refuse(wakes);
        } else {
            self.waiting.push_back(client);
        }
    }

    fn admit_waiting(&mut self, wakes: &mut Wakes) {
        while self.backlog.len() <= self.limit {
            let Some(next) = self.waiting.pop_front() else { return };
            // One that gave up while it waited never was a connection.
            if !next.peer_is_closed() {
                next.admit(wakes);
                self.backlog.push_back(next);
            }
        }
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>, wakes: &mut Wakes) -> Poll<Result<Stream>> {
        for _ in [Turn::Memory, Turn::Kernel] {
            let (now, next) = match self.turn {
                Turn::Memory => {
                    let accepted = self.accept_memory(wakes);
                    (accepted.map_or(Poll::Pending, |s| Poll::Ready(Ok(s))), Turn::Kernel)
                }
                Turn::Kernel => (self.poll_accept_kernel(cx), Turn::Memory),
            };
            self.turn = next;
            if now.is_ready() {
                return now;
            }
        }
        remember(&mut self.acceptor, cx.waker());
        Poll::Pending
    }

    fn accept_memory(&mut self, wakes: &mut Wakes) -> Option<Stream> {
        let stream = self.backlog.pop_front()?;
        self.admit_waiting(wakes);
        Some(Stream::Memory(stream))
    }

    fn poll_accept_kernel(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stream>> {
        loop {
            match std::task::ready!(self.kernel.poll_accept(cx)) {
                Ok((stream, _)) => match kernel::Stream::new(stream) {
                    Ok(stream) => return Poll::Ready(Ok(Stream::Kernel(stream))),
                    // Gone between accept and getpeername.
                    Err(_) => continue,
                },
                Err(e) if kernel::is_transient_accept_error(&e) => continue,
                Err(e) => return Poll::Ready(Err(e.into())),
            }
        }
    }
}
