//! The pod's message queues: what they take, who has them open, what there is to see of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, Weak};

use nix::errno::Errno as Kernel;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use tokio::sync::Notify;

use super::receivers::Receivers;
use super::{Access, Queue, QueueStatus, is};
use crate::ipc::holders::Holders;
use crate::ipc::{Errno, Ipc, Name, Result};
use crate::spec::IpcLimits;
use crate::sys::mqueue::{self, MessageQueue};
use crate::sys::namespace;

/// The pod's queues, as far as containers have to do with them.
#[derive(Debug)]
pub(in crate::ipc) struct Table {
    /// Those that containers have made.
    pub(super) made: Mutex<BTreeMap<Name, Arc<Charge>>>,
    /// Bytes of all of them when they are full.
    bytes: AtomicU64,
    /// Those that containers have open, by inode: a name may be another queue's by now.
    open: Mutex<HashMap<u64, Weak<Shared>>>,
    /// Before the first one is made.
    pub(super) limit_raised: Once,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            made: Mutex::default(),
            bytes: AtomicU64::new(0),
            open: Mutex::default(),
            limit_raised: Once::new(),
        }
    }
}

#[cfg(test)]
impl Table {
    pub(in crate::ipc) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// What a queue takes of the pod's bytes.
#[derive(Debug)]
pub(super) struct Charge {
    bytes: u64,
    ipc: Arc<Ipc>,
}

impl Charge {
    pub(super) fn new(ipc: &Arc<Ipc>, bytes: u64) -> Result<Arc<Self>> {
        let room = |used: u64| Some(used + bytes).filter(|used| *used <= ipc.limits.queue_bytes);
        ipc.queues
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
            .map_err(|_| Errno::NoSpace)?;
        Ok(Arc::new(Self { bytes, ipc: Arc::clone(ipc) }))
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.ipc.queues.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A queue that containers have open.
#[derive(Debug)]
pub(super) struct Shared {
    ipc: Arc<Ipc>,
    inode: u64,
    /// A container has sent or received: quicker than to ask the kernel who did.
    pub(super) changed: Notify,
    /// The kernel has said that there is no message, and nobody has told of one since. If there is one nevertheless, the
    /// event loop has yet to tell every handle.
    pub(super) is_empty: AtomicBool,
    pub(super) receivers: Mutex<Receivers<Queue>>,
    pub(super) holders: Arc<Holders>,
}

impl Shared {
    pub(super) fn of(ipc: &Arc<Ipc>, queue: &MessageQueue) -> Result<Arc<Self>> {
        let inode = queue.inode()?;
        let mut open = lock(&ipc.queues.open);
        if let Some(shared) = open.get(&inode).and_then(Weak::upgrade) {
            return Ok(shared);
        }
        let shared = Arc::new(Self {
            ipc: Arc::clone(ipc),
            inode,
            changed: Notify::new(),
            is_empty: AtomicBool::new(false),
            receivers: Mutex::default(),
            holders: Arc::default(),
        });
        open.insert(inode, Arc::downgrade(&shared));
        Ok(shared)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let mut open = lock(&self.ipc.queues.open);
        if open.get(&self.inode).is_some_and(|shared| shared.strong_count() == 0) {
            open.remove(&self.inode);
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets this process make more queues than other programs may (`RLIMIT_MSGQUEUE`), where the kernel permits it: the
/// pod's own limits hold.
pub(super) fn raise_limit() {
    if setrlimit(Resource::RLIMIT_MSGQUEUE, RLIM_INFINITY, RLIM_INFINITY).is_err()
        && let Ok((_, hard)) = getrlimit(Resource::RLIMIT_MSGQUEUE)
    {
        // Without root there is no more.
        let _ = setrlimit(Resource::RLIMIT_MSGQUEUE, hard, hard);
    }
}

/// Sets the limits of this IPC namespace, which is the pod's own, to the pod's where they are lower; whether they are
/// the pod's then.
pub(super) fn raise_namespace_limits(limits: &IpcLimits) -> bool {
    let parameters = [
        ("msg_max", limits.queue_messages),
        ("msgsize_max", limits.queue_message_size),
        ("queues_max", limits.queues),
    ];
    parameters.into_iter().all(|(name, limit)| {
        let now = namespace::message_queue_parameter(name);
        now.is_ok_and(|now| now >= limit || namespace::set_message_queue_parameter(name, limit).is_ok())
    })
}

pub(in crate::ipc) fn unlink(table: &Table, name: &Name) -> Result<()> {
    let mut made = lock(&table.made);
    let unlinked = mqueue::unlink(&name.to_c()?);
    made.remove(name);
    Ok(unlinked?)
}

/// A queue as it is now.
pub(in crate::ipc) struct Listed {
    pub(in crate::ipc) name: Name,
    /// What is in it, or why that is not known.
    pub(in crate::ipc) status: Result<QueueStatus>,
    pub(in crate::ipc) containers: Vec<String>,
}

/// All queues, also those of native processes; at most `limit`. Where the kernel does not tell those, what containers
/// have made.
pub(in crate::ipc) fn list(table: &Table, limit: usize) -> Vec<Listed> {
    let named = |file: String| Name::new(&format!("/{file}")).ok();
    let mut names: Vec<Name> = match mqueue::names(limit) {
        Ok(names) => names.into_iter().filter_map(named).collect(),
        Err(_) => lock(&table.made).keys().filter(|name| is_there(name)).cloned().collect(),
    };
    names.sort();
    let row = |name: Name| {
        let opened = name.to_c().and_then(|name| Ok(MessageQueue::open(&name, Access::Read, None)?));
        let shared = opened.as_ref().ok().and_then(|queue| queue.inode().ok());
        let shared = shared.and_then(|inode| lock(&table.open).get(&inode).and_then(Weak::upgrade));
        Listed {
            name,
            status: opened.and_then(|queue| Ok(queue.attributes()?)),
            containers: shared.map_or_else(Vec::new, |shared| shared.holders.names()),
        }
    };
    names.into_iter().map(row).collect()
}

/// Whether a queue that was made still has its name: native processes may have removed it.
pub(super) fn is_there(name: &Name) -> bool {
    let opened = name.to_c().map(|name| MessageQueue::open(&name, Access::Read, None));
    !matches!(opened, Ok(Err(error)) if is(&error, Kernel::ENOENT))
}
