//! Packets on their way to the writer thread: bounded, and never in the way of who records.
//!
//! ```text
//!  push ─► [packets] ─► take: all of them
//!    └─ no room, or closed, or broken: dropped and counted
//! ```

use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::encode::Packet;

/// What may wait to be written, bytes: some milliseconds of a transfer at full speed, and little beside a
/// pod's memory limit, which it counts against.
pub(super) const QUEUE_BYTES: usize = 4 << 20;

/// What a packet takes besides its data, bytes.
const PACKET_BYTES: usize = mem::size_of::<Packet>();

/// How long packets are gathered before they are written: the writer wakes at most so often, and whoever
/// reads along is at most so far behind.
const GATHER: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
struct State {
    packets: Vec<Packet>,
    /// Of the packets, with [`PACKET_BYTES`] each.
    bytes: usize,
    dropped: u64,
    /// No more packets are wanted: the capture ends, or the file cannot be written.
    closed: bool,
    /// The writer thread has ended.
    done: bool,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a packet, or drops it. The lock is held by others for moments only: never while they write.
    pub(super) fn push(&self, packet: Packet) {
        let mut state = self.lock();
        let bytes = state.bytes + PACKET_BYTES + packet.payload.len();
        if state.closed || bytes > QUEUE_BYTES {
            state.dropped += 1;
            return;
        }
        let was_half_full = state.bytes > QUEUE_BYTES / 2;
        state.bytes = bytes;
        state.packets.push(packet);
        // The writer is asleep only when there was nothing, or until there is much.
        let wakes = state.packets.len() == 1 || (!was_half_full && bytes > QUEUE_BYTES / 2);
        drop(state);
        if wakes {
            self.changed.notify_all();
        }
    }

    /// Waits for packets and takes all of them into `batch`, which is empty. False: there will be no more.
    pub(super) fn take(&self, batch: &mut Vec<Packet>) -> bool {
        let nothing = |state: &mut State| state.packets.is_empty() && !state.closed;
        let state = self.changed.wait_while(self.lock(), nothing).unwrap_or_else(PoisonError::into_inner);
        let little = |state: &mut State| state.bytes <= QUEUE_BYTES / 2 && !state.closed;
        let (mut state, _) =
            self.changed.wait_timeout_while(state, GATHER, little).unwrap_or_else(PoisonError::into_inner);
        mem::swap(&mut state.packets, batch);
        state.bytes = 0;
        !batch.is_empty()
    }

    /// The file cannot be written: `lost` packets that were taken, and all that come, are dropped.
    pub(super) fn give_up(&self, lost: u64) {
        let mut state = self.lock();
        state.closed = true;
        state.dropped += lost + state.packets.len() as u64;
        state.packets = Vec::new();
        state.bytes = 0;
    }

    /// The writer's last call.
    pub(super) fn done(&self) {
        self.lock().done = true;
        self.changed.notify_all();
    }

    /// Ends the recording, waits until all is written, and says how many packets were dropped. `None`: it was
    /// not, for so long.
    pub(super) fn close(&self, patience: Duration) -> Option<u64> {
        let mut state = self.lock();
        state.closed = true;
        self.changed.notify_all();
        let waiting = |state: &mut State| !state.done;
        let waited = self.changed.wait_timeout_while(state, patience, waiting);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.done.then_some(state.dropped)
    }
}
