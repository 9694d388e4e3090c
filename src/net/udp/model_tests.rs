//! The kernel is the model: random calls by several containers and a native process are run once on the stack
//! and once on plain kernel sockets, in a network namespace of their own, and every result, every address,
//! every datagram and its source have to be the same.
//!
//! What WASI asks for beyond Linux is written out for the plain sockets in [`Plain`]: they stay bound when they
//! are disconnected, and while connected they receive from their peer only.
//!
//! Not covered, as it cannot be known without the kernel's socket table: a *native* socket that is bound to the
//! wildcard, connected, disconnected and connected again may end up on an address that a container bound
//! meanwhile. Native sockets connect once here. Nor is the order between one sender's multicast datagrams, which
//! are the kernel's, and its others.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

use super::state::{is_from, max_payload};
use super::{MAX_DATAGRAM, UdpSocket};
use crate::net::{Endpoint, Error, Family, Result, Stack, StackConfig, addr};
use crate::testing::network::{Barrier, in_a_network};

const OWN: [&str; 2] = ["10.9.0.1", "fd00::9"];
const IPS: [[&str; 7]; 2] = [
    ["127.0.0.1", "127.0.0.2", OWN[0], "0.0.0.0", "10.9.0.99", "127.255.255.255", "224.0.0.1"],
    ["::1", OWN[1], "::1", "::", "fd00::99", OWN[1], "ff02::1"],
];
const PORTS: [u16; 3] = [5000, 5001, 5002];

/// Two of container a, two of container b, one of c, one native.
const OWNERS: [Option<usize>; 6] = [Some(0), Some(0), Some(1), Some(1), Some(2), None];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    Fixed(usize),
    /// That of another socket, if it has one.
    Of(usize),
    Zero,
}

/// An address of [`IPS`], or where the other socket that the port is of can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ip {
    Fixed(usize),
    OfPort,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Open(usize, Family),
    Close(usize),
    /// The container ends and starts again.
    End(usize),
    Bind(usize, Ip, Port),
    Connect(usize, Ip, Port),
    Disconnect(usize),
    Send(usize, Option<(Ip, Port)>, usize),
    Receive(usize),
}

fn any_ops() -> impl Strategy<Value = Vec<Op>> {
    let slot = || 0..OWNERS.len();
    // The first addresses are those that most can come of.
    let ip = || prop_oneof![6 => 0usize..3, 2 => Just(3usize), 1 => 4usize..7].prop_map(Ip::Fixed);
    let port = || prop_oneof![4 => (0..PORTS.len()).prop_map(Port::Fixed), 1 => Just(Port::Zero)];
    let target = || {
        prop_oneof![
            5 => slot().prop_map(|other| (Ip::OfPort, Port::Of(other))),
            2 => (ip(), slot().prop_map(Port::Of)),
            2 => (ip(), port()),
        ]
    };
    let length = || prop_oneof![30 => 0usize..40, 1 => Just(65_508), 1 => Just(65_528), 1 => Just(70_000)];
    let family = prop_oneof![5 => Just(Family::V4), 1 => Just(Family::V6)];
    prop_oneof![
        2 => (slot(), family).prop_map(|(s, f)| vec![Op::Open(s, f)]),
        1 => slot().prop_map(|s| vec![Op::Close(s)]),
        1 => (0usize..3).prop_map(|owner| vec![Op::End(owner)]),
        5 => (slot(), ip(), port()).prop_map(|(s, i, p)| vec![Op::Bind(s, i, p)]),
        4 => (slot(), target()).prop_map(|(s, (i, p))| vec![Op::Connect(s, i, p)]),
        2 => slot().prop_map(|s| vec![Op::Disconnect(s)]),
        10 => (slot(), proptest::option::weighted(0.6, target()), length())
            .prop_map(|(s, to, n)| vec![Op::Send(s, to, n)]),
        6 => slot().prop_map(|s| vec![Op::Receive(s)]),
        // A datagram and its answer.
        6 => (slot(), slot(), length()).prop_map(|(s, t, n)| {
            let send = |from, to| Op::Send(from, Some((Ip::OfPort, Port::Of(to))), n);
            vec![send(s, t), Op::Receive(t), send(t, s), Op::Receive(s)]
        }),
    ]
}

/// The family of every socket, where it is bound at first, and the calls.
fn any_run() -> impl Strategy<Value = (Vec<(Family, Option<usize>)>, Vec<Op>)> {
    let family = prop_oneof![3 => Just(Family::V4), 1 => Just(Family::V6)];
    let sockets = proptest::collection::vec((family, proptest::option::of(0usize..4)), OWNERS.len());
    let ops = proptest::collection::vec(any_ops(), 1..60);
    (sockets, ops.prop_map(|ops| ops.concat()))
}

/// A kernel socket with what WASI asks for written out.
struct Plain {
    fd: OwnedFd,
    family: Family,
    bound: Option<SocketAddr>,
    remote: Option<SocketAddr>,
    /// What a socket that was replaced had received.
    kept: VecDeque<(Vec<u8>, SocketAddr)>,
}

impl Plain {
    fn new(family: Family) -> Self {
        let domain = if family == Family::V4 { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(domain, SocketType::DGRAM, flags, None).expect("socket");
        if family == Family::V6 {
            sockopt::set_ipv6_v6only(&fd, true).expect("v6only");
        }
        Self { fd, family, bound: None, remote: None, kept: VecDeque::new() }
    }

    fn name(&self) -> SocketAddr {
        rustix::net::getsockname(&self.fd).expect("getsockname").try_into().expect("an IP address")
    }

    fn local(&self) -> Result<SocketAddr> {
        if self.bound.is_some() { Ok(self.name()) } else { Err(Error::InvalidState) }
    }

    fn bind(&mut self, local: SocketAddr) -> Result<()> {
        if self.bound.is_some() {
            return Err(Error::InvalidState);
        }
        addr::check_udp_bind(self.family, local)?;
        rustix::net::bind(&self.fd, &local)?;
        self.bound = Some(self.name());
        Ok(())
    }

    /// The kernel may have bound it by itself.
    fn notice_bind(&mut self) {
        let name = self.name();
        if self.bound.is_none() && name.port() != 0 {
            self.bound = Some(SocketAddr::new(self.family.unspecified().ip(), name.port()));
        }
    }

    fn connect(&mut self, remote: SocketAddr) -> Result<()> {
        addr::check_udp_remote(self.family, remote)?;
        if self.remote.is_some() {
            self.disconnect()?;
        }
        let result = rustix::net::connect(&self.fd, &remote);
        self.notice_bind();
        result?;
        self.remote = Some(remote);
        Ok(())
    }

    fn disconnect(&mut self) -> Result<()> {
        self.remote.take().ok_or(Error::InvalidState)?;
        rustix::net::connect_unspec(&self.fd)?;
        if self.family == Family::V6 {
            // Or it is deaf for all but the former peer. What it had received is not lost.
            while let Some(result) = self.receive_from_kernel() {
                self.kept.extend(result);
            }
            self.fd = Self::new(Family::V6).fd;
        }
        if self.name().port() == 0 {
            let bound = self.bound.expect("connected sockets are bound");
            rustix::net::bind(&self.fd, &bound)
                .or_else(|_| rustix::net::bind(&self.fd, &SocketAddr::new(bound.ip(), 0)))?;
            self.bound = Some(SocketAddr::new(bound.ip(), self.name().port()));
        }
        Ok(())
    }

    fn send(&mut self, data: &[u8], remote: Option<SocketAddr>) -> Result<()> {
        let result = match (remote, self.remote) {
            (Some(remote), connected) => {
                addr::check_udp_remote(self.family, remote)?;
                match connected {
                    Some(peer) if peer != remote => return Err(Error::InvalidArgument),
                    Some(_) => rustix::net::send(&self.fd, data, SendFlags::empty()),
                    None => rustix::net::sendto(&self.fd, data, SendFlags::empty(), &remote),
                }
            }
            (None, Some(_)) => rustix::net::send(&self.fd, data, SendFlags::empty()),
            (None, None) => return Err(Error::InvalidArgument),
        };
        self.notice_bind();
        result?;
        Ok(())
    }

    fn receive(&mut self) -> Option<Result<(Vec<u8>, SocketAddr)>> {
        if self.bound.is_none() {
            return Some(Err(Error::InvalidState));
        }
        loop {
            match self.kept.pop_front().map(Ok).or_else(|| self.receive_from_kernel())? {
                Ok((_, from)) if self.remote.is_some_and(|remote| !is_from(remote, from)) => {}
                result => return Some(result),
            }
        }
    }

    fn receive_from_kernel(&self) -> Option<Result<(Vec<u8>, SocketAddr)>> {
        let mut data = Vec::with_capacity(MAX_DATAGRAM);
        match rustix::net::recvfrom(&self.fd, spare_capacity(&mut data), RecvFlags::empty()) {
            Err(Errno::WOULDBLOCK) => None,
            Err(errno) => Some(Err(errno.into())),
            Ok((_, _, from)) => Some(Ok((data, from.expect("a sender").try_into().expect("an IP address")))),
        }
    }
}

enum Sock {
    Plain(Plain),
    Ours(UdpSocket),
}

impl Sock {
    fn family(&self) -> Family {
        match self {
            Self::Plain(s) => s.family,
            Self::Ours(s) => s.family(),
        }
    }

    fn bind(&mut self, local: SocketAddr) -> Result<()> {
        match self {
            Self::Plain(s) => s.bind(local),
            Self::Ours(s) => s.bind(local),
        }
    }

    fn connect(&mut self, remote: SocketAddr) -> Result<()> {
        match self {
            Self::Plain(s) => s.connect(remote),
            Self::Ours(s) => s.connect(remote),
        }
    }

    fn disconnect(&mut self) -> Result<()> {
        match self {
            Self::Plain(s) => s.disconnect(),
            Self::Ours(s) => s.disconnect(),
        }
    }

    fn local(&self) -> Result<SocketAddr> {
        match self {
            Self::Plain(s) => s.local(),
            Self::Ours(s) => s.local_address(),
        }
    }

    fn remote(&self) -> Result<SocketAddr> {
        match self {
            Self::Plain(s) => s.remote.ok_or(Error::InvalidState),
            Self::Ours(s) => s.remote_address(),
        }
    }

    fn send(&mut self, mut data: Vec<u8>, remote: Option<SocketAddr>) -> Result<()> {
        match self {
            Self::Plain(s) => s.send(&data, remote),
            Self::Ours(s) => match s.poll_send(&mut now(), &mut data, remote) {
                Poll::Ready(result) => result,
                Poll::Pending => panic!("the kernel's buffer cannot be full"),
            },
        }
    }

    fn receive(&mut self) -> Option<Result<(Vec<u8>, SocketAddr)>> {
        match self {
            Self::Plain(s) => s.receive(),
            Self::Ours(s) => match s.poll_receive(&mut now()) {
                Poll::Ready(result) => Some(result),
                Poll::Pending => None,
            },
        }
    }
}

fn now() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// What a call led to, with ephemeral ports by the order of their appearance.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome {
    result: std::result::Result<(), Error>,
    local: Result<String>,
    remote: Result<String>,
    /// Serial numbers and lengths by sender, and how often there was an error.
    received: BTreeMap<String, Vec<(u16, usize)>>,
    errors: Vec<Error>,
}

struct World {
    /// Absent where all sockets are plain ones.
    stack: Option<Arc<Stack>>,
    endpoints: Vec<Endpoint>,
    sockets: Vec<Option<Sock>>,
    /// Names of ephemeral ports.
    ports: HashMap<u16, usize>,
    named: usize,
    /// Whether the kernel chose an ephemeral port a second time: its name is not unique.
    repeated: bool,
    serial: u16,
    /// Datagrams that were seen in an inbox.
    in_memory: usize,
}

impl World {
    fn new(stack: Option<Arc<Stack>>) -> Self {
        let endpoints = stack.iter().flat_map(|s| ["a", "b", "c"].map(|name| s.attach(name))).collect();
        let sockets = OWNERS.iter().map(|_| None).collect();
        let (ports, named, repeated, serial, in_memory) = (HashMap::new(), 0, false, 0, 0);
        Self { stack, endpoints, sockets, ports, named, repeated, serial, in_memory }
    }

    fn open(&mut self, slot: usize, family: Family) {
        self.sockets[slot] = None;
        self.sockets[slot] = Some(match (OWNERS[slot], &self.stack) {
            (Some(owner), Some(_)) => Sock::Ours(self.endpoints[owner].udp_socket(family).expect("socket")),
            _ => Sock::Plain(Plain::new(family)),
        });
    }

    fn address(&self, slot: usize, ip: Ip, port: Port) -> SocketAddr {
        let family = self.sockets[slot].as_ref().map_or(Family::V4, Sock::family);
        let fixed = |ip: usize| IPS[usize::from(family == Family::V6)][ip].parse().expect("address");
        let ip: IpAddr = match (ip, port) {
            (Ip::Fixed(ip), _) => fixed(ip),
            (Ip::OfPort, Port::Of(other)) => {
                let local = self.sockets[other].as_ref().and_then(|s| s.local().ok()).map(|local| local.ip());
                local.filter(|ip| !ip.is_unspecified()).unwrap_or(fixed(0))
            }
            (Ip::OfPort, _) => fixed(0),
        };
        let port = match port {
            Port::Fixed(port) => PORTS[port],
            Port::Zero => 0,
            Port::Of(other) => {
                let local = self.sockets[other].as_ref().and_then(|s| s.local().ok());
                local.map_or(PORTS[0], |local| local.port())
            }
        };
        SocketAddr::new(ip, port)
    }

    fn name(&self, addr: SocketAddr) -> String {
        match self.ports.get(&addr.port()) {
            Some(name) => format!("{} ephemeral {name}", addr.ip()),
            None => format!("{} {}", addr.ip(), addr.port()),
        }
    }

    /// Gives the port of a newly bound socket a name.
    fn name_port(&mut self, before: Result<SocketAddr>, after: Result<SocketAddr>) {
        let Ok(after) = after else { return };
        if PORTS.contains(&after.port()) || before.is_ok_and(|before| before.port() == after.port()) {
            return;
        }
        self.repeated |= self.ports.insert(after.port(), self.named).is_some();
        self.named += 1;
    }

    async fn run(&mut self, op: Op, barrier: &Barrier) -> Option<Outcome> {
        let slot = match op {
            Op::Open(slot, family) => {
                self.open(slot, family);
                return None;
            }
            Op::Close(slot) => {
                self.sockets[slot] = None;
                return None;
            }
            Op::End(owner) => {
                if let Some(stack) = &self.stack {
                    // The sockets are still there, closed; the store goes later.
                    self.endpoints[owner].close();
                    self.endpoints[owner] = stack.attach("again");
                }
                for (slot, _) in OWNERS.iter().enumerate().filter(|(_, o)| **o == Some(owner)) {
                    self.sockets[slot] = None;
                }
                return None;
            }
            Op::Bind(slot, ..)
            | Op::Connect(slot, ..)
            | Op::Disconnect(slot)
            | Op::Send(slot, ..)
            | Op::Receive(slot) => slot,
        };
        let target = match op {
            Op::Bind(_, ip, port) | Op::Connect(_, ip, port) | Op::Send(_, Some((ip, port)), _) => {
                Some(self.address(slot, ip, port))
            }
            _ => None,
        };
        if !matches!(op, Op::Bind(..)) && target.is_some_and(|to| to.ip().is_multicast()) {
            return None;
        }
        let native = OWNERS[slot].is_none();
        let mut socket = self.sockets[slot].take()?;
        let before = socket.local();
        let (mut received, mut errors) = (BTreeMap::<String, Vec<_>>::new(), Vec::new());
        let result = match (op, target) {
            (Op::Bind(..), Some(local)) => socket.bind(local),
            (Op::Connect(..), Some(_)) if native && socket.remote().is_ok() => Ok(()),
            (Op::Connect(..), Some(remote)) => socket.connect(remote),
            (Op::Disconnect(_), _) if native => Ok(()),
            (Op::Disconnect(_), _) => socket.disconnect(),
            (Op::Send(_, _, length), remote) => {
                self.serial += 1;
                let mut data = self.serial.to_ne_bytes().to_vec();
                data.resize(2 + length, 0);
                // Empty datagrams count as serial number 0.
                if length == 0 {
                    data.clear();
                }
                let result = socket.send(data, remote);
                barrier.wait();
                result
            }
            (Op::Receive(_), _) => {
                // tokio's loop has a turn and sees what there is.
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
                if let Sock::Ours(ours) = &socket {
                    self.in_memory += ours.inner.inbox.len();
                }
                while let Some(result) = socket.receive() {
                    match result {
                        Ok((data, from)) => {
                            let serial = data.first_chunk().map_or(0, |bytes| u16::from_ne_bytes(*bytes));
                            received.entry(self.name(from)).or_default().push((serial, data.len()));
                        }
                        Err(Error::InvalidState) => break,
                        Err(error) => errors.push(error),
                    }
                }
                Ok(())
            }
            _ => unreachable!("{op:?}"),
        };
        self.name_port(before, socket.local());
        let local = socket.local().map(|local| self.name(local));
        let remote = socket.remote().map(|remote| self.name(remote));
        self.sockets[slot] = Some(socket);
        Some(Outcome { result, local, remote, received, errors })
    }
}

fn stack() -> Arc<Stack> {
    let addresses = OWN.iter().map(|own| own.parse().expect("address")).collect();
    Stack::new(StackConfig { addresses, ..StackConfig::default() })
}

/// Runs the calls on both and compares. Returns how many datagrams were in memory.
async fn compare(
    barrier: &Barrier,
    sockets: &[(Family, Option<usize>)],
    ops: &[Op],
) -> std::result::Result<usize, TestCaseError> {
    let (mut outcomes, mut in_memory, mut repeated) = (Vec::new(), 0, false);
    for stack in [Some(stack()), None] {
        let mut world = World::new(stack.clone());
        let mut seen = Vec::new();
        for (slot, (family, bound)) in sockets.iter().enumerate() {
            world.open(slot, *family);
            if let Some(ip) = bound {
                let bind = Op::Bind(slot, Ip::Fixed(*ip), Port::Zero);
                seen.push((bind, world.run(bind, barrier).await));
            }
        }
        for op in ops {
            seen.push((*op, world.run(*op, barrier).await));
        }
        in_memory += world.in_memory;
        repeated |= world.repeated;
        world.endpoints.iter().for_each(Endpoint::close);
        if let Some(stack) = stack {
            prop_assert!(stack.is_idle());
            prop_assert_eq!(stack.budget.held(), 0);
        }
        outcomes.push(seen);
    }
    if repeated {
        return Ok(in_memory);
    }
    for (ours, plain) in outcomes[0].iter().zip(&outcomes[1]) {
        prop_assert_eq!(ours, plain, "left the stack, right the kernel");
    }
    Ok(in_memory)
}

#[test]
fn random_calls_end_as_on_the_kernel() {
    in_a_network(&OWN, |runtime| {
        let barrier = Barrier::new();
        let in_memory = Cell::new(0);
        let config = Config { cases: 500, failure_persistence: None, ..Config::default() };
        let result = TestRunner::new(config).run(&any_run(), |(sockets, ops)| {
            in_memory.set(in_memory.get() + runtime.block_on(compare(&barrier, &sockets, &ops))?);
            Ok(())
        });
        if let Err(error) = result {
            panic!("{error}");
        }
        assert!(in_memory.get() > 1000, "the memory plane was hardly used: {}", in_memory.get());
    });
}

/// A socket that was connected and is no longer leaves addresses of its port to others.
#[test]
fn overlapping_addresses_are_judged_by_the_kernel() {
    use Ip::Fixed as A;
    use Port::Fixed as P;
    const NATIVE: usize = 5;
    // Addresses: 0 127.0.0.1, 1 127.0.0.2, 2 the pod's own, 3 the wildcard.
    let others = [2, 4, NATIVE];
    in_a_network(&OWN, move |runtime| {
        let barrier = Barrier::new();
        for other in others {
            let mut ops = vec![
                Op::Bind(0, A(3), P(0)),
                Op::Connect(0, A(0), P(1)),
                Op::Bind(other, A(1), P(0)),
                Op::Disconnect(0),
            ];
            let to_all = |ops: &mut Vec<Op>| {
                for address in 0..3 {
                    ops.push(Op::Send(3, Some((A(address), P(0))), 10));
                    ops.extend([Op::Receive(0), Op::Receive(other)]);
                }
            };
            to_all(&mut ops);
            // Back, to an address that is another's by now.
            ops.extend([Op::Connect(0, A(1), P(2)), Op::Disconnect(0), Op::Connect(0, A(2), P(1))]);
            to_all(&mut ops);
            ops.push(Op::Close(0));
            to_all(&mut ops);
            let sockets = [(Family::V4, None); OWNERS.len()];
            if let Err(error) = runtime.block_on(compare(&barrier, &sockets, &ops)) {
                panic!("{error}");
            }
        }
    });
}

/// The largest datagrams of both families, on both planes.
#[test]
fn the_largest_datagram_is_the_kernels() {
    in_a_network(&OWN, |runtime| {
        runtime.block_on(async {
            for (family, ip) in
                [(Family::V4, IpAddr::V4(Ipv4Addr::LOCALHOST)), (Family::V6, "::1".parse().expect("ip"))]
            {
                let stack = stack();
                let (a, b) = (stack.attach("a"), stack.attach("b"));
                let receiver = a.udp_socket(family).expect("socket");
                receiver.bind(SocketAddr::new(ip, 5000)).expect("bind");
                let mut native = Plain::new(family);
                native.bind(SocketAddr::new(ip, 5001)).expect("bind");
                let mut senders =
                    [Sock::Ours(b.udp_socket(family).expect("socket")), Sock::Plain(Plain::new(family))];
                for sender in &mut senders {
                    for port in [5000, 5001] {
                        let to = Some(SocketAddr::new(ip, port));
                        let max = max_payload(family);
                        assert_eq!(sender.send(vec![1; max + 1], to), Err(Error::DatagramTooLarge));
                        assert_eq!(sender.send(vec![1; max], to), Ok(()), "{family:?} {port}");
                    }
                }
                for _ in 0..2 {
                    let (data, _) =
                        std::future::poll_fn(|cx| receiver.poll_receive(cx)).await.expect("receive");
                    assert_eq!(data.len(), max_payload(family));
                    let (data, _) = native.receive().expect("there").expect("receive");
                    assert_eq!(data.len(), max_payload(family));
                }
            }
        });
    });
}
