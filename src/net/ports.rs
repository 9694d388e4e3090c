//! The pod's port table: which container listens where, which ports are bound, and which
//! memory-plane connections exist. Pure: no kernel, no clock, no I/O.
//!
//! Conflicts between binds are the kernel's to judge (every bind holds a real kernel socket); the
//! table answers what the kernel cannot: which listener of the pod a connection belongs to, which
//! local port a connection that the kernel never sees gets, and whether a bind would take it away.
//!
//! ```text
//! claim ─► listen ─► lookup (once per connect) ─► unlisten ─► release
//! connect: picks the local port, holds the 4-tuple ─► disconnect
//! ```
//!
//! The family of an address is part of it: an IPv6 socket of WASI never carries IPv4, so a listener
//! on `::` does not answer for `0.0.0.0`.
//!
//! # Where it is as exact as the kernel, and where not
//!
//! Exact: every conflict between sockets that were bound, whoever bound them; a container's bind
//! against the ephemeral port of a memory-plane connection (which, like Linux's, does not let itself be
//! shared: SO_REUSEADDR is set by binding only); a memory-plane connection against bound ports of
//! containers; connections between the same two addresses, as long as both are the containers'.
//!
//! Not seen, because it would cost every connection system calls and an open file, and harms nobody
//! (connections are told apart by what they are, never by their numbers): a *native* process that binds
//! explicitly to a port of the memory plane's ephemeral range; a native that binds, without
//! SO_REUSEADDR, to a port where connections of the memory plane outlive their listener; and a bound port
//! that a native and a container share by SO_REUSEADDR, where one makes a connection between two addresses
//! that the other has on the other plane.
//!
//! Every operation of a connection takes the same time with 10 and with 60,000 connections: a hash
//! look-up or two, and a search in a bit map.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use super::addr::Family;
use super::{Error, Result};

/// Local ports of memory-plane connections: the range that IANA leaves to ephemeral ports
/// (RFC 6335, section 6). The sandbox keeps the kernel's own (`ip_local_port_range`) below it.
pub const EPHEMERAL_PORTS: RangeInclusive<u16> = 49152..=65535;

/// Local ports towards one destination up to which they are kept in a list instead of a bit map.
const FEW: usize = 32;

/// An address without IPv6 flow label and scope.
type Key = (IpAddr, u16);

fn key(addr: SocketAddr) -> Key {
    (addr.ip(), addr.port())
}

/// The part of `wanted` that the kernel's own ephemeral ports leave free; the larger one if they cut it
/// in two. May be empty.
pub fn beside(wanted: RangeInclusive<u16>, kernel: RangeInclusive<u16>) -> RangeInclusive<u16> {
    let (first, last) = (*wanted.start(), *wanted.end());
    if kernel.is_empty() || *kernel.end() < first || *kernel.start() > last {
        return wanted;
    }
    // An end that would leave 0..=65535 leaves nothing on that side.
    let below = kernel.start().checked_sub(1).map_or(EMPTY, |end| first..=end);
    let above = kernel.end().checked_add(1).map_or(EMPTY, |start| start..=last);
    if above.len() >= below.len() { above } else { below }
}

/// No ports.
#[expect(clippy::reversed_empty_ranges, reason = "an inclusive range has no other way to be empty")]
const EMPTY: RangeInclusive<u16> = 1..=0;

/// The ephemeral ports that are in use from one local address to one destination.
#[derive(Debug)]
enum Lane {
    /// Offsets in the range, in no order.
    Few(Vec<u16>),
    /// A bit per port of the range, and how many are set.
    Many(Box<[u64]>, u32),
}

fn bit(offset: u16) -> (usize, u64) {
    (usize::from(offset / 64), 1 << (offset % 64))
}

impl Lane {
    /// Ports 64 × `index` to 64 × `index` + 63 of the range.
    fn word(&self, index: usize) -> u64 {
        match self {
            Self::Few(offsets) => {
                offsets.iter().map(|o| bit(*o)).filter(|(i, _)| *i == index).fold(0, |word, (_, b)| word | b)
            }
            Self::Many(words, _) => words.get(index).copied().unwrap_or(0),
        }
    }

    fn contains(&self, offset: u16) -> bool {
        let (index, mask) = bit(offset);
        self.word(index) & mask != 0
    }

    fn insert(&mut self, offset: u16, words: usize) {
        match self {
            Self::Few(offsets) if offsets.len() < FEW => offsets.push(offset),
            Self::Few(offsets) => {
                let mut bits = vec![0; words].into_boxed_slice();
                for o in offsets.iter().chain([&offset]) {
                    let (index, mask) = bit(*o);
                    bits[index] |= mask;
                }
                *self = Self::Many(bits, FEW as u32 + 1);
            }
            Self::Many(bits, count) => {
                let (index, mask) = bit(offset);
                bits[index] |= mask;
                *count += 1;
            }
        }
    }

    /// Whether it was there.
    fn remove(&mut self, offset: u16) -> bool {
        match self {
            Self::Few(offsets) => match offsets.iter().position(|o| *o == offset) {
                Some(at) => {
                    offsets.swap_remove(at);
                    true
                }
                None => false,
            },
            Self::Many(bits, count) => {
                let (index, mask) = bit(offset);
                let there = bits[index] & mask != 0;
                bits[index] &= !mask;
                *count -= u32::from(there);
                there
            }
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Few(offsets) => offsets.is_empty(),
            Self::Many(_, count) => *count == 0,
        }
    }
}

/// The table. `L` is what a listener is to the caller.
#[derive(Debug)]
pub struct Ports<L> {
    ephemeral: RangeInclusive<u16>,
    /// Offset where the next search for an ephemeral port begins; rotates so that a port rests after use.
    next: u16,
    /// Sockets per bound port. A count, as SO_REUSEADDR lets sockets share one until one listens.
    claims: HashMap<u16, u32>,
    /// A bit per ephemeral port that has claims.
    claimed: Box<[u64]>,
    listeners: HashMap<Key, L>,
    /// Listeners per family and port, on whatever address.
    listening: HashMap<(Family, u16), u32>,
    /// By (local address, destination): the memory-plane connections with an ephemeral port.
    lanes: HashMap<(IpAddr, Key), Lane>,
    /// (local, remote) of the memory-plane connections of bound sockets.
    bound: HashSet<(Key, Key)>,
}

impl<L> Ports<L> {
    /// An empty table that hands out ephemeral ports from the range, which may be empty.
    pub fn new(ephemeral: RangeInclusive<u16>) -> Self {
        Self {
            next: 0,
            claims: HashMap::new(),
            claimed: vec![0; ephemeral.len().div_ceil(64)].into_boxed_slice(),
            ephemeral,
            listeners: HashMap::new(),
            listening: HashMap::new(),
            lanes: HashMap::new(),
            bound: HashSet::new(),
        }
    }

    fn offset(&self, port: u16) -> Option<u16> {
        self.ephemeral.contains(&port).then(|| port - self.ephemeral.start())
    }

    /// Notes that a socket is bound to the port, so that no connection is given it.
    pub fn claim(&mut self, port: u16) {
        *self.claims.entry(port).or_default() += 1;
        if let Some((index, mask)) = self.offset(port).map(bit) {
            self.claimed[index] |= mask;
        }
    }

    /// Takes one [`Self::claim`] back.
    pub fn release(&mut self, port: u16) {
        let Some(count) = self.claims.get_mut(&port) else { return };
        *count -= 1;
        if *count == 0 {
            self.claims.remove(&port);
            if let Some((index, mask)) = self.offset(port).map(bit) {
                self.claimed[index] &= !mask;
            }
        }
    }

    /// Whether the address may be bound as far as memory-plane connections with ephemeral ports are
    /// concerned, of which the kernel knows nothing. Takes time with the number of destinations.
    ///
    /// # Errors
    /// [`Error::AddressInUse`].
    pub fn check_bind(&self, addr: SocketAddr) -> Result<()> {
        let Some(offset) = self.offset(addr.port()) else { return Ok(()) };
        let overlaps = |ip: &IpAddr| {
            *ip == addr.ip() || (addr.ip().is_unspecified() && Family::of(*ip) == Family::of(addr.ip()))
        };
        let taken = self.lanes.iter().any(|((ip, _), lane)| overlaps(ip) && lane.contains(offset));
        if taken { Err(Error::AddressInUse) } else { Ok(()) }
    }

    /// Enters a listener.
    ///
    /// # Errors
    /// [`Error::AddressInUse`] when the address, the wildcard on its port, or (for the wildcard) any
    /// address on its port is taken.
    pub fn listen(&mut self, addr: SocketAddr, listener: L) -> Result<()> {
        let family = Family::of(addr.ip());
        let wildcard = (family.unspecified().ip(), addr.port());
        let on_port = self.listening.entry((family, addr.port())).or_default();
        let taken = match addr.ip().is_unspecified() {
            true => *on_port > 0,
            false => self.listeners.contains_key(&key(addr)) || self.listeners.contains_key(&wildcard),
        };
        if taken {
            return Err(Error::AddressInUse);
        }
        *on_port += 1;
        self.listeners.insert(key(addr), listener);
        Ok(())
    }

    /// Removes a listener.
    pub fn unlisten(&mut self, addr: SocketAddr) -> Option<L> {
        let listener = self.listeners.remove(&key(addr))?;
        let at = (Family::of(addr.ip()), addr.port());
        if let Some(count) = self.listening.get_mut(&at) {
            *count -= 1;
            if *count == 0 {
                self.listening.remove(&at);
            }
        }
        Some(listener)
    }

    /// The listener for connections to the address: the one on exactly it, else on the wildcard.
    pub fn lookup(&self, addr: SocketAddr) -> Option<&L> {
        let wildcard = Family::of(addr.ip()).unspecified().ip();
        self.listeners.get(&key(addr)).or_else(|| self.listeners.get(&(wildcard, addr.port())))
    }

    /// Whether a memory-plane connection has these two addresses, whichever of them is the client's.
    pub fn is_connected(&self, one: SocketAddr, other: SocketAddr) -> bool {
        let from = |client: SocketAddr, server: SocketAddr| {
            let lane = self.lanes.get(&(client.ip(), key(server)));
            let ephemeral = self.offset(client.port()).zip(lane);
            ephemeral.is_some_and(|(offset, lane)| lane.contains(offset))
                || self.bound.contains(&(key(client), key(server)))
        };
        from(one, other) || from(other, one)
    }

    /// Enters a memory-plane connection to `remote` and returns its local address: on `ip`, with the
    /// port the socket is bound to or else a free ephemeral one.
    ///
    /// # Errors
    /// [`Error::AddressNotBindable`] when exactly this connection exists already (EADDRNOTAVAIL, as
    /// Linux says), [`Error::AddressInUse`] when no ephemeral port is left.
    pub fn connect(&mut self, ip: IpAddr, bound: Option<u16>, remote: SocketAddr) -> Result<SocketAddr> {
        if let Some(port) = bound {
            let local = SocketAddr::new(ip, port);
            if self.is_connected(local, remote) {
                return Err(Error::AddressNotBindable);
            }
            self.bound.insert((key(local), key(remote)));
            return Ok(local);
        }
        if self.ephemeral.is_empty() {
            return Err(Error::AddressInUse);
        }
        let lane = self.lanes.entry((ip, key(remote))).or_insert_with(|| Lane::Few(Vec::new()));
        let (len, first) = (self.ephemeral.len(), *self.ephemeral.start());
        let after = |offset: u16| if usize::from(offset) + 1 < len { offset + 1 } else { 0 };
        let mut found = free(lane, &self.claimed, self.next, len);
        let first_found = found;
        // A connection of a bound socket may outlive its socket, and so its claim.
        while let Some(offset) = found
            && self.bound.contains(&((ip, first + offset), key(remote)))
        {
            found = free(lane, &self.claimed, after(offset), len);
            if found == first_found {
                found = None;
            }
        }
        let Some(offset) = found else {
            if lane.is_empty() {
                self.lanes.remove(&(ip, key(remote)));
            }
            return Err(Error::AddressInUse);
        };
        lane.insert(offset, self.claimed.len());
        self.next = after(offset);
        Ok(SocketAddr::new(ip, first + offset))
    }

    /// Forgets a connection of [`Self::connect`].
    pub fn disconnect(&mut self, local: SocketAddr, remote: SocketAddr) {
        let at = (local.ip(), key(remote));
        if let Some(offset) = self.offset(local.port())
            && let Some(lane) = self.lanes.get_mut(&at)
            && lane.remove(offset)
        {
            if lane.is_empty() {
                self.lanes.remove(&at);
            }
            return;
        }
        self.bound.remove(&(key(local), key(remote)));
    }

    /// Whether nothing is bound, listening or connected.
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.listeners.is_empty() && self.lanes.is_empty() && self.bound.is_empty()
    }
}

/// The first free offset of `len` from `next` on, around the end.
fn free(lane: &Lane, claimed: &[u64], next: u16, len: usize) -> Option<u16> {
    let (first, start) = bit(next);
    // Bits of the first word from `next` on; the others of it come last.
    let from_start = !(start - 1);
    let words = claimed.len();
    (0..=words).find_map(|step| {
        let index = (first + step) % words;
        let asked = match step {
            0 => from_start,
            _ if step == words => !from_start,
            _ => u64::MAX,
        };
        let inside = match len - index * 64 {
            rest if rest < 64 => (1 << rest) - 1,
            _ => u64::MAX,
        };
        let free = !(lane.word(index) | claimed[index]) & asked & inside;
        let offset = index * 64 + free.trailing_zeros() as usize;
        if free == 0 { None } else { u16::try_from(offset).ok() }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addr(s: &str) -> SocketAddr {
        s.parse().expect(s)
    }

    fn table() -> Ports<u32> {
        Ports::new(EPHEMERAL_PORTS)
    }

    #[test]
    fn exact_listener_before_none_and_wildcard_for_all() {
        let mut t = table();
        t.listen(addr("127.0.0.1:80"), 1).expect("free");
        t.listen(addr("10.0.0.2:80"), 2).expect("another address");
        t.listen(addr("0.0.0.0:81"), 3).expect("another port");
        assert_eq!(t.lookup(addr("127.0.0.1:80")), Some(&1));
        assert_eq!(t.lookup(addr("10.0.0.2:80")), Some(&2));
        assert_eq!(t.lookup(addr("127.0.0.2:80")), None);
        assert_eq!(t.lookup(addr("127.0.0.9:81")), Some(&3));
        assert_eq!(t.lookup(addr("[::1]:81")), None, "IPv6 is a family of its own");
    }

    #[test]
    fn wildcard_overlaps_in_its_family_only() {
        let mut t = table();
        t.listen(addr("0.0.0.0:80"), 1).expect("free");
        assert_eq!(t.listen(addr("127.0.0.1:80"), 2), Err(Error::AddressInUse));
        assert_eq!(t.listen(addr("0.0.0.0:80"), 2), Err(Error::AddressInUse));
        t.listen(addr("[::]:80"), 3).expect("the other family");
        assert_eq!(t.lookup(addr("[::1]:80")), Some(&3));
        assert_eq!(t.unlisten(addr("0.0.0.0:80")), Some(1));
        t.listen(addr("127.0.0.1:80"), 4).expect("free again");
        assert_eq!(t.listen(addr("0.0.0.0:80"), 5), Err(Error::AddressInUse));
    }

    #[test]
    fn scope_and_flow_do_not_distinguish() {
        let mut t = table();
        let scoped = SocketAddr::V6(std::net::SocketAddrV6::new("fe80::1".parse().expect("ip"), 80, 7, 3));
        t.listen(scoped, 1).expect("free");
        assert_eq!(t.lookup(addr("[fe80::1]:80")), Some(&1));
    }

    #[test]
    fn bound_port_is_kept_and_a_4_tuple_is_unique() {
        let mut t = table();
        let remote = addr("127.0.0.1:80");
        let local = t.connect(remote.ip(), Some(5000), remote).expect("first");
        assert_eq!(local, addr("127.0.0.1:5000"));
        assert_eq!(t.connect(remote.ip(), Some(5000), remote), Err(Error::AddressNotBindable));
        t.connect(remote.ip(), Some(5000), addr("127.0.0.1:81")).expect("another remote");
        // Nor is it to be had from the other side.
        assert_eq!(t.connect(local.ip(), Some(80), local), Err(Error::AddressNotBindable));
        t.disconnect(local, remote);
        t.connect(remote.ip(), Some(5000), remote).expect("free again");
    }

    #[test]
    fn ephemeral_ports_rotate_skip_claims_and_run_out() {
        let mut t = Ports::<()>::new(100..=103);
        let remote = addr("127.0.0.1:80");
        t.claim(101);
        t.claim(101);
        t.release(101);
        let next = |t: &mut Ports<()>| t.connect(remote.ip(), None, remote).map(|a| a.port());
        assert_eq!(next(&mut t), Ok(100));
        t.disconnect(addr("127.0.0.1:100"), remote);
        assert_eq!(next(&mut t), Ok(102), "101 is bound, 100 rests");
        assert_eq!(next(&mut t), Ok(103));
        assert_eq!(next(&mut t), Ok(100));
        assert_eq!(next(&mut t), Err(Error::AddressInUse));
        t.release(101);
        assert_eq!(next(&mut t), Ok(101));
        t.connect(remote.ip(), None, addr("127.0.0.1:81")).expect("another remote has all ports");
    }

    #[test]
    fn releasing_what_is_not_claimed_is_harmless() {
        let mut t = table();
        t.release(1);
        t.disconnect(addr("127.0.0.1:1"), addr("127.0.0.1:2"));
        assert!(t.is_empty());
    }

    #[test]
    fn a_bind_does_not_take_the_port_of_a_connection() {
        let mut t = table();
        let remote = addr("127.0.0.1:80");
        let local = t.connect(remote.ip(), None, remote).expect("free");
        assert_eq!(t.check_bind(local), Err(Error::AddressInUse));
        let on = |ip: &str| addr(&format!("{ip}:{}", local.port()));
        assert_eq!(t.check_bind(on("0.0.0.0")), Err(Error::AddressInUse));
        assert_eq!(t.check_bind(on("127.0.0.2")), Ok(()));
        assert_eq!(t.check_bind(on("[::]")), Ok(()), "the other family");
        t.disconnect(local, remote);
        assert_eq!(t.check_bind(local), Ok(()));
        // The port of a bound socket is shared as SO_REUSEADDR has it.
        let bound = t.connect(remote.ip(), Some(50_000), remote).expect("first");
        assert_eq!(t.check_bind(bound), Ok(()));
    }

    #[test]
    fn one_destination_takes_every_port_once() {
        let mut t = Ports::<()>::new(32768..=60999);
        let remote = addr("127.0.0.1:80");
        t.claim(40_000);
        let ports: HashSet<u16> = (1..t.ephemeral.len())
            .map(|_| t.connect(remote.ip(), None, remote).expect("free").port())
            .collect();
        assert_eq!(ports.len(), 28_231);
        assert_eq!(t.connect(remote.ip(), None, remote), Err(Error::AddressInUse));
        t.disconnect(addr("127.0.0.1:33333"), remote);
        assert_eq!(t.connect(remote.ip(), None, remote), Ok(addr("127.0.0.1:33333")));
        t.release(40_000);
        ports.iter().for_each(|port| t.disconnect(SocketAddr::new(remote.ip(), *port), remote));
        assert!(t.is_empty());
    }

    #[test]
    fn the_kernels_ephemeral_ports_are_left_to_it() {
        for (kernel, left) in [
            (32768..=49151, 49152..=65535),
            (32768..=60999, 61000..=65535),
            (50000..=65535, 49152..=49999),
            (49152..=65535, EMPTY),
            (1..=65535, EMPTY),
            (50000..=50999, 51000..=65535),
            (64000..=64999, 49152..=63999),
            (EMPTY, EPHEMERAL_PORTS),
        ] {
            let beside = beside(EPHEMERAL_PORTS, kernel.clone());
            assert!(beside == left || (beside.is_empty() && left.is_empty()), "{kernel:?}: {beside:?}");
        }
        let mut t = Ports::<()>::new(EMPTY);
        let remote = addr("127.0.0.1:80");
        assert_eq!(t.connect(remote.ip(), None, remote), Err(Error::AddressInUse));
        assert!(t.is_empty());
    }

    #[derive(Debug, Clone)]
    enum Op {
        Listen(SocketAddr),
        Unlisten(usize),
        Claim(u16),
        Release(usize),
        Connect(Option<u16>, SocketAddr),
        Disconnect(usize),
    }

    fn any_addr() -> impl Strategy<Value = SocketAddr> {
        let ip = prop_oneof![
            Just("0.0.0.0"),
            Just("127.0.0.1"),
            Just("10.0.0.2"),
            Just("::"),
            Just("::1"),
            Just("fd00::2")
        ];
        (ip, 1000u16..1003).prop_map(|(ip, port)| SocketAddr::new(ip.parse().expect("ip"), port))
    }

    fn any_op() -> impl Strategy<Value = Op> {
        prop_oneof![
            any_addr().prop_map(Op::Listen),
            any::<usize>().prop_map(Op::Unlisten),
            (100u16..108).prop_map(Op::Claim),
            any::<usize>().prop_map(Op::Release),
            (proptest::option::of(100u16..108), any_addr()).prop_map(|(p, a)| Op::Connect(p, a)),
            any::<usize>().prop_map(Op::Disconnect),
        ]
    }

    proptest! {
        /// Against a model of plain lists, with every rule written out.
        #[test]
        fn behaves_like_the_model(ops in proptest::collection::vec(any_op(), 0..120)) {
            let mut table = Ports::<usize>::new(100..=107);
            let mut listeners: Vec<(SocketAddr, usize)> = Vec::new();
            let mut claims: Vec<u16> = Vec::new();
            let mut connections: Vec<(SocketAddr, SocketAddr)> = Vec::new();
            // Of each connection: whether its port is an ephemeral one.
            let mut chosen: Vec<bool> = Vec::new();
            for (serial, op) in ops.into_iter().enumerate() {
                match op {
                    Op::Listen(a) => {
                        let taken = listeners.iter().any(|(b, _)| {
                            b.port() == a.port() && b.is_ipv4() == a.is_ipv4()
                                && (b.ip() == a.ip() || b.ip().is_unspecified() || a.ip().is_unspecified())
                        });
                        prop_assert_eq!(table.listen(a, serial).is_err(), taken);
                        if !taken {
                            listeners.push((a, serial));
                        }
                    }
                    Op::Unlisten(i) if !listeners.is_empty() => {
                        let (a, l) = listeners.remove(i % listeners.len());
                        prop_assert_eq!(table.unlisten(a), Some(l));
                    }
                    Op::Claim(p) => {
                        table.claim(p);
                        claims.push(p);
                    }
                    Op::Release(i) if !claims.is_empty() => {
                        table.release(claims.remove(i % claims.len()));
                    }
                    Op::Connect(bound, remote) => {
                        let ip = remote.ip();
                        let used = |p: u16| connections.contains(&(SocketAddr::new(ip, p), remote));
                        match table.connect(ip, bound, remote) {
                            Ok(local) => {
                                prop_assert_eq!(local.ip(), ip);
                                prop_assert!(!used(local.port()));
                                match bound {
                                    Some(p) => prop_assert_eq!(local.port(), p),
                                    None => {
                                        prop_assert!((100..=107).contains(&local.port()));
                                        prop_assert!(!claims.contains(&local.port()));
                                    }
                                }
                                connections.push((local, remote));
                                chosen.push(bound.is_none());
                            }
                            Err(Error::AddressNotBindable) => prop_assert!(used(bound.expect("bound"))),
                            Err(e) => {
                                prop_assert_eq!(e, Error::AddressInUse);
                                prop_assert!((100..=107).all(|p| used(p) || claims.contains(&p)));
                            }
                        }
                    }
                    Op::Disconnect(i) if !connections.is_empty() => {
                        chosen.remove(i % connections.len());
                        let (l, r) = connections.remove(i % connections.len());
                        table.disconnect(l, r);
                    }
                    _ => {}
                }
                for ip in ["0.0.0.0", "127.0.0.1", "10.0.0.2", "::", "::1"] {
                    let ip: IpAddr = ip.parse().expect("ip");
                    for port in 99..109 {
                        let taken = connections.iter().zip(&chosen).any(|((local, _), chosen)| {
                            *chosen && local.port() == port && local.is_ipv4() == ip.is_ipv4()
                                && (local.ip() == ip || ip.is_unspecified())
                        });
                        prop_assert_eq!(table.check_bind(SocketAddr::new(ip, port)).is_err(), taken);
                    }
                }
                for probe in ["127.0.0.1", "10.0.0.2", "::1", "fd00::2"] {
                    for port in 1000..1003 {
                        let probe = SocketAddr::new(probe.parse().expect("ip"), port);
                        let expected = listeners.iter().find(|(a, _)| {
                            a.port() == port && a.is_ipv4() == probe.is_ipv4()
                                && (a.ip() == probe.ip() || a.ip().is_unspecified())
                        });
                        prop_assert_eq!(table.lookup(probe), expected.map(|(_, l)| l));
                    }
                }
            }
            prop_assert_eq!(
                table.is_empty(),
                listeners.is_empty() && claims.is_empty() && connections.is_empty()
            );
        }
    }
}
