//! A network as a pod has it: a namespace of its own with loopback, and its range of the kernel's ephemeral ports.

use anyhow::Context;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use peapod::sandbox::network::KERNEL_EPHEMERAL_PORTS;
use peapod::sys::namespace::{new_network, set_network_parameter};
use peapod::sys::netlink::{Batch, Socket};

/// The index of `lo`, which the kernel makes first.
const LOOPBACK_INDEX: u32 = 1;

/// Moves this process, which has one thread still, into one.
pub fn enter() -> anyhow::Result<()> {
    new_network().context("a network namespace: run this benchmark as root")?;
    set_network_parameter("ipv4/ip_local_port_range", KERNEL_EPHEMERAL_PORTS)?;
    let mut link = LinkMessage::default();
    link.header.index = LOOPBACK_INDEX;
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    let mut batch = Batch::default();
    batch.push("bring lo up", &RouteNetlinkMessage::SetLink(link), 0);
    Ok(Socket::route()?.execute(&batch)?)
}
