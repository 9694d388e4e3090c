//! Which container's socket a datagram to one of the pod's own addresses is for. Pure: no kernel, no clock,
//! no I/O.
//!
//! A hit has to be the socket that the kernel would choose among all sockets of the namespace; a miss is
//! always right, as the datagram then takes the kernel plane. UDP sockets share no address here (nobody sets
//! SO_REUSEADDR), so that a hit is easily had: on exactly the address, else on the wildcard, and for a
//! connected socket from its peer only (`udp(7)`; compute_score in the kernel's net/ipv4/udp.c).
//!
//! The exception are sockets that the kernel widened: a socket bound to the wildcard gets a specific address
//! with connect, others may then bind other addresses on the port, and disconnect makes it the wildcard
//! again. From then on addresses of the port may overlap with native processes' that only the kernel knows,
//! and it judges alone until the socket is closed.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::inbox::Inbox;
use crate::net::addr::Family;

/// An address without IPv6 flow label and scope.
type Key = (IpAddr, u16);

fn key(addr: SocketAddr) -> Key {
    (addr.ip(), addr.port())
}

/// The wildcard address of the family, on the same port.
fn wildcard(addr: SocketAddr) -> Key {
    (Family::of(addr.ip()).unspecified().ip(), addr.port())
}

/// Where a socket is bound, as the table knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The address that the kernel has for it now.
    pub(super) local: SocketAddr,
    /// The only sender it hears, when connected.
    pub(super) remote: Option<SocketAddr>,
    /// Whether the kernel alone judges on its port.
    pub(super) widened: bool,
}

#[derive(Debug)]
struct Entry {
    remote: Option<Key>,
    inbox: Arc<Inbox>,
}

/// The bound UDP sockets of a pod's containers.
#[derive(Debug, Default)]
pub(in crate::net) struct Table {
    entries: HashMap<Key, Entry>,
    /// Widened sockets per family and port, the family as its wildcard address.
    widened: HashMap<Key, u32>,
}

impl Table {
    pub(super) fn enter(&mut self, place: Place, inbox: &Arc<Inbox>) {
        if place.widened {
            *self.widened.entry(wildcard(place.local)).or_default() += 1;
        } else {
            let entry = Entry { remote: place.remote.map(key), inbox: inbox.clone() };
            self.entries.insert(key(place.local), entry);
        }
    }

    /// Takes [`Self::enter`] back, unless another socket has the place by now.
    pub(super) fn leave(&mut self, place: Place, inbox: &Arc<Inbox>) {
        if place.widened {
            let wildcard = wildcard(place.local);
            if let Some(count) = self.widened.get_mut(&wildcard) {
                *count -= 1;
                if *count == 0 {
                    self.widened.remove(&wildcard);
                }
            }
        } else {
            let local = key(place.local);
            if self.entries.get(&local).is_some_and(|entry| Arc::ptr_eq(&entry.inbox, inbox)) {
                self.entries.remove(&local);
            }
        }
    }

    /// The container's socket that a datagram is for; `None` leaves it to the kernel.
    pub(super) fn lookup(&self, source: SocketAddr, destination: SocketAddr) -> Option<&Arc<Inbox>> {
        let wildcard = wildcard(destination);
        if !self.widened.is_empty() && self.widened.contains_key(&wildcard) {
            return None;
        }
        let entry = self.entries.get(&key(destination)).or_else(|| self.entries.get(&wildcard))?;
        entry.remote.is_none_or(|remote| remote == key(source)).then_some(&entry.inbox)
    }

    #[cfg(test)]
    pub(in crate::net) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.widened.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect(text)
    }

    fn place(local: &str, remote: Option<&str>) -> Place {
        Place { local: addr(local), remote: remote.map(addr), widened: false }
    }

    struct World {
        table: Table,
        inboxes: Vec<Arc<Inbox>>,
    }

    impl World {
        fn new(places: &[Place]) -> Self {
            let mut world = Self { table: Table::default(), inboxes: Vec::new() };
            for place in places {
                let inbox = Arc::new(Inbox::default());
                world.table.enter(*place, &inbox);
                world.inboxes.push(inbox);
            }
            world
        }

        /// The index of the socket that gets it.
        fn lookup(&self, source: &str, destination: &str) -> Option<usize> {
            let found = self.table.lookup(addr(source), addr(destination))?;
            self.inboxes.iter().position(|inbox| Arc::ptr_eq(inbox, found))
        }
    }

    const STRANGER: &str = "127.0.0.1:9999";

    #[test]
    fn exactly_the_address_or_the_wildcard_of_its_family() {
        let world = World::new(&[
            place("127.0.0.1:53", None),
            place("10.0.0.2:53", None),
            place("0.0.0.0:54", None),
            place("[::]:53", None),
        ]);
        assert_eq!(world.lookup(STRANGER, "127.0.0.1:53"), Some(0));
        assert_eq!(world.lookup(STRANGER, "10.0.0.2:53"), Some(1));
        assert_eq!(world.lookup(STRANGER, "127.0.0.2:53"), None);
        assert_eq!(world.lookup(STRANGER, "127.0.0.2:54"), Some(2));
        assert_eq!(world.lookup("[::1]:1", "[::1]:53"), Some(3));
        assert_eq!(world.lookup("[::1]:1", "[::1]:54"), None, "IPv6 is a family of its own");
    }

    #[test]
    fn a_connected_socket_hears_its_peer_only() {
        let world = World::new(&[place("127.0.0.1:53", Some("127.0.0.1:1000"))]);
        assert_eq!(world.lookup("127.0.0.1:1000", "127.0.0.1:53"), Some(0));
        assert_eq!(world.lookup("127.0.0.2:1000", "127.0.0.1:53"), None);
        assert_eq!(world.lookup(STRANGER, "127.0.0.1:53"), None);
    }

    #[test]
    fn a_widened_socket_leaves_its_port_to_the_kernel_until_it_goes() {
        let widened = Place { widened: true, ..place("0.0.0.0:53", None) };
        let mut world = World::new(&[place("127.0.0.2:53", None), place("[::1]:53", None), widened]);
        assert_eq!(world.lookup(STRANGER, "127.0.0.2:53"), None);
        assert_eq!(world.lookup(STRANGER, "127.0.0.1:53"), None);
        assert_eq!(world.lookup("[::1]:1", "[::1]:53"), Some(1));
        world.table.leave(widened, &world.inboxes[2]);
        assert_eq!(world.lookup(STRANGER, "127.0.0.2:53"), Some(0));
    }

    #[test]
    fn a_place_that_is_anothers_by_now_stays() {
        let local = place("127.0.0.1:53", None);
        let mut world = World::new(&[local, local]);
        world.table.leave(local, &world.inboxes[0]);
        assert_eq!(world.lookup(STRANGER, "127.0.0.1:53"), Some(1));
        world.table.leave(local, &world.inboxes[1]);
        assert!(world.table.is_empty());
    }
}
