//! The kernel's floor of a pod start, for the benchmarks: the same namespaces, veth pair and cgroup with a bare
//! fork whose child writes one byte, by the same primitives and nothing else.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sched::CloneFlags;

use super::cgroup::{self, Entry, Hierarchy, Limits, PIDS};
use super::create::Clock;
use super::network;
use super::{SandboxError, Step};
use crate::sys::netlink::Socket;
use crate::sys::{clone, pidfd};

/// The addresses used: link-local, and of a network of its own (RFC 4193), so that no pod and no host has them.
const ADDRESSES: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 77, 77)),
    IpAddr::V6(Ipv6Addr::new(0xfd70, 0x6561, 0x706f, 0x77, 0, 0, 0, 0x4d4d)),
];
/// The limit set, bytes: enough for a child that does nothing.
const MEMORY_BYTES: u64 = 256 << 20;

/// One measurement.
#[derive(Debug)]
pub struct Floor {
    /// From nothing to the child's byte.
    pub total: Duration,
    /// Its parts, in order.
    pub phases: Vec<(&'static str, Duration)>,
}

/// Makes namespaces, cgroup, link and a bare child, measures until its byte has come, and removes all of it. Needs
/// root and a single-threaded process; one at a time on a host.
///
/// # Errors
/// The kernel's.
pub fn floor() -> Result<Floor, SandboxError> {
    let uid = format!("floor-{}", std::process::id());
    let (link, mac) = network::names(&uid);
    let hierarchy = Hierarchy::find();
    let mut socket = Socket::route()?;
    let host = network::host_network(&mut socket)?;
    let has_ipv6 = network::has_ipv6();
    let addresses = &ADDRESSES[..if has_ipv6 { 2 } else { 1 }];
    let mut warnings = Vec::new();

    let begin = Instant::now();
    let mut clock = Clock::start();
    let limits = Limits {
        memory_bytes: Some(MEMORY_BYTES),
        cpu_millis: Some(1000),
        cpu_shares: Some(1024),
        pids: Some(PIDS),
    };
    let entry = match &hierarchy {
        Some(hierarchy) => cgroup::create(hierarchy, &uid, &limits, &mut warnings)?,
        None => Entry::None,
    };
    clock.lap(Step::Cgroup);
    let measured = measure(entry, addresses, &mut clock, |clock, pid| {
        let index = network::create_pair(&mut socket, &link, mac, pid, None, has_ipv6)?;
        clock.lap(Step::Link);
        network::configure_host(&host, &mut socket, index, addresses, mac)?;
        clock.lap(Step::Route);
        Ok(())
    });
    let total = begin.elapsed();

    for path in hierarchy.iter().flat_map(|hierarchy| hierarchy.paths(&uid)) {
        cgroup::remove(&path)?;
    }
    network::wait_gone(&link)?;
    measured.map(|()| Floor { total, phases: clock.laps })
}

/// From the fork to the byte; the child has ended afterwards.
fn measure(
    entry: Entry,
    addresses: &[IpAddr],
    clock: &mut Clock,
    connect: impl FnOnce(&mut Clock, i32) -> Result<(), SandboxError>,
) -> Result<(), SandboxError> {
    let (mut outer, inner) = UnixStream::pair()?;
    let (directory, tasks) = entry.split();
    let inherited = outer.as_raw_fd();
    let namespaces = CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET;
    let child = clone::spawn(namespaces, directory.as_ref().map(AsFd::as_fd), move || {
        clone::close_inherited(&[inherited]);
        i32::from(bare_child(tasks, inner, addresses).is_err())
    })
    .map_err(SandboxError::Clone)?;
    clock.lap(Step::Clone);
    let mut answered = connect(clock, child.pid);
    if answered.is_ok() {
        let byte = outer.write_all(&[0]).and_then(|()| outer.read_exact(&mut [0]));
        answered = byte.map_err(SandboxError::from);
    }
    clock.lap(Step::Ready);
    // End of file ends the child, whatever it waits for.
    drop(outer);
    pidfd::wait(&child.pidfd)?;
    answered
}

fn bare_child(tasks: Entry, mut supervisor: UnixStream, addresses: &[IpAddr]) -> io::Result<()> {
    tasks.enter()?;
    let mut socket = Socket::route()?;
    supervisor.read_exact(&mut [0])?;
    network::configure_pod(&mut socket, addresses).map_err(io::Error::other)?;
    supervisor.write_all(&[0])?;
    // Until the supervisor has measured.
    supervisor.read_exact(&mut [0])
}
