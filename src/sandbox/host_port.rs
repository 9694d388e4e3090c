//! The host ports of a pod, held by sockets of this host as long as the pod's supervisor lives.
//!
//! ```text
//! PortMapping::of(pod) ─► HeldPorts::bind: a bound socket each ─► (network) rules that lead to the pod
//! ```
//!
//! A bound socket makes every conflict exact, per address and protocol, in both directions: another pod or a process
//! that has the port is found out before the pod exists, and whoever wants it later gets EADDRINUSE. It ends with its
//! supervisor, however that ends. Nothing ever arrives on it: packets are led to the pod before they reach it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt,
};
use thiserror::Error;

use crate::spec::{HostPort, NetworkMode, Pod, Protocol};

/// A port of the host that leads to one of the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortMapping {
    /// The host's side.
    pub host: HostPort,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The pod's side.
    pub pod_port: u16,
}

impl PortMapping {
    /// Those of a pod, each once; none on the host's network, where a container's port is the host's.
    pub fn of(pod: &Pod) -> Vec<Self> {
        let mut mappings = Vec::new();
        if pod.network == NetworkMode::Host {
            return mappings;
        }
        for port in pod.all_containers().flat_map(|container| &container.ports) {
            let mapping = port.host_port.map(|host| Self {
                host,
                protocol: port.protocol,
                pod_port: port.container_port,
            });
            mappings.extend(mapping.filter(|mapping| !mappings.contains(mapping)));
        }
        mappings
    }

    /// The addresses of the host that it is reached at; an unspecified one stands for all of its family.
    pub fn host_addresses(&self, has_ipv6: bool) -> Vec<IpAddr> {
        let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        match self.host.ip {
            Some(ip) => vec![ip],
            None => any[..if has_ipv6 { 2 } else { 1 }].to_vec(),
        }
    }
}

impl fmt::Display for PortMapping {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.ip {
            Some(ip) => write!(formatter, "{}", SocketAddr::new(ip, self.host.port))?,
            None => write!(formatter, "{}", self.host.port)?,
        }
        write!(formatter, "/{}", if self.protocol == Protocol::Tcp { "tcp" } else { "udp" })
    }
}

/// A host port that cannot be had.
#[derive(Debug, Error)]
pub enum HostPortError {
    /// Someone has it.
    #[error(
        "hostPort {0} is in use on this host, by another pod or by a process (ss -lntup shows the latter): \
         stop it, or choose another hostPort or hostIP"
    )]
    InUse(PortMapping),
    /// The address is another host's.
    #[error("hostPort {0}: hostIP is no address of this host")]
    NotLocal(PortMapping),
    /// The pod has no such address.
    #[error("hostPort {0}: hostIP is an IPv6 address, and pods of this host have none")]
    NoIpv6(PortMapping),
    /// The kernel refuses otherwise.
    #[error("cannot take hostPort {mapping}: {errno}")]
    Refused {
        /// Which.
        mapping: PortMapping,
        /// Why.
        errno: Errno,
    },
}

/// Sockets that keep host ports from everyone else.
#[derive(Debug, Default)]
pub(super) struct HeldPorts(Vec<OwnedFd>);

impl HeldPorts {
    /// Takes all of `mappings`, or none.
    pub(super) fn bind(mappings: &[PortMapping], has_ipv6: bool) -> Result<Self, HostPortError> {
        let mut sockets = Vec::new();
        for mapping in mappings {
            if mapping.host.ip.is_some_and(|ip| ip.is_ipv6()) && !has_ipv6 {
                return Err(HostPortError::NoIpv6(*mapping));
            }
            for address in mapping.host_addresses(has_ipv6) {
                let address = SocketAddr::new(address, mapping.host.port);
                sockets.push(hold(address, mapping.protocol).map_err(|errno| match errno {
                    Errno::EADDRINUSE => HostPortError::InUse(*mapping),
                    Errno::EADDRNOTAVAIL => HostPortError::NotLocal(*mapping),
                    errno => HostPortError::Refused { mapping: *mapping, errno },
                })?);
            }
        }
        Ok(Self(sockets))
    }

    /// The sockets: a forked child closes its copies.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.0.iter().map(AsRawFd::as_raw_fd)
    }
}

/// A socket that has the port, and does nothing with it.
fn hold(address: SocketAddr, protocol: Protocol) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let kind = if protocol == Protocol::Tcp { SockType::Stream } else { SockType::Datagram };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    // The least that there is: what is not led to the pod, such as datagrams of a connection that is older than the
    // pod, is to be dropped, and nobody reads it.
    setsockopt(&socket, sockopt::RcvBuf, &0)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(ip: Option<&str>, port: u16, protocol: Protocol) -> PortMapping {
        let host = HostPort { port, ip: ip.map(|ip| ip.parse().unwrap()) };
        PortMapping { host, protocol, pod_port: 80 }
    }

    #[test]
    fn mappings_are_shown_as_addresses() {
        assert_eq!(mapping(None, 8080, Protocol::Tcp).to_string(), "8080/tcp");
        assert_eq!(mapping(Some("127.0.0.1"), 53, Protocol::Udp).to_string(), "127.0.0.1:53/udp");
        assert_eq!(mapping(Some("::1"), 53, Protocol::Udp).to_string(), "[::1]:53/udp");
    }

    #[test]
    fn a_port_is_held_per_address_and_protocol() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        let taken = mapping(Some("127.0.0.1"), port, Protocol::Tcp);
        assert!(
            matches!(HeldPorts::bind(&[taken], true), Err(HostPortError::InUse(found)) if found == taken)
        );
        assert!(HeldPorts::bind(&[mapping(Some("127.0.0.2"), port, Protocol::Tcp)], true).is_ok());
        let wildcard = HeldPorts::bind(&[mapping(None, port, Protocol::Tcp)], true);
        assert!(matches!(wildcard, Err(HostPortError::InUse(_))));
        drop(free);
        let held = HeldPorts::bind(&[taken], true).unwrap();
        assert!(std::net::TcpListener::bind(("127.0.0.1", port)).is_err());
        assert_eq!(held.descriptors().count(), 1);
        drop(held);
        let elsewhere = mapping(Some("192.0.2.77"), port, Protocol::Udp);
        assert!(matches!(HeldPorts::bind(&[elsewhere], true), Err(HostPortError::NotLocal(_))));
        let v6 = mapping(Some("::1"), port, Protocol::Udp);
        assert!(matches!(HeldPorts::bind(&[v6], false), Err(HostPortError::NoIpv6(_))));
    }
}
