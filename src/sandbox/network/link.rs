//! Links, addresses and routes: the messages and the two batches, one for each end of the link.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use netlink_packet_core::Emitable;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;

use super::{GATEWAY, HostRoute, NetworkError, POD_LINK, ROUTE_PROTOCOL};
use crate::sys::netlink::{ACK, Batch, CREATE, DUMP, EXCLUSIVE, Socket, Waited, attributes};

/// A link-layer address.
pub type Mac = [u8; 6];

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
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
/// Length of `struct ifinfomsg`, bytes.
const LINK_HEADER: usize = 16;
/// Length of `struct rtmsg`, bytes.
const ROUTE_HEADER: usize = 12;
const IFLA_MTU: u16 = 4;
const IFLA_OPERSTATE: u16 = 16;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
/// `RTN_LOCAL`.
const ROUTE_LOCAL: u8 = 2;
/// `IF_OPER_UP` (RFC 2863 by way of linux/if.h).
const OPERATIONAL: u8 = 6;

/// What the host's routing tables say.
#[derive(Debug, Default)]
pub(crate) struct HostNetwork {
    /// Every IPv4 route.
    pub(crate) routes: Vec<HostRoute>,
    /// Whether the host has an address that a pod can answer to.
    pub(crate) has_address: bool,
    /// The index of the link that the default route leaves by.
    pub(crate) uplink: Option<u32>,
}

impl HostNetwork {
    /// The addresses that a route of their own leads to: a pod's, perhaps one of another set of directories.
    pub(crate) fn taken(&self) -> HashSet<Ipv4Addr> {
        let own = self.routes.iter().filter(|route| route.destination.prefix_len() == 32);
        own.map(|route| route.destination.addr()).collect()
    }
}

/// Reads the host's routing tables.
pub(crate) fn host_network(socket: &mut Socket) -> Result<HostNetwork, NetworkError> {
    let mut network = HostNetwork::default();
    let mut request = [0; ROUTE_HEADER];
    request[0] = libc::AF_INET as u8;
    socket.dump("read the routes", RTM_GETROUTE, DUMP, &request, |kind, payload| {
        // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags.
        let &[_, length, _, _, _, protocol, _, route_type, ..] = payload else { return };
        if kind != RTM_NEWROUTE {
            return;
        }
        let destination = attributes(payload, ROUTE_HEADER)
            .find(|(kind, _)| *kind == RTA_DST)
            .and_then(|(_, value)| value.first_chunk::<4>())
            .map_or(Ipv4Addr::UNSPECIFIED, |bytes| Ipv4Addr::from(*bytes));
        if length == 0 && network.uplink.is_none() {
            let mut links = attributes(payload, ROUTE_HEADER).filter(|(kind, _)| *kind == RTA_OIF);
            network.uplink = links.next().and_then(|(_, value)| number(value));
        }
        if let Ok(destination) = Ipv4Net::new(destination, length) {
            network.routes.push(HostRoute { destination, protocol });
        }
        if route_type == ROUTE_LOCAL && !destination.is_loopback() && !destination.is_link_local() {
            network.has_address = true;
        }
    })?;
    Ok(network)
}

/// Makes the link between the host and the network namespace of process `pid`; `mtu` is that of the host's way
/// out, lest packets be too large for it. The host's end is up, the pod's has to be brought up inside. Returns the
/// host's index.
pub(crate) fn create_pair(
    socket: &mut Socket,
    name: &str,
    pod_mac: Mac,
    pid: i32,
    mtu: Option<u32>,
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
    host.header.flags = LinkFlags::Up;
    host.header.change_mask = LinkFlags::Up;
    host.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    let mut batch = Batch::default();
    batch.push("make the pod's link", &RouteNetlinkMessage::NewLink(host), CREATE | EXCLUSIVE);
    socket.execute(&batch)?;
    index_of(name)
}

/// The kernel takes a wish for an index of the pod's end only together with one for the host's, which might be
/// another link's.
fn index_of(name: &str) -> Result<u32, NetworkError> {
    if_nametoindex(name)
        .map_err(|errno| NetworkError::File { action: format!("find link {name}"), source: errno.into() })
}

impl HostNetwork {
    /// The host's side of a pod: where its address is.
    ///
    /// # Errors
    /// [`NetworkError::is_taken`] when the host has a route for `address` already.
    pub(crate) fn configure_host(
        &self,
        socket: &mut Socket,
        index: u32,
        address: Ipv4Addr,
        pod_mac: Mac,
    ) -> Result<(), NetworkError> {
        let mut batch = Batch::default();
        batch.push(
            "route the pod's address",
            &route(Ipv4Net::from(address), None, index),
            CREATE | EXCLUSIVE,
        );
        batch.push("name the pod's link-layer address", &neighbour(address, pod_mac, index), CREATE);
        if !self.has_address {
            // Otherwise the host would have no address to speak from.
            batch.push("give the host an address", &own_address(GATEWAY, index), CREATE);
        }
        Ok(socket.execute(&batch)?)
    }
}

/// In the pod: `lo` up; with a link, its address, a default route, and the link operational.
pub(crate) fn configure_pod(socket: &mut Socket, address: Option<Ipv4Addr>) -> Result<(), NetworkError> {
    let mut batch = Batch::default();
    batch.push("bring lo up", &up(LOOPBACK_INDEX), 0);
    let Some(address) = address else { return Ok(socket.execute(&batch)?) };
    let index = index_of(POD_LINK)?;
    batch.push("set the pod's address", &own_address(address, index), CREATE);
    batch.push("bring eth0 up", &up(index), 0);
    batch.push("name the gateway's link-layer address", &neighbour(GATEWAY, HOST_MAC, index), CREATE);
    let default = Ipv4Net::default();
    batch.push("set the default route", &route(default, Some(GATEWAY), index), CREATE);
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

fn up(index: u32) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    RouteNetlinkMessage::SetLink(message)
}

fn own_address(address: Ipv4Addr, index: u32) -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = 32;
    message.header.scope = AddressScope::Universe;
    message.header.index = index;
    message.attributes =
        vec![AddressAttribute::Local(IpAddr::V4(address)), AddressAttribute::Address(IpAddr::V4(address))];
    RouteNetlinkMessage::NewAddress(message)
}

fn neighbour(address: Ipv4Addr, mac: Mac, index: u32) -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![
        NeighbourAttribute::Destination(address.into()),
        NeighbourAttribute::LinkLayerAddress(mac.into()),
    ];
    RouteNetlinkMessage::NewNeighbour(message)
}

/// A route by way of link `index`: to `gateway` without asking whether the link's address contains it, or else
/// straight.
fn route(destination: Ipv4Net, gateway: Option<Ipv4Addr>, index: u32) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: AddressFamily::Inet,
        destination_prefix_length: destination.prefix_len(),
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::from(ROUTE_PROTOCOL),
        scope: if gateway.is_some() { RouteScope::Universe } else { RouteScope::Link },
        kind: RouteType::Unicast,
        flags: if gateway.is_some() { RouteFlags::Onlink } else { RouteFlags::empty() },
        ..RouteHeader::default()
    };
    message.attributes = vec![RouteAttribute::Oif(index)];
    if destination.prefix_len() > 0 {
        message.attributes.push(RouteAttribute::Destination(destination.addr().into()));
    }
    if let Some(gateway) = gateway {
        message.attributes.push(RouteAttribute::Gateway(gateway.into()));
    }
    RouteNetlinkMessage::NewRoute(message)
}
