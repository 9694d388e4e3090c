//! What a pod's cgroup may use: pure arithmetic on the validated pod.
//!
//! Source: <https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers>

use crate::spec::{Container, Pod, Resources, Role};

/// Memory that the pod process needs beside its guests' linear memories, bytes. A pod of one container that computes
/// is charged for 0.8 MiB of its own (measured with cgroup v1): the runtime and compiled code are the zygote's pages.
/// The rest is room for what its bounds allow: the buffers of the virtual network, one call's bytes in the host, stacks.
pub const RUNTIME_MEMORY_BYTES: u64 = 64 << 20;

/// Tasks (the pids controller counts threads) that a pod may have: the runtime's few, and room for native
/// processes entered into the pod.
pub const PIDS: u64 = 512;

/// CPU time that the pod process needs beside its guests', thousandths of a core: the clock that makes them
/// yield takes 12 of them while one computes (measured), the rest is room for network, logs, and whoever ends a
/// container that spins. Without it a container at its own limit would have the kernel hold up all of them.
pub const RUNTIME_CPU_MILLIS: u64 = 50;

/// The fewest and the most shares that the kernel takes (`MinShares`, `MaxShares` in
/// `pkg/kubelet/cm/helpers_linux.go`).
const SHARES: (u64, u64) = (2, 262_144);
/// The shares of a whole core.
const SHARES_PER_CORE: u64 = 1024;

/// A cgroup's limits. `None`: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Bytes, swap included.
    pub memory_bytes: Option<u64>,
    /// Thousandths of a core.
    pub cpu_millis: Option<u64>,
    /// The pod's weight when pods compete for the CPU, in `cpu.shares` of v1. `None`: the kernel's default.
    pub cpu_shares: Option<u64>,
    /// Tasks, that is threads.
    pub pids: Option<u64>,
}

impl Limits {
    /// The limits of a pod: where `spec.resources` has one, that; else for memory and CPU the larger of what its
    /// main containers and sidecars need together and what any init container needs beside the sidecars started
    /// before it, no limit where any container has none. Either way plus the runtime's own.
    ///
    /// Source: `ResourceConfigForPod` in `pkg/kubelet/cm/helpers_linux.go`.
    pub fn for_pod(pod: &Pod) -> Self {
        let cpu = |resources: &Resources| resources.cpu_limit_millis;
        let cpu = cpu(&pod.resources).or_else(|| effective(pod, cpu));
        let memory = memory_limit(pod);
        // No request is a request of nothing.
        let requested = pod.resources.cpu_request_millis;
        let requested = requested.or_else(|| effective(pod, |own| Some(own.cpu_request_millis.unwrap_or(0))));
        Self {
            memory_bytes: memory.map(|bytes| bytes.saturating_add(RUNTIME_MEMORY_BYTES)),
            cpu_millis: cpu.map(|millis| millis.saturating_add(RUNTIME_CPU_MILLIS)),
            cpu_shares: Some(cpu_shares(requested.unwrap_or(0))),
            pids: Some(PIDS),
        }
    }

    /// What allows all that either of the two allows: the limits while one takes the other's place.
    pub fn widest(self, other: Self) -> Self {
        let wider = |one: Option<u64>, other: Option<u64>| Some(one?.max(other?));
        Self {
            memory_bytes: wider(self.memory_bytes, other.memory_bytes),
            cpu_millis: wider(self.cpu_millis, other.cpu_millis),
            cpu_shares: self.cpu_shares.max(other.cpu_shares),
            pids: wider(self.pids, other.pids),
        }
    }
}

/// `MilliCPUToShares` in `pkg/kubelet/cm/helpers_linux.go`.
fn cpu_shares(millis: u64) -> u64 {
    (millis.saturating_mul(SHARES_PER_CORE) / 1000).clamp(SHARES.0, SHARES.1)
}

/// `cpu.weight` of v2, 1 to 10,000, for these `cpu.shares` (`getCPUWeight` in
/// `pkg/kubelet/cm/cgroup_manager_linux.go`).
pub(super) fn cpu_weight(shares: u64) -> u64 {
    (shares.clamp(SHARES.0, SHARES.1) - SHARES.0) * 9_999 / (SHARES.1 - SHARES.0) + 1
}

/// The pod's effective amount of one resource. `None` as soon as one container has none.
fn effective(pod: &Pod, of: impl Fn(&Resources) -> Option<u64>) -> Option<u64> {
    let amount_of = |container: &Container| of(&container.resources);
    let mut sidecars = 0u64;
    let mut starting = 0u64;
    for container in &pod.init_containers {
        let own = amount_of(container)?;
        let together = sidecars.saturating_add(own);
        starting = starting.max(together);
        if container.role == Role::Sidecar {
            sidecars = together;
        }
    }
    let mut running = sidecars;
    for container in &pod.containers {
        running = running.saturating_add(amount_of(container)?);
    }
    Some(running.max(starting))
}

/// What the pod may use of memory, bytes: see [`Limits::for_pod`], without the runtime's own.
pub fn memory_limit(pod: &Pod) -> Option<u64> {
    let limit = |resources: &Resources| resources.memory_limit_bytes;
    limit(&pod.resources).or_else(|| effective(pod, limit))
}

/// What the pod requests of memory, bytes: as it counts for the order in which the kernel ends processes.
pub(in crate::sandbox) fn memory_request(pod: &Pod) -> u64 {
    let sum = || effective(pod, |own| Some(own.memory_request_bytes.unwrap_or(0)));
    pod.resources.memory_request_bytes.or_else(sum).unwrap_or(0)
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

    #[test]
    fn the_pods_own_limit_takes_the_place_of_the_sum() {
        let mut pod = testing::pod([container(Role::Main, Some(10)), container(Role::Main, None)]);
        assert_eq!(Limits::for_pod(&pod).memory_bytes, None);
        pod.resources.memory_limit_bytes = Some(100);
        pod.resources.cpu_limit_millis = Some(500);
        let limits = Limits::for_pod(&pod);
        assert_eq!(limits.memory_bytes, Some(100 + RUNTIME_MEMORY_BYTES));
        assert_eq!(limits.cpu_millis, Some(500 + RUNTIME_CPU_MILLIS));
    }

    #[test]
    fn shares_and_weight_are_the_kubelets() {
        let mut pod = testing::pod([container(Role::Main, None), container(Role::Main, None)]);
        assert_eq!(Limits::for_pod(&pod).cpu_shares, Some(2), "best effort");
        pod.containers[0].resources.cpu_request_millis = Some(250);
        assert_eq!(Limits::for_pod(&pod).cpu_shares, Some(256));
        pod.containers[1].resources.cpu_request_millis = Some(750);
        assert_eq!(Limits::for_pod(&pod).cpu_shares, Some(1024));
        pod.resources.cpu_request_millis = Some(2000);
        assert_eq!(Limits::for_pod(&pod).cpu_shares, Some(2048));
        assert_eq!(cpu_shares(u64::MAX), 262_144);
        assert_eq!([2, 256, 1024, 262_144].map(cpu_weight), [1, 10, 39, 10_000]);
    }

    #[test]
    fn the_widest_allows_what_either_does() {
        let one = Limits { memory_bytes: Some(5), cpu_millis: Some(100), cpu_shares: Some(2), pids: Some(9) };
        let other = Limits { memory_bytes: Some(7), cpu_millis: None, cpu_shares: Some(3), pids: Some(8) };
        let widest = Limits { memory_bytes: Some(7), cpu_millis: None, cpu_shares: Some(3), pids: Some(9) };
        assert_eq!((one.widest(other), other.widest(one)), (widest, widest));
    }
}
