//! The link between the host and a pod: its making, a batch for each of its ends, its end.
//!
//! Neither end ever says anything by itself: no ARP (`IFF_NOARP` and permanent neighbours), no IPv6 link-local address
//! and hence no router solicitation, no duplicate address detection, no multicast listener reports.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use netlink_packet_core::Emitable;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;

use super::messages::{Mac, neighbour, no_link_local_address, push_own_address, route, up};
use super::{HostNetwork, NetworkError, POD_LINK, gateway_of};
use crate::sys::netlink::{ACK, Batch, CREATE, EXCLUSIVE, Socket, Waited, attributes};

/// The host's end of every pod's link: each is alone on its link, so they may all be the same.
const HOST_MAC: Mac = [0x02, 0x70, 0x65, 0x61, 0x00, 0x01];
/// The index of `lo`, which the kernel makes first.
const LOOPBACK_INDEX: u32 = 1;
/// What a link carries unless told otherwise, bytes: Ethernet's.
const MTU_DEFAULT: u32 = 1500;
/// What every IPv6 link has to carry (RFC 8200 section 5), bytes: nothing less is believed.
const MTU_MIN: u32 = 1280;
/// How long a link may take to become operational; it takes microseconds.
const UP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the end of a network namespace may take to remove its links: 20 to 40 ms, more when many end.
const GONE_TIMEOUT: Duration = Duration::from_secs(2);

const RTM_GETLINK: u16 = 18;
/// Length of `struct ifinfomsg`, bytes.
const LINK_HEADER: usize = 16;
const IFLA_MTU: u16 = 4;
const IFLA_OPERSTATE: u16 = 16;
/// `IF_OPER_UP` (RFC 2863 by way of linux/if.h).
const OPERATIONAL: u8 = 6;

/// Makes the link between the host and the network namespace of process `pid`; `mtu` is that of the host's way
/// out, lest packets be too large for it. The host's end is up, the pod's has to be brought up inside. Returns the
/// host's index.
pub(crate) fn create_pair(
    socket: &mut Socket,
    name: &str,
    pod_mac: Mac,
    pid: i32,
    mtu: Option<u32>,
    has_ipv6: bool,
) -> Result<u32, NetworkError> {
    let end = |name: &str, mac: Mac| {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.into()),
            LinkAttribute::Address(mac.into()),
            // By default a queue for each CPU.
            LinkAttribute::NumTxQueues(1),
            LinkAttribute::NumRxQueues(1),
        ];
        let mtu = mtu.filter(|mtu| (MTU_MIN..MTU_DEFAULT).contains(mtu));
        message.attributes.extend(mtu.map(LinkAttribute::Mtu));
        message
    };
    let mut peer = end(POD_LINK, pod_mac);
    peer.attributes.push(LinkAttribute::NetNsPid(pid as u32));
    let mut host = end(name, HOST_MAC);
    host.header.flags = LinkFlags::Up | LinkFlags::Noarp;
    host.header.change_mask = host.header.flags;
    host.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    let mut batch = Batch::default();
    batch.push("make the pod's link", &RouteNetlinkMessage::NewLink(host), CREATE | EXCLUSIVE);
    if has_ipv6 {
        // Not taken from the message that makes the link. In time: the link has no carrier yet.
        let mut message = no_link_local_address(0);
        message.attributes.push(LinkAttribute::IfName(name.into()));
        batch.push("keep the pod's link quiet", &RouteNetlinkMessage::SetLink(message), 0);
    }
    socket.execute(&batch)?;
    index_of(name)
}

/// The kernel takes a wish for an index of the pod's end only together with one for the host's, which might be
/// another link's.
fn index_of(name: &str) -> Result<u32, NetworkError> {
    if_nametoindex(name)
        .map_err(|errno| NetworkError::File { action: format!("find link {name}"), source: errno.into() })
}

/// The host's side of a pod: where its addresses are.
///
/// # Errors
/// [`NetworkError::is_taken`] when the host has a route for one of them already; then it has none of these.
pub(crate) fn configure_host(
    host: &HostNetwork,
    socket: &mut Socket,
    index: u32,
    addresses: &[IpAddr],
    pod_mac: Mac,
) -> Result<(), NetworkError> {
    let mut batch = Batch::default();
    for &address in addresses {
        let to_pod = RouteNetlinkMessage::NewRoute(route(Some(address), None, index));
        batch.push("route the pod's address", &to_pod, CREATE | EXCLUSIVE);
        batch.push("name the pod's link-layer address", &neighbour(address, pod_mac, index), CREATE);
        if !host.can_answer(address) {
            // Otherwise the host would have no address to speak from.
            push_own_address(&mut batch, "give the host an address", gateway_of(address), index);
        }
    }
    let configured = socket.execute(&batch).map_err(NetworkError::from);
    if configured.as_ref().is_err_and(NetworkError::is_taken) {
        // The kernel goes on after a request that it refuses. The routes by way of other links are others'.
        let mut batch = Batch::default();
        for &address in addresses {
            let to_pod = RouteNetlinkMessage::DelRoute(route(Some(address), None, index));
            batch.push("withdraw a route", &to_pod, 0);
        }
        // The one that was refused is not there.
        let _ = socket.execute(&batch);
    }
    configured
}

/// In the pod: `lo` up; with a link, its addresses, default routes, and the link operational.
pub(crate) fn configure_pod(socket: &mut Socket, addresses: &[IpAddr]) -> Result<(), NetworkError> {
    let mut batch = Batch::default();
    batch.push("bring lo up", &up(LOOPBACK_INDEX, LinkFlags::empty()), 0);
    if addresses.is_empty() {
        return Ok(socket.execute(&batch)?);
    }
    let index = index_of(POD_LINK)?;
    if addresses.iter().any(IpAddr::is_ipv6) {
        let quiet = RouteNetlinkMessage::SetLink(no_link_local_address(index));
        batch.push("keep eth0 quiet", &quiet, 0);
    }
    batch.push("bring eth0 up", &up(index, LinkFlags::Noarp), 0);
    for &address in addresses {
        let gateway = gateway_of(address);
        push_own_address(&mut batch, "set the pod's address", address, index);
        batch.push("name the gateway's link-layer address", &neighbour(gateway, HOST_MAC, index), CREATE);
        let default = RouteNetlinkMessage::NewRoute(route(None, Some(gateway), index));
        batch.push("set the default route", &default, CREATE);
    }
    socket.execute(&batch)?;
    wait_up(socket, index, None).map(drop)
}

/// Waits until the link can carry packets: until then the kernel drops them. The kernel's worker brings the two
/// ends up one after the other. `false`: `interrupt` became readable before.
pub(crate) fn wait_up(
    socket: &mut Socket,
    index: u32,
    interrupt: Option<BorrowedFd<'_>>,
) -> Result<bool, NetworkError> {
    if is_up(socket, index)? {
        return Ok(true);
    }
    let deadline = Instant::now() + UP_TIMEOUT;
    let mut events = Socket::link_events()?;
    loop {
        // Subscribed first, asked then: no change is missed.
        if is_up(socket, index)? {
            return Ok(true);
        }
        match events.wait_event(deadline, interrupt)? {
            Waited::Event => {}
            Waited::Interrupted => return Ok(false),
            Waited::TimedOut => return Err(NetworkError::NotUp(UP_TIMEOUT.as_secs())),
        }
    }
}

fn is_up(socket: &mut Socket, index: u32) -> Result<bool, NetworkError> {
    let state = link_attribute(socket, index, IFLA_OPERSTATE, |value| value.first().copied())?;
    Ok(state == Some(OPERATIONAL))
}

/// The largest packet that a link carries, bytes.
pub(crate) fn mtu(socket: &mut Socket, index: u32) -> Result<Option<u32>, NetworkError> {
    link_attribute(socket, index, IFLA_MTU, number)
}

fn link_attribute<T>(
    socket: &mut Socket,
    index: u32,
    wanted: u16,
    read: impl Fn(&[u8]) -> Option<T>,
) -> Result<Option<T>, NetworkError> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    let mut request = vec![0; message.buffer_len()];
    message.emit(&mut request);
    let mut found = None;
    socket.dump("look at a link", RTM_GETLINK, ACK, &request, |_, payload| {
        let mut matching = attributes(payload, LINK_HEADER).filter(|(kind, _)| *kind == wanted);
        found = matching.next().and_then(|(_, value)| read(value));
    })?;
    Ok(found)
}

fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// Waits until the end of its namespace has removed link `name`; deletes it when that takes too long.
pub(crate) fn wait_gone(name: &str) -> Result<(), NetworkError> {
    if if_nametoindex(name) == Err(Errno::ENODEV) {
        return Ok(());
    }
    let deadline = Instant::now() + GONE_TIMEOUT;
    let mut events = Socket::link_events()?;
    loop {
        match if_nametoindex(name) {
            Err(Errno::ENODEV) => return Ok(()),
            Ok(index) if events.wait_event(deadline, None)? == Waited::TimedOut => {
                let mut message = LinkMessage::default();
                message.header.index = index;
                let mut batch = Batch::default();
                batch.push("delete the pod's link", &RouteNetlinkMessage::DelLink(message), 0);
                return match Socket::route()?.execute(&batch) {
                    Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(()),
                    result => Ok(result?),
                };
            }
            Ok(_) => {}
            Err(errno) => {
                let action = format!("look for link {name}");
                return Err(NetworkError::File { action, source: errno.into() });
            }
        }
    }
}
