//! What the containers of a pod share to talk to each other: message queues, shared memory, semaphores and channels,
//! by name. Knows nothing of wasmtime; [`crate::wasi::ipc`] offers it to guests as `peapod:ipc`, whose WIT
//! (`wit/peapod-ipc`) says how each operation behaves.
//!
//! ```text
//!  Ipc, one for the pod ──attach──► Handle, one for each run of a container
//!   │ limits, tables by name          │ open(name)
//!   │                                 ▼
//!   ├─ queue ─────► Queue ──────────► the kernel's POSIX queues of the pod's IPC namespace ◄── native processes
//!   ├─ memory ────► Segment ────────► files in the pod's /dev/shm, mapped once ◄────────────── native processes
//!   ├─ semaphore ─► Semaphore ──────► a counter here
//!   └─ channel ───► Sender, Receiver ► a queue of messages here
//! ```
//!
//! An opened object belongs to the run that opened it and ends by being dropped; the runner drops a run's objects with
//! its store, however the run ended. Dropping is what gives permits back and ends streams, so that a container that is
//! killed leaves the others working.
//!
//! ## Waiting
//!
//! Every operation that may wait is a `try_` that does not, and `wait`: try, wait until the object has changed, try
//! again. What waits is a future: dropping it ends the wait without a trace. When the container is asked to end
//! ([`Handle::stop`]) every wait ends with [`Errno::Canceled`]. Who is next is decided in the objects' pure states
//! (`semaphore::state`, `memory::addresses`, `queue::receivers`), not by who is woken first. What native processes do is
//! told by the event loop, of queues, and by threads of `memory::watcher`, of addresses in shared memory.

mod channel;
mod error;
mod handle;
mod holders;
mod memory;
mod name;
mod observe;
mod queue;
mod semaphore;
mod wait;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

pub use channel::{Attributes as ChannelAttributes, Delivery, Receiver, Sender};
pub use error::{Errno, Result};
pub use handle::Handle;
pub use memory::{AddressWait, Segment, WaitResult};
pub use name::Name;
pub use observe::{Kind, Object};
pub use queue::{Access, Queue, QueueAttributes, QueueStatus};
pub use semaphore::Semaphore;

use crate::descriptors::Descriptors;
use crate::spec::IpcLimits;

/// Whether an object is made when it is not there, and whether it may be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// It has to be there.
    Existing,
    /// It is made where it is not there.
    Create,
    /// It must not be there.
    Exclusive,
}

/// The IPC of one pod.
#[derive(Debug)]
pub struct Ipc {
    limits: IpcLimits,
    /// Of which queues and segments are taken.
    descriptors: Descriptors,
    /// Waits under way.
    waits: AtomicUsize,
    queues: queue::Table,
    memory: memory::Table,
    semaphores: semaphore::Table,
    channels: channel::Table,
}

impl Ipc {
    /// The IPC of the pod whose namespaces this process is in. `memory`: where segments are, `/dev/shm`.
    pub fn new(limits: IpcLimits, memory: PathBuf) -> Arc<Self> {
        Self::sharing(limits, memory, Descriptors::default())
    }

    /// The same, whose containers share these descriptors with all else that they open.
    pub fn sharing(limits: IpcLimits, memory: PathBuf, descriptors: Descriptors) -> Arc<Self> {
        Arc::new(Self {
            limits,
            descriptors,
            waits: AtomicUsize::new(0),
            queues: queue::Table::default(),
            memory: memory::Table::new(memory),
            semaphores: semaphore::Table::default(),
            channels: channel::Table::default(),
        })
    }

    /// What a run of a container opens its objects with.
    pub fn attach(self: &Arc<Self>, container: &str) -> Handle {
        Handle::new(Arc::clone(self), container)
    }
}
