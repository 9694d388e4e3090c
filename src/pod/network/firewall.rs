//! NetworkPolicies in the kernel, for everything that is in the pod's network namespace: native processes too.
//!
//! ```text
//! table inet peapod {
//!     set ingress… / egress…-<n>-v4|v6     one pair for each selector: the addresses of its pods
//!     set node-v4|v6                       the node's addresses
//!     chain ingress { type filter hook input priority filter;
//!         ct state established,related accept
//!         iif lo accept                                    # a pod cannot block access to itself
//!         icmpv6 type … accept                             # without it IPv6 has no neighbours
//!         ip saddr @node-v4 accept, fe80::/10, 169.254.0.0/16 …
//!         <peer> <ports> accept                            # one for each pair of a rule
//!         ip saddr <cidr> jump ingress-<n>                 # a block with exceptions: they return, the ports accept
//!         counter name denied-ingress drop }
//!     chain egress { type filter hook output priority filter;  the same without the node;
//!         meta l4proto tcp counter name denied-egress reject with tcp reset
//!         counter name denied-egress drop }                # EPERM for the sender
//! }
//! ```
//!
//! The chain of a direction is there when a policy isolates it. All of it is made in one transaction in the pod's
//! own network namespace, before the pod has its address, and goes with the namespace. A pod that no policy selects
//! never comes here.

use std::net::IpAddr;

use ipnet::IpNet;
use nix::errno::Errno;

use crate::net::policy::{Direction, Isolation, Node, Peer, PodRules};
use crate::spec::Protocol;
use crate::spec::network_policy::{IpBlock, Ports};
use crate::sys::netlink::{NetlinkError, Socket};
use crate::sys::nftables::{
    self, Element, End, Expression, Family, Field, Hook, Interface, Transaction, Type, Verdict,
};

const TABLE: &str = "peapod";
const FAMILIES: [(Family, &str); 2] = [(Family::V4, "v4"), (Family::V6, "v6")];
/// The link-local addresses.
const LINK_LOCAL: [&str; 2] = ["169.254.0.0/16", "fe80::/10"];
/// What IPv6 needs of its own, by types of ICMPv6: multicast listeners, routers, neighbours and redirects (RFC 4861,
/// section 4; RFC 9777, section 4; RFC 4890, section 4.4.1, says that none of it must be dropped).
const HOUSEKEEPING: [(u8, u8); 2] = [(130, 137), (143, 143)];

/// The pod's filter in the kernel.
#[derive(Debug)]
pub struct Firewall {
    /// Of the pod's network namespace.
    socket: Socket,
}

impl Firewall {
    /// Puts `rules` in force in this process's network namespace. `peers` are the addresses of each of the rules'
    /// selectors.
    ///
    /// # Errors
    /// The kernel's; it may have no nf_tables. Nothing is in force then.
    pub fn apply(rules: &PodRules, peers: &[Vec<IpAddr>], node: &Node) -> Result<Self, NetlinkError> {
        let mut socket = Socket::netfilter()?;
        match ruleset(rules, peers, node, Refusal::Reset).commit(&mut socket) {
            // A kernel without `reject` for the inet family; silence denies as well.
            Err(error) if error.errno() == Some(Errno::ENOENT) => {
                socket = Socket::netfilter()?;
                ruleset(rules, peers, node, Refusal::Silence).commit(&mut socket)?;
            }
            result => result?,
        }
        Ok(Self { socket })
    }

    /// Changes the addresses of the rules' selectors, all at once.
    ///
    /// # Errors
    /// The kernel's. The old addresses are in force then.
    pub fn set_peers(&mut self, peers: &[Vec<IpAddr>]) -> Result<(), NetlinkError> {
        let mut changes = Transaction::new(TABLE);
        for (place, addresses) in peers.iter().enumerate() {
            for (family, suffix) in FAMILIES {
                let set = peer_set(place, suffix);
                changes.empty_set(&set);
                changes.add_elements(&set, &elements(addresses, family));
            }
        }
        changes.commit(&mut self.socket)
    }

    /// Adds addresses to the node's, for a pod that is isolated for ingress.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add_node(&mut self, addresses: &[IpAddr]) -> Result<(), NetlinkError> {
        let mut changes = Transaction::new(TABLE);
        for (family, suffix) in FAMILIES {
            changes.add_elements(&node_set(suffix), &elements(addresses, family));
        }
        changes.commit(&mut self.socket)
    }

    /// How many packets were denied in a direction so far; of the containers only what comes in is among them, since
    /// they are asked before they send.
    ///
    /// # Errors
    /// The kernel's.
    pub fn denied(&mut self, direction: Direction) -> Result<u64, NetlinkError> {
        nftables::packets(&mut self.socket, TABLE, names(direction).1)
    }
}

/// The chain of a direction, and the counter of what is denied in it.
fn names(direction: Direction) -> (&'static str, &'static str) {
    match direction {
        Direction::Ingress => ("ingress", "denied-ingress"),
        Direction::Egress => ("egress", "denied-egress"),
    }
}

/// What a sender of TCP is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Reset,
    Silence,
}

fn ruleset(rules: &PodRules, peers: &[Vec<IpAddr>], node: &Node, refusal: Refusal) -> Transaction {
    let mut ruleset = Transaction::new(TABLE);
    ruleset.add_table();
    for (place, _) in rules.selectors().iter().enumerate() {
        let addresses = peers.get(place).map(Vec::as_slice).unwrap_or_default();
        add_sets(&mut ruleset, addresses, |suffix| peer_set(place, suffix));
    }
    if let Some(ingress) = &rules.ingress {
        add_sets(&mut ruleset, &node.addresses, node_set);
        let mut chain = Chain::new(&mut ruleset, Direction::Ingress);
        for (family, suffix) in FAMILIES {
            chain.accept(Expression::is_in_set(End::Source, family, &node_set(suffix)));
        }
        let link_local = LINK_LOCAL.iter().filter(|_| node.point_to_point);
        for net in link_local.filter_map(|text| text.parse::<IpNet>().ok()) {
            chain.accept(Expression::is_in(End::Source, net));
        }
        chain.add(ingress);
        chain.deny(Refusal::Silence);
    }
    if let Some(egress) = &rules.egress {
        let mut chain = Chain::new(&mut ruleset, Direction::Egress);
        chain.add(egress);
        chain.deny(refusal);
    }
    ruleset
}

fn add_sets(ruleset: &mut Transaction, addresses: &[IpAddr], name: impl Fn(&str) -> String) {
    for (family, suffix) in FAMILIES {
        let set = name(suffix);
        ruleset.add_set(&set, &[Type::address(family)], &[]);
        ruleset.add_elements(&set, &elements(addresses, family));
    }
}

/// Those of the family, each once: a set takes no element twice.
fn elements(addresses: &[IpAddr], family: Family) -> Vec<Element> {
    let mut own: Vec<_> = addresses.iter().copied().filter(|ip| Family::of(*ip) == family).collect();
    own.sort_unstable();
    own.dedup();
    own.into_iter().map(Element::address).collect()
}

fn peer_set(place: usize, suffix: &str) -> String {
    format!("peers-{place}-{suffix}")
}

fn node_set(suffix: &str) -> String {
    format!("node-{suffix}")
}

/// The chain of one direction, while it is made.
struct Chain<'r> {
    ruleset: &'r mut Transaction,
    name: &'static str,
    denied: &'static str,
    /// The end of a packet where the peer is.
    peer: End,
    /// How many chains it jumps to.
    blocks: usize,
}

impl<'r> Chain<'r> {
    fn new(ruleset: &'r mut Transaction, direction: Direction) -> Self {
        let (name, denied) = names(direction);
        let (hook, interface, peer) = match direction {
            Direction::Ingress => (Hook::InputFilter, Interface::In, End::Source),
            Direction::Egress => (Hook::OutputFilter, Interface::Out, End::Destination),
        };
        ruleset.add_base_chain(name, hook);
        ruleset.add_counter(denied);
        let mut chain = Self { ruleset, name, denied, peer, blocks: 0 };
        chain.accept(Expression::is_established());
        chain.accept(Expression::is_on_loopback(interface));
        for (first, last) in HOUSEKEEPING {
            let icmpv6 = Expression::is_protocol(libc::IPPROTO_ICMPV6 as u8).into_iter();
            chain.accept(icmpv6.chain(Expression::is_between(Field::Icmpv6Type, &[first], &[last])));
        }
        chain
    }

    fn accept(&mut self, matches: impl IntoIterator<Item = Expression>) {
        let accept = Expression::verdict(Verdict::Accept);
        self.ruleset.add_rule(self.name, matches.into_iter().chain([accept]));
    }

    fn add(&mut self, isolation: &Isolation) {
        for rule in &isolation.rules {
            let ports = rule.ports.as_deref();
            let Some(peers) = &rule.peers else {
                for_each_port(ports, |ports| self.accept(ports));
                continue;
            };
            for peer in peers {
                match peer {
                    Peer::Block(block) if block.except.is_empty() => {
                        let end = self.peer;
                        for_each_port(ports, |ports| {
                            self.accept(Expression::is_in(end, block.cidr).into_iter().chain(ports));
                        });
                    }
                    Peer::Block(block) => self.add_block(block, ports),
                    Peer::Pods(place) => {
                        for (family, suffix) in FAMILIES {
                            let (end, set) = (self.peer, peer_set(*place, suffix));
                            for_each_port(ports, |ports| {
                                let peer = Expression::is_in_set(end, family, &set);
                                self.accept(peer.into_iter().chain(ports));
                            });
                        }
                    }
                }
            }
        }
    }

    /// A block with exceptions, of which there may be more than one rule can hold.
    fn add_block(&mut self, block: &IpBlock, ports: Option<&[Ports]>) {
        let name = format!("{}-{}", self.name, self.blocks);
        self.blocks += 1;
        self.ruleset.add_chain(&name);
        for except in &block.except {
            let leave = Expression::verdict(Verdict::Return);
            self.ruleset.add_rule(&name, Expression::is_in(self.peer, *except).into_iter().chain([leave]));
        }
        for_each_port(ports, |ports| {
            self.ruleset.add_rule(&name, ports.into_iter().chain([Expression::verdict(Verdict::Accept)]));
        });
        let jump = Expression::verdict(Verdict::Jump(&name));
        self.ruleset.add_rule(self.name, Expression::is_in(self.peer, block.cidr).into_iter().chain([jump]));
    }

    fn deny(self, refusal: Refusal) {
        if refusal == Refusal::Reset {
            let tcp = Expression::is_protocol(libc::IPPROTO_TCP as u8);
            let refuse = [Expression::count(self.denied), Expression::reset()];
            self.ruleset.add_rule(self.name, tcp.into_iter().chain(refuse));
        }
        let drop = [Expression::count(self.denied), Expression::verdict(Verdict::Drop)];
        self.ruleset.add_rule(self.name, drop);
    }
}

/// Calls `add` with what matches each of `ports`; once with nothing to match when there are none to look at.
fn for_each_port(ports: Option<&[Ports]>, mut add: impl FnMut(Vec<Expression>)) {
    let Some(ports) = ports else { return add(Vec::new()) };
    for Ports { protocol, first, last } in ports {
        let number = match protocol {
            Protocol::Tcp => libc::IPPROTO_TCP,
            Protocol::Udp => libc::IPPROTO_UDP,
        };
        let protocol = Expression::is_protocol(number as u8).into_iter();
        let (first, last) = (first.to_be_bytes(), last.to_be_bytes());
        add(protocol.chain(Expression::is_between(Field::DestinationPort, &first, &last)).collect());
    }
}
