//! The network of one pod: what all its containers share.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::Semaphore;

use super::budget::Budget;
use super::capture::Capture;
use super::endpoint::{Endpoint, socket_limit};
use super::listener::Listener;
use super::names::Names;
use super::observe::{Roll, Walk};
use super::policy::{Policy, Request};
use super::ports::{EPHEMERAL_PORTS, Ports};
use super::{Error, Result};
use crate::spec::HostAlias;

/// The port table as the sockets of all containers share it.
pub(super) type SharedPorts = Arc<Mutex<Ports<Arc<Listener>>>>;

/// What a pod's network is made from.
#[derive(Debug, Clone, Default)]
pub struct StackConfig {
    /// The pod's own addresses, without loopback.
    pub addresses: Vec<IpAddr>,
    /// The pod's hostname; resolves to its addresses.
    pub hostname: String,
    /// `spec.hostAliases`.
    pub host_aliases: Vec<HostAlias>,
    /// What containers may do.
    pub policy: Policy,
    /// How connections are divided between the planes.
    pub planes: PlaneConfig,
    /// What the memory plane's traffic is recorded with.
    pub capture: Option<Capture>,
}

/// How connections are divided between memory and kernel.
#[derive(Debug, Clone)]
pub struct PlaneConfig {
    /// Whether connections between the pod's containers stay in memory.
    pub memory: bool,
    /// Local ports of memory-plane connections.
    pub ephemeral_ports: RangeInclusive<u16>,
}

impl Default for PlaneConfig {
    fn default() -> Self {
        Self { memory: true, ephemeral_ports: EPHEMERAL_PORTS }
    }
}

/// The network of one pod.
#[derive(Debug)]
pub struct Stack {
    addresses: Vec<IpAddr>,
    names: Names,
    policy: Policy,
    memory: bool,
    pub(super) ports: SharedPorts,
    pub(super) budget: Budget,
    pub(super) roll: Roll,
    pub(super) capture: Option<Capture>,
    /// Of each container.
    pub(super) socket_limit: usize,
}

/// How many files this process may have open (getrlimit(2)).
fn open_files() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft)
}

impl Stack {
    /// The network of a pod whose namespaces this process is in.
    pub fn new(config: StackConfig) -> Arc<Self> {
        let StackConfig { addresses, hostname, host_aliases, policy, planes, capture } = config;
        Arc::new(Self {
            names: Names::new(&hostname, &addresses, &host_aliases),
            addresses,
            policy,
            memory: planes.memory,
            budget: Budget::default(),
            roll: Roll::default(),
            capture,
            socket_limit: socket_limit(open_files()),
            ports: Arc::new(Mutex::new(Ports::new(planes.ephemeral_ports))),
        })
    }

    /// A new container's handle.
    pub fn attach(self: &Arc<Self>, container: &str) -> Endpoint {
        Endpoint::new(self.clone(), container.to_owned())
    }

    /// Begins a look at the sockets of all containers.
    pub fn observe(&self) -> Walk {
        self.roll.walk()
    }

    /// Whether no port is bound, no listener listens and no memory-plane connection exists.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub(super) fn check(&self, container: &str, request: Request<'_>) -> Result<()> {
        self.policy.check(container, request)
    }

    /// The container's listener that a connection to the address is for, if it is on the memory plane.
    pub(super) fn memory_listener(&self, remote: SocketAddr) -> Option<Arc<Listener>> {
        if !self.memory || !self.is_own(remote.ip()) {
            return None;
        }
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).lookup(remote).cloned()
    }

    fn is_own(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.addresses.contains(&ip)
    }

    /// Enters a memory-plane connection into the port table and returns its local address, chosen as
    /// Linux routes to local addresses: 127.0.0.1 for all of 127.0.0.0/8, otherwise the destination.
    pub(super) fn connect(&self, bound: Option<SocketAddr>, remote: SocketAddr) -> Result<SocketAddr> {
        let source = match remote.ip() {
            IpAddr::V4(v4) if v4.is_loopback() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            ip => ip,
        };
        let ip = bound.map(|b| b.ip()).filter(|ip| !ip.is_unspecified()).unwrap_or(source);
        let port = bound.map(|b| b.port());
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).connect(ip, port, remote)
    }

    /// Looks a name up: see [`Names`].
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for what is no name, [`Error::NameUnresolvable`] and the resolver's
    /// failures, [`Error::AccessDenied`].
    pub(super) async fn resolve(
        &self,
        container: &str,
        name: &str,
        lookups: &Arc<Semaphore>,
    ) -> Result<Vec<IpAddr>> {
        self.check(container, Request::Resolve(name))?;
        let found = self.names.resolve(name, lookups).await?;
        if found.is_empty() { Err(Error::NameUnresolvable) } else { Ok(found) }
    }
}
