//! Waiting for a number to be changed, as futex(2) does.
//!
//! ```text
//! wait: the number is the expected one ─► in the queue of its address ◄─ notify: containers in turn,
//!                                                                           then FUTEX_WAKE: native processes
//! ```
//!
//! A native process's own FUTEX_WAKE does not come here: the kernel knows only threads that wait, and a thread for each
//! address that a container waits on is more than a pod may cost.

use std::sync::Arc;
use std::time::Duration;

use super::addresses::Ticket;
use super::{Segment, Shared, lock};
use crate::ipc::handle::Place;
use crate::ipc::{Errno, Result, wait};

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitResult {
    /// By `notify`.
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
        let shared = &self.0.shared;
        let attempt = || if waiting.is_over() { Ok(WaitResult::Notified) } else { Err(Errno::Again) };
        wait::until(self.0.place.handle(), timeout, || shared.notified.notified(), attempt).await
    }

    /// Begins to wait: see [`AddressWait::ready`]. It counts as a handle.
    ///
    /// # Errors
    /// [`Errno::Fault`], [`Errno::Invalid`], [`Errno::NoMemory`].
    pub fn begin_wait(&self, offset: u64, expected: u32) -> Result<AddressWait> {
        let place = self.0.place.handle().place().map_err(|_| Errno::NoMemory)?;
        let shared = Arc::clone(&self.0.shared);
        let mut addresses = lock(&shared.addresses);
        let now = self.load_u32(offset)?;
        let ticket = (now == expected).then(|| addresses.enqueue(offset));
        drop(addresses);
        Ok(AddressWait { shared, ticket, place })
    }

    /// Wakes up to `count` of those who wait at `offset`; how many.
    ///
    /// # Errors
    /// [`Errno::Fault`], [`Errno::Invalid`].
    pub fn notify(&self, offset: u64, count: u32) -> Result<u32> {
        self.load_u32(offset)?;
        let shared = &self.0.shared;
        let woken = lock(&shared.addresses).notify(offset, count);
        shared.notified.notify_waiters();
        let native = match &*lock(&shared.mapping) {
            Some(mapping) => mapping.wake(offset as usize, count - woken),
            None => 0,
        };
        Ok(woken + native)
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
        self.ticket.is_none_or(|ticket| lock(&self.shared.addresses).is_notified(ticket))
    }

    /// Ends when it is notified, or was never to wait, or the container is asked to end.
    pub async fn ready(&self) {
        let handle = self.place.handle();
        wait::ready(handle, || self.shared.notified.notified(), || self.is_over()).await;
    }
}

impl Drop for AddressWait {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            lock(&self.shared.addresses).remove(ticket);
        }
    }
}
