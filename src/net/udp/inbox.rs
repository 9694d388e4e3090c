//! What a UDP socket was sent on the memory plane and has not received yet.
//!
//! Bounded, and what has no room is dropped and counted: in bytes by the socket's receive buffer and by what
//! all sockets of its container hold, and in datagrams. Linux bounds the same by SO_RCVBUF and by
//! `net.ipv4.udp_mem`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::net::budget::Budget;
use crate::net::meter::{Count, Meter, Plane};
use crate::net::options::DEFAULT_BUFFER;
use crate::net::wakes::remember;

/// What a datagram costs besides its payload, in bytes: its place in the queue, its allocation, and their
/// growth. So that empty datagrams are bounded too; Linux charges 768.
const OVERHEAD: usize = 256;

/// Most datagrams in one queue: what a place in it costs is bounded whatever the receive buffer.
const MAX_DATAGRAMS: usize = 4096;

/// Places that an empty queue keeps, in datagrams: enough for talk, and little for a socket that rests.
const KEPT_PLACES: usize = 32;

/// Bytes that the UDP sockets of one container may have queued before each is held to [`TIGHT_CAPACITY`]: the
/// largest receive buffer there is.
const CONTAINER_PRESSURE: usize = 4 << 20;

/// Bytes that the UDP sockets of one container may have queued at all. Beyond it everything is dropped.
const CONTAINER_LIMIT: usize = 2 * CONTAINER_PRESSURE;

/// Bytes that a socket may queue even while others of its container hold too much: a page, as
/// `net.ipv4.udp_rmem_min`.
const TIGHT_CAPACITY: usize = 4096;

/// What the UDP sockets of one container have queued; clones are the same.
#[derive(Debug, Clone, Default)]
pub(in crate::net) struct Queued(Arc<AtomicUsize>);

impl Queued {
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// One datagram and who sent it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Datagram {
    pub(super) data: Vec<u8>,
    pub(super) from: SocketAddr,
}

impl Datagram {
    fn cost(&self) -> usize {
        self.data.capacity() + OVERHEAD
    }
}

/// What became of a datagram.
#[derive(Debug)]
pub(super) enum Delivery {
    /// Queued; the receiver waits no longer.
    Queued(Option<Waker>),
    /// There was no room.
    Dropped,
    /// The socket was closed meanwhile; here it is back.
    Closed(Datagram),
}

#[derive(Debug)]
struct Queue {
    datagrams: VecDeque<Datagram>,
    /// What they cost.
    bytes: usize,
    /// Most they may cost: the receive buffer.
    capacity: usize,
    /// Datagrams that had no room.
    dropped: u64,
    reader: Option<Waker>,
    closed: bool,
}

/// The memory plane's receive queue of one socket.
#[derive(Debug)]
pub(super) struct Inbox {
    queue: Mutex<Queue>,
    budget: Budget,
    container: Queued,
    meter: Arc<Meter>,
}

impl Inbox {
    pub(super) fn new(budget: Budget, container: Queued, meter: Arc<Meter>) -> Self {
        let queue = Queue {
            datagrams: VecDeque::new(),
            bytes: 0,
            capacity: DEFAULT_BUFFER,
            dropped: 0,
            reader: None,
            closed: false,
        };
        Self { queue: Mutex::new(queue), budget, container, meter }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_capacity(&self, bytes: usize) {
        self.lock().capacity = bytes;
    }

    /// Delivers a datagram in memory. The caller wakes, outside of its locks.
    pub(super) fn deliver(&self, datagram: Datagram) -> Delivery {
        let mut queue = self.lock();
        if queue.closed {
            return Delivery::Closed(datagram);
        }
        let cost = datagram.cost();
        if !self.has_room(&queue, cost) {
            queue.dropped += 1;
            self.meter.count(Plane::Memory, Count::UdpDropped);
            return Delivery::Dropped;
        }
        self.container.0.fetch_add(cost, Ordering::Relaxed);
        self.budget.replace(0, cost);
        queue.bytes += cost;
        queue.datagrams.push_back(datagram);
        Delivery::Queued(queue.reader.take())
    }

    /// [`Self::deliver`] without waking: who waits goes on waiting, to be woken for another reason.
    pub(super) fn keep(&self, datagram: Datagram) {
        if let Delivery::Queued(reader @ Some(_)) = self.deliver(datagram) {
            self.lock().reader = reader;
        }
    }

    /// As Linux, a socket that has nothing takes one datagram whatever its size.
    fn has_room(&self, queue: &Queue, cost: usize) -> bool {
        let held = self.container.0.load(Ordering::Relaxed);
        let mut capacity = self.budget.capacity(queue.capacity);
        if held + cost > CONTAINER_PRESSURE {
            capacity = capacity.min(TIGHT_CAPACITY);
        }
        held + cost <= CONTAINER_LIMIT
            && queue.datagrams.len() < MAX_DATAGRAMS
            && (queue.bytes == 0 || queue.bytes + cost <= capacity)
    }

    /// The oldest datagram.
    pub(super) fn take(&self) -> Option<Datagram> {
        let mut queue = self.lock();
        let datagram = queue.datagrams.pop_front()?;
        if queue.datagrams.is_empty() && queue.datagrams.capacity() > KEPT_PLACES {
            queue.datagrams = VecDeque::new();
        }
        let cost = datagram.cost();
        queue.bytes -= cost;
        self.give_back(cost);
        Some(datagram)
    }

    /// Waits until [`Self::take`] has an answer, or the socket was closed.
    pub(super) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut queue = self.lock();
        if !queue.datagrams.is_empty() || queue.closed {
            return Poll::Ready(());
        }
        remember(&mut queue.reader, cx.waker());
        Poll::Pending
    }

    /// What is queued, bytes of memory.
    pub(super) fn bytes(&self) -> u64 {
        self.lock().bytes as u64
    }

    /// Who waits, to be woken for another reason.
    pub(super) fn take_reader(&self) -> Option<Waker> {
        self.lock().reader.take()
    }

    /// Drops what is queued and takes no more. Returns who waits.
    pub(super) fn close(&self) -> Option<Waker> {
        let mut queue = self.lock();
        queue.closed = true;
        self.give_back(std::mem::take(&mut queue.bytes));
        queue.datagrams = VecDeque::new();
        queue.reader.take()
    }

    fn give_back(&self, bytes: usize) {
        self.container.0.fetch_sub(bytes, Ordering::Relaxed);
        self.budget.replace(bytes, 0);
    }

    #[cfg(test)]
    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().datagrams.len()
    }
}

#[cfg(test)]
impl Default for Inbox {
    fn default() -> Self {
        Self::new(Budget::default(), Queued::default(), Arc::new(Meter::new("test")))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::task::Wake;

    use super::*;

    fn inbox_of(budget: Budget, container: Queued) -> Inbox {
        Inbox::new(budget, container, Arc::new(Meter::new("test")))
    }

    fn datagram(len: usize) -> Datagram {
        Datagram { data: vec![7; len], from: "127.0.0.1:1".parse().expect("address") }
    }

    fn fits(inbox: &Inbox, len: usize) -> bool {
        matches!(inbox.deliver(datagram(len)), Delivery::Queued(_))
    }

    #[test]
    fn holds_its_capacity_and_counts_what_it_drops() {
        let inbox = Inbox::default();
        inbox.set_capacity(10 * (1000 + OVERHEAD));
        assert_eq!((0..20).filter(|_| fits(&inbox, 1000)).count(), 10);
        assert_eq!(inbox.dropped(), 10);
        assert_eq!(inbox.budget.held(), 10 * (1000 + OVERHEAD));
        assert_eq!(inbox.take().map(|d| d.data.len()), Some(1000));
        assert!(fits(&inbox, 1000) && !fits(&inbox, 0));
        inbox.close();
        assert_eq!((inbox.budget.held(), inbox.container.bytes()), (0, 0));
        assert!(matches!(inbox.deliver(datagram(3)), Delivery::Closed(back) if back == datagram(3)));
        assert_eq!(inbox.take(), None);
    }

    #[test]
    fn an_empty_queue_takes_one_of_any_size_and_empty_datagrams_are_bounded() {
        let inbox = Inbox::default();
        inbox.set_capacity(2304);
        assert!(fits(&inbox, 65_507) && !fits(&inbox, 0));
        assert!(inbox.take().is_some());
        inbox.set_capacity(usize::MAX);
        assert_eq!((0..2 * MAX_DATAGRAMS).filter(|_| fits(&inbox, 0)).count(), MAX_DATAGRAMS);
        while inbox.take().is_some() {}
        assert!(inbox.lock().datagrams.capacity() <= KEPT_PLACES);
    }

    #[test]
    fn a_container_that_hoards_has_a_limit_and_leaves_others_alone() {
        let (budget, hoarder) = (Budget::default(), Queued::default());
        let sockets: Vec<_> = (0..5000).map(|_| inbox_of(budget.clone(), hoarder.clone())).collect();
        for socket in &sockets {
            while fits(socket, 9000) {}
        }
        let held = hoarder.bytes();
        assert!((CONTAINER_PRESSURE..=CONTAINER_LIMIT).contains(&held), "{held}");
        assert_eq!(budget.held(), held);
        let other = inbox_of(budget.clone(), Queued::default());
        assert!((0..10).all(|_| fits(&other, 9000)));
        sockets.iter().for_each(|socket| drop(socket.close()));
        assert_eq!(hoarder.bytes(), 0);
    }

    #[test]
    fn under_the_pressure_of_one_socket_its_siblings_still_talk() {
        let container = Queued::default();
        let full = inbox_of(Budget::default(), container.clone());
        full.set_capacity(CONTAINER_PRESSURE);
        while fits(&full, 60_000) {}
        let fills_the_rest = inbox_of(Budget::default(), container.clone());
        while fits(&fills_the_rest, 1000) {}
        let sibling = inbox_of(Budget::default(), container);
        assert_eq!((0..10).filter(|_| fits(&sibling, 1000)).count(), TIGHT_CAPACITY / (1000 + OVERHEAD));
    }

    #[test]
    fn wakes_who_waits() {
        #[derive(Default)]
        struct Count(AtomicU32);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (inbox, count) = (Inbox::default(), Arc::new(Count::default()));
        let waker = Waker::from(count.clone());
        let mut cx = Context::from_waker(&waker);
        assert_eq!(inbox.poll_ready(&mut cx), Poll::Pending);
        let Delivery::Queued(Some(waiting)) = inbox.deliver(datagram(0)) else { panic!("nobody waits") };
        waiting.wake();
        assert_eq!(inbox.poll_ready(&mut cx), Poll::Ready(()));
        assert_eq!(inbox.take(), Some(datagram(0)));
        assert_eq!(inbox.poll_ready(&mut cx), Poll::Pending);
        inbox.close().expect("who waits").wake();
        assert_eq!(inbox.poll_ready(&mut cx), Poll::Ready(()));
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
    }
}
