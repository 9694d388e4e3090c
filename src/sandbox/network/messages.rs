//! The netlink messages that both ends of a pod's link take.

use std::net::IpAddr;

use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkFlags, LinkMessage,
};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::ROUTE_PROTOCOL;
use crate::sys::netlink::{Batch, CREATE};

/// `RT_TABLE_LOCAL`.
pub(super) const LOCAL_TABLE: u8 = 255;

/// A link-layer address.
pub type Mac = [u8; 6];

/// Brings link `index` up, with these flags too.
pub(super) fn up(index: u32, flags: LinkFlags) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up | flags;
    message.header.change_mask = message.header.flags;
    RouteNetlinkMessage::SetLink(message)
}

/// Keeps the kernel from giving link `index` a link-local IPv6 address: one that it makes takes part in duplicate
/// address detection, router solicitation and multicast.
pub(super) fn no_link_local_address(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    message.attributes = vec![LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])])];
    message
}

/// Gives link `index` an address that is alone in its network, and that works at once.
pub(super) fn push_own_address(batch: &mut Batch, step: &'static str, address: IpAddr, index: u32) {
    batch.push(step, &own_address(address, index), CREATE);
    if address.is_ipv6() {
        // The kernel's own route comes later, from a worker (addrconf_dad_work): until then it would not know the
        // address in packets that arrive.
        let mut message = route(Some(address), None, index);
        message.header.kind = RouteType::Local;
        message.header.table = LOCAL_TABLE;
        batch.push(step, &RouteNetlinkMessage::NewRoute(message), CREATE);
    }
}

fn own_address(address: IpAddr, index: u32) -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address.is_ipv4());
    message.header.prefix_len = length(address.is_ipv4());
    message.header.scope = AddressScope::Universe;
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    if address.is_ipv6() {
        // Nobody else on the link could have it: usable at once, without duplicate address detection. No route to
        // itself, which IPv4 has not either.
        let flags = AddressFlags::Nodad | AddressFlags::Noprefixroute;
        message.attributes.push(AddressAttribute::Flags(flags));
    }
    RouteNetlinkMessage::NewAddress(message)
}

/// Names the link-layer address of `address` for good.
pub(super) fn neighbour(address: IpAddr, mac: Mac, index: u32) -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address.is_ipv4());
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![
        NeighbourAttribute::Destination(address.into()),
        NeighbourAttribute::LinkLayerAddress(mac.into()),
    ];
    RouteNetlinkMessage::NewNeighbour(message)
}

/// A route to `destination`, or the default route, by way of link `index`: to `gateway` without asking whether the
/// link's address contains it, or else straight.
pub(super) fn route(destination: Option<IpAddr>, gateway: Option<IpAddr>, index: u32) -> RouteMessage {
    let is_ipv4 = destination.or(gateway).is_none_or(|address| address.is_ipv4());
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(is_ipv4),
        destination_prefix_length: destination.map_or(0, |_| length(is_ipv4)),
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::from(ROUTE_PROTOCOL),
        // IPv6 has no scopes of routes.
        scope: if gateway.is_none() && is_ipv4 { RouteScope::Link } else { RouteScope::Universe },
        kind: RouteType::Unicast,
        flags: if gateway.is_some() { RouteFlags::Onlink } else { RouteFlags::empty() },
        ..RouteHeader::default()
    };
    message.attributes = vec![RouteAttribute::Oif(index)];
    message.attributes.extend(destination.map(|address| RouteAttribute::Destination(address.into())));
    message.attributes.extend(gateway.map(|address| RouteAttribute::Gateway(address.into())));
    message
}

fn family(is_ipv4: bool) -> AddressFamily {
    if is_ipv4 { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// Of the prefix of a single address, bits.
fn length(is_ipv4: bool) -> u8 {
    if is_ipv4 { 32 } else { 128 }
}
