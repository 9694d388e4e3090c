//! What the host's routing tables say.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{GATEWAY, HostRoute, NetworkError};
use crate::sys::netlink::{DUMP, Socket, attributes};

const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
/// Length of `struct rtmsg`, bytes.
const ROUTE_HEADER: usize = 12;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_PREFSRC: u16 = 7;
/// `RTN_LOCAL`.
const ROUTE_LOCAL: u8 = 2;

/// The host's routes and what follows from them.
#[derive(Debug, Default)]
pub(crate) struct HostNetwork {
    /// Every route of both families.
    pub(crate) routes: Vec<HostRoute>,
    /// The host's own addresses that a pod can answer to, and the links they are on.
    pub(crate) own: Vec<(IpAddr, Option<u32>)>,
    /// The default routes, the first of each family.
    ways_out: Vec<WayOut>,
}

/// A default route.
#[derive(Debug)]
struct WayOut {
    is_ipv4: bool,
    link: Option<u32>,
    source: Option<IpAddr>,
}

impl HostNetwork {
    /// The IPv4 addresses that a route of their own leads to: a pod's, perhaps one of another set of directories.
    pub(crate) fn taken(&self) -> HashSet<Ipv4Addr> {
        let own = self.routes.iter().filter(|route| route.is_to_one());
        own.filter_map(|route| match route.destination.addr() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
        .collect()
    }

    /// Whether the host has an address of this one's family that a pod can answer to.
    pub(crate) fn can_answer(&self, address: IpAddr) -> bool {
        self.own.iter().any(|(own, _)| own.is_ipv4() == address.is_ipv4())
    }

    /// The index of the link that the default route leaves by: IPv4's, or else IPv6's.
    pub(crate) fn uplink(&self) -> Option<u32> {
        [true, false].into_iter().find_map(|is_ipv4| self.default_route(is_ipv4)?.link)
    }

    /// The address by which others know this host, IPv4 first: what the default route leaves from, or else the first
    /// on its link, or else the first.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        [true, false].into_iter().filter_map(|is_ipv4| self.primary(is_ipv4)).collect()
    }

    fn primary(&self, is_ipv4: bool) -> Option<IpAddr> {
        let default = self.default_route(is_ipv4);
        let uplink = default.and_then(|default| default.link);
        let mut own = self.own.iter().filter(|(address, _)| address.is_ipv4() == is_ipv4);
        let first = own.clone().map(|(address, _)| *address).next();
        let on_uplink =
            own.find(|(_, link)| uplink.is_some() && *link == uplink).map(|(address, _)| *address);
        default.and_then(|default| default.source).or(on_uplink).or(first)
    }

    fn default_route(&self, is_ipv4: bool) -> Option<&WayOut> {
        self.ways_out.iter().find(|way| way.is_ipv4 == is_ipv4)
    }

    fn add(&mut self, route: Route) {
        let Route { destination, protocol, kind, link, source } = route;
        let address = destination.addr();
        if destination.prefix_len() == 0 && self.default_route(address.is_ipv4()).is_none() {
            self.ways_out.push(WayOut { is_ipv4: address.is_ipv4(), link, source });
        }
        if kind == ROUTE_LOCAL && can_be_answered(address) {
            self.own.push((address, link));
        }
        self.routes.push(HostRoute { destination, protocol });
    }
}

/// Whether a pod that gets a packet from this address of the host can answer. The one that a host without addresses
/// has on a pod's link serves that pod alone.
fn can_be_answered(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => {
            let is_gateway = address.octets().ends_with(&GATEWAY.octets());
            !address.is_loopback() && !address.is_unicast_link_local() && !is_gateway
        }
    }
}

/// One route as the kernel tells it.
struct Route {
    destination: IpNet,
    protocol: u8,
    kind: u8,
    link: Option<u32>,
    source: Option<IpAddr>,
}

impl Route {
    /// `None`: a family that is of no interest, or nonsense.
    fn parse(payload: &[u8]) -> Option<Self> {
        // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags.
        let &[family, length, _, _, _, protocol, _, kind, ..] = payload else { return None };
        // The default route's destination is not said.
        let mut address = match i32::from(family) {
            libc::AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            libc::AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => return None,
        };
        let is_ipv4 = address.is_ipv4();
        let parse = |value: &[u8]| -> Option<IpAddr> {
            Some(if is_ipv4 {
                Ipv4Addr::from(*value.first_chunk::<4>()?).into()
            } else {
                Ipv6Addr::from(*value.first_chunk::<16>()?).into()
            })
        };
        let (mut link, mut source) = (None, None);
        for (kind, value) in attributes(payload, ROUTE_HEADER) {
            match kind {
                RTA_DST => address = parse(value)?,
                RTA_OIF => link = value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes)),
                RTA_PREFSRC => source = parse(value),
                _ => {}
            }
        }
        let destination = IpNet::new(address, length).ok()?;
        Some(Self { destination, protocol, kind, link, source })
    }
}

/// Reads the host's routing tables, both families at once.
pub(crate) fn host_network(socket: &mut Socket) -> Result<HostNetwork, NetworkError> {
    let mut network = HostNetwork::default();
    // Of any family.
    let request = [0; ROUTE_HEADER];
    socket.dump("read the routes", RTM_GETROUTE, DUMP, &request, |kind, payload| {
        if kind == RTM_NEWROUTE
            && let Some(route) = Route::parse(payload)
        {
            network.add(route);
        }
    })?;
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(destination: &str, kind: u8, link: u32, source: Option<&str>) -> Route {
        let destination = destination.parse().unwrap();
        let source = source.map(|source| source.parse().unwrap());
        Route { destination, protocol: 2, kind, link: Some(link), source }
    }

    #[test]
    fn the_hosts_address_is_that_of_its_way_out() {
        let mut network = HostNetwork::default();
        assert_eq!(network.addresses(), Vec::<IpAddr>::new());
        for local in
            ["127.0.0.1/32", "169.254.1.1/32", "172.17.0.1/32", "192.0.2.5/32", "::1/128", "fe80::1/128"]
        {
            let link = if local.starts_with("192") { 2 } else { 3 };
            network.add(route(local, ROUTE_LOCAL, link, None));
        }
        assert!(network.can_answer("10.0.0.1".parse().unwrap()));
        assert!(!network.can_answer("fd00::1".parse().unwrap()));
        assert_eq!(network.addresses(), ["172.17.0.1".parse::<IpAddr>().unwrap()]);
        network.add(route("0.0.0.0/0", 1, 2, None));
        assert_eq!(network.addresses(), ["192.0.2.5".parse::<IpAddr>().unwrap()]);
        network.add(route("2001:db8::7/128", ROUTE_LOCAL, 9, None));
        network.add(route("::/0", 1, 2, Some("2001:db8::8")));
        let both: [IpAddr; 2] = ["192.0.2.5".parse().unwrap(), "2001:db8::8".parse().unwrap()];
        assert_eq!(network.addresses(), both);
        assert_eq!(network.uplink(), Some(2));
    }

    #[test]
    fn a_gateway_on_another_pods_link_is_no_address_to_answer_to() {
        let mut network = HostNetwork::default();
        network.add(route("fd70:6561:706f:64::a9fe:101/128", ROUTE_LOCAL, 4, None));
        assert!(!network.can_answer("fd70::1".parse().unwrap()));
    }

    #[test]
    fn nonsense_is_no_route() {
        for payload in [&[][..], &[2; 4], &[128; 12], &[2, 33, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
            assert!(Route::parse(payload).is_none(), "{payload:?}");
        }
    }
}
