//! The rules that lead from ports of the host to pods.
//!
//! ```text
//! table inet peapod {
//!     map host-ports-v4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service }
//!     set pods-v4 { type ipv4_addr . ipv4_addr }            # the pods with such ports, each twice
//!     chain host-ports                                      # dnat to the map's value for this address, or for all
//!     chain prerouting, output { fib daddr type local jump host-ports }
//!     chain loopback { iifname "pea*" ip daddr 127.0.0.0/8 drop }
//!     chain postrouting { …; oifname "pea*" ip saddr 127.0.0.0/8 masquerade; ip saddr . ip daddr @pods-v4 masquerade }
//! }                                                         # and the same for IPv6
//! ```
//!
//! A map, so that a packet costs the same whatever the number of pods. Each element has the name of its pod's link as
//! a comment, by which it is found again. They are there from the first pod that wants one.
//!
//! Pods see real source addresses but in two cases that have no other way. A connection of the host to its own loopback
//! address could not be answered: it gets the host's address. To leave the host at all it needs `route_localnet` on
//! the pod's link, and chain `loopback` takes back what that would give to the pod, the host's loopback; for `::1` a
//! route does, by which the answers come back in. And a pod that connects to itself by way of the host would answer
//! itself directly.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::RouteType;
use nix::errno::Errno;

use super::masquerade::{POSTROUTING, TABLE};
use super::messages::{LOCAL_TABLE, route};
use super::{HostNetwork, LINK_PREFIX, NetworkError};
use crate::sandbox::host_port::PortMapping;
use crate::spec::Protocol;
use crate::sys::conntrack::{Flow, forget};
use crate::sys::namespace::set_network_parameter;
use crate::sys::netlink::{Batch, CREATE, Socket};
use crate::sys::nftables::{
    Comparison, Element, End, Expression, Family, Field, Hook, Interface, Register, Transaction, Type,
    Verdict, chains, elements, octets,
};

const CHAIN: &str = "host-ports";
const LOOPBACK: &str = "loopback";

/// The names of a family's map and set.
fn names(family: Family) -> (&'static str, &'static str) {
    match family {
        Family::V4 => ("host-ports-v4", "pods-v4"),
        Family::V6 => ("host-ports-v6", "pods-v6"),
    }
}

/// Leads `mappings` to the pod that has these addresses and this link. To be called with the host locked, while the
/// table is there.
pub(crate) fn forward(
    mappings: &[PortMapping],
    addresses: &[IpAddr],
    link: &str,
    index: u32,
    host: &HostNetwork,
) -> Result<(), NetworkError> {
    if mappings.is_empty() {
        return Ok(());
    }
    reach_from_loopback(mappings, addresses, link, index)?;
    let mut socket = Socket::netfilter()?;
    let has_rules = chains(&mut socket, TABLE)?.iter().any(|chain| chain == CHAIN);
    let wanted = elements_of(mappings, addresses, link);
    let add = |socket: &mut Socket| {
        let mut transaction = Transaction::new(TABLE);
        if !has_rules {
            add_rules(&mut transaction);
        }
        for (set, elements) in &wanted {
            transaction.create_elements(set, elements);
        }
        transaction.commit(socket)
    };
    match add(&mut socket) {
        // The sockets that hold these ports say that nobody has them: what is in the way is left from a pod of another
        // set of directories that was killed.
        Err(error) if has_rules && matches!(error.errno(), Some(Errno::EEXIST | Errno::EBUSY)) => {
            remove_elements(&mut socket, |element| {
                wanted.iter().any(|(_, ours)| ours.iter().any(|our| our.key == element.key))
            })?;
            add(&mut socket)?;
        }
        result => result?,
    }
    // Clients that sent while nobody was there would go on missing the pod.
    let udp: Vec<_> = mappings.iter().filter(|mapping| mapping.protocol == Protocol::Udp).collect();
    if !udp.is_empty() {
        let is_own =
            |address: &IpAddr| address.is_loopback() || host.own.iter().any(|(own, _)| own == address);
        let is_mapped = |flow: &Flow| udp.iter().any(|mapping| mapping.host.port == flow.port);
        let is_stale = |flow: &Flow| !addresses.contains(&flow.answered_by);
        forget(&mut socket, |flow| {
            is_udp(flow) && is_mapped(flow) && is_own(&flow.destination) && is_stale(flow)
        })?;
    }
    Ok(())
}

/// Removes what [`forward`] made for the pod with this link and these addresses. To be called with the host locked.
pub(crate) fn stop_forwarding(link: &str, addresses: &[IpAddr]) -> Result<(), NetworkError> {
    let mut socket = match Socket::netfilter() {
        // Without netfilter in the kernel there was nothing to make.
        Err(error) if error.errno() == Some(Errno::EPROTONOSUPPORT) => return Ok(()),
        socket => socket?,
    };
    if remove_elements(&mut socket, |element| element.comment == link)? {
        forget(&mut socket, |flow| is_udp(flow) && addresses.contains(&flow.answered_by))?;
    }
    Ok(())
}

/// Whether there were any.
fn remove_elements(socket: &mut Socket, is_meant: impl Fn(&Element) -> bool) -> Result<bool, NetworkError> {
    let mut transaction = Transaction::new(TABLE);
    let mut found = false;
    for set in Family::ALL.map(names).into_iter().flat_map(|(map, set)| [map, set]) {
        let mut meant = elements(socket, TABLE, set)?;
        meant.retain(&is_meant);
        found |= !meant.is_empty();
        transaction.delete_elements(set, &meant);
    }
    if found {
        transaction.commit(socket)?;
    }
    Ok(found)
}

fn is_udp(flow: &Flow) -> bool {
    i32::from(flow.protocol) == libc::IPPROTO_UDP
}

/// What goes into which set.
fn elements_of(
    mappings: &[PortMapping],
    addresses: &[IpAddr],
    link: &str,
) -> Vec<(&'static str, Vec<Element>)> {
    let mut all = Vec::new();
    for &address in addresses {
        let family = Family::of(address);
        let (map, set) = names(family);
        let own = octets(address);
        let mut ports = Vec::new();
        for mapping in mappings {
            let hosts = mapping.host_addresses(true).into_iter();
            ports.extend(hosts.filter(|host| host.is_ipv4() == address.is_ipv4()).map(|host| Element {
                key: [octets(host), protocol(mapping.protocol), port(mapping.host.port)].concat(),
                value: Some([own.clone(), port(mapping.pod_port)].concat()),
                comment: link.into(),
            }));
        }
        if !ports.is_empty() {
            all.push((map, ports));
            let twice = Element { key: [own.clone(), own].concat(), value: None, comment: link.into() };
            all.push((set, vec![twice]));
        }
    }
    all
}

/// As in a register: the value first, then zeros.
fn protocol(protocol: Protocol) -> Vec<u8> {
    let number = match protocol {
        Protocol::Tcp => libc::IPPROTO_TCP,
        Protocol::Udp => libc::IPPROTO_UDP,
    };
    vec![number as u8, 0, 0, 0]
}

fn port(port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    vec![high, low, 0, 0]
}

fn add_rules(transaction: &mut Transaction) {
    transaction.add_base_chain(LOOPBACK, Hook::PreroutingRaw);
    transaction.add_chain(CHAIN);
    for (chain, hook) in [("prerouting", Hook::PreroutingNat), ("output", Hook::OutputNat)] {
        transaction.add_base_chain(chain, hook);
        let jump = Expression::verdict(Verdict::Jump(CHAIN));
        transaction.add_rule(chain, Expression::is_to_this_host().into_iter().chain([jump]));
    }
    for family in Family::ALL {
        let (map, set) = names(family);
        let address = Type::address(family);
        transaction.add_set(map, &[address, Type::Protocol, Type::Port], &[address, Type::Port]);
        transaction.add_set(set, &[address, address], &[]);
        add_rules_of(transaction, family);
    }
}

fn add_rules_of(transaction: &mut Transaction, family: Family) {
    let (map, set) = names(family);
    // An address takes this many registers.
    let (length, loopback) = match family {
        Family::V4 => (1, IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8)),
        Family::V6 => (4, IpNet::new_assert(IpAddr::V6(Ipv6Addr::LOCALHOST), 128)),
    };
    let unspecified = &[0; 16][..4 * length as usize];
    let [first, second, third] = [0, length, length + 1].map(Register);
    let [source, destination] = [End::Source, End::Destination].map(|end| Field::Address(end, family));

    // First what is for this address, then what is for all.
    for every_address in [false, true] {
        let mut rule: Vec<_> = Expression::is_of(family).into();
        rule.push(Expression::load(destination, first));
        if every_address {
            // Nothing of the address is left; written so, nft(8) can show it.
            rule.push(Expression::mask(first, unspecified));
        }
        rule.extend([
            Expression::load_protocol(second),
            Expression::load(Field::DestinationPort, third),
            Expression::look_up(map, first, Some(first)),
            Expression::destination_nat(family, first, second),
        ]);
        transaction.add_rule(CHAIN, rule);
    }

    let from_pod = Expression::is_on_interface(Interface::In, Comparison::Equal, LINK_PREFIX).into_iter();
    let rule = from_pod.chain(Expression::is_in(End::Destination, loopback));
    transaction.add_rule(LOOPBACK, rule.chain([Expression::verdict(Verdict::Drop)]));
    let to_pod = Expression::is_on_interface(Interface::Out, Comparison::Equal, LINK_PREFIX).into_iter();
    let rule = to_pod.chain(Expression::is_in(End::Source, loopback));
    transaction.add_rule(POSTROUTING, rule.chain([Expression::masquerade()]));

    let rule = Expression::is_of(family).into_iter().chain([
        Expression::load(source, first),
        Expression::load(destination, second),
        Expression::look_up(set, first, None),
        Expression::masquerade(),
    ]);
    transaction.add_rule(POSTROUTING, rule);
}

/// Lets packets from the host's loopback addresses leave by the pod's link, and the answers come in.
fn reach_from_loopback(
    mappings: &[PortMapping],
    addresses: &[IpAddr],
    link: &str,
    index: u32,
) -> Result<(), NetworkError> {
    let hosts = || mappings.iter().flat_map(|mapping| mapping.host_addresses(true));
    let is_reached = |family: IpAddr| {
        let in_family = |address: &IpAddr| address.is_ipv4() == family.is_ipv4();
        let from_loopback = |address: &IpAddr| address.is_unspecified() || address.is_loopback();
        addresses.iter().any(in_family) && hosts().any(|host| in_family(&host) && from_loopback(&host))
    };
    if is_reached(IpAddr::V4(Ipv4Addr::LOCALHOST)) {
        set_network_parameter(&format!("ipv4/conf/{link}/route_localnet"), "1").map_err(|source| {
            NetworkError::File { action: format!("let 127.0.0.1 lead to {link}"), source }
        })?;
    }
    let localhost = IpAddr::V6(Ipv6Addr::LOCALHOST);
    if is_reached(localhost) {
        // The kernel takes a loopback address for one of the link that the packet came by (rt6_need_strict).
        let mut message = route(Some(localhost), None, index);
        message.header.kind = RouteType::Local;
        message.header.table = LOCAL_TABLE;
        let mut batch = Batch::default();
        batch.push("let ::1 lead to the pod's link", &RouteNetlinkMessage::NewRoute(message), CREATE);
        Socket::route()?.execute(&batch)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::HostPort;

    fn mapping(ip: Option<&str>) -> PortMapping {
        let host = HostPort { port: 8080, ip: ip.map(|ip| ip.parse().unwrap()) };
        PortMapping { host, protocol: Protocol::Udp, pod_port: 53 }
    }

    #[test]
    fn elements_are_of_the_families_that_host_and_pod_share() {
        let both: [IpAddr; 2] = ["10.201.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let sets = |ip: Option<&str>, addresses: &[IpAddr]| -> Vec<_> {
            elements_of(&[mapping(ip)], addresses, "pea0").into_iter().map(|(set, _)| set).collect()
        };
        assert_eq!(sets(None, &both), ["host-ports-v4", "pods-v4", "host-ports-v6", "pods-v6"]);
        assert_eq!(sets(Some("::1"), &both), ["host-ports-v6", "pods-v6"]);
        assert_eq!(sets(Some("0.0.0.0"), &both), ["host-ports-v4", "pods-v4"]);
        assert_eq!(sets(Some("::"), &both[..1]), [""; 0]);
    }

    #[test]
    fn an_element_is_address_protocol_and_port() {
        let all = elements_of(&[mapping(Some("127.0.0.1"))], &["10.201.0.2".parse().unwrap()], "pea0");
        let element = &all[0].1[0];
        assert_eq!(element.key, [127, 0, 0, 1, 17, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        assert_eq!(element.value.as_deref(), Some(&[10, 201, 0, 2, 0, 53, 0, 0][..]));
        assert_eq!(all[1].1[0].key, [10, 201, 0, 2, 10, 201, 0, 2]);
    }
}
