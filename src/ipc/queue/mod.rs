//! Message queues: the kernel's, of the pod's IPC namespace.
//!
//! ```text
//!  Queue ─ try ─► the kernel ◄─ native processes
//!    │  └─ EAGAIN ─► another container has sent, or received; or the event loop tells when the descriptor is
//!    │               readable, or writable ─► try again
//!    └─ send, where the kernel's queue is empty and a container waits to receive ─► that container
//! ```
//!
//! The last way spares the kernel's work for a message, which is most of what one takes, and shows nobody anything that
//! mq_send(3) to a process that waits would not: the queue is asked first whether it has messages, so that none that was
//! sent before is overtaken, of whatever priority.
//!
//! Opening, sending and receiving are the kernel's; the limits on what containers make are kept here. A queue counts
//! until it has no name and no container has it open. Queues of native processes do not count. The kernel's own limits
//! are raised to the pod's where they are in the way: those of the IPC namespace (`fs.mqueue.*`, else 10 messages of
//! 8192 bytes), which takes root, and that on all queues of a user (`RLIMIT_MSGQUEUE`, else 800 KiB), which takes
//! CAP_SYS_RESOURCE.

mod receivers;
mod table;

use std::ffi::CStr;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::errno::Errno as Kernel;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use self::receivers::{Message, Ticket};
use self::table::{Charge, Shared, is_there, lock, raise_limit, raise_namespace_limits};
use super::handle::{Handle, Place};
use super::wait;
use super::{Errno, Name, Open, Result};
use crate::sys::mqueue::MessageQueue;

pub(super) use self::table::{Table, list, unlink};
pub use crate::sys::mqueue::{Access, Attributes as QueueStatus};

/// Priorities are below (`MQ_PRIO_MAX`).
const PRIORITIES: u32 = 32_768;

/// Tries to open a queue that others make and remove at the same time.
const ATTEMPTS: usize = 8;

/// What a queue can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueAttributes {
    /// Messages at most.
    pub max_messages: u32,
    /// Bytes of a message at most.
    pub message_size: u32,
}

impl Default for QueueAttributes {
    /// Linux's (`fs.mqueue.msg_default`, `msgsize_default`).
    fn default() -> Self {
        Self { max_messages: 10, message_size: 8192 }
    }
}

impl Handle {
    /// Opens a message queue.
    ///
    /// # Errors
    /// [`Errno::Access`], [`Errno::Exist`], [`Errno::Invalid`], [`Errno::NoEntry`], [`Errno::NoSpace`],
    /// [`Errno::NotSupported`], [`Errno::TooManyHandles`].
    pub fn open_queue(
        &self,
        name: &Name,
        access: Access,
        open: Open,
        attributes: Option<QueueAttributes>,
    ) -> Result<Queue> {
        let place = self.file_place()?;
        let c_name = name.to_c()?;
        for _ in 0..ATTEMPTS {
            if open != Open::Exclusive {
                match MessageQueue::open(&c_name, access, None) {
                    Ok(queue) => {
                        let charge = lock(&self.ipc.queues.made).get(name).cloned();
                        return Queue::new(queue, access, charge, place);
                    }
                    Err(error) if is(&error, Kernel::ENOENT) && open == Open::Create => {}
                    Err(error) => return Err(error.into()),
                }
            }
            match self.make_queue(name, &c_name, access, attributes.unwrap_or_default()) {
                Ok((queue, charge)) => return Queue::new(queue, access, Some(charge), place),
                Err(Errno::Exist) if open == Open::Create => {}
                Err(error) => return Err(error),
            }
        }
        Err(Errno::Again)
    }

    fn make_queue(
        &self,
        name: &Name,
        c_name: &CStr,
        access: Access,
        attributes: QueueAttributes,
    ) -> Result<(MessageQueue, Arc<Charge>)> {
        let limits = &self.ipc.limits;
        let QueueAttributes { max_messages, message_size } = attributes;
        if max_messages == 0 || message_size == 0 {
            return Err(Errno::Invalid);
        }
        let (messages, size) = (u64::from(max_messages), u64::from(message_size));
        if messages > limits.queue_messages || size > limits.queue_message_size {
            return Err(Errno::NoSpace);
        }
        let mut made = lock(&self.ipc.queues.made);
        if made.len() as u64 >= limits.queues {
            made.retain(|name, _| is_there(name));
        }
        if made.len() as u64 >= limits.queues {
            return Err(Errno::NoSpace);
        }
        self.ipc.queues.limit_raised.call_once(raise_limit);
        let charge = Charge::new(&self.ipc, messages * size)?;
        let open = || MessageQueue::open(c_name, access, Some((max_messages, message_size)));
        let queue = open().or_else(|error| {
            // Beyond the kernel's limits, unless they can be raised.
            let refused = is(&error, Kernel::EINVAL) || is(&error, Kernel::ENOSPC);
            if refused && raise_namespace_limits(limits) { open() } else { Err(error) }
        });
        let queue =
            queue.map_err(|error| match Kernel::from_raw(error.raw_os_error().unwrap_or_default()) {
                // The kernel's limits: on attributes, and on all of a user's queues (mq_open(3)).
                Kernel::EINVAL | Kernel::EMFILE => Errno::NoSpace,
                errno => errno.into(),
            })?;
        made.insert(name.clone(), Arc::clone(&charge));
        Ok((queue, charge))
    }

    /// Removes a queue's name.
    ///
    /// # Errors
    /// [`Errno::Access`], [`Errno::NoEntry`], [`Errno::NotSupported`].
    pub fn unlink_queue(&self, name: &Name) -> Result<()> {
        unlink(&self.ipc.queues, name)
    }
}

fn is(error: &io::Error, errno: Kernel) -> bool {
    error.raw_os_error() == Some(errno as i32)
}

/// A run's handle on a message queue; clones are the same handle.
#[derive(Debug, Clone)]
pub struct Queue(Arc<Opened>);

#[derive(Debug)]
struct Opened {
    queue: AsyncFd<MessageQueue>,
    message_size: usize,
    access: Access,
    /// None for a queue that a native process has made.
    _charge: Option<Arc<Charge>>,
    shared: Arc<Shared>,
    place: Place,
}

impl Queue {
    fn new(queue: MessageQueue, access: Access, charge: Option<Arc<Charge>>, place: Place) -> Result<Self> {
        let message_size = queue.attributes()?.message_size as usize;
        let interest = match access {
            Access::Read => Interest::READABLE,
            Access::Write => Interest::WRITABLE,
            Access::Both => Interest::READABLE | Interest::WRITABLE,
        };
        let shared = Shared::of(&place.handle().ipc, &queue)?;
        let place = place.of(&shared.holders);
        let queue = queue.watch(interest)?;
        Ok(Self(Arc::new(Opened { queue, message_size, access, _charge: charge, shared, place })))
    }

    /// What it can hold, and holds.
    ///
    /// # Errors
    /// The kernel's; none is known.
    pub fn status(&self) -> Result<QueueStatus> {
        Ok(self.0.queue.get_ref().attributes()?)
    }

    /// Sends a message if there is room.
    ///
    /// # Errors
    /// [`Errno::Access`], [`Errno::Again`], [`Errno::Canceled`], [`Errno::Invalid`], [`Errno::MessageSize`].
    pub fn try_send(&self, message: &[u8], priority: u32) -> Result<()> {
        wait::at_once(self.handle(), self.send_now(message, priority))
    }

    /// Sends a message, waits for room.
    ///
    /// # Errors
    /// As [`Self::try_send`], with [`Errno::TimedOut`] and [`Errno::NoMemory`] instead of [`Errno::Again`].
    pub async fn send(&self, message: &[u8], priority: u32, timeout: Option<Duration>) -> Result<()> {
        let attempt = || self.send_now(message, priority);
        wait::until(self.handle(), timeout, || self.changed(Interest::WRITABLE), attempt).await
    }

    fn send_now(&self, message: &[u8], priority: u32) -> Result<()> {
        if !self.hand_over(message, priority)? {
            self.0.queue.get_ref().send(message, priority)?;
            self.0.shared.is_empty.store(false, Ordering::Relaxed);
        }
        self.tell();
        Ok(())
    }

    /// Sends to a container that waits; whether there is one, and nothing in the queue before this message. What is
    /// wrong with a message the kernel says.
    fn hand_over(&self, message: &[u8], priority: u32) -> Result<bool> {
        let is_sound = message.len() <= self.0.message_size && priority < PRIORITIES;
        let may_send = self.0.access != Access::Read;
        let mut receivers = lock(&self.0.shared.receivers);
        if !is_sound || !may_send || !receivers.is_awaited() || self.status()?.messages > 0 {
            return Ok(false);
        }
        Ok(receivers.hand((message.to_vec(), priority), self.clone()).is_none())
    }

    /// Receives the next message and its priority.
    ///
    /// # Errors
    /// [`Errno::Access`], [`Errno::Again`], [`Errno::Canceled`].
    pub fn try_receive(&self) -> Result<(Vec<u8>, u32)> {
        wait::at_once(self.handle(), self.receive_now(&mut Vec::new()))
    }

    /// Receives the next message and its priority, waits for one.
    ///
    /// # Errors
    /// As [`Self::try_receive`], with [`Errno::TimedOut`] and [`Errno::NoMemory`] instead of [`Errno::Again`].
    pub async fn receive(&self, timeout: Option<Duration>) -> Result<(Vec<u8>, u32)> {
        let mut buffer = Vec::new();
        let shared = &self.0.shared;
        let mut turn = Turn { shared, ticket: None };
        // What is to be had at once has to be, where there will be no wait.
        let will_wait = self.0.access != Access::Write
            && timeout.is_none_or(|timeout| !timeout.is_zero())
            && !self.handle().is_stopping();
        let attempt = || {
            if let Some(message) = turn.take() {
                return Ok(message);
            }
            let is_empty = will_wait && shared.is_empty.load(Ordering::Relaxed);
            let received = if is_empty { Err(Errno::Again) } else { self.receive_now(&mut buffer) };
            received.inspect_err(|error| turn.wait_on(*error))
        };
        wait::until(self.handle(), timeout, || self.changed(Interest::READABLE), attempt).await
    }

    /// `buffer`: for the attempts of one call.
    fn receive_now(&self, buffer: &mut Vec<u8>) -> Result<Message> {
        if self.0.access != Access::Write
            && let Some(message) = lock(&self.0.shared.receivers).take_kept()
        {
            return Ok(message);
        }
        buffer.reserve_exact(self.0.message_size);
        let received = self.0.queue.get_ref().receive(buffer).map_err(Errno::from);
        self.0.shared.is_empty.store(received == Err(Errno::Again), Ordering::Relaxed);
        let priority = received?;
        self.tell();
        Ok((std::mem::take(buffer), priority))
    }

    /// Ends when there is a message, or the container is asked to end; at once on a handle that cannot receive.
    pub async fn readable(&self) {
        if self.0.access != Access::Write {
            let is_kept = || lock(&self.0.shared.receivers).kept() > 0;
            let is_ready = || self.status().map_or(true, |status| status.messages > 0) || is_kept();
            wait::ready(self.handle(), || self.changed(Interest::READABLE), is_ready).await;
        }
    }

    /// Ends when there is room, or the container is asked to end; at once on a handle that cannot send.
    pub async fn writable(&self) {
        if self.0.access != Access::Read {
            let is_ready = || self.status().map_or(true, |status| status.messages < status.max_messages);
            wait::ready(self.handle(), || self.changed(Interest::WRITABLE), is_ready).await;
        }
    }

    fn handle(&self) -> &Handle {
        self.0.place.handle()
    }

    fn tell(&self) {
        self.0.shared.changed.notify_waiters();
    }

    /// Ends when a container changes the queue from now on, or the event loop has heard of a change since the last time.
    fn changed(&self, interest: Interest) -> impl Future<Output = ()> + Send {
        let by_container = self.0.shared.changed.notified();
        async move {
            tokio::select! {
                biased;
                () = by_container => {}
                ready = self.0.queue.ready(interest) => match ready {
                    Ok(mut guard) => {
                        self.0.shared.is_empty.store(false, Ordering::Relaxed);
                        guard.clear_ready();
                    }
                    // When the event loop ends, and everything that waits with it.
                    Err(_) => std::future::pending().await,
                },
            }
        }
    }
}

/// A place among those who wait to receive, given up when it is dropped.
struct Turn<'a> {
    shared: &'a Shared,
    ticket: Option<Ticket>,
}

impl Turn<'_> {
    /// What was handed to it.
    fn take(&mut self) -> Option<Message> {
        let message = lock(&self.shared.receivers).take(self.ticket?)?;
        self.ticket = None;
        Some(message)
    }

    /// The attempt has failed: waits, if that is why.
    fn wait_on(&mut self, error: Errno) {
        if error == Errno::Again && self.ticket.is_none() {
            self.ticket = Some(lock(&self.shared.receivers).enqueue());
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let (was_handed, back) = {
            let mut receivers = lock(&self.shared.receivers);
            (receivers.is_handed(ticket), receivers.leave(ticket))
        };
        self.shared.is_empty.store(false, Ordering::Relaxed);
        // Whoever it was for has ended between two steps of the event loop.
        if let Some(((message, priority), sender)) = back
            && sender.0.queue.get_ref().send(&message, priority).is_err()
        {
            lock(&self.shared.receivers).keep((message, priority));
        }
        if was_handed {
            self.shared.changed.notify_waiters();
        }
    }
}
