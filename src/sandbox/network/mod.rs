//! A pod's network: a routed point-to-point link to the host, and the host's way on to the world.
//!
//! ```text
//!            pod's namespace              │ host's namespace
//!  address/32, address/128 ─ eth0 ════════╪════ pea<12 hex> ─ routes address/32 and /128, protocol 112
//!  default via 169.254.1.1 onlink         │                  nftables: table inet peapod, masquerade
//!  default via prefix::169.254.1.1 onlink │                  ip_forward = 1, force_forwarding = 1
//!  ephemeral ports 32768–49151            │
//! ```
//!
//! No bridge: it slows down with every port and ends at 1,024. Both ends know each other's MAC address from
//! the start, so nobody ever asks for it, and the pod's programs start only when the operational state of both
//! ends is up: a packet sent before that is lost, and its retransmission takes a second. The IPv6 address is the
//! leased IPv4 address behind a prefix; on a host that has IPv6 turned off a pod has none.

mod cidr;
mod forwarding;
mod host_port;
mod link;
mod masquerade;
mod messages;
mod routes;

use std::net::Ipv4Addr;

use nix::errno::Errno;
use sha2::{Digest, Sha256};
use thiserror::Error;

pub use cidr::{HostRoute, PREFIX_V6_MAX, PodNetworks, embed, gateway_of};
pub(super) use host_port::{forward, stop_forwarding};
pub(super) use link::{configure_host, configure_pod, create_pair, mtu, wait_gone, wait_up};
pub(super) use masquerade::{lock_host, masquerade, stop_when_unused};
pub(super) use messages::Mac;
pub(super) use routes::{HostNetwork, host_network};

use crate::sys::namespace::network_parameter;
use crate::sys::netlink::NetlinkError;

/// Every host end of a pod's link begins with this.
pub const LINK_PREFIX: &str = "pea";
/// The pod's end.
pub const POD_LINK: &str = "eth0";
/// The router that a pod sees: link-local, on no interface; a permanent neighbour answers for it.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The protocol number that marks peapod's host routes (rtnetlink(7); unassigned in iproute2's rt_protos).
pub const ROUTE_PROTOCOL: u8 = 112;
/// The kernel's ephemeral ports inside a pod. The memory plane's begin where these end.
pub const KERNEL_EPHEMERAL_PORTS: &str = "32768 49151";

/// The network cannot be made or removed.
#[derive(Debug, Error)]
pub enum NetworkError {
    /// The kernel refuses.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The link did not become operational.
    #[error("the pod's link did not come up within {0} seconds")]
    NotUp(u64),
    /// A file of the kernel or the lock.
    #[error("cannot {action}: {source}")]
    File {
        /// What failed.
        action: String,
        /// Why.
        source: std::io::Error,
    },
}

impl NetworkError {
    /// Whether the kernel says that the pod process has ended.
    pub(super) fn is_no_process(&self) -> bool {
        matches!(self, Self::Netlink(error) if error.errno() == Some(Errno::ESRCH))
    }

    /// Whether the kernel says that it exists already.
    pub(super) fn is_taken(&self) -> bool {
        matches!(self, Self::Netlink(error) if error.errno() == Some(Errno::EEXIST))
    }
}

/// The names that pod `uid` has in the network: link and MAC address.
pub(super) fn names(uid: &str) -> (String, Mac) {
    let digest = Sha256::digest(uid.as_bytes());
    // 3 + 12 of the kernel's 15 characters.
    let hex: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    // Locally administered, unicast.
    let mac = [0x02, digest[0], digest[1], digest[2], digest[3], digest[4]];
    (format!("{LINK_PREFIX}{hex}"), mac)
}

/// Whether new links of this host take part in IPv6: not without the kernel module, nor where it is turned off.
pub(super) fn has_ipv6() -> bool {
    network_parameter("ipv6/conf/default/disable_ipv6").is_ok_and(|value| value == "0")
}

/// This process's network namespace as a file.
pub(super) fn own_namespace() -> std::io::Result<std::fs::File> {
    std::fs::File::open("/proc/self/ns/net")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel_and_differ() {
        let (link, mac) = names("8b1c7d0e-0000-4000-8000-000000000000");
        assert_eq!(link.len(), 15);
        assert!(link.starts_with(LINK_PREFIX));
        assert_eq!(mac[0] & 3, 2, "unicast and locally administered");
        assert_ne!(names("other"), (link, mac));
    }
}
