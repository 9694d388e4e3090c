//! One container's handle on the pod's network.
//!
//! ```text
//!  Open ── stop_listening ──► Stopping ── close, or the last handle is dropped ──► Closed
//!    └───────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The endpoint knows every socket of its container (weakly; the sockets belong to the container's
//! store) so that it can end them all, whoever still holds them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use super::budget::Budget;
use super::files::Files;
use super::listener::Unaccepted;
use super::meter::Meter;
use super::names::{Lookups, MAX_LOOKUPS};
use super::observe::Socket;
use super::policy::{Guard, Policy, Request};
use super::stack::Stack;
use super::udp::Queued;
use super::{Error, Family, Result, TcpSocket, UdpSocket};

/// Most sockets one container may have, on both planes and in every state. A bound against a guest that opens
/// sockets without end; above what any server in a pod is known to need, and less than 30 MiB of the runtime's
/// memory. Kernel sockets may be fewer: see `net::files`.
pub const MAX_SOCKETS: usize = 16_384;

/// Who the host is to the pod's containers: what `ss` shows as the peer of a probe. No container is called so, as
/// parentheses are in no DNS label.
pub const HOST: &str = "(kubelet)";

/// What an endpoint can do to its sockets.
pub(super) trait Member: Send + Sync {
    fn stop_listening(&self) {}
    fn close(&self);
    /// What there is to see of it; `None` when it is not bound.
    fn describe(&self) -> Option<Socket>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Exits: `Stopping`, `Closed`.
    Open,
    /// No listeners any more, and UDP servers were told; connections go on. Exit: `Closed`.
    Stopping,
    /// No sockets any more. Final.
    Closed,
}

struct Registry {
    phase: Phase,
    next_id: u64,
    members: HashMap<u64, Weak<dyn Member>>,
}

pub(super) struct Shared {
    pub(super) stack: Arc<Stack>,
    container: String,
    pub(super) guard: Guard,
    pub(super) meter: Arc<Meter>,
    pub(super) files: Files,
    /// What its connections buffer in memory.
    pub(super) budget: Budget,
    registry: Mutex<Registry>,
    /// What its UDP sockets have not received yet.
    pub(super) queued: Queued,
    /// In the backlogs of its listeners.
    pub(super) unaccepted: Unaccepted,
    lookups: Lookups,
    /// Tells, once, that it was closed.
    ended: Arc<Notify>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("container", &self.container).finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a socket, and knows it until [`Self::forget`].
    ///
    /// # Errors
    /// [`Error::TooManySockets`]; [`Error::InvalidState`] after [`Endpoint::close`].
    pub(super) fn register<M: Member + 'static>(&self, make: impl FnOnce(u64) -> M) -> Result<Arc<M>> {
        let mut registry = self.lock();
        if registry.phase == Phase::Closed {
            return Err(Error::InvalidState);
        }
        if registry.members.len() >= MAX_SOCKETS {
            return Err(Error::TooManySockets);
        }
        let id = registry.next_id;
        registry.next_id += 1;
        let member = Arc::new(make(id));
        let weak: Weak<M> = Arc::downgrade(&member);
        registry.members.insert(id, weak);
        Ok(member)
    }

    /// Whether there may be one more socket.
    ///
    /// # Errors
    /// [`Error::TooManySockets`].
    pub(super) fn check_room(&self) -> Result<()> {
        if self.lock().members.len() < MAX_SOCKETS { Ok(()) } else { Err(Error::TooManySockets) }
    }

    pub(super) fn forget(&self, id: u64) {
        self.lock().members.remove(&id);
    }

    /// # Errors
    /// [`Error::InvalidArgument`] once the container no longer listens (EINVAL: "the socket has been
    /// shut down", POSIX listen).
    pub(super) fn check_may_listen(&self) -> Result<()> {
        if self.lock().phase == Phase::Open { Ok(()) } else { Err(Error::InvalidArgument) }
    }

    pub(super) fn check(&self, request: Request<'_>) -> Result<()> {
        self.guard.check(request).inspect_err(|_| self.meter.denied())
    }

    fn advance(&self, phase: Phase) -> Vec<Arc<dyn Member>> {
        let mut registry = self.lock();
        if registry.phase >= phase {
            return Vec::new();
        }
        registry.phase = phase;
        registry.members.values().filter_map(Weak::upgrade).collect()
    }

    /// Its sockets now, in the order in which they were made.
    pub(super) fn members(&self) -> Vec<Weak<dyn Member>> {
        let mut members: Vec<_> =
            self.lock().members.iter().map(|(id, member)| (*id, member.clone())).collect();
        members.sort_unstable_by_key(|(id, _)| *id);
        members.into_iter().map(|(_, member)| member).collect()
    }

    fn close(&self) {
        for member in self.advance(Phase::Closed) {
            member.close();
        }
        self.ended.notify_waiters();
    }

    /// Waits for [`Self::close`], if that is still to come.
    pub(super) fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        self.ended.clone().notified_owned()
    }
}

/// Closes when the last [`Endpoint`] goes; the sockets themselves hold [`Shared`] only.
#[derive(Debug)]
struct CloseOnDrop(Arc<Shared>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// One container's handle on the pod's network, or [the host's](Stack::attach_host); clones are the same endpoint.
///
/// When the last clone is dropped, everything the container had is given back, as by
/// [`Endpoint::close`].
#[derive(Debug, Clone)]
pub struct Endpoint {
    shared: Arc<CloseOnDrop>,
}

impl Endpoint {
    pub(super) fn new(stack: Arc<Stack>, container: String) -> Self {
        let (guard, meter) = (stack.guard(&container), stack.roll.meter(&container));
        let endpoint = Self::with(stack, container, guard, meter);
        let shared = &endpoint.shared.0;
        shared.stack.roll.enter(&shared.container, shared);
        endpoint
    }

    /// The host's: not on the roll, with a meter of its own that nobody reads.
    pub(super) fn of_host(stack: Arc<Stack>) -> Self {
        Self::with(stack, HOST.to_owned(), Policy::default().guard(HOST), Arc::new(Meter::new(HOST)))
    }

    fn with(stack: Arc<Stack>, container: String, guard: Guard, meter: Arc<Meter>) -> Self {
        let registry = Registry { phase: Phase::Open, next_id: 0, members: HashMap::new() };
        let shared = Shared {
            guard,
            files: Files::new(stack.descriptors.share(&container)),
            budget: stack.budget.share(),
            stack,
            container,
            meter,
            registry: Mutex::new(registry),
            unaccepted: Unaccepted::default(),
            lookups: Lookups::new(MAX_LOOKUPS),
            queued: Queued::default(),
            ended: Arc::default(),
        };
        Self { shared: Arc::new(CloseOnDrop(Arc::new(shared))) }
    }

    /// The container's name.
    pub fn container(&self) -> &str {
        &self.shared.0.container
    }

    /// A new TCP socket. It has no kernel socket until it needs one.
    ///
    /// # Errors
    /// [`Error::TooManySockets`]; [`Error::InvalidState`] after [`Self::close`].
    pub fn tcp_socket(&self, family: Family) -> Result<TcpSocket> {
        TcpSocket::new(self.shared.0.clone(), family)
    }

    /// A new UDP socket.
    ///
    /// # Errors
    /// As [`Self::tcp_socket`], and what the kernel says.
    pub fn udp_socket(&self, family: Family) -> Result<UdpSocket> {
        UdpSocket::new(self.shared.0.clone(), family)
    }

    /// Looks a name up; the future does not borrow the endpoint. At least one address, IPv4-mapped
    /// ones never.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for what is no name, [`Error::NameUnresolvable`] and the resolver's
    /// failures, [`Error::AccessDenied`].
    pub fn resolve(&self, name: String) -> impl Future<Output = Result<Vec<IpAddr>>> + Send + use<> {
        let shared = self.shared.0.clone();
        async move {
            shared.check(Request::Resolve(&name))?;
            let found = shared.stack.resolve(&name, &shared.lookups).await;
            match &found {
                Ok(found) => shared.guard.learn(&name, found),
                Err(Error::TemporaryResolverFailure) => shared.guard.lookup_failed(&name),
                Err(_) => {}
            }
            found
        }
    }

    /// Graceful stop: the container's listeners stop listening, give their ports back and fail
    /// every accept, waiting or to come, with [`Error::InvalidArgument`] (EINVAL, as `accept(2)` on a
    /// socket that was shut down). Not [`Error::InvalidState`], which wasi-libc answers with `abort`.
    /// Connections, also those just accepted, go on.
    ///
    /// Its UDP servers, sockets that are bound to a port of their choice and not connected, fail one receive, once
    /// nothing is left to receive, with [`Error::ConnectionAborted`].
    pub fn stop_listening(&self) {
        for member in self.shared.0.advance(Phase::Stopping) {
            member.stop_listening();
        }
    }

    /// Gives back every listener, connection and port of the container at once, whoever still holds
    /// the sockets. Peers see what they would see if a process died: the end of the stream, or a
    /// reset if the container had not read all it was sent.
    ///
    /// Tasks that wait for one of the kernel plane's sockets are not woken: they belong to the container and end
    /// with it; those that may outlive it wait for [`SendHalf::ended`](super::SendHalf::ended) too.
    pub fn close(&self) {
        self.shared.0.close();
    }

    /// How many sockets the container has.
    #[cfg(test)]
    pub(crate) fn socket_count(&self) -> usize {
        self.shared.0.lock().members.len()
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::net::StackConfig;

    #[tokio::test]
    async fn a_container_that_looks_up_without_end_waits_for_itself() {
        let stack = Stack::new(StackConfig::default());
        let (a, b) = (stack.attach("a"), stack.attach("b"));
        let places: Vec<_> = (0..MAX_LOOKUPS).map(|_| a.shared.0.lookups.place()).collect();
        let _at_the_resolver = futures::future::join_all(places).await;
        let mut lookup = Box::pin(a.resolve("peapod.invalid".into()));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(lookup.as_mut().poll(&mut cx), Poll::Pending));
        assert_eq!(b.shared.0.lookups.free(), MAX_LOOKUPS);
    }
}
