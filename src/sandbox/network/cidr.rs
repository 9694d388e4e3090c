//! Which networks the pods get: the wanted ones, or others where the host routes them elsewhere. Pure.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{GATEWAY, ROUTE_PROTOCOL};

/// The longest prefix of a network for IPv6 addresses, which leaves room for an IPv4 address.
pub const PREFIX_V6_MAX: u8 = 96;

/// A route of the host, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostRoute {
    /// Where it leads.
    pub destination: IpNet,
    /// Who made it: [`ROUTE_PROTOCOL`] or another number.
    pub protocol: u8,
}

impl HostRoute {
    /// Whether it leads to one of peapod's pods, or to the router that a pod sees.
    pub fn is_own(&self) -> bool {
        // The kernel adds a local route of its own to the router's address, where the host has no other.
        let address = self.destination.addr();
        self.is_to_one() && (self.protocol == ROUTE_PROTOCOL || gateway_of(address) == address)
    }

    /// Whether it leads to a single address.
    pub fn is_to_one(&self) -> bool {
        self.destination.prefix_len() == self.destination.max_prefix_len()
    }
}

/// The networks that the pods' addresses are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodNetworks {
    /// Where the leases are.
    pub v4: Ipv4Net,
    /// What a lease is embedded in; its prefix has at most [`PREFIX_V6_MAX`] bits.
    pub v6: Ipv6Net,
}

impl Default for PodNetworks {
    /// 10.201.0.0/16 (RFC 1918), and a unique local network (RFC 4193): "peapo", "d".
    fn default() -> Self {
        let v6 = Ipv6Addr::new(0xfd70, 0x6561, 0x706f, 0x64, 0, 0, 0, 0);
        Self {
            v4: Ipv4Net::new_assert(Ipv4Addr::new(10, 201, 0, 0), 16),
            v6: Ipv6Net::new_assert(v6, PREFIX_V6_MAX),
        }
    }
}

impl PodNetworks {
    /// These, or others where the host routes elsewhere, and a message for each that is not the wanted one. The
    /// default routes and the routes to pods do not count.
    pub fn choose(self, routes: &[HostRoute]) -> (Self, Vec<String>) {
        let (v4, message_v4) = choose(self.v4, alternatives_v4(), "--pod-cidr", routes);
        let (v6, message_v6) = choose(self.v6, alternatives_v6(), "--pod-cidr-v6", routes);
        (Self { v4, v6 }, message_v4.into_iter().chain(message_v6).collect())
    }
}

/// The address in IPv6 network `network` that belongs to `address`: its last 32 bits are that. So one lease covers
/// both, and nothing can be given out twice.
pub fn embed(network: Ipv6Net, address: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(network.network()) | u128::from(u32::from(address)))
}

/// The router that the pod with this address sees: [`GATEWAY`], or [`GATEWAY`] embedded in the pod's own network.
pub fn gateway_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => GATEWAY.into(),
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 32 << 32;
            Ipv6Addr::from(network | u128::from(u32::from(GATEWAY))).into()
        }
    }
}

fn choose<N>(
    wanted: N,
    alternatives: impl Iterator<Item = N>,
    option: &str,
    routes: &[HostRoute],
) -> (N, Option<String>)
where
    N: Copy + Display + Into<IpNet>,
{
    let conflict = |network: N| {
        let network = network.into();
        let others = routes.iter().filter(|route| !route.is_own() && route.destination.prefix_len() > 0);
        others.map(|route| route.destination).find(|other| overlap(other, &network))
    };
    let Some(other) = conflict(wanted) else { return (wanted, None) };
    let free = { alternatives }.find(|network| conflict(*network).is_none());
    let message = match free {
        Some(free) => {
            format!("pods get addresses from {free}: this host routes {other}, which overlaps {wanted}")
        }
        None => format!("this host routes {other}, which overlaps the pods' {wanted}; choose a {option}"),
    };
    (free.unwrap_or(wanted), Some(message))
}

/// 10.202.0.0/16 to 10.254.0.0/16, then 172.16.0.0/16 to 172.31.0.0/16 (RFC 1918).
fn alternatives_v4() -> impl Iterator<Item = Ipv4Net> {
    let first = (202..=254).map(|second| [10, second, 0, 0]);
    let then = (16..=31).map(|second| [172, second, 0, 0]);
    first.chain(then).map(|address| Ipv4Net::new_assert(address.into(), 16))
}

/// fd70:6561:706f:65::/96 to fd70:6561:706f:ff::/96, then the same subnets of fd70:6561:7070::/48 (RFC 4193).
fn alternatives_v6() -> impl Iterator<Item = Ipv6Net> {
    let first = (0x65..=0xff).map(|subnet| [0xfd70, 0x6561, 0x706f, subnet, 0, 0, 0, 0]);
    let then = (0x65..=0xff).map(|subnet| [0xfd70, 0x6561, 0x7070, subnet, 0, 0, 0, 0]);
    first.chain(then).map(|address| Ipv6Net::new_assert(address.into(), PREFIX_V6_MAX))
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(destination: &str, protocol: u8) -> HostRoute {
        HostRoute { destination: destination.parse().unwrap(), protocol }
    }

    fn wanted() -> PodNetworks {
        PodNetworks::default()
    }

    fn choose(routes: &[HostRoute]) -> (String, Option<String>) {
        let (networks, messages) = wanted().choose(routes);
        assert_eq!(networks.v6, wanted().v6);
        (networks.v4.to_string(), messages.first().cloned())
    }

    #[test]
    fn the_wanted_network_stays_when_only_pods_and_the_default_route_are_there() {
        let routes =
            [route("0.0.0.0/0", 3), route("10.201.0.2/32", ROUTE_PROTOCOL), route("192.0.2.0/24", 2)];
        assert_eq!(choose(&routes), ("10.201.0.0/16".into(), None));
    }

    #[test]
    fn a_wider_or_narrower_route_moves_it() {
        let (network, message) = choose(&[route("10.201.7.0/24", 2), route("10.202.0.0/15", 2)]);
        assert_eq!(network, "10.204.0.0/16");
        assert!(message.unwrap().contains("10.201.7.0/24"));
        assert_eq!(choose(&[route("10.0.0.0/8", 2), route("172.16.0.0/15", 2)]).0, "172.18.0.0/16");
        // A host route of someone else is not a pod's.
        assert_eq!(choose(&[route("10.201.0.2/32", 3)]).0, "10.202.0.0/16");
    }

    #[test]
    fn nothing_free_is_said() {
        let (network, message) = choose(&[route("0.0.0.0/1", 2), route("128.0.0.0/1", 2)]);
        assert_eq!(network, "10.201.0.0/16");
        assert!(message.unwrap().contains("--pod-cidr"));
    }

    #[test]
    fn ipv6_moves_aside_by_itself() {
        let pods = route("fd70:6561:706f:64::ac9:2/128", ROUTE_PROTOCOL);
        // The kernel's own, on a host that has no IPv6 address but on pods' links.
        let router = route("fd70:6561:706f:64::a9fe:101/128", 2);
        let routes = [pods, router, route("::/0", 3), route("fe80::/64", 2)];
        assert_eq!(wanted().choose(&routes), (wanted(), vec![]));
        for (other, expected) in [
            ("fd70:6561:706f:64::/64", "fd70:6561:706f:65::/96"),
            ("fd70:6561:706f:64::1/128", "fd70:6561:706f:65::/96"),
            ("fd70:6561:706f::/48", "fd70:6561:7070:65::/96"),
            ("fc00::/7", "fd70:6561:706f:64::/96"),
        ] {
            let (networks, messages) = wanted().choose(&[route(other, 2)]);
            assert_eq!((networks.v4, networks.v6.to_string()), (wanted().v4, expected.to_owned()));
            assert!(matches!(&messages[..], [message] if message.contains(other)), "{messages:?}");
        }
    }

    #[test]
    fn an_ipv6_address_embeds_the_ipv4_address() {
        let leased = Ipv4Addr::new(10, 201, 0, 2);
        assert_eq!(embed(wanted().v6, leased).to_string(), "fd70:6561:706f:64::ac9:2");
        assert_eq!(embed("fd00::/8".parse().unwrap(), leased).to_string(), "fd00::ac9:2");
        assert_eq!(gateway_of(embed(wanted().v6, leased).into()).to_string(), "fd70:6561:706f:64::a9fe:101");
        assert_eq!(gateway_of(leased.into()), IpAddr::V4(GATEWAY));
    }
}
