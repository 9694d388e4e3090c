//! What each container did on the network, counted by plane.
//!
//! ```text
//!  socket ─ Traffic::received, sent ─┐
//!  connect, accept, RST, drop ───────┼─► Meter: one per container name ─► Counters, on demand
//!  policy: denied ───────────────────┘   relaxed atomics, over restarts
//! ```
//!
//! A meter belongs to the pod's [`Stack`](super::Stack), not to a run of the container, so that it goes on counting
//! when the container is started again. Counting takes no lock and no memory. The counters are not read
//! at one instant: each is right by itself, and their sums are once the container is at rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Which way data takes: see the [module above](super).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plane {
    /// Between containers of the pod, without the kernel.
    Memory = 0,
    /// A kernel socket.
    Kernel = 1,
}

impl Plane {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Memory, Self::Kernel];
}

/// What is counted on each plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    /// Connections that the container opened, and that came to be.
    TcpOpened,
    /// Connections that it accepted.
    TcpAccepted,
    /// Connections that it wanted and was refused (ECONNREFUSED).
    TcpRefused,
    /// RST to the peer. Known on the memory plane only: the kernel does not tell.
    TcpResetsSent,
    /// RST from the peer. On the kernel plane: calls that failed with ECONNRESET.
    TcpResetsReceived,
    /// Bytes that it read.
    TcpBytesIn,
    /// Bytes that it wrote.
    TcpBytesOut,
    UdpDatagramsIn,
    UdpDatagramsOut,
    /// Datagrams for it that found its queue full, and on the memory plane those that nobody waited for.
    UdpDropped,
    UdpBytesIn,
    UdpBytesOut,
}

/// The variants of [`Count`].
const COUNTS: usize = Count::UdpBytesOut as usize + 1;

/// The counters of one container, named as it is.
#[derive(Debug)]
pub(super) struct Meter {
    container: String,
    counts: [[AtomicU64; COUNTS]; Plane::ALL.len()],
    denied: AtomicU64,
}

impl Meter {
    pub(super) fn new(container: &str) -> Self {
        Self { container: container.to_owned(), counts: Default::default(), denied: AtomicU64::new(0) }
    }

    /// The container's name.
    pub(super) fn container(&self) -> &str {
        &self.container
    }

    pub(super) fn add(&self, plane: Plane, count: Count, n: u64) {
        self.counts[plane as usize][count as usize].fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn count(&self, plane: Plane, count: Count) {
        self.add(plane, count, 1);
    }

    /// The policy said no.
    pub(super) fn denied(&self) {
        self.denied.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self, plane: Plane, count: Count) -> u64 {
        self.counts[plane as usize][count as usize].load(Ordering::Relaxed)
    }

    /// What was counted so far. The numbers of sockets that are open now are not known here, and 0.
    pub(super) fn read(&self) -> Counters {
        Counters {
            container: self.container.clone(),
            denied: self.denied.load(Ordering::Relaxed),
            planes: Plane::ALL.map(|plane| self.read_plane(plane)),
        }
    }

    fn read_plane(&self, plane: Plane) -> PlaneCounters {
        let get = |count| self.get(plane, count);
        PlaneCounters {
            tcp: TcpCounters {
                listening: 0,
                open: 0,
                opened: get(Count::TcpOpened),
                accepted: get(Count::TcpAccepted),
                refused: get(Count::TcpRefused),
                resets_sent: get(Count::TcpResetsSent),
                resets_received: get(Count::TcpResetsReceived),
                bytes_in: get(Count::TcpBytesIn),
                bytes_out: get(Count::TcpBytesOut),
            },
            udp: UdpCounters {
                open: 0,
                datagrams_in: get(Count::UdpDatagramsIn),
                datagrams_out: get(Count::UdpDatagramsOut),
                dropped: get(Count::UdpDropped),
                bytes_in: get(Count::UdpBytesIn),
                bytes_out: get(Count::UdpBytesOut),
            },
        }
    }
}

/// What went through one socket; counted for its container too.
#[derive(Debug)]
pub(super) struct Traffic {
    meter: Arc<Meter>,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Traffic {
    pub(super) fn new(meter: Arc<Meter>) -> Self {
        Self { meter, bytes_in: AtomicU64::new(0), bytes_out: AtomicU64::new(0) }
    }

    /// Of the container whose socket it is.
    pub(super) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// The container read so many bytes of a TCP connection.
    pub(super) fn received(&self, plane: Plane, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
        self.meter.add(plane, Count::TcpBytesIn, bytes as u64);
    }

    /// The container wrote so many bytes to a TCP connection.
    pub(super) fn sent(&self, plane: Plane, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
        self.meter.add(plane, Count::TcpBytesOut, bytes as u64);
    }

    /// The container was given a datagram of so many bytes.
    pub(super) fn datagram_received(&self, plane: Plane, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
        self.meter.count(plane, Count::UdpDatagramsIn);
        self.meter.add(plane, Count::UdpBytesIn, bytes as u64);
    }

    /// The container sent a datagram of so many bytes.
    pub(super) fn datagram_sent(&self, plane: Plane, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
        self.meter.count(plane, Count::UdpDatagramsOut);
        self.meter.add(plane, Count::UdpBytesOut, bytes as u64);
    }

    /// (received, sent), bytes.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.bytes_in.load(Ordering::Relaxed), self.bytes_out.load(Ordering::Relaxed))
    }
}

/// The counters of one container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Its name.
    pub container: String,
    /// What the policy denied it: binds, connections, datagrams and lookups.
    pub denied: u64,
    /// By [`Plane`].
    pub planes: [PlaneCounters; Plane::ALL.len()],
}

/// The counters of one container on one plane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlaneCounters {
    /// TCP.
    pub tcp: TcpCounters,
    /// UDP.
    pub udp: UdpCounters,
}

/// TCP of one container on one plane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TcpCounters {
    /// Listeners now. One that accepts from both planes is counted on the kernel's, where its port is.
    pub listening: u64,
    /// Connections now, in every state.
    pub open: u64,
    /// Connections that the container opened.
    pub opened: u64,
    /// Connections that it accepted.
    pub accepted: u64,
    /// Connections that it wanted and was refused.
    pub refused: u64,
    /// RST to the peer; 0 on the kernel plane, where it is not known.
    pub resets_sent: u64,
    /// RST from the peer.
    pub resets_received: u64,
    /// Bytes that it read.
    pub bytes_in: u64,
    /// Bytes that it wrote.
    pub bytes_out: u64,
}

/// UDP of one container on one plane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UdpCounters {
    /// Bound sockets now. One that is on both planes is counted on the kernel's.
    pub open: u64,
    /// Datagrams that it was given.
    pub datagrams_in: u64,
    /// Datagrams that it sent.
    pub datagrams_out: u64,
    /// Datagrams for it that were dropped; 0 on the kernel plane, where it is not known.
    pub dropped: u64,
    /// Bytes of the datagrams that it was given.
    pub bytes_in: u64,
    /// Bytes of the datagrams that it sent.
    pub bytes_out: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_counted_once_and_in_its_place() {
        let meter = Arc::new(Meter::new("web"));
        for (n, count) in [
            Count::TcpOpened,
            Count::TcpAccepted,
            Count::TcpRefused,
            Count::TcpResetsSent,
            Count::TcpResetsReceived,
            Count::UdpDropped,
        ]
        .into_iter()
        .enumerate()
        {
            meter.add(Plane::Kernel, count, n as u64 + 1);
        }
        let traffic = Traffic::new(meter.clone());
        traffic.received(Plane::Kernel, 10);
        traffic.received(Plane::Kernel, 1);
        traffic.sent(Plane::Kernel, 20);
        traffic.datagram_received(Plane::Memory, 30);
        traffic.datagram_sent(Plane::Memory, 40);
        traffic.datagram_sent(Plane::Memory, 0);
        meter.denied();
        assert_eq!(traffic.bytes(), (41, 60));
        let counters = meter.read();
        assert_eq!((counters.container.as_str(), counters.denied), ("web", 1));
        let [memory, kernel] = counters.planes;
        assert_eq!(memory.tcp, TcpCounters::default());
        assert_eq!(
            kernel.tcp,
            TcpCounters {
                listening: 0,
                open: 0,
                opened: 1,
                accepted: 2,
                refused: 3,
                resets_sent: 4,
                resets_received: 5,
                bytes_in: 11,
                bytes_out: 20,
            }
        );
        assert_eq!(
            memory.udp,
            UdpCounters {
                datagrams_in: 1,
                datagrams_out: 2,
                bytes_in: 30,
                bytes_out: 40,
                ..Default::default()
            }
        );
        assert_eq!(kernel.udp, UdpCounters { dropped: 6, ..Default::default() });
    }
}
