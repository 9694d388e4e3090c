//! Addresses of both families.

use wasip3::sockets::types::{IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress};

pub fn v4(address: (u8, u8, u8, u8), port: u16) -> IpSocketAddress {
    IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address })
}

pub fn v6(address: (u16, u16, u16, u16, u16, u16, u16, u16), port: u16) -> IpSocketAddress {
    IpSocketAddress::Ipv6(Ipv6SocketAddress { port, address, flow_info: 0, scope_id: 0 })
}

/// 127.0.0.1 or ::1.
pub fn loopback(family: IpAddressFamily, port: u16) -> IpSocketAddress {
    match family {
        IpAddressFamily::Ipv4 => v4((127, 0, 0, 1), port),
        IpAddressFamily::Ipv6 => v6((0, 0, 0, 0, 0, 0, 0, 1), port),
    }
}

/// 0.0.0.0 or ::.
pub fn wildcard(family: IpAddressFamily, port: u16) -> IpSocketAddress {
    match family {
        IpAddressFamily::Ipv4 => v4((0, 0, 0, 0), port),
        IpAddressFamily::Ipv6 => v6((0, 0, 0, 0, 0, 0, 0, 0), port),
    }
}

/// For documentation, so nobody's (RFC 5737, RFC 3849).
pub fn foreign(family: IpAddressFamily) -> IpSocketAddress {
    match family {
        IpAddressFamily::Ipv4 => v4((192, 0, 2, 1), 0),
        IpAddressFamily::Ipv6 => v6((0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 0),
    }
}

/// An address of the other family, and those that are no host's.
pub fn unusable(family: IpAddressFamily, port: u16) -> Vec<IpSocketAddress> {
    match family {
        IpAddressFamily::Ipv4 => vec![
            loopback(IpAddressFamily::Ipv6, port),
            v4((224, 0, 0, 1), port),
            v4((239, 255, 255, 255), port),
            v4((255, 255, 255, 255), port),
        ],
        IpAddressFamily::Ipv6 => vec![
            loopback(IpAddressFamily::Ipv4, port),
            v6((0xff02, 0, 0, 0, 0, 0, 0, 1), port),
            // An IPv4-mapped one: IPV6_V6ONLY is always on.
            v6((0, 0, 0, 0, 0, 0xffff, 0x7f00, 1), port),
        ],
    }
}

pub fn port(address: &IpSocketAddress) -> u16 {
    match address {
        IpSocketAddress::Ipv4(address) => address.port,
        IpSocketAddress::Ipv6(address) => address.port,
    }
}
