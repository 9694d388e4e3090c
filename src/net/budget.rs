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

/// What the connections of one pod hold together, and the writers of their promised bytes; clones are the same
/// budget.
#[derive(Debug, Clone, Default)]
pub(super) struct Budget(Arc<AtomicUsize>);

impl Budget {
    /// How much a pipe of this capacity may hold for now.
    ///
    /// A writer that waits has that much in its own pipe, so that its reader wakes it: nobody waits for
    /// another connection.
    pub(super) fn capacity(&self, capacity: usize) -> usize {
        match self.0.load(Ordering::Relaxed) {
            SEVERE.. => capacity.min(MINIMAL_CAPACITY),
            PRESSURE..SEVERE => capacity.min(TIGHT_CAPACITY),
            ..PRESSURE => capacity,
        }
    }

    /// A pipe holds `new` bytes instead of `old`.
    pub(super) fn replace(&self, old: usize, new: usize) {
        if new >= old {
            self.0.fetch_add(new - old, Ordering::Relaxed);
        } else {
            self.0.fetch_sub(old - new, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
impl Budget {
    pub(super) fn held(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}
