//! `--pcap`: the memory plane's traffic as a capture file, for tcpdump and Wireshark.
//!
//! ```text
//!  containers' thread                                       │ writer thread
//!  memory::Connection ─► Tap ─► Flow ─► Segment ─┐          │
//!                             (pure: sequence    ├─► queue ─┼─► encode ─► write(2)
//!                              numbers, FIN, RST)│  bounded │   headers,
//!  UDP ────────────────────────────── datagram ──┘  bytes   │   checksums
//! ```
//!
//! What never was a packet is shown as the packets that the kernel's loopback would have carried. A write to a
//! connection becomes data segments and their acknowledgement, at the moment when the data is put where
//! its reader finds it: one look, on the writer's side, sees both ends. Headers are made on the
//! writer thread; the containers pay for a clock reading and a place in the queue.
//!
//! Recording holds nobody up: what finds no room in the queue is left out and counted. Sequence numbers go on
//! as if it had been recorded, so that Wireshark shows the gap ("previous segment not captured"). When the
//! file cannot be written any more, recording ends and the pod goes on.
//!
//! The kernel plane is the kernel's: `nsenter -t PID -n tcpdump -i any` shows it.

mod encode;
mod flow;
mod queue;
mod tap;
mod writer;

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use self::encode::{Body, Packet};
use self::queue::Queue;
pub(super) use self::tap::{Kept, Tap};

/// How long the end of a pod waits for whoever reads the capture, such as Wireshark behind a pipe.
const LAST_PACKETS: Duration = Duration::from_secs(5);

/// A capture that goes on; clones are the same.
#[derive(Debug, Clone)]
pub struct Capture {
    queue: Arc<Queue>,
    /// Connections so far: makes their first sequence numbers differ.
    connections: Arc<AtomicU32>,
}

/// What became of a capture.
#[derive(Debug)]
pub struct Summary {
    /// Packets in the file.
    pub written: u64,
    /// Packets that found no room in the queue, or came after an error.
    pub dropped: u64,
    /// Why the file ends before the pod did.
    pub error: Option<io::Error>,
}

/// The capture's owner: ends it.
#[derive(Debug)]
pub struct Recording {
    capture: Capture,
    writer: JoinHandle<(u64, Option<io::Error>)>,
}

impl Recording {
    /// Begins to record to `file`, which gets the file header at once.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(file: File) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let writer = {
            let queue = queue.clone();
            std::thread::Builder::new().name("pcap".to_owned()).spawn(move || writer::run(file, &queue))?
        };
        Ok(Self { capture: Capture { queue, connections: Arc::default() }, writer })
    }

    /// What the network records with.
    pub fn capture(&self) -> Capture {
        self.capture.clone()
    }

    /// Ends the capture when everything is written; `None` when whoever reads the file does not, for too long.
    pub fn finish(self) -> Option<Summary> {
        // Otherwise it hangs in write(2), and goes with the process.
        let dropped = self.capture.queue.close(LAST_PACKETS)?;
        let (written, error) = self.writer.join().ok()?;
        Some(Summary { written, dropped, error })
    }
}

impl Capture {
    /// Records a datagram from `source` to `destination`.
    pub(super) fn datagram(&self, source: SocketAddr, destination: SocketAddr, payload: Bytes) {
        self.push(source, destination, Body::Udp, payload);
    }

    fn push(&self, source: SocketAddr, destination: SocketAddr, body: Body, payload: Bytes) {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.queue.push(Packet { at, source, destination, body, payload });
    }

    /// The first sequence numbers of a connection's client and server.
    fn initial_sequence(&self) -> [u32; 2] {
        // An odd factor: no two of 2^32 are the same, and those that follow each other are far apart, so that
        // an address that is used again is not taken for a retransmission.
        let number = self.connections.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9);
        [number, number.rotate_left(16)]
    }
}

#[cfg(test)]
mod tests;
