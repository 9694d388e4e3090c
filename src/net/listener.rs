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
//!
//! Each plane's connections are accepted in the order in which they came. Which of two came first on
//! different planes only the kernel could tell, and asking it would cost every connection a system call.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::net::TcpListener;

use super::addr::Family;
use super::capture::Tap;
use super::endpoint::Shared;
use super::files::File;
use super::meter::Meter;
use super::options::{Change, Options};
use super::policy::Request;
use super::stack::Stack;
use super::stream::Stream;
use super::wakes::{Wakes, remember};
use super::{Error, Result, kernel, memory};
use crate::sys::socket;

/// Largest backlog, in connections: Linux's `net.core.somaxconn`.
const MAX_BACKLOG: u32 = 4096;

/// Backlog of a listener that did not choose one, in connections: what Rust's std asks for.
pub(super) const DEFAULT_BACKLOG: u32 = 128;

/// Most connections in the backlogs of one container's listeners together. Their clients may have closed
/// and opened others: nothing else bounds them. About 20 MiB; a container with that many listeners that
/// does not accept is its own enemy, as its clients then wait.
pub(super) const MAX_UNACCEPTED: usize = 32_768;

/// Connections in the backlogs of one container; clones are the same count.
#[derive(Debug, Clone, Default)]
pub(super) struct Unaccepted(Arc<AtomicUsize>);

impl Unaccepted {
    fn has_room(&self) -> bool {
        self.0.load(Ordering::Relaxed) < MAX_UNACCEPTED
    }

    fn add(&self, n: usize) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn remove(&self, n: usize) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }
}

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
    /// Whose it is.
    endpoint: Arc<Shared>,
    /// By arrival. Each belongs to a socket of its client, which takes it out when it gives up: as many
    /// as there are sockets.
    waiting: BTreeMap<u64, memory::Stream>,
    next_ticket: u64,
    /// Taken from the kernel's queue to see whether there is one, and not accepted yet.
    next: Option<kernel::Stream>,
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
    stack: Arc<Stack>,
    meter: Arc<Meter>,
    state: Mutex<State>,
}

/// A client's place among those that wait.
#[derive(Debug)]
pub(super) struct Ticket {
    listener: Arc<Listener>,
    number: u64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // Gone already if it was admitted or refused. Dropped after the lock is released.
        let _given_up = match &mut *self.listener.lock() {
            State::Open(open) => open.waiting.remove(&self.number),
            State::Closed => None,
        };
    }
}

impl Listener {
    pub(super) fn new(
        local: SocketAddr,
        kernel: TcpListener,
        backlog: u32,
        options: Options,
        endpoint: Arc<Shared>,
    ) -> Self {
        let (stack, meter) = (endpoint.stack.clone(), endpoint.meter.clone());
        let open = Open {
            kernel,
            backlog: VecDeque::new(),
            limit: backlog.min(MAX_BACKLOG) as usize,
            endpoint,
            waiting: BTreeMap::new(),
            next_ticket: 0,
            next: None,
            acceptor: None,
            turn: Turn::Memory,
            options,
        };
        Self { local, stack, meter, state: Mutex::new(State::Open(Box::new(open))) }
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

    /// A client of the memory plane, of container `endpoint`: its end; with a ticket if it must wait. A direction
    /// holds what the sender's and the receiver's buffer hold together; the accepted socket has the
    /// listener's options.
    pub(super) fn connect(
        self: &Arc<Self>,
        client: SocketAddr,
        server: SocketAddr,
        options: &Options,
        endpoint: &Shared,
    ) -> (memory::Stream, Option<Ticket>) {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        let (receive, send) = match &*state {
            State::Open(open) => (open.options.receive_buffer(), open.options.send_buffer()),
            State::Closed => (0, 0),
        };
        let to_client = options.receive_buffer() + send;
        let to_server = receive + options.send_buffer();
        let meters = [endpoint.meter.clone(), self.meter.clone()];
        let tap = Tap::open(meters, self.stack.capture.as_ref(), [client, server], [to_client, to_server]);
        let (near, far) = memory::Stream::pair(
            self.stack.ports.clone(),
            client,
            server,
            to_client,
            to_server,
            &endpoint.budget,
            tap,
        );
        let ticket = match &mut *state {
            State::Closed => {
                far.refuse(&mut wakes);
                None
            }
            State::Open(open) if open.has_room() => {
                open.admit(far, &mut wakes);
                None
            }
            State::Open(open) => {
                let number = open.next_ticket;
                open.next_ticket += 1;
                open.waiting.insert(number, far);
                Some(Ticket { listener: self.clone(), number })
            }
        };
        (near, ticket)
    }

    /// Waits until [`Self::poll_accept`] has an answer.
    pub(super) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut *self.lock() {
            State::Open(open) => open.poll_ready(cx),
            State::Closed => Poll::Ready(()),
        }
    }

    /// The next connection of either plane, in turns when both have one; with the right to its kernel socket, if
    /// it has one.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the listener was closed (EINVAL, as `accept(2)` on a socket that
    /// was shut down); [`Error::TooManySockets`] when the container may have no more kernel sockets, which leaves
    /// the connection where it is, and the like from the kernel. Errors that belong to a single connection are
    /// skipped.
    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Result<(Stream, Option<File>)>> {
        let mut wakes = Wakes::default();
        match &mut *self.lock() {
            State::Open(open) => open.poll_accept(cx, &mut wakes),
            State::Closed => Poll::Ready(Err(Error::InvalidArgument)),
        }
    }

    /// # Errors
    /// [`Error::InvalidArgument`] when the listener was closed, as when it accepts.
    pub(super) fn set_backlog(&self, backlog: u32) -> Result<()> {
        let mut wakes = Wakes::default();
        match &mut *self.lock() {
            State::Open(open) => {
                kernel::listen(&open.kernel, backlog)?;
                open.limit = backlog.min(MAX_BACKLOG) as usize;
                open.admit_waiting(&mut wakes);
                Ok(())
            }
            State::Closed => Err(Error::InvalidArgument),
        }
    }

    pub(super) fn apply(&self, change: Change, family: Family) -> Result<()> {
        match &mut *self.lock() {
            State::Open(open) => {
                change.apply(open.kernel.as_fd(), family)?;
                open.options.set(change);
                Ok(())
            }
            // There will be no connection that could tell.
            State::Closed => Ok(()),
        }
    }

    /// Stops listening on both planes. Clients in the backlog are reset, those waiting are refused, a
    /// waiting accept fails.
    pub(super) fn close(&self) {
        let mut wakes = Wakes::default();
        let State::Open(open) = std::mem::replace(&mut *self.lock(), State::Closed) else { return };
        self.stack.ports.lock().unwrap_or_else(PoisonError::into_inner).unlisten(self.local);
        wakes.add(open.acceptor);
        if let Some(client) = &open.next {
            client.close();
        }
        open.endpoint.unaccepted.remove(open.backlog.len());
        open.backlog.iter().for_each(|client| client.abort(&mut wakes));
        open.waiting.values().for_each(|client| client.refuse(&mut wakes));
    }
}

impl Open {
    fn has_room(&self) -> bool {
        // An empty backlog always takes one: accepting is what makes room.
        self.backlog.is_empty() || (self.backlog.len() <= self.limit && self.endpoint.unaccepted.has_room())
    }

    fn admit(&mut self, client: memory::Stream, wakes: &mut Wakes) {
        client.admit(wakes);
        self.backlog.push_back(client);
        self.endpoint.unaccepted.add(1);
        wakes.add(self.acceptor.take());
    }

    fn admit_waiting(&mut self, wakes: &mut Wakes) {
        while self.has_room() {
            let Some((_, next)) = self.waiting.pop_first() else { return };
            self.admit(next, wakes);
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.backlog.is_empty() && self.next.is_none() {
            match self.poll_accept_kernel(cx) {
                Poll::Ready(Ok(next)) => self.next = Some(next),
                // It meets the next accept again.
                Poll::Ready(Err(_)) => {}
                Poll::Pending => {
                    remember(&mut self.acceptor, cx.waker());
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(())
    }

    fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
        wakes: &mut Wakes,
    ) -> Poll<Result<(Stream, Option<File>)>> {
        for _ in [Turn::Memory, Turn::Kernel] {
            let (now, next) = match self.turn {
                Turn::Memory => {
                    let accepted = self.accept_memory(wakes);
                    (accepted.map_or(Poll::Pending, |s| Poll::Ready(Ok((s, None)))), Turn::Kernel)
                }
                Turn::Kernel => (self.poll_take_kernel(cx), Turn::Memory),
            };
            self.turn = next;
            // What keeps the kernel's connections out lets those in memory in.
            let gives_way = matches!(now, Poll::Ready(Err(_))) && !self.backlog.is_empty();
            if now.is_ready() && !gives_way {
                return now;
            }
        }
        remember(&mut self.acceptor, cx.waker());
        Poll::Pending
    }

    fn accept_memory(&mut self, wakes: &mut Wakes) -> Option<Stream> {
        let stream = self.backlog.pop_front()?;
        self.endpoint.unaccepted.remove(1);
        self.admit_waiting(wakes);
        Some(Stream::Memory(stream))
    }

    /// Without a place among the container's kernel sockets the connection waits here, one for each listener.
    fn poll_take_kernel(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Stream, Option<File>)>> {
        let stream = match self.next.take() {
            Some(stream) => stream,
            None => ready!(self.poll_accept_kernel(cx))?,
        };
        match self.endpoint.files.take() {
            Ok(file) => Poll::Ready(Ok((Stream::Kernel(stream), Some(file)))),
            Err(error) => {
                self.next = Some(stream);
                Poll::Ready(Err(error))
            }
        }
    }

    fn poll_accept_kernel(&mut self, cx: &mut Context<'_>) -> Poll<Result<kernel::Stream>> {
        loop {
            match ready!(self.kernel.poll_accept(cx)) {
                Ok((stream, remote)) => {
                    let stream = kernel::Stream::accepted(stream, remote)?;
                    // Who may not come in finds the connection closed. Inside the pod the client was asked.
                    let request = Request::TcpAccept { local: stream.local(), remote };
                    if self.endpoint.check(request).is_ok() {
                        return Poll::Ready(Ok(stream));
                    }
                }
                Err(e) if kernel::is_transient_accept_error(&e) => continue,
                Err(e) => return Poll::Ready(Err(e.into())),
            }
        }
    }
}
