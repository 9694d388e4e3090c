//! What a pod's cgroup may use: pure arithmetic on the validated pod.
//!
//! Source: <https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers>

use crate::spec::{Container, Pod, Resources, Role};

/// Memory that the pod process needs beside its guests' linear memories, bytes: runtime, compiled code that
/// it touches, stacks, buffers of the virtual network.
pub const RUNTIME_MEMORY_BYTES: u64 = 64 << 20;

/// Tasks (the pids controller counts threads) that a pod may have: the runtime's few, and room for native
/// processes entered into the pod.
pub const PIDS: u64 = 512;

/// A cgroup's limits. `None`: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Bytes, swap included.
    pub memory_bytes: Option<u64>,
    /// Thousandths of a core.
    pub cpu_millis: Option<u64>,
    /// Tasks, that is threads.
    pub pids: Option<u64>,
}

impl Limits {
    /// The limits of a pod: for memory and CPU the larger of what its main containers and sidecars need
    /// together and what any init container needs beside the sidecars started before it, plus the runtime's
    /// own memory. No limit where any container has none.
    pub fn for_pod(pod: &Pod) -> Self {
        let memory = effective(pod, |resources| resources.memory_limit_bytes);
        Self {
            memory_bytes: memory.map(|bytes| bytes.saturating_add(RUNTIME_MEMORY_BYTES)),
            cpu_millis: effective(pod, |resources| resources.cpu_limit_millis),
            pids: Some(PIDS),
        }
    }
}

/// The pod's effective limit of one resource. `None` as soon as one container has no limit.
fn effective(pod: &Pod, limit: impl Fn(&Resources) -> Option<u64>) -> Option<u64> {
    let limit_of = |container: &Container| limit(&container.resources);
    let mut sidecars = 0u64;
    let mut starting = 0u64;
    for container in &pod.init_containers {
        let own = limit_of(container)?;
        let together = sidecars.saturating_add(own);
        starting = starting.max(together);
        if container.role == Role::Sidecar {
            sidecars = together;
        }
    }
    let mut running = sidecars;
    for container in &pod.containers {
        running = running.saturating_add(limit_of(container)?);
    }
    Some(running.max(starting))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::spec as testing;

    fn container(role: Role, memory: Option<u64>) -> Container {
        let resources = Resources { memory_limit_bytes: memory, ..Resources::default() };
        Container { resources, ..testing::container("c", role) }
    }

    fn memory(init: &[(Role, Option<u64>)], main: &[Option<u64>]) -> Option<u64> {
        let init = init.iter().map(|(role, memory)| container(*role, *memory));
        let main = main.iter().map(|memory| container(Role::Main, *memory));
        let pod = testing::pod(init.chain(main));
        Limits::for_pod(&pod).memory_bytes.map(|bytes| bytes - RUNTIME_MEMORY_BYTES)
    }

    #[test]
    fn main_containers_add_up_and_one_without_a_limit_lifts_it() {
        assert_eq!(memory(&[], &[Some(10), Some(20)]), Some(30));
        assert_eq!(memory(&[], &[Some(10), None]), None);
        assert_eq!(memory(&[(Role::Init, None)], &[Some(10)]), None);
    }

    #[test]
    fn init_containers_run_one_after_another() {
        assert_eq!(memory(&[(Role::Init, Some(50)), (Role::Init, Some(40))], &[Some(10)]), Some(50));
        assert_eq!(memory(&[(Role::Init, Some(5))], &[Some(10)]), Some(10));
    }

    #[test]
    fn sidecars_count_from_their_start_on() {
        let init = [(Role::Init, Some(20)), (Role::Sidecar, Some(10)), (Role::Init, Some(15))];
        assert_eq!(memory(&init, &[Some(1)]), Some(25));
        assert_eq!(memory(&init, &[Some(30)]), Some(40));
    }

    #[test]
    fn huge_limits_do_not_overflow() {
        assert_eq!(
            memory(&[], &[Some(u64::MAX - RUNTIME_MEMORY_BYTES), Some(7)]),
            Some(u64::MAX - RUNTIME_MEMORY_BYTES)
        );
    }
}
