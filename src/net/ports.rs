//! The pod's port table: which container listens where, which ports are bound, and which
//! memory-plane connections exist. Pure: no kernel, no clock, no I/O.
//!
//! Conflicts between binds are the kernel's to judge (every bind holds a real kernel socket); the
//! table answers what the kernel cannot: which listener of the pod a connection belongs to, and
//! which local port a connection that the kernel never sees gets.
//!
//! ```text
//! claim ─► listen ─► lookup (once per connect) ─► unlisten ─► release
//! connect: picks the local address, holds the 4-tuple ─► disconnect
//! ```
//!
//! The family of an address is part of it: an IPv6 socket of WASI never carries IPv4, so a listener
//! on `::` does not answer for `0.0.0.0`.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use super::addr::Family;
use super::{Error, Result};

/// Local ports of memory-plane connections: the range that IANA leaves to ephemeral ports
/// (RFC 6335, section 6). The sandbox keeps the kernel's own (`ip_local_port_range`) below it.
pub const EPHEMERAL_PORTS: RangeInclusive<u16> = 49152..=65535;

/// An address without IPv6 flow label and scope.
type Key = (IpAddr, u16);

fn key(addr: SocketAddr) -> Key {
    (addr.ip(), addr.port())
}

/// The table. `L` is what a listener is to the caller.
#[derive(Debug)]
pub struct Ports<L> {
    ephemeral: RangeInclusive<u16>,
    /// Where the next scan for an ephemeral port begins; rotates so that a port rests after use.
    next: u16,
    /// Sockets per bound port. A count, as SO_REUSEADDR lets sockets share one until one listens.
    claims: HashMap<u16, u32>,
    listeners: HashMap<Key, L>,
    /// (local, remote) of every memory-plane connection, as its client sees it.
    connections: HashSet<(Key, Key)>,
}

impl<L> Ports<L> {
    /// An empty table that hands out ephemeral ports from the range.
    pub fn new(ephemeral: RangeInclusive<u16>) -> Self {
        Self {
            next: *ephemeral.start(),
            ephemeral,
            claims: HashMap::new(),
            listeners: HashMap::new(),
            connections: HashSet::new(),
        }
    }

    /// Notes that a socket is bound to the port, so that no connection is given it.
    pub fn claim(&mut self, port: u16) {
        *self.claims.entry(port).or_default() += 1;
    }

    /// Takes one [`Self::claim`] back.
    pub fn release(&mut self, port: u16) {
        if let Some(count) = self.claims.get_mut(&port) {
            *count -= 1;
            if *count == 0 {
                self.claims.remove(&port);
            }
        }
    }

    /// Enters a listener.
    ///
    /// # Errors
    /// [`Error::AddressInUse`] when the address, the wildcard on its port, or (for the wildcard) any
    /// address on its port is taken.
    pub fn listen(&mut self, addr: SocketAddr, listener: L) -> Result<()> {
        let family = Family::of(addr.ip());
        let overlaps = |other: &Key| {
            other.1 == addr.port()
                && Family::of(other.0) == family
                && (other.0 == addr.ip() || other.0.is_unspecified() || addr.ip().is_unspecified())
        };
        if self.listeners.keys().any(overlaps) {
            return Err(Error::AddressInUse);
        }
        self.listeners.insert(key(addr), listener);
        Ok(())
    }

    /// Removes a listener.
    pub fn unlisten(&mut self, addr: SocketAddr) -> Option<L> {
        self.listeners.remove(&key(addr))
    }

    /// The listener for connections to the address: the one on exactly it, else on the wildcard.
    pub fn lookup(&self, addr: SocketAddr) -> Option<&L> {
        let wildcard = Family::of(addr.ip()).unspecified().ip();
        self.listeners.get(&key(addr)).or_else(|| self.listeners.get(&(wildcard, addr.port())))
    }

    /// Enters a memory-plane connection to `remote` and returns its local address: on `ip`, with the
    /// port the socket is bound to or else a free ephemeral one.
    ///
    /// # Errors
    /// [`Error::AddressNotBindable`] when exactly this connection exists already (EADDRNOTAVAIL, as
    /// Linux says), [`Error::AddressInUse`] when no ephemeral port is left.
    pub fn connect(&mut self, ip: IpAddr, bound: Option<u16>, remote: SocketAddr) -> Result<SocketAddr> {
        if let Some(port) = bound {
            if !self.connections.insert(((ip, port), key(remote))) {
                return Err(Error::AddressNotBindable);
            }
            return Ok(SocketAddr::new(ip, port));
        }
        let mut port = self.next;
        for _ in self.ephemeral.clone() {
            let following = if port == *self.ephemeral.end() { *self.ephemeral.start() } else { port + 1 };
            if !self.claims.contains_key(&port) && self.connections.insert(((ip, port), key(remote))) {
                self.next = following;
                return Ok(SocketAddr::new(ip, port));
            }
            port = following;
        }
        Err(Error::AddressInUse)
    }

    /// Forgets a connection of [`Self::connect`].
    pub fn disconnect(&mut self, local: SocketAddr, remote: SocketAddr) {
        self.connections.remove(&(key(local), key(remote)));
    }

    /// Whether nothing is bound, listening or connected.
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.listeners.is_empty() && self.connections.is_empty()
    }
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
                            }
                            Err(Error::AddressNotBindable) => prop_assert!(used(bound.expect("bound"))),
                            Err(e) => {
                                prop_assert_eq!(e, Error::AddressInUse);
                                prop_assert!((100..=107).all(|p| used(p) || claims.contains(&p)));
                            }
                        }
                    }
                    Op::Disconnect(i) if !connections.is_empty() => {
                        let (l, r) = connections.remove(i % connections.len());
                        table.disconnect(l, r);
                    }
                    _ => {}
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
