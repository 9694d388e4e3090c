//! Waiting for an object to change.
//!
//! ```text
//! attempt ─ done ─► result
//!    ▲  └─ would wait ─► the object changes ──┐
//!    └────────────────────────────────────────┤
//!           the time is over ─► ETIMEDOUT     │
//!           the container is asked to end ─► ECANCELED
//! ```
//!
//! A guest that was not waiting when it was asked to end hears of it in its next wait, whatever its timeout, or
//! a loop of short waits would go on to its kill. After that a wait with a timeout is one again.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::handle::Handle;
use super::{Errno, Ipc, Result};

/// Repeats an attempt until it does not fail with [`Errno::Again`]. `changed` makes a future that ends when the object
/// changes after it was made.
pub(super) async fn until<T, F: Future<Output = ()>>(
    handle: &Handle,
    timeout: Option<Duration>,
    changed: impl Fn() -> F,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    let stoppable = !handle.is_stopping();
    let mut stopped = pin!(handle.stopped());
    let mut over = pin!(async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    });
    let mut waiting = None;
    loop {
        let changed = changed();
        match attempt() {
            Err(Errno::Again) => {}
            done => return done,
        }
        if waiting.is_none() {
            if !stoppable && (timeout.is_none() || !handle.was_told()) {
                return Err(handle.tell());
            }
            if timeout.is_some_and(|timeout| timeout.is_zero()) {
                return Err(Errno::TimedOut);
            }
            waiting = Some(Waiting::new(&handle.ipc)?);
        }
        tokio::select! {
            biased;
            () = changed => {}
            () = &mut stopped, if stoppable => return Err(handle.tell()),
            () = &mut over => return Err(Errno::TimedOut),
        }
    }
}

/// Ends when an attempt would not fail with [`Errno::Again`], or the container is asked to end: what a pollable waits
/// for. Bounded by the pollables that the guest has.
pub(super) async fn ready<F: Future<Output = ()>>(
    handle: &Handle,
    changed: impl Fn() -> F,
    is_ready: impl Fn() -> bool,
) {
    let mut stopped = pin!(handle.stopped());
    loop {
        let changed = changed();
        if is_ready() {
            return;
        }
        tokio::select! {
            biased;
            () = changed => {}
            () = &mut stopped => return,
        }
    }
}

/// What an attempt that does not wait says: [`Errno::Canceled`] in the place of [`Errno::Again`] once the container is
/// asked to end, as its pollables are ready then.
pub(super) fn at_once<T>(handle: &Handle, result: Result<T>) -> Result<T> {
    match result {
        Err(Errno::Again) if handle.is_stopping() => Err(handle.tell()),
        result => result,
    }
}

/// One of the pod's waits.
struct Waiting<'a>(&'a Ipc);

impl<'a> Waiting<'a> {
    fn new(ipc: &'a Ipc) -> Result<Self> {
        let limit = ipc.limits.waits as usize;
        let one_more = |waits: usize| (waits < limit).then_some(waits + 1);
        ipc.waits
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .map_err(|_| Errno::NoMemory)?;
        Ok(Self(ipc))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waits.fetch_sub(1, Ordering::Relaxed);
    }
}
