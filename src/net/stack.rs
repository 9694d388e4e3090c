//! The network of one pod: what all its containers share.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::budget::Budget;
use super::capture::Capture;
use super::endpoint::Endpoint;
use super::listener::Listener;
use super::names::{Lookups, Names, NamesConfig};
use super::observe::{Roll, Walk};
use super::policy::{Denied, Direction, Guard, Policy};
use super::ports::{EPHEMERAL_PORTS, Ports, beside};
use super::{Error, Result};
use super::{addr, udp};
use crate::descriptors::Descriptors;
use crate::sys::namespace::network_parameter;

/// The port table as the sockets of all containers share it.
pub(super) type SharedPorts = Arc<Mutex<Ports<Arc<Listener>>>>;

/// What a pod's network is made from.
#[derive(Debug, Clone, Default)]
pub struct StackConfig {
    /// The pod's own addresses, without loopback.
    pub addresses: Vec<IpAddr>,
    /// What names resolve to.
    pub names: NamesConfig,
    /// What containers may do.
    pub policy: Policy,
    /// How connections are divided between the planes.
    pub planes: PlaneConfig,
    /// What the memory plane's traffic is recorded with.
    pub capture: Option<Capture>,
    /// What kernel sockets are taken of.
    pub descriptors: Descriptors,
}

/// How connections are divided between memory and kernel.
#[derive(Debug, Clone)]
pub struct PlaneConfig {
    /// Whether connections between the pod's containers stay in memory.
    pub memory: bool,
    /// Local ports of memory-plane connections, less those that the kernel hands out itself
    /// (`ip_local_port_range`): in a network namespace that is not the pod's own they overlap. When there
    /// are none or no more, each connection holds a port of the kernel's with a kernel socket.
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
    udp: Mutex<udp::Table>,
    /// Of which every container has a share.
    pub(super) budget: Budget,
    pub(super) roll: Roll,
    pub(super) capture: Option<Capture>,
    /// Of which kernel sockets are taken.
    pub(super) descriptors: Descriptors,
}

/// The kernel's own ephemeral ports in this process's network namespace, of both families.
fn kernel_ports() -> RangeInclusive<u16> {
    let parse = |text: String| {
        let mut words = text.split_whitespace().map(str::parse);
        Some(words.next()?.ok()?..=words.next()?.ok()?)
    };
    // Linux's default, where /proc is not to be had.
    network_parameter("ipv4/ip_local_port_range").ok().and_then(parse).unwrap_or(32768..=60999)
}

impl Stack {
    /// The network of a pod whose namespaces this process is in.
    pub fn new(config: StackConfig) -> Arc<Self> {
        let StackConfig { addresses, names, policy, planes, capture, descriptors } = config;
        Arc::new(Self {
            names: Names::new(names),
            addresses,
            policy,
            memory: planes.memory,
            udp: Mutex::default(),
            budget: Budget::default(),
            roll: Roll::default(),
            capture,
            descriptors,
            ports: Arc::new(Mutex::new(Ports::new(beside(planes.ephemeral_ports, kernel_ports())))),
        })
    }

    /// A new container's handle.
    pub fn attach(self: &Arc<Self>, container: &str) -> Endpoint {
        Endpoint::new(self.clone(), container.to_owned())
    }

    /// A handle for the host itself, which asks the containers how they are as the kubelet does from its node. No
    /// policy judges it ("traffic to and from the node where a Pod is running is always allowed",
    /// <https://kubernetes.io/docs/concepts/services-networking/network-policies/>), its sockets are neither
    /// shown nor counted, and what they buffer is no container's. To those whom it asks it is [`HOST`](super::HOST).
    pub fn attach_host(self: &Arc<Self>) -> Endpoint {
        Endpoint::of_host(self.clone())
    }

    /// Begins a look at the sockets of all containers.
    pub fn observe(&self) -> Walk {
        self.roll.walk()
    }

    /// Whether no port is bound, no listener listens and no memory-plane connection exists.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.udp_table().is_empty() && self.ports.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// What the policy denied so far: see [`Policy::denied`].
    pub fn denied(&self) -> Vec<Denied> {
        self.policy.denied()
    }

    /// How many packets the kernel denied by the policy, coming in and going out: see [`Policy::denied_packets`].
    pub fn denied_packets(&self) -> (u64, u64) {
        let [ingress, egress] =
            [Direction::Ingress, Direction::Egress].map(|direction| self.policy.denied_packets(direction));
        (ingress, egress)
    }

    pub(super) fn guard(&self, container: &str) -> Guard {
        self.policy.guard(container)
    }

    /// Where a connection goes: on the memory plane, to a container's listener, with the local address that
    /// was entered for it into the port table; `None` is the kernel plane.
    ///
    /// # Errors
    /// As [`Ports::connect`], whose [`Error::AddressNotBindable`] (EADDRNOTAVAIL) a bound socket meets on both
    /// planes.
    pub(super) fn connect(
        &self,
        bound: Option<SocketAddr>,
        remote: SocketAddr,
    ) -> Result<Option<(Arc<Listener>, SocketAddr)>> {
        if !self.memory || !self.is_own(remote.ip()) {
            return Ok(None);
        }
        // Linux sends from neither the wildcard nor a broadcast address.
        let ip = bound
            .map(|b| b.ip())
            .filter(|ip| !ip.is_unspecified() && ip.is_loopback() == addr::is_loopback_host(*ip));
        let ip = ip.unwrap_or_else(|| addr::source_of(remote.ip()));
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bound) = bound {
            let local = SocketAddr::new(ip, bound.port());
            if ports.is_connected(local, remote) {
                return Err(Error::AddressNotBindable);
            }
            if local == remote {
                // Linux connects the socket with itself, whoever listens there.
                return Ok(None);
            }
        }
        let Some(listener) = ports.lookup(remote).cloned() else { return Ok(None) };
        let local = ports.connect(ip, bound.map(|b| b.port()), remote)?;
        Ok(Some((listener, local)))
    }

    /// Where the containers' UDP sockets are bound.
    pub(super) fn udp_table(&self) -> MutexGuard<'_, udp::Table> {
        self.udp.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether datagrams to the address may stay in memory. Broadcasts and addresses that need a scope are the
    /// kernel's.
    pub(super) fn in_memory(&self, destination: IpAddr) -> bool {
        let needs_scope = matches!(destination, IpAddr::V6(v6) if v6.is_unicast_link_local());
        self.memory && self.is_own(destination) && !needs_scope && !addr::is_group(destination)
    }

    fn is_own(&self, ip: IpAddr) -> bool {
        addr::is_loopback_host(ip) || self.addresses.contains(&ip)
    }

    /// Looks a name up for a container that may: see [`Names`].
    ///
    /// # Errors
    /// Those of [`Names`].
    pub(super) async fn resolve(&self, name: &str, lookups: &Lookups) -> Result<Vec<IpAddr>> {
        self.names.resolve(name, lookups).await
    }
}
