//! What one container's annotation allows: see [`crate::spec::container_network`].

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{PoisonError, RwLock};

use super::{Reason, Request};
use crate::spec::Protocol;
use crate::spec::container_network::{ContainerNetwork, Host, NamePattern, Target};

/// Most addresses remembered of one name; the oldest are forgotten. Names of content delivery networks change
/// theirs with every lookup.
const MAX_LEARNED: usize = 256;

/// Longest name that is compared, in bytes: a guest may hand over megabytes, and no DNS name is longer even in
/// Unicode (four bytes for each of 253).
const MAX_NAME: usize = 1012;

#[derive(Debug)]
pub(super) struct Annotation {
    network: ContainerNetwork,
    /// The addresses that lookups returned, for each of `connect`; only names have any.
    learned: RwLock<Vec<VecDeque<IpAddr>>>,
}

impl Annotation {
    pub(super) fn new(network: ContainerNetwork) -> Self {
        let targets = network.connect.as_ref().map_or(0, Vec::len);
        Self { network, learned: RwLock::new(vec![VecDeque::new(); targets]) }
    }

    /// Why it is denied; `None`: it is not.
    pub(super) fn judge(&self, request: Request<'_>) -> Option<Reason> {
        let (allowed, reason) = match request {
            Request::TcpConnect(remote) => (self.may_connect(Protocol::Tcp, remote), Reason::Connect),
            // As of a connection: `bind` has let the other in.
            Request::UdpSend { is_reply: true, .. } => return None,
            Request::UdpSend { remote, .. } => (self.may_connect(Protocol::Udp, remote), Reason::Connect),
            // Every client needs a port of its own.
            Request::TcpBind(local) | Request::UdpBind(local) if local.port() == 0 => return None,
            Request::TcpBind(local) | Request::TcpListen(local) => {
                (self.may_bind(Protocol::Tcp, local), Reason::Bind)
            }
            Request::UdpBind(local) => (self.may_bind(Protocol::Udp, local), Reason::Bind),
            Request::UdpReceive { local, remote, .. } => {
                (self.may_bind(Protocol::Udp, local) || self.may_connect(Protocol::Udp, remote), Reason::Bind)
            }
            // It listens, so it may.
            Request::TcpAccept { .. } => return None,
            Request::Resolve(name) => (self.may_resolve(name), Reason::Resolve),
        };
        (!allowed).then_some(reason)
    }

    fn may_connect(&self, protocol: Protocol, remote: SocketAddr) -> bool {
        let Some(targets) = &self.network.connect else { return true };
        targets.iter().enumerate().any(|(index, target)| {
            target.has_port(protocol, remote.port())
                && match &target.host {
                    Host::Name(_) => self.has_learned(index, remote.ip()),
                    host => is_address_of(host, remote.ip()),
                }
        })
    }

    fn may_bind(&self, protocol: Protocol, local: SocketAddr) -> bool {
        let Some(targets) = &self.network.bind else { return true };
        let may = |target: &Target| {
            target.has_port(protocol, local.port()) && is_address_of(&target.host, local.ip())
        };
        targets.iter().any(may)
    }

    fn may_resolve(&self, name: &str) -> bool {
        let Some(patterns) = &self.network.resolve else { return true };
        // An address is looked up nowhere.
        if name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
            return true;
        }
        let Some(name) = normal(name) else { return false };
        let targets = self.network.connect.iter().flatten();
        patterns.iter().any(|pattern| pattern.matches(&name))
            || targets.map(|target| &target.host).any(|host| match host {
                Host::Name(pattern) => pattern.matches(&name),
                Host::Loopback => name == "localhost",
                Host::Any | Host::Net(_) => false,
            })
    }

    /// Lets the container connect to what a lookup of a name in `connect` returned.
    pub(super) fn learn(&self, name: &str, found: &[IpAddr]) {
        let Some(targets) = &self.network.connect else { return };
        let named = |target: &Target| matches!(target.host, Host::Name(_));
        if !targets.iter().any(named) {
            return;
        }
        let Some(name) = normal(name) else { return };
        let mut learned = self.learned.write().unwrap_or_else(PoisonError::into_inner);
        for (target, addresses) in targets.iter().zip(learned.iter_mut()) {
            let is_meant = |pattern: &NamePattern| pattern.matches(&name);
            if !matches!(&target.host, Host::Name(pattern) if is_meant(pattern)) {
                continue;
            }
            for ip in found {
                addresses.retain(|known| known != ip);
                if addresses.len() == MAX_LEARNED {
                    addresses.pop_front();
                }
                addresses.push_back(*ip);
            }
        }
    }

    fn has_learned(&self, index: usize, ip: IpAddr) -> bool {
        let learned = self.learned.read().unwrap_or_else(PoisonError::into_inner);
        learned.get(index).is_some_and(|addresses| addresses.contains(&ip))
    }
}

fn is_address_of(host: &Host, ip: IpAddr) -> bool {
    match host {
        Host::Any => true,
        Host::Loopback => ip.is_loopback(),
        Host::Net(net) => net.contains(&ip),
        Host::Name(_) => false,
    }
}

/// `name` in lower case and ASCII, without a dot at the end; `None` for what is no name.
fn normal(name: &str) -> Option<String> {
    let name = Some(name).filter(|name| name.len() <= MAX_NAME)?;
    let ascii = idna::domain_to_ascii(name).ok()?;
    Some(ascii.strip_suffix('.').map(str::to_owned).unwrap_or(ascii))
}
