//! Semaphores: counters of permits, served in turn.
//!
//! ```text
//! open ─► Semaphore (a run's) ─► Shared (the pod's): state, who is told of changes
//!           │ held                     ▲
//!           └── dropped: gives back ───┘
//! ```

mod state;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use self::state::{State, Ticket, VALUE_MAX};
use super::handle::{Handle, Place};
use super::holders::Holders;
use super::wait;
use super::{Errno, Name, Open, Result};

/// The pod's semaphores.
pub(super) type Table = Mutex<BTreeMap<Name, Arc<Shared>>>;

/// A semaphore of the pod.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Notify,
    holders: Arc<Holders>,
    /// Its handles that give back. The pod's limit on handles bounds them.
    handles: Mutex<Vec<Weak<Held>>>,
}

impl Shared {
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut lock(&self.state));
        self.changed.notify_waiters();
        result
    }

    pub(super) fn value(&self) -> u32 {
        lock(&self.state).free()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A run's handle on a semaphore; clones are the same handle.
#[derive(Debug, Clone)]
pub struct Semaphore(Arc<Held>);

/// Gives back what it holds.
#[derive(Debug)]
struct Held {
    shared: Arc<Shared>,
    undo: bool,
    /// Permits acquired and not released, where they are given back.
    permits: AtomicU32,
    place: Place,
}

impl Drop for Held {
    fn drop(&mut self) {
        let permits = self.permits.load(Ordering::Relaxed);
        if permits > 0 {
            self.shared.change(|state| state.give_back(permits));
        }
    }
}

impl Handle {
    /// Opens a semaphore. `undo`: whether what is acquired is given back with the handle.
    ///
    /// # Errors
    /// [`Errno::Invalid`], [`Errno::Exist`], [`Errno::NoEntry`], [`Errno::NoSpace`], [`Errno::TooManyHandles`].
    pub fn open_semaphore(&self, name: &Name, open: Open, initial: u32, undo: bool) -> Result<Semaphore> {
        if initial > VALUE_MAX {
            return Err(Errno::Invalid);
        }
        let place = self.place()?;
        let mut table = lock(&self.ipc.semaphores);
        let shared = match (table.get(name), open) {
            (Some(_), Open::Exclusive) => return Err(Errno::Exist),
            (Some(shared), _) => Arc::clone(shared),
            (None, Open::Existing) => return Err(Errno::NoEntry),
            (None, _) if table.len() as u64 >= self.ipc.limits.semaphores => return Err(Errno::NoSpace),
            (None, _) => {
                let state = Mutex::new(State::new(initial));
                let shared = Arc::new(Shared {
                    state,
                    changed: Notify::new(),
                    holders: Arc::default(),
                    handles: Mutex::default(),
                });
                table.insert(name.clone(), Arc::clone(&shared));
                shared
            }
        };
        let place = place.of(&shared.holders);
        let held = Arc::new(Held { shared, undo, permits: AtomicU32::new(0), place });
        if undo {
            let mut handles = lock(&held.shared.handles);
            handles.retain(|handle| handle.strong_count() > 0);
            handles.push(Arc::downgrade(&held));
        }
        Ok(Semaphore(held))
    }

    /// Removes a semaphore's name.
    ///
    /// # Errors
    /// [`Errno::NoEntry`].
    pub fn unlink_semaphore(&self, name: &Name) -> Result<()> {
        unlink(&self.ipc.semaphores, name)
    }
}

pub(super) fn unlink(table: &Table, name: &Name) -> Result<()> {
    lock(table).remove(name).map(drop).ok_or(Errno::NoEntry)
}

/// A semaphore as it is now.
pub(super) struct Listed {
    pub(super) name: Name,
    pub(super) value: u32,
    /// Who waits for it.
    pub(super) waiting: usize,
    pub(super) containers: Vec<String>,
    /// Permits that a container holds, and would give back.
    pub(super) held: BTreeMap<String, u64>,
}

pub(super) fn list(table: &Table) -> Vec<Listed> {
    let all: Vec<_> = lock(table).iter().map(|(name, shared)| (name.clone(), Arc::clone(shared))).collect();
    let row = |(name, shared): (Name, Arc<Shared>)| {
        // Dropped after the lock: the last handle may be among them.
        let handles: Vec<_> = lock(&shared.handles).iter().filter_map(Weak::upgrade).collect();
        let mut held = BTreeMap::new();
        for handle in &handles {
            let permits = handle.permits.load(Ordering::Relaxed);
            if permits > 0 {
                *held.entry(handle.place.container().to_string()).or_default() += u64::from(permits);
            }
        }
        let (value, waiting) = {
            let state = lock(&shared.state);
            (state.free(), state.waiting())
        };
        Listed { name, value, waiting, containers: shared.holders.names(), held }
    };
    all.into_iter().map(row).collect()
}

impl Semaphore {
    /// The permits that are there for somebody who comes now.
    pub fn value(&self) -> u32 {
        self.0.shared.value()
    }

    /// Acquires permits if they are there and nobody waits.
    ///
    /// # Errors
    /// [`Errno::Again`], [`Errno::Canceled`], [`Errno::Invalid`].
    pub fn try_acquire(&self, permits: u32) -> Result<()> {
        check(permits)?;
        if !lock(&self.0.shared.state).acquire(permits) {
            return wait::at_once(self.0.place.handle(), Err(Errno::Again));
        }
        self.acquired(permits);
        Ok(())
    }

    /// Acquires permits in turn. Dropping the future leaves the queue.
    ///
    /// # Errors
    /// [`Errno::Canceled`], [`Errno::TimedOut`], [`Errno::Invalid`], [`Errno::NoMemory`].
    pub async fn acquire(&self, permits: u32, timeout: Option<Duration>) -> Result<()> {
        check(permits)?;
        let shared = &self.0.shared;
        let mut turn = Turn { shared, ticket: None };
        wait::until(
            self.0.place.handle(),
            timeout,
            || shared.changed.notified(),
            || {
                let mut state = lock(&shared.state);
                let got = match turn.ticket {
                    Some(ticket) => state.take(ticket),
                    None => state.acquire(permits),
                };
                if got {
                    turn.ticket = None;
                    return Ok(());
                }
                if turn.ticket.is_none() {
                    turn.ticket = Some(state.enqueue(permits));
                }
                Err(Errno::Again)
            },
        )
        .await?;
        self.acquired(permits);
        Ok(())
    }

    fn acquired(&self, permits: u32) {
        if self.0.undo {
            self.0.permits.fetch_add(permits, Ordering::Relaxed);
        }
    }

    /// Gives permits back, or new ones.
    ///
    /// # Errors
    /// [`Errno::Overflow`], [`Errno::Invalid`].
    pub fn release(&self, permits: u32) -> Result<()> {
        check(permits)?;
        self.0.shared.change(|state| state.release(permits))?;
        let less = |held: u32| Some(held.saturating_sub(permits));
        let _ = self.0.permits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        Ok(())
    }

    /// Ends when a permit is there, or the container is asked to end.
    pub async fn ready(&self) {
        let shared = &self.0.shared;
        wait::ready(self.0.place.handle(), || shared.changed.notified(), || shared.value() > 0).await;
    }
}

fn check(permits: u32) -> Result<()> {
    if (1..=VALUE_MAX).contains(&permits) { Ok(()) } else { Err(Errno::Invalid) }
}

/// A place in the queue, given up when it is dropped.
struct Turn<'a> {
    shared: &'a Shared,
    ticket: Option<Ticket>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.shared.change(|state| state.cancel(ticket));
        }
    }
}
