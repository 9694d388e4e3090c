//! Network namespaces of a test's own.

use std::net::{IpAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use tokio::runtime::{Builder, Runtime};

use super::needs_root;
use crate::sys::namespace::new_network;
use crate::sys::netlink::{Batch, CREATE, Socket};

/// Index of `lo` in every network namespace.
const LOOPBACK: u32 = 1;

/// Runs `test` on a thread in a network namespace of its own: `lo` is up and has these addresses besides loopback's.
pub(crate) fn in_a_network(own: &'static [&'static str], test: impl FnOnce(&Runtime) + Send + 'static) {
    if !needs_root() {
        return;
    }
    let thread = thread::spawn(move || {
        new_network().expect("a network namespace");
        link_up(LOOPBACK);
        for address in own {
            let address: IpAddr = address.parse().expect("an address");
            add_address(LOOPBACK, address, if address.is_ipv4() { 32 } else { 128 });
            wait_reachable(address);
        }
        test(&Builder::new_current_thread().enable_all().build().expect("a runtime"));
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// An IPv6 address gets its local route a moment later, from a worker of the kernel's: packets are lost until then.
fn wait_reachable(address: IpAddr) {
    let socket = UdpSocket::bind((address, 0)).expect("bind");
    socket.set_read_timeout(Some(Duration::from_millis(10))).expect("a timeout");
    let own = socket.local_addr().expect("an address");
    while socket.send_to(b"?", own).is_err() || socket.recv(&mut [0]).is_err() {}
}

pub(crate) fn link_up(index: u32) {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    execute("bring a link up", &RouteNetlinkMessage::SetLink(link), 0);
}

pub(crate) fn add_address(index: u32, address: IpAddr, prefix_length: u8) {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.prefix_len = prefix_length;
    // Usable at once: nobody else could have it.
    message.header.flags = AddressHeaderFlags::Nodad;
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    execute("set an address", &RouteNetlinkMessage::NewAddress(message), CREATE);
}

pub(crate) fn execute(step: &'static str, message: &RouteNetlinkMessage, flags: u16) {
    let mut batch = Batch::default();
    batch.push(step, message, flags);
    Socket::route().and_then(|mut socket| socket.execute(&batch)).expect("rtnetlink");
}

/// Makes what the loopback carries arrive: it hands packets on in order, on the CPU that sends them, which the thread
/// stays on from now on.
pub(crate) struct Barrier(UdpSocket);

impl Barrier {
    pub(crate) fn new() -> Self {
        let allowed = sched_getaffinity(Pid::from_raw(0)).expect("affinity");
        let first = (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu).unwrap_or(false)).expect("a CPU");
        let mut one = CpuSet::new();
        one.set(first).expect("a CPU");
        sched_setaffinity(Pid::from_raw(0), &one).expect("affinity");
        let socket = UdpSocket::bind("127.0.0.3:4999").expect("bind");
        socket.connect("127.0.0.3:4999").expect("connect");
        Self(socket)
    }

    pub(crate) fn wait(&self) {
        // Twice: for what was sent, and for what came of it.
        for _ in 0..2 {
            self.0.send(b"").expect("send");
            self.0.recv(&mut []).expect("receive");
        }
    }
}
