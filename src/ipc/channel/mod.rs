//! Channels: bounded, ordered streams of messages from many to one of many, or to all.
//!
//! ```text
//!  Sender ──send──► Shared: state ──receive──► Receiver
//!    ▲ room: `writable`      readable: `readable` ▲
//!    └── dropped: the last one ends the stream    └── dropped: the last one breaks it (EPIPE)
//! ```
//!
//! A channel is there as long as an end of it is.

mod state;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use self::state::{Id, State};
use super::handle::{Handle, Place};
use super::holders::Holders;
use super::wait;
use super::{Errno, Ipc, Name, Result};

/// Who receives a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// One of the receivers.
    ToOne,
    /// All of them.
    ToAll,
}

/// What a channel is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Who receives a message.
    pub delivery: Delivery,
    /// Messages in it at most.
    pub max_messages: u32,
    /// Bytes of a message at most.
    pub message_size: u32,
}

impl Default for Attributes {
    /// As the WIT says: 256 KiB when it is full.
    fn default() -> Self {
        Self { delivery: Delivery::ToOne, max_messages: 64, message_size: 4096 }
    }
}

impl Attributes {
    /// Bytes of a channel that is full.
    fn bytes(self) -> u64 {
        u64::from(self.max_messages) * u64::from(self.message_size)
    }
}

/// The pod's channels.
#[derive(Debug, Default)]
pub(super) struct Table {
    by_name: Mutex<BTreeMap<Name, Weak<Shared>>>,
    /// Bytes of all channels when they are full, also of those without a name.
    bytes: AtomicU64,
}

/// A channel of the pod.
#[derive(Debug)]
struct Shared {
    name: Name,
    bytes: u64,
    ipc: Arc<Ipc>,
    state: Mutex<State<Bytes>>,
    readable: Notify,
    writable: Notify,
    holders: Arc<Holders>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State<Bytes>> {
        lock(&self.state)
    }
}

impl Drop for Shared {
    /// The last end goes, and the name with it, if it is not another channel's by now.
    fn drop(&mut self) {
        let table = &self.ipc.channels;
        table.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        let mut by_name = lock(&table.by_name);
        if by_name.get(&self.name).is_some_and(|channel| channel.strong_count() == 0) {
            by_name.remove(&self.name);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Handle {
    /// Opens an end for messages to go in; makes the channel where there is none.
    ///
    /// # Errors
    /// [`Errno::Invalid`], [`Errno::NoSpace`], [`Errno::TooManyHandles`].
    pub fn open_sender(&self, name: &Name, attributes: Option<Attributes>) -> Result<Sender> {
        let (shared, place) = self.channel(name, attributes)?;
        shared.lock().add_sender();
        Ok(Sender(Arc::new(SenderEnd { shared, place })))
    }

    /// Opens an end for messages to come out of, as [`Self::open_sender`].
    ///
    /// # Errors
    /// As [`Self::open_sender`].
    pub fn open_receiver(&self, name: &Name, attributes: Option<Attributes>) -> Result<Receiver> {
        let (shared, place) = self.channel(name, attributes)?;
        let id = shared.lock().add_receiver();
        shared.writable.notify_waiters();
        Ok(Receiver(Arc::new(ReceiverEnd { shared, id, place })))
    }

    fn channel(&self, name: &Name, attributes: Option<Attributes>) -> Result<(Arc<Shared>, Place)> {
        let place = self.place()?;
        let limits = &self.ipc.limits;
        // Dropped after the lock: the last end of a channel wants it too.
        let found;
        let mut by_name = lock(&self.ipc.channels.by_name);
        found = by_name.get(name).and_then(Weak::upgrade);
        if let Some(shared) = &found {
            let delivery = shared.lock().attributes().delivery;
            if attributes.is_some_and(|wanted| wanted.delivery != delivery) {
                drop(by_name);
                return Err(Errno::Invalid);
            }
            return Ok((Arc::clone(shared), place.of(&shared.holders)));
        }
        let attributes = attributes.unwrap_or_default();
        if attributes.max_messages == 0 || attributes.message_size == 0 {
            return Err(Errno::Invalid);
        }
        let bytes = attributes.bytes();
        let room = |used: u64| Some(used + bytes).filter(|used| *used <= limits.channel_bytes);
        if by_name.len() as u64 >= limits.channels
            || u64::from(attributes.message_size) > limits.channel_message_size
            || self.ipc.channels.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err()
        {
            return Err(Errno::NoSpace);
        }
        let shared = Arc::new(Shared {
            name: name.clone(),
            bytes,
            ipc: Arc::clone(&self.ipc),
            state: Mutex::new(State::new(attributes)),
            readable: Notify::new(),
            writable: Notify::new(),
            holders: Arc::default(),
        });
        by_name.insert(name.clone(), Arc::downgrade(&shared));
        let place = place.of(&shared.holders);
        Ok((shared, place))
    }

    /// Removes a channel's name; its ends go on.
    ///
    /// # Errors
    /// [`Errno::NoEntry`].
    pub fn unlink_channel(&self, name: &Name) -> Result<()> {
        unlink(&self.ipc.channels, name)
    }
}

pub(super) fn unlink(table: &Table, name: &Name) -> Result<()> {
    lock(&table.by_name).remove(name).map(drop).ok_or(Errno::NoEntry)
}

/// A channel as it is now.
pub(super) struct Listed {
    pub(super) name: Name,
    pub(super) attributes: Attributes,
    pub(super) messages: usize,
    pub(super) senders: usize,
    pub(super) receivers: usize,
    pub(super) containers: Vec<String>,
}

pub(super) fn list(table: &Table) -> Vec<Listed> {
    let channels: Vec<_> = lock(&table.by_name).values().filter_map(Weak::upgrade).collect();
    let row = |shared: Arc<Shared>| {
        let state = shared.lock();
        let (senders, receivers) = state.ends();
        let (attributes, messages) = (state.attributes(), state.len());
        let (name, containers) = (shared.name.clone(), shared.holders.names());
        Listed { name, attributes, messages, senders, receivers, containers }
    };
    channels.into_iter().map(row).collect()
}

/// The end of a channel that messages go in; clones are the same end.
#[derive(Debug, Clone)]
pub struct Sender(Arc<SenderEnd>);

#[derive(Debug)]
struct SenderEnd {
    shared: Arc<Shared>,
    place: Place,
}

impl Drop for SenderEnd {
    fn drop(&mut self) {
        self.shared.lock().remove_sender();
        self.shared.readable.notify_waiters();
    }
}

impl Sender {
    /// What the channel is like.
    pub fn attributes(&self) -> Attributes {
        self.0.shared.lock().attributes()
    }

    /// Sends a message if there is room.
    ///
    /// # Errors
    /// [`Errno::Again`], [`Errno::Canceled`], [`Errno::MessageSize`], [`Errno::Pipe`].
    pub fn try_send(&self, mut message: Bytes) -> Result<()> {
        wait::at_once(self.0.place.handle(), self.attempt(&mut message))
    }

    /// Whether a message could be sent.
    ///
    /// # Errors
    /// [`Errno::Again`], [`Errno::Canceled`], [`Errno::Pipe`].
    pub fn check_room(&self) -> Result<()> {
        wait::at_once(self.0.place.handle(), self.0.shared.lock().check_writable())
    }

    /// Sends a message, waits for room.
    ///
    /// # Errors
    /// [`Errno::Canceled`], [`Errno::TimedOut`], [`Errno::MessageSize`], [`Errno::Pipe`], [`Errno::NoMemory`].
    pub async fn send(&self, mut message: Bytes, timeout: Option<Duration>) -> Result<()> {
        let writable = || self.0.shared.writable.notified();
        wait::until(self.0.place.handle(), timeout, writable, || self.attempt(&mut message)).await
    }

    /// Sends the message and leaves an empty one.
    fn attempt(&self, message: &mut Bytes) -> Result<()> {
        let shared = &self.0.shared;
        let mut state = shared.lock();
        if message.len() > state.attributes().message_size as usize {
            return Err(Errno::MessageSize);
        }
        // Not a clone: what is shared has to be counted, in memory of its own.
        state.check_writable()?;
        state.send(std::mem::take(message))?;
        drop(state);
        shared.readable.notify_waiters();
        Ok(())
    }

    /// Ends when there is room, or nobody receives, or the container is asked to end.
    pub async fn ready(&self) {
        let shared = &self.0.shared;
        let is_ready = || shared.lock().check_writable() != Err(Errno::Again);
        wait::ready(self.0.place.handle(), || shared.writable.notified(), is_ready).await;
    }
}

/// The end of a channel that messages come out of; clones are the same end.
#[derive(Debug, Clone)]
pub struct Receiver(Arc<ReceiverEnd>);

#[derive(Debug)]
struct ReceiverEnd {
    shared: Arc<Shared>,
    id: Id,
    place: Place,
}

impl Drop for ReceiverEnd {
    fn drop(&mut self) {
        self.shared.lock().remove_receiver(self.id);
        self.shared.writable.notify_waiters();
    }
}

impl Receiver {
    /// What the channel is like.
    pub fn attributes(&self) -> Attributes {
        self.0.shared.lock().attributes()
    }

    /// Receives a message if there is one; `None` at the end of the stream.
    ///
    /// # Errors
    /// [`Errno::Again`], [`Errno::Canceled`].
    pub fn try_receive(&self) -> Result<Option<Bytes>> {
        wait::at_once(self.0.place.handle(), self.attempt())
    }

    /// Receives a message, waits for one; `None` at the end of the stream.
    ///
    /// # Errors
    /// [`Errno::Canceled`], [`Errno::TimedOut`], [`Errno::NoMemory`].
    pub async fn receive(&self, timeout: Option<Duration>) -> Result<Option<Bytes>> {
        let readable = || self.0.shared.readable.notified();
        wait::until(self.0.place.handle(), timeout, readable, || self.attempt()).await
    }

    fn attempt(&self) -> Result<Option<Bytes>> {
        let shared = &self.0.shared;
        let message = shared.lock().receive(self.0.id)?;
        shared.writable.notify_waiters();
        Ok(message)
    }

    /// Ends when there is a message or the end of the stream, or the container is asked to end.
    pub async fn ready(&self) {
        let shared = &self.0.shared;
        let is_ready = || shared.lock().check_readable(self.0.id).is_ok();
        wait::ready(self.0.place.handle(), || shared.readable.notified(), is_ready).await;
    }
}
