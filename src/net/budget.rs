//! The memory of a pod's memory plane. A kernel bounds what all TCP connections buffer together
//! (`net.ipv4.tcp_mem`); here it is the pod process's own memory, and the pod's cgroup kills all of its
//! containers for the one that holds too much.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that the connections of one pod may buffer before each is held to [`TIGHT_CAPACITY`]: half of
/// what a pod's cgroup allows for the runtime (`sandbox::cgroup::limits::RUNTIME_MEMORY_BYTES`).
const PRESSURE: usize = 32 << 20;

/// Bytes that every direction may hold even so: what Linux leaves a socket under memory pressure, a page
/// (the first value of `tcp_wmem`).
const TIGHT_CAPACITY: usize = 4096;

/// Bytes from which each connection is held to [`MINIMAL_CAPACITY`].
const SEVERE: usize = 40 << 20;

/// Bytes that every direction may hold in any case: small enough that as many connections as a container can
/// have ([`super::MAX_SOCKETS`]) fit in what is left.
const MINIMAL_CAPACITY: usize = 256;

/// What one container's connections may take of [`PRESSURE`] and [`SEVERE`]: one that hoards slows itself down, and
/// with all the connections that it may have stays below the pod's own pressure.
const SHARE: usize = 2;

/// What one container's connections hold, and the writers of their promised bytes; clones are the same. A
/// connection inside the pod is that of the container that made it.
#[derive(Debug, Clone, Default)]
pub(super) struct Budget(Arc<Account>);

#[derive(Debug, Default)]
struct Account {
    container: AtomicUsize,
    /// What all containers of the pod hold.
    pod: Arc<AtomicUsize>,
}

impl Budget {
    /// Another container's of the same pod.
    pub(super) fn share(&self) -> Self {
        Self(Arc::new(Account { container: AtomicUsize::new(0), pod: self.0.pod.clone() }))
    }

    /// How much a pipe of this capacity may hold for now.
    ///
    /// A writer that waits has that much in its own pipe, so that its reader wakes it: nobody waits for
    /// another connection.
    pub(super) fn capacity(&self, capacity: usize) -> usize {
        let pod = self.0.pod.load(Ordering::Relaxed);
        let own = self.0.container.load(Ordering::Relaxed);
        match pod.max(own.saturating_mul(SHARE)) {
            SEVERE.. => capacity.min(MINIMAL_CAPACITY),
            PRESSURE..SEVERE => capacity.min(TIGHT_CAPACITY),
            ..PRESSURE => capacity,
        }
    }

    /// A pipe holds `new` bytes instead of `old`.
    pub(super) fn replace(&self, old: usize, new: usize) {
        for held in [&self.0.container, &*self.0.pod] {
            if new >= old {
                held.fetch_add(new - old, Ordering::Relaxed);
            } else {
                held.fetch_sub(old - new, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
impl Budget {
    /// What all containers of the pod hold, bytes.
    pub(super) fn held(&self) -> usize {
        self.0.pod.load(Ordering::Relaxed)
    }
}
