//! What a container may do on the network, decided before the first system call.
//!
//! ```text
//!  Endpoint ── Request ──► Guard of its container
//!                            │ annotation: connect, bind, resolve ── no ──► Denial ─┬─► EACCES, or silence
//!                            ▼ yes                                      ▲           ├─► counter
//!                          NetworkPolicies of the pod ──── no ──────────┘           └─► a line, rate-limited
//!                            ▼ yes (not asked inside the pod)
//!                          go on
//! ```
//!
//! * The *annotation* of a container ([`crate::spec::container_network`]) holds on both planes, also towards the
//!   other containers of the pod.
//! * *NetworkPolicies* ([`crate::spec::network_policy`]) hold towards everyone else: "a pod cannot block access to
//!   itself", so loopback and the pod's own addresses are never asked about. What comes from the pod's node may
//!   always come in. For native processes in the pod's network namespace the kernel holds them
//!   ([`crate::pod::network::firewall`]); what comes in is judged there first, with the kernel's memory of connections, and
//!   here again.
//! * A pod without either has no rules, and every question is one branch.
//!
//! Lookups are not egress by themselves, but the datagrams of the pod's resolver to its DNS server are: as in
//! Kubernetes, a pod that is isolated for egress needs a rule for them.
//!
//! The pods that a selector stands for come and go: [`Policy::set_peers`] is told by whoever watches them.

mod annotation;
mod denials;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use denials::{Denied, Reason};
pub use rules::{Direction, Isolation, Peer, PodRules, Rule};

use self::annotation::Annotation;
use self::denials::Denials;
use super::{Error, Result, Tell};
use crate::spec::{ContainerNetwork, NetworkRules, Protocol};

/// What a container asks to do, or what is about to happen to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// Bind a TCP socket. An implicit bind asks with the wildcard address and port 0.
    TcpBind(SocketAddr),
    /// Listen on the bound address.
    TcpListen(SocketAddr),
    /// Connect to a remote address, on either plane.
    TcpConnect(SocketAddr),
    /// Accept a connection of the kernel plane.
    TcpAccept {
        /// The address that was connected to.
        local: SocketAddr,
        /// Where it comes from.
        remote: SocketAddr,
    },
    /// Bind a UDP socket.
    UdpBind(SocketAddr),
    /// Send datagrams to, or exchange them with, a remote address.
    UdpSend {
        /// To whom.
        remote: SocketAddr,
        /// Whether the socket has lately received from it.
        is_reply: bool,
    },
    /// Receive a datagram, on either plane.
    UdpReceive {
        /// Where the socket is bound.
        local: SocketAddr,
        /// Who sent it.
        remote: SocketAddr,
        /// Whether the socket has lately sent to it.
        is_reply: bool,
    },
    /// Look up a name.
    Resolve(&'a str),
}

/// The pod's node, which may always come in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether it alone is at the other end of the pod's link, so that every link-local address is its own.
    pub point_to_point: bool,
}

/// What a [`Policy`] is made from.
pub struct PolicyConfig<'a> {
    /// What narrows the pod's network.
    pub rules: &'a NetworkRules,
    /// The pod's containers.
    pub containers: Vec<&'a str>,
    /// The pod's own addresses, without loopback.
    pub addresses: Vec<IpAddr>,
    /// The pod's node.
    pub node: Node,
    /// Whether the kernel judges what comes in to the pod, remembering what went out.
    pub kernel_filters: bool,
    /// Where denials are told.
    pub tell: Tell,
}

/// The rules of one pod. Clones are the same rules.
#[derive(Debug, Clone, Default)]
pub struct Policy(Option<Arc<Rules>>);

#[derive(Debug)]
struct Rules {
    pod: PodRules,
    own: Vec<IpAddr>,
    node: Node,
    kernel_filters: bool,
    annotations: BTreeMap<String, Arc<Annotation>>,
    denials: Denials,
    /// The kernel's, coming in and going out.
    denied_packets: [AtomicU64; 2],
}

impl Policy {
    /// The policy of a pod; one that allows everything when there are no rules.
    pub fn new(config: PolicyConfig<'_>) -> Self {
        let PolicyConfig { rules, containers, addresses, node, kernel_filters, tell } = config;
        let NetworkRules { policies, containers: networks } = rules;
        if policies.is_empty() && networks.is_empty() {
            return Self::default();
        }
        let annotation = |network: &ContainerNetwork| Arc::new(Annotation::new(network.clone()));
        let annotations =
            networks.iter().map(|(name, network)| (name.clone(), annotation(network))).collect();
        Self(Some(Arc::new(Rules {
            pod: PodRules::new(policies),
            own: addresses,
            node,
            kernel_filters,
            annotations,
            denials: Denials::new(containers, tell),
            denied_packets: Default::default(),
        })))
    }

    /// Tells which addresses each of [`PodRules::selectors`] stands for from now on, in their order.
    pub fn set_peers(&self, peers: &[Vec<IpAddr>]) {
        if let Some(rules) = &self.0 {
            rules.pod.set_peers(peers);
        }
    }

    /// What was denied so far, of each container and reason; only what was denied at least once.
    pub fn denied(&self) -> Vec<Denied> {
        self.0.as_ref().map(|rules| rules.denials.counts()).unwrap_or_default()
    }

    /// Tells how many packets the kernel has denied in a direction so far.
    pub fn set_denied_packets(&self, direction: Direction, packets: u64) {
        if let Some(rules) = &self.0 {
            rules.denied_packets(direction).store(packets, Ordering::Relaxed);
        }
    }

    /// How many packets the kernel had denied in a direction when that was last told.
    pub fn denied_packets(&self, direction: Direction) -> u64 {
        self.0.as_ref().map_or(0, |rules| rules.denied_packets(direction).load(Ordering::Relaxed))
    }

    /// Why what the pod's NetworkPolicies do not allow in a direction is denied.
    pub fn explain(&self, direction: Direction) -> String {
        self.0.as_ref().map(|rules| denials::not_allowed(direction, &rules.pod)).unwrap_or_default()
    }

    /// What judges one container's requests.
    pub(super) fn guard(&self, container: &str) -> Guard {
        let annotation = self.0.as_ref().and_then(|rules| rules.annotations.get(container)).cloned();
        let rules = self.0.as_ref().filter(|rules| annotation.is_some() || !rules.pod.is_empty()).cloned();
        Guard { rules, annotation, container: container.into() }
    }
}

/// Judges the requests of one container.
#[derive(Debug)]
pub(super) struct Guard {
    /// `None`: everything is allowed.
    rules: Option<Arc<Rules>>,
    /// The container's own.
    annotation: Option<Arc<Annotation>>,
    container: Box<str>,
}

impl Guard {
    /// Whether the container may; if not, the denial is counted and told.
    ///
    /// # Errors
    /// [`Error::AccessDenied`].
    #[inline]
    pub(super) fn check(&self, request: Request<'_>) -> Result<()> {
        let Some(rules) = &self.rules else { return Ok(()) };
        let narrowed = self.annotation.as_ref().and_then(|annotation| annotation.judge(request));
        let Some(reason) = narrowed.or_else(|| rules.judge(request)) else { return Ok(()) };
        rules.denials.add(&self.container, reason, request, &rules.pod);
        Err(Error::AccessDenied)
    }

    /// Whether there is nothing to ask.
    #[inline]
    pub(super) fn allows_all(&self) -> bool {
        self.rules.is_none()
    }

    /// Learns what a lookup of the container returned: see `connect` in [`crate::spec::container_network`].
    pub(super) fn learn(&self, name: &str, found: &[IpAddr]) {
        if let Some(annotation) = &self.annotation {
            annotation.learn(name, found);
        }
    }

    /// Tells, as denials are told, that a lookup failed at the resolver, where a policy may be why: the pod's DNS
    /// server is someone whom the pod has to be let out to.
    pub(super) fn lookup_failed(&self, name: &str) {
        if let Some(rules) = self.rules.as_ref().filter(|rules| rules.pod.egress.is_some()) {
            rules.denials.tell_failed_lookup(&self.container, name, &rules.pod);
        }
    }

    /// Notes in a UDP socket's `exchanges` that it sent to `remote`.
    #[inline]
    pub(super) fn sent(&self, exchanges: &mut Exchanges, remote: SocketAddr) {
        if self.rules.as_ref().is_some_and(|rules| rules.needs_sent()) {
            exchanges.sent.note(remote);
        }
    }

    /// Notes in a UDP socket's `exchanges` that it received from `remote`.
    #[inline]
    pub(super) fn received(&self, exchanges: &mut Exchanges, remote: SocketAddr) {
        let isolated = self.rules.as_ref().is_some_and(|rules| rules.pod.egress.is_some());
        if isolated || self.annotation.is_some() {
            exchanges.received.note(remote);
        }
    }
}

impl Rules {
    fn denied_packets(&self, direction: Direction) -> &AtomicU64 {
        let [ingress, egress] = &self.denied_packets;
        match direction {
            Direction::Ingress => ingress,
            Direction::Egress => egress,
        }
    }

    /// Why the pod's policies deny it; `None`: they do not.
    fn judge(&self, request: Request<'_>) -> Option<Reason> {
        let (direction, peer, protocol, port) = match request {
            Request::TcpConnect(remote) => (Direction::Egress, remote.ip(), Protocol::Tcp, remote.port()),
            // A reply belongs to what was allowed to come in.
            Request::UdpSend { is_reply: true, .. } => return None,
            Request::UdpSend { remote, .. } => (Direction::Egress, remote.ip(), Protocol::Udp, remote.port()),
            Request::TcpAccept { local, remote } => {
                (Direction::Ingress, remote.ip(), Protocol::Tcp, local.port())
            }
            // A reply belongs to what was allowed to go out. Where the kernel filters, it has seen to that.
            Request::UdpReceive { is_reply, .. } if is_reply || self.kernel_filters => return None,
            Request::UdpReceive { local, remote, .. } => {
                (Direction::Ingress, remote.ip(), Protocol::Udp, local.port())
            }
            Request::TcpBind(_) | Request::TcpListen(_) | Request::UdpBind(_) | Request::Resolve(_) => {
                return None;
            }
        };
        let exempt = match direction {
            Direction::Egress => self.is_own(peer),
            Direction::Ingress => self.is_own(peer) || self.is_node(peer),
        };
        if exempt || self.pod.allow(direction, peer, protocol, port) {
            return None;
        }
        Some(match direction {
            Direction::Ingress => Reason::Ingress,
            Direction::Egress => Reason::Egress,
        })
    }

    fn is_own(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.own.contains(&ip)
    }

    fn is_node(&self, ip: IpAddr) -> bool {
        let is_link_local = match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        (is_link_local && self.node.point_to_point) || self.node.addresses.contains(&ip)
    }

    fn needs_sent(&self) -> bool {
        self.pod.ingress.is_some() && !self.kernel_filters
    }
}

/// Most peers that a UDP socket is remembered to have sent to, and to have received from: as many as a resolver or
/// a game server talks to between a question and its answer.
const MAX_EXCHANGES: usize = 256;

/// With whom a UDP socket has exchanged datagrams lately: what goes the other way is a reply. Stands in for the
/// kernel's connection tracking, which nobody can ask; empty where nothing depends on it.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    sent: Recent,
    received: Recent,
}

/// Some peers, the latest last.
#[derive(Debug, Default)]
struct Recent(VecDeque<SocketAddr>);

impl Exchanges {
    /// Whether the socket has lately sent to `remote`.
    pub(super) fn has_sent_to(&self, remote: SocketAddr) -> bool {
        self.sent.0.contains(&remote)
    }

    /// Whether the socket has lately received from `remote`.
    pub(super) fn has_received_from(&self, remote: SocketAddr) -> bool {
        self.received.0.contains(&remote)
    }
}

impl Recent {
    fn note(&mut self, remote: SocketAddr) {
        if self.0.back() == Some(&remote) {
            return;
        }
        self.0.retain(|known| *known != remote);
        if self.0.len() == MAX_EXCHANGES {
            self.0.pop_front();
        }
        self.0.push_back(remote);
    }
}
