//! Which CPUs a thread may run on (sched_setaffinity(2)).
//!
//! ```text
//! the CPUs that the process was given ─ stay ─► one of them ─ anywhere ─► those that it was given
//! ```
//!
//! A thread that is started inherits the CPUs of the one that starts it: where that may be staying on one, the new one
//! begins with [`anywhere`].

use std::sync::OnceLock;

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// The calling thread.
pub const SELF: Pid = Pid::from_raw(0);

/// The CPUs that this process was given. `None`: one, or it is not told; nobody stays anywhere then.
static GIVEN: OnceLock<Option<CpuSet>> = OnceLock::new();

/// Keeps this thread on the CPU where it is, and says which. `None`: there is no other, or it is not allowed.
pub fn stay() -> Option<usize> {
    GIVEN.get_or_init(given).as_ref()?;
    let cpu = sched_getcpu().ok()?;
    sched_setaffinity(SELF, &set_of(cpu)?).ok()?;
    Some(cpu)
}

/// Keeps a thread on this CPU; where that is not allowed, the kernel goes on placing it.
pub fn only(thread: Pid, cpu: usize) {
    if let Some(cpu) = set_of(cpu) {
        let _ = sched_setaffinity(thread, &cpu);
    }
}

/// This thread may run on every CPU that the process was given.
pub fn anywhere() {
    if let Some(Some(given)) = GIVEN.get() {
        // It was allowed once; if it no longer is, the thread shares a CPU.
        let _ = sched_setaffinity(SELF, given);
    }
}

fn set_of(cpu: usize) -> Option<CpuSet> {
    let mut set = CpuSet::new();
    set.set(cpu).ok()?;
    Some(set)
}

fn given() -> Option<CpuSet> {
    let mine = sched_getaffinity(SELF).ok()?;
    let count = (0..CpuSet::count()).filter(|cpu| mine.is_set(*cpu).unwrap_or(false)).count();
    let online =
        sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten().and_then(|count| count.try_into().ok());
    match count {
        0 | 1 => None,
        // All of them: also of those that its cpuset will have.
        _ if Some(count) == online => {
            let mut all = CpuSet::new();
            (0..CpuSet::count()).try_for_each(|cpu| all.set(cpu)).ok()?;
            Some(all)
        }
        _ => Some(mine),
    }
}

/// Those that this thread may run on.
#[cfg(test)]
pub fn cpus() -> Vec<usize> {
    let mine = sched_getaffinity(SELF).unwrap();
    (0..CpuSet::count()).filter(|cpu| mine.is_set(*cpu).unwrap()).collect()
}
