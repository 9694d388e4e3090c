//! The pod's NetworkPolicies, taken together and ready to be asked.
//!
//! ```text
//! policies ─► per direction: which isolate it, all their rules
//!          ─► the selectors of all rules, each once ◄── set_peers: their pods' addresses, as pods come and go
//! ```

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock};

use crate::spec::network_policy::{self as spec, IpBlock, PodSelector, Ports};
use crate::spec::{NetworkPolicy, Protocol};

/// Which way a connection is made, or a datagram goes, seen from the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Into the pod.
    Ingress,
    /// Out of it.
    Egress,
}

/// What may pass in a direction in which at least one policy isolates the pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Isolation {
    /// The names of the policies that isolate it.
    pub policies: Vec<String>,
    /// What any of them allows.
    pub rules: Vec<Rule>,
}

/// [`spec::Rule`] with its selectors looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `None`: everyone.
    pub peers: Option<Vec<Peer>>,
    /// `None`: every port of every protocol.
    pub ports: Option<Vec<Ports>>,
}

/// Who may be at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// These addresses.
    Block(IpBlock),
    /// The pods of the selector at this place of [`PodRules::selectors`].
    Pods(usize),
}

/// All NetworkPolicies of a pod as one.
#[derive(Debug, Default)]
pub struct PodRules {
    /// `None`: everything may come in.
    pub ingress: Option<Isolation>,
    /// `None`: everything may go out.
    pub egress: Option<Isolation>,
    selectors: Vec<PodSelector>,
    /// The addresses that each selector stands for now.
    peers: RwLock<Vec<HashSet<IpAddr>>>,
}

impl PodRules {
    /// Takes the policies that select a pod together.
    pub fn new(policies: &[NetworkPolicy]) -> Self {
        let mut rules = Self::default();
        let mut places = BTreeMap::new();
        for NetworkPolicy { name, ingress, egress } in policies {
            for (direction, of_policy) in [(Direction::Ingress, ingress), (Direction::Egress, egress)] {
                let Some(of_policy) = of_policy else { continue };
                let own: Vec<_> = of_policy.iter().map(|rule| rules.rule(rule, &mut places)).collect();
                let isolation = match direction {
                    Direction::Ingress => &mut rules.ingress,
                    Direction::Egress => &mut rules.egress,
                };
                let isolation = isolation.get_or_insert_default();
                isolation.policies.push(name.clone());
                isolation.rules.extend(own);
            }
        }
        rules.peers = RwLock::new(vec![HashSet::new(); rules.selectors.len()]);
        rules
    }

    fn rule(&mut self, rule: &spec::Rule, places: &mut BTreeMap<PodSelector, usize>) -> Rule {
        let spec::Rule { peers, ports } = rule;
        let peer = |peer: &spec::Peer| match peer {
            spec::Peer::Block(block) => Peer::Block(block.clone()),
            spec::Peer::Pods(selector) => Peer::Pods(*places.entry(selector.clone()).or_insert_with(|| {
                self.selectors.push(selector.clone());
                self.selectors.len() - 1
            })),
        };
        Rule { peers: peers.as_ref().map(|peers| peers.iter().map(peer).collect()), ports: ports.clone() }
    }

    /// Whether the pod is isolated in no direction.
    pub fn is_empty(&self) -> bool {
        self.ingress.is_none() && self.egress.is_none()
    }

    /// The selectors whose pods' addresses the rules need to know.
    pub fn selectors(&self) -> &[PodSelector] {
        &self.selectors
    }

    /// What isolates the pod in a direction.
    pub fn isolation(&self, direction: Direction) -> Option<&Isolation> {
        match direction {
            Direction::Ingress => self.ingress.as_ref(),
            Direction::Egress => self.egress.as_ref(),
        }
    }

    /// See [`super::Policy::set_peers`].
    pub fn set_peers(&self, peers: &[Vec<IpAddr>]) {
        let fresh = peers.iter().map(|addresses| addresses.iter().copied().collect());
        let fresh: Vec<_> =
            fresh.chain(std::iter::repeat(HashSet::new())).take(self.selectors.len()).collect();
        *self.peers.write().unwrap_or_else(PoisonError::into_inner) = fresh;
    }

    /// Whether `port` may be reached in a direction; `peer` is at the other end.
    pub fn allow(&self, direction: Direction, peer: IpAddr, protocol: Protocol, port: u16) -> bool {
        let Some(isolation) = self.isolation(direction) else { return true };
        isolation.rules.iter().any(|rule| {
            let by_port = |ports: &Vec<Ports>| ports.iter().any(|ports| ports.contain(protocol, port));
            rule.ports.as_ref().is_none_or(by_port)
                && rule.peers.as_ref().is_none_or(|peers| peers.iter().any(|one| self.is_peer(one, peer)))
        })
    }

    fn is_peer(&self, peer: &Peer, ip: IpAddr) -> bool {
        match peer {
            Peer::Block(block) => block.contains(ip),
            Peer::Pods(place) => {
                let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
                peers.get(*place).is_some_and(|addresses| addresses.contains(&ip))
            }
        }
    }
}
