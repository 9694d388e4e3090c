//! A pod's NetworkPolicies and annotations, put in force: in the kernel, in the process, and kept up to date.
//!
//! ```text
//! supervisor:   Surroundings::look ─ the node's addresses, where the records are
//!                    │ fork
//! pod process:  Policies::apply ─ the firewall, before the pod has its address
//!               Policies::policy ─ for net::Stack, once it has
//!               Policies::follow ─ pods come and go ─► firewall and policy; what the kernel denied ─► the user
//! ```
//!
//! All of it is next to nothing for a pod that nothing selects.

use std::cell::RefCell;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use nix::ifaddrs::getifaddrs;

use super::firewall::Firewall;
use super::peers::Peers;
use crate::net::policy::{Direction, Node, PodRules, PolicyConfig};
use crate::net::{Policy, Tell};
use crate::sandbox::network::gateway_of;
use crate::sandbox::{self, record};
use crate::spec::{NetworkMode, Pod};
use crate::sys::process::is_privileged;

/// How often the kernel's counters are looked at: soon enough for who wonders why nobody answers.
const BETWEEN_LOOKS: Duration = Duration::from_secs(5);

/// What the pod's process cannot see any more from within its namespaces.
pub(super) struct Surroundings {
    /// Without addresses when the pod is not isolated for ingress.
    node: Node,
    /// Where the pods' records are.
    records: PathBuf,
    /// Whether the pod gets a link to the node: otherwise nobody reaches it, and it reaches nobody.
    linked: bool,
}

impl Surroundings {
    /// In the supervisor, before the fork.
    pub(super) fn look(pod: &Pod, config: &sandbox::Config<'_>) -> Self {
        let addresses = if is_isolated_for_ingress(pod) { own_addresses() } else { Vec::new() };
        let linked = pod.network == NetworkMode::Pod && is_privileged();
        // At the other end of a plugin's link there may be anyone, on a bridge for example the other pods.
        let node = Node { addresses, point_to_point: linked && config.cni.is_none() };
        Self { node, records: record::directories(config.paths), linked }
    }
}

fn is_isolated_for_ingress(pod: &Pod) -> bool {
    pod.network_rules.policies.iter().any(|policy| policy.ingress.is_some())
}

/// The addresses of this network namespace's interfaces, which is the node's.
fn own_addresses() -> Vec<IpAddr> {
    let interfaces = getifaddrs().into_iter().flatten().filter_map(|interface| interface.address);
    let addresses = interfaces.filter_map(|address| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    addresses.filter(|ip| !ip.is_loopback()).collect()
}

/// What is in force.
pub(super) struct Policies {
    surroundings: Surroundings,
    tell: Tell,
    firewall: Option<Firewall>,
    /// `None`: no selector depends on other pods.
    peers: Option<Peers>,
}

impl Policies {
    /// Puts the pod's policies in force in the kernel, whose network namespace this is.
    pub(super) fn apply(pod: &Pod, surroundings: Surroundings, tell: Tell) -> Self {
        let mut policies = Self { surroundings, tell, firewall: None, peers: None };
        let rules = PodRules::new(&pod.network_rules.policies);
        if rules.is_empty() {
            return policies;
        }
        if !rules.selectors().is_empty() {
            policies.peers = Some(Peers::new(&policies.surroundings.records, rules.selectors().to_vec()));
        }
        if policies.surroundings.linked {
            match Firewall::apply(&rules, &policies.peer_addresses(), &policies.surroundings.node) {
                Ok(firewall) => policies.firewall = Some(firewall),
                Err(error) => policies.tell.tell(format!(
                    "NetworkPolicies hold for the pod's containers only, not for native processes in its network: \
                     {error}; is the kernel module nf_tables (with nft_ct) there?"
                )),
            }
        }
        policies
    }

    /// The same policies, and the containers' annotations, for the pod's network stack.
    pub(super) fn policy(&mut self, pod: &Pod, addresses: &[IpAddr]) -> Policy {
        if self.surroundings.node.point_to_point && is_isolated_for_ingress(pod) {
            self.add_gateways(addresses);
        }
        let policy = Policy::new(PolicyConfig {
            rules: &pod.network_rules,
            containers: pod.all_containers().map(|container| container.name.as_str()).collect(),
            addresses: addresses.to_vec(),
            node: self.surroundings.node.clone(),
            kernel_filters: self.firewall.is_some(),
            tell: self.tell.clone(),
        });
        policy.set_peers(&self.peer_addresses());
        policy
    }

    /// Keeps both up to date with the pods that come and go, and tells what the kernel denies. Never ends.
    pub(super) async fn follow(self, policy: Policy) {
        let Self { peers, firewall, tell, .. } = self;
        let firewall = firewall.map(RefCell::new);
        let changed = |addresses: Vec<Vec<IpAddr>>| {
            policy.set_peers(&addresses);
            let result = firewall.as_ref().map(|firewall| firewall.borrow_mut().set_peers(&addresses));
            if let Some(Err(error)) = result {
                tell.tell(format!(
                    "the pods that NetworkPolicies select have changed, and the kernel refuses: {error}"
                ));
            }
        };
        let follow_peers = async {
            match peers {
                Some(peers) => peers.follow(changed).await,
                None => std::future::pending().await,
            }
        };
        let watch_denials = async {
            match &firewall {
                Some(firewall) => watch_denials(firewall, &policy, &tell).await,
                None => std::future::pending().await,
            }
        };
        tokio::join!(follow_peers, watch_denials);
    }

    /// What the pod sees as its router is the node, which may have no other address of that family to speak from.
    fn add_gateways(&mut self, addresses: &[IpAddr]) {
        let gateways: Vec<_> = addresses.iter().map(|address| gateway_of(*address)).collect();
        if let Some(firewall) = &mut self.firewall
            && let Err(error) = firewall.add_node(&gateways)
        {
            self.tell.tell(format!("NetworkPolicies may keep this machine from the pod: {error}"));
        }
        self.surroundings.node.addresses.extend(gateways);
    }

    fn peer_addresses(&self) -> Vec<Vec<IpAddr>> {
        self.peers.as_ref().map(Peers::addresses).unwrap_or_default()
    }
}

/// Tells when the kernel has denied something: nobody else says why a native process is not answered, or a client of
/// the pod.
async fn watch_denials(firewall: &RefCell<Firewall>, policy: &Policy, tell: &Tell) {
    let mut told = [(Direction::Ingress, 0), (Direction::Egress, 0)];
    loop {
        tokio::time::sleep(BETWEEN_LOOKS).await;
        for (direction, told) in &mut told {
            // Without a policy for the direction there is no counter.
            let Ok(count) = firewall.borrow_mut().denied(*direction) else { continue };
            policy.set_denied_packets(*direction, count);
            let fresh = count.saturating_sub(*told);
            if fresh > 0 {
                *told = count;
                let what = match direction {
                    Direction::Ingress => "that came to the pod",
                    Direction::Egress => "of the pod's network, other than the containers' own,",
                };
                let why = policy.explain(*direction);
                tell.tell(format!("{fresh} packets {what} were denied: {why}"));
            }
        }
    }
}
