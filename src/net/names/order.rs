//! The order of addresses: what the pod can reach, first (RFC 6724, simplified to one source address for each family).

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::net::Family;

/// The discard port (RFC 863): nothing is sent to it.
const DISCARD: u16 = 9;

/// Sorts by what `source` says that this machine sends from: rules 1, 2, 5 and 6 of RFC 6724, section 6. What is
/// equal by them stays in the order it came in.
pub(super) fn sort(addresses: &mut [IpAddr], source: impl Fn(IpAddr) -> Option<IpAddr>) {
    let first = |family| addresses.iter().copied().find(|ip| Family::of(*ip) == family);
    let (Some(v4), Some(v6)) = (first(Family::V4), first(Family::V6)) else { return };
    let (from_v4, from_v6) = (source(v4), source(v6));
    addresses.sort_by_key(|destination| {
        let source = if destination.is_ipv4() { from_v4 } else { from_v6 };
        let differs = |of: fn(IpAddr) -> u8| source.is_some_and(|source| of(source) != of(*destination));
        (source.is_none(), differs(scope), differs(label), Reverse(precedence(*destination)))
    });
}

/// The address that the kernel would send from: its route, asked for without sending anything.
pub(super) fn source(destination: IpAddr) -> Option<IpAddr> {
    let family = if destination.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None).ok()?;
    rustix::net::connect(&socket, &SocketAddr::new(destination, DISCARD)).ok()?;
    let local = rustix::net::getsockname(&socket).ok()?;
    SocketAddr::try_from(local).ok().map(|local| local.ip())
}

/// RFC 6724, section 3.1 and 3.2, as far as unicast addresses go: 2 link-local, 5 site-local, 14 global.
fn scope(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(v4) if v4.is_loopback() || v4.is_link_local() => 2,
        IpAddr::V6(v6) if v6.is_loopback() || v6.is_unicast_link_local() => 2,
        IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfec0 => 5,
        _ => 14,
    }
}

/// The default policy table: prefix, its length, precedence, label (RFC 6724, section 2.1).
const POLICY: [(Ipv6Addr, u32, u8, u8); 9] = [
    (Ipv6Addr::LOCALHOST, 128, 50, 0),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, 35, 4),
    (Ipv6Addr::UNSPECIFIED, 96, 1, 3),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, 5, 5),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, 30, 2),
    (Ipv6Addr::new(0x3ffe, 0, 0, 0, 0, 0, 0, 0), 16, 1, 12),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, 1, 11),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, 3, 13),
    (Ipv6Addr::UNSPECIFIED, 0, 40, 1),
];

/// Precedence and label: of the longest prefix, which in the table come first.
fn policy(ip: IpAddr) -> (u8, u8) {
    let ip = match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let matches =
        |prefix: Ipv6Addr, length: u32| (u128::from(ip) ^ u128::from(prefix)).leading_zeros() >= length;
    let found = POLICY.iter().find(|(prefix, length, ..)| matches(*prefix, *length));
    found.map_or((40, 1), |(.., precedence, label)| (*precedence, *label))
}

fn precedence(ip: IpAddr) -> u8 {
    policy(ip).0
}

fn label(ip: IpAddr) -> u8 {
    policy(ip).1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sorted as from a pod with these addresses.
    fn sorted(addresses: &[&str], sources: &[&str]) -> Vec<String> {
        let parse = |text: &&str| text.parse::<IpAddr>().expect(text);
        let mut addresses: Vec<IpAddr> = addresses.iter().map(parse).collect();
        let sources: Vec<IpAddr> = sources.iter().map(parse).collect();
        sort(&mut addresses, |to| sources.iter().copied().find(|from| from.is_ipv4() == to.is_ipv4()));
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_can_be_reached_comes_first() {
        let both = ["2001:db8:1::1", "192.0.2.1", "2001:db8:1::2", "192.0.2.2"];
        let v4_first = ["192.0.2.1", "192.0.2.2", "2001:db8:1::1", "2001:db8:1::2"];
        let v6_first = ["2001:db8:1::1", "2001:db8:1::2", "192.0.2.1", "192.0.2.2"];
        assert_eq!(sorted(&both, &["10.0.0.2"]), v4_first);
        assert_eq!(sorted(&both, &["2001:db8::2"]), v6_first);
        assert_eq!(sorted(&both, &["10.0.0.2", "2001:db8::2"]), v6_first, "global on both sides");
        assert_eq!(sorted(&both, &["10.0.0.2", "fd00::2"]), v4_first, "a unique local address is behind NAT");
        assert_eq!(sorted(&both, &["10.0.0.2", "fe80::2"]), v4_first, "a link-local one leads nowhere");
        assert_eq!(sorted(&["fd00::9", "10.0.0.9"], &["10.0.0.2", "fd00::2"]), ["10.0.0.9", "fd00::9"]);
    }

    #[test]
    fn one_family_stays_as_it_is() {
        for list in [&["192.0.2.2", "192.0.2.1"][..], &["::2", "2001:db8::1"], &[]] {
            assert_eq!(sorted(list, &[]), list);
        }
    }

    #[test]
    fn the_policy_table_is_read_by_the_longest_prefix() {
        for (ip, expected) in [
            ("::1", (50, 0)),
            ("192.0.2.1", (35, 4)),
            ("2002::1", (30, 2)),
            ("2001::1", (5, 5)),
            ("2001:db8::1", (40, 1)),
            ("fd00::1", (3, 13)),
            ("::2", (1, 3)),
        ] {
            assert_eq!(policy(ip.parse().unwrap()), expected, "{ip}");
        }
    }

    #[test]
    fn the_kernel_is_asked_without_a_packet() {
        assert_eq!(source("127.0.0.1".parse().unwrap()), Some("127.0.0.1".parse().unwrap()));
    }
}
