//! What a container may use and does use: one account for all its instances, which outlives its runs.
//!
//! ```text
//! resources.limits ─► Account ◄── the instance of each run, those of exec
//!        ▲               ├─ memory ─► the pod's (spec.resources), charged by each store's MemoryLimiter
//!        └── resize      └─ cpu       charged by each poll
//! ```

use std::sync::Arc;

use super::cpu::CpuAccount;
use crate::engine::{MemoryAccount, MemoryInUse};
use crate::spec::Resources;

/// The account of one container.
#[derive(Debug)]
pub struct Account {
    /// Its memory. For [`Setup`](super::runner::Setup).
    pub memory: Arc<MemoryAccount>,
    /// Its CPU time: run every instance by it.
    pub cpu: CpuAccount,
}

impl Account {
    /// The account of a container with these resources, in its pod's.
    pub fn new(resources: &Resources, pod: &Arc<MemoryAccount>) -> Self {
        Self {
            memory: Arc::new(MemoryAccount::in_pod(pod, resources.memory_limit_bytes)),
            cpu: CpuAccount::new(resources.cpu_limit_millis),
        }
    }

    /// Changes the limits; the CPU's in any case.
    ///
    /// # Errors
    /// More memory is in use than the new limit: the old one stays.
    pub fn resize(&self, resources: &Resources) -> Result<(), MemoryInUse> {
        self.cpu.set_limit(resources.cpu_limit_millis);
        self.memory.set_limit(resources.memory_limit_bytes)
    }
}
