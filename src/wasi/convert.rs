//! Address types: the same shapes in both versions of `wasi:sockets`, but different Rust types.

/// Converts between std's addresses and those of the generated module `$types`.
macro_rules! address_conversions {
    ($types:path) => {
        const _: () = {
            use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

            use $types as types;

            use crate::net::Family;

            fn v4((a, b, c, d): types::Ipv4Address) -> Ipv4Addr {
                Ipv4Addr::new(a, b, c, d)
            }

            fn v6((a, b, c, d, e, f, g, h): types::Ipv6Address) -> Ipv6Addr {
                Ipv6Addr::new(a, b, c, d, e, f, g, h)
            }

            impl From<IpAddr> for types::IpAddress {
                fn from(ip: IpAddr) -> Self {
                    match ip {
                        IpAddr::V4(ip) => Self::Ipv4(ip.octets().into()),
                        IpAddr::V6(ip) => Self::Ipv6(ip.segments().into()),
                    }
                }
            }

            impl From<types::IpSocketAddress> for SocketAddr {
                fn from(addr: types::IpSocketAddress) -> Self {
                    match addr {
                        types::IpSocketAddress::Ipv4(a) => SocketAddrV4::new(v4(a.address), a.port).into(),
                        types::IpSocketAddress::Ipv6(a) => {
                            SocketAddrV6::new(v6(a.address), a.port, a.flow_info, a.scope_id).into()
                        }
                    }
                }
            }

            impl From<SocketAddr> for types::IpSocketAddress {
                fn from(addr: SocketAddr) -> Self {
                    match addr {
                        SocketAddr::V4(a) => Self::Ipv4(types::Ipv4SocketAddress {
                            port: a.port(),
                            address: a.ip().octets().into(),
                        }),
                        SocketAddr::V6(a) => Self::Ipv6(types::Ipv6SocketAddress {
                            port: a.port(),
                            flow_info: a.flowinfo(),
                            address: a.ip().segments().into(),
                            scope_id: a.scope_id(),
                        }),
                    }
                }
            }

            impl From<types::IpAddressFamily> for Family {
                fn from(family: types::IpAddressFamily) -> Self {
                    match family {
                        types::IpAddressFamily::Ipv4 => Self::V4,
                        types::IpAddressFamily::Ipv6 => Self::V6,
                    }
                }
            }

            impl From<Family> for types::IpAddressFamily {
                fn from(family: Family) -> Self {
                    match family {
                        Family::V4 => Self::Ipv4,
                        Family::V6 => Self::Ipv6,
                    }
                }
            }
        };
    };
}

pub(super) use address_conversions;
