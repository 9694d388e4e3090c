//! Which network the pods get: the wanted one, or one that the host does not route elsewhere. Pure.

use ipnet::Ipv4Net;

use super::ROUTE_PROTOCOL;

/// A route of the host, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostRoute {
    /// Where it leads.
    pub destination: Ipv4Net,
    /// Who made it: [`ROUTE_PROTOCOL`] or another number.
    pub protocol: u8,
}

impl HostRoute {
    /// Whether it leads to one of peapod's pods.
    pub fn is_own(&self) -> bool {
        self.protocol == ROUTE_PROTOCOL && self.destination.prefix_len() == 32
    }
}

/// The network for the pods, and a message when it is not the wanted one. The default route and the routes to
/// pods do not count.
pub fn choose_cidr(wanted: Ipv4Net, routes: &[HostRoute]) -> (Ipv4Net, Option<String>) {
    let conflict = |network: &Ipv4Net| {
        let others = routes.iter().filter(|route| !route.is_own() && route.destination.prefix_len() > 0);
        others.map(|route| route.destination).find(|other| overlap(other, network))
    };
    let Some(other) = conflict(&wanted) else { return (wanted, None) };
    let free = alternatives().find(|network| conflict(network).is_none());
    let message = match free {
        Some(free) => {
            format!("pods get addresses from {free}: this host routes {other}, which overlaps {wanted}")
        }
        None => format!("this host routes {other}, which overlaps the pods' {wanted}; choose a --pod-cidr"),
    };
    (free.unwrap_or(wanted), Some(message))
}

/// 10.202.0.0/16 to 10.254.0.0/16, then 172.16.0.0/16 to 172.31.0.0/16 (RFC 1918).
fn alternatives() -> impl Iterator<Item = Ipv4Net> {
    let first = (202..=254).map(|second| [10, second, 0, 0]);
    let then = (16..=31).map(|second| [172, second, 0, 0]);
    first.chain(then).map(|address| Ipv4Net::new_assert(address.into(), 16))
}

fn overlap(one: &Ipv4Net, other: &Ipv4Net) -> bool {
    one.contains(other) || other.contains(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(destination: &str, protocol: u8) -> HostRoute {
        HostRoute { destination: destination.parse().unwrap(), protocol }
    }

    fn choose(routes: &[HostRoute]) -> (String, Option<String>) {
        let (network, message) = choose_cidr("10.201.0.0/16".parse().unwrap(), routes);
        (network.to_string(), message)
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
}
