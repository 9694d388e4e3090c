//! What addresses are, as pure predicates: to Linux, and to the WIT of `wasi:sockets`, which allows fewer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Error, Result};

/// IPv4 or IPv6. An IPv6 socket never carries IPv4 (IPV6_V6ONLY is always on, as the WIT says).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// AF_INET.
    V4,
    /// AF_INET6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The wildcard address of the family, with port 0.
    pub fn unspecified(self) -> SocketAddr {
        let ip = match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        SocketAddr::new(ip, 0)
    }

    /// Whether a socket of this family may carry the address. IPv4-mapped and the long deprecated
    /// IPv4-compatible IPv6 addresses belong to neither family.
    fn carries(self, ip: IpAddr) -> bool {
        match (self, ip) {
            (Self::V4, IpAddr::V4(_)) => true,
            (Self::V6, IpAddr::V6(v6)) => v6.to_ipv4_mapped().is_none() && !is_ipv4_compatible(v6),
            _ => false,
        }
    }
}

fn is_ipv4_compatible(ip: Ipv6Addr) -> bool {
    matches!(ip.segments(), [0, 0, 0, 0, 0, 0, _, _]) && !ip.is_unspecified() && !ip.is_loopback()
}

/// Whether the address is multicast or broadcast: nobody's own.
pub(super) fn is_group(ip: IpAddr) -> bool {
    !is_unicast(ip) || ip == IpAddr::V4(LOOPBACK_BROADCAST)
}

/// The broadcast address of the loopback network 127.0.0.0/8.
const LOOPBACK_BROADCAST: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 255);

fn is_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => !v4.is_multicast() && !v4.is_broadcast(),
        IpAddr::V6(v6) => !v6.is_multicast(),
    }
}

/// Whether the address is one of loopback's hosts. Its broadcast address, and what some kernels take for
/// another, are left to the kernel.
pub(super) fn is_loopback_host(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_loopback() && !matches!(v4.octets(), [_, 0, 0, 0] | [_, 255, 255, 255]),
        IpAddr::V6(v6) => v6.is_loopback(),
    }
}

/// The local address from which Linux reaches one of the pod's own: 127.0.0.1 for all of 127.0.0.0/8,
/// otherwise the address itself.
pub(super) fn source_of(own: IpAddr) -> IpAddr {
    match own {
        IpAddr::V4(v4) if v4.is_loopback() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip => ip,
    }
}

fn ensure(valid: bool) -> Result<()> {
    if valid { Ok(()) } else { Err(Error::InvalidArgument) }
}

/// May a TCP socket be bound to the address?
pub(super) fn check_tcp_bind(family: Family, addr: SocketAddr) -> Result<()> {
    ensure(family.carries(addr.ip()) && is_unicast(addr.ip()))
}

/// May a TCP socket connect to the address? Wildcard addresses and port 0 are errors in WASI.
pub(super) fn check_tcp_remote(family: Family, addr: SocketAddr) -> Result<()> {
    check_udp_remote(family, addr)?;
    ensure(is_unicast(addr.ip()))
}

/// May a UDP socket be bound to the address?
pub(super) fn check_udp_bind(family: Family, addr: SocketAddr) -> Result<()> {
    ensure(family.carries(addr.ip()))
}

/// May a UDP socket send to the address?
pub(super) fn check_udp_remote(family: Family, addr: SocketAddr) -> Result<()> {
    ensure(family.carries(addr.ip()) && !addr.ip().is_unspecified() && addr.port() != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(s: &str) -> SocketAddr {
        s.parse().expect(s)
    }

    #[test]
    fn remote_addresses() {
        for (family, text, valid) in [
            (Family::V4, "127.0.0.1:1", true),
            (Family::V4, "127.0.0.1:0", false),
            (Family::V4, "0.0.0.0:1", false),
            (Family::V4, "[::1]:1", false),
            (Family::V4, "224.0.0.1:1", false),
            (Family::V4, "255.255.255.255:1", false),
            (Family::V6, "[::1]:1", true),
            (Family::V6, "[2001:db8::1]:1", true),
            (Family::V6, "[::]:1", false),
            (Family::V6, "[::ffff:127.0.0.1]:1", false),
            (Family::V6, "[::10.0.0.1]:1", false),
            (Family::V6, "[ff02::1]:1", false),
            (Family::V6, "127.0.0.1:1", false),
        ] {
            assert_eq!(check_tcp_remote(family, addr(text)).is_ok(), valid, "{family:?} {text}");
        }
    }

    #[test]
    fn bind_addresses() {
        assert!(check_tcp_bind(Family::V4, addr("0.0.0.0:0")).is_ok());
        assert!(check_tcp_bind(Family::V6, addr("[::]:0")).is_ok());
        assert_eq!(check_tcp_bind(Family::V4, addr("224.0.0.1:0")), Err(Error::InvalidArgument));
        assert!(check_udp_bind(Family::V4, addr("224.0.0.1:0")).is_ok());
        assert_eq!(check_udp_bind(Family::V6, addr("[::ffff:1.2.3.4]:0")), Err(Error::InvalidArgument));
    }
}
