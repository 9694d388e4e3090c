//! Waiting for a number to be changed, as futex(2) does.
//!
//! ```text
//! wait: the number is the expected one ─► in the queue of its address ◄─ notify: containers in turn,
//!                                           │            ▲                 then FUTEX_WAKE: native processes
//!                                           └─ watched ──┴─ FUTEX_WAKE of a native process: all of them
//! ```

use std::sync::Arc;
use std::time::Duration;

use super::addresses::Ticket;
use super::{Segment, Shared, lock};
use crate::ipc::handle::Place;
use crate::ipc::{Errno, Result, wait};

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitResult {
    /// By `notify`, or by a native process.
    Notified,
    /// The number was not the expected one.
    Mismatch,
}

impl Segment {
    /// Waits for [`Self::notify`] where the number is the expected one.
    ///
    /// # Errors
    /// [`Errno::Canceled`], [`Errno::TimedOut`], [`Errno::Fault`], [`Errno::Invalid`], [`Errno::NoMemory`].
    pub async fn wait(&self, offset: u64, expected: u32, timeout: Option<Duration>) -> Result<WaitResult> {
        let waiting = self.begin_wait(offset, expected)?;
        if !waiting.is_waiting() {
            return Ok(WaitResult::Mismatch);
        }
        let words = &self.0.shared.words;
        let attempt = || if waiting.is_over() { Ok(WaitResult::Notified) } else { Err(Errno::Again) };
        wait::until(self.0.place.handle(), timeout, || words.notified.notified(), attempt).await
    }

    /// Begins to wait: see [`AddressWait::ready`]. It counts as a handle.
    ///
    /// # Errors
    /// [`Errno::Fault`], [`Errno::Invalid`], [`Errno::NoMemory`].
    pub fn begin_wait(&self, offset: u64, expected: u32) -> Result<AddressWait> {
        let place = self.0.place.handle().place().map_err(|_| Errno::NoMemory)?;
        let shared = Arc::clone(&self.0.shared);
        let mut addresses = lock(&shared.words.addresses);
        let now = self.load_u32(offset)?;
        let ticket = (now == expected).then(|| addresses.enqueue(offset, expected));
        let is_new = ticket.is_some() && addresses.watch(offset);
        drop(addresses);
        let wait = AddressWait { shared, ticket, place };
        if is_new {
            let shared = &wait.shared;
            let watched = shared.ipc.memory.watcher.watch(&shared.words, offset);
            watched.inspect_err(|_| lock(&shared.words.addresses).unwatch(offset))?;
        }
        Ok(wait)
    }

    /// Wakes up to `count` of those who wait at `offset`; how many.
    ///
    /// # Errors
    /// [`Errno::Fault`], [`Errno::Invalid`].
    pub fn notify(&self, offset: u64, count: u32) -> Result<u32> {
        self.load_u32(offset)?;
        let words = &self.0.shared.words;
        let (woken, taken) = {
            let mut addresses = lock(&words.addresses);
            let woken = addresses.notify(offset, count);
            // The thread that watches for native processes is one of those that the kernel wakes, and no one else.
            (woken, u32::from(woken < count && addresses.take(offset)))
        };
        if woken > 0 {
            words.notified.notify_waiters();
        }
        let left = count - woken;
        let native = if left > 0 { words.wake(offset, left.saturating_add(taken)) } else { 0 };
        Ok(woken + native.saturating_sub(taken).min(left))
    }
}

/// A wait on an address, ended by being dropped.
#[derive(Debug)]
pub struct AddressWait {
    shared: Arc<Shared>,
    /// None: the number was not the expected one.
    ticket: Option<Ticket>,
    place: Place,
}

impl AddressWait {
    fn is_waiting(&self) -> bool {
        self.ticket.is_some()
    }

    fn is_over(&self) -> bool {
        self.ticket.is_none_or(|ticket| lock(&self.shared.words.addresses).is_notified(ticket))
    }

    /// Ends when it is notified, or was never to wait, or the container is asked to end.
    pub async fn ready(&self) {
        let handle = self.place.handle();
        wait::ready(handle, || self.shared.words.notified.notified(), || self.is_over()).await;
    }
}

impl Drop for AddressWait {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            lock(&self.shared.words.addresses).remove(ticket);
        }
    }
}
