//! Whom the kernel ends first when the machine runs out of memory.
//!
//! As the kubelet has it: pods that promised nothing before those that use more than they asked for, and those that
//! were promised all they have last. Source: `GetContainerOOMScoreAdjust` in `pkg/kubelet/qos/policy.go`. A pod is one
//! process here, so that the pod's request stands for its containers'.

use std::fs;

use super::cgroup::memory_request;
use crate::spec::Pod;
use crate::spec::qos::QosClass;

/// For a pod of class Guaranteed.
const GUARANTEED: i32 = -997;
/// For a pod of class BestEffort.
const BEST_EFFORT: i32 = 1000;
/// The least and the most for one of class Burstable: between the others.
const BURSTABLE: (i32, i32) = (1000 + GUARANTEED, BEST_EFFORT - 1);

/// `oom_score_adj` (proc_pid_oom_score_adj(5)) of a pod process on this machine.
pub fn score_adj(pod: &Pod) -> i32 {
    // Without `/proc` nothing can be set either.
    score_adj_for(pod, machine_memory().unwrap_or(u64::MAX))
}

/// What this machine has of memory, bytes. `None`: `/proc` is not there.
pub fn machine_memory() -> Option<u64> {
    capacity(&fs::read_to_string("/proc/meminfo").ok()?)
}

/// [`score_adj`] on a machine with `capacity` bytes of memory. Pure.
fn score_adj_for(pod: &Pod, capacity: u64) -> i32 {
    match QosClass::of(pod) {
        QosClass::Guaranteed => GUARANTEED,
        QosClass::BestEffort => BEST_EFFORT,
        QosClass::Burstable => {
            let share = u128::from(memory_request(pod)) * 1000 / u128::from(capacity.max(1));
            let score = 1000 - i32::try_from(share).unwrap_or(i32::MAX);
            score.clamp(BURSTABLE.0, BURSTABLE.1)
        }
    }
}

/// `MemTotal` of proc_meminfo(5), bytes.
fn capacity(memory_info: &str) -> Option<u64> {
    let line = memory_info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Resources, Role};
    use crate::testing::spec as testing;

    const GIB: u64 = 1 << 30;

    fn pod(resources: Resources) -> Pod {
        let mut pod = testing::pod([testing::container("web", Role::Main)]);
        pod.containers[0].resources = resources;
        pod
    }

    fn requesting(bytes: u64) -> i32 {
        score_adj_for(&pod(Resources { memory_request_bytes: Some(bytes), ..Resources::default() }), 4 * GIB)
    }

    #[test]
    fn the_class_decides_and_the_request_within_burstable() {
        assert_eq!(score_adj_for(&pod(Resources::default()), 4 * GIB), 1000);
        let all = Resources {
            cpu_limit_millis: Some(100),
            cpu_request_millis: Some(100),
            memory_limit_bytes: Some(GIB),
            memory_request_bytes: Some(GIB),
            ..Resources::default()
        };
        assert_eq!(score_adj_for(&pod(all), 4 * GIB), -997);
        assert_eq!(requesting(GIB), 750);
        assert_eq!(requesting(1 << 20), 999, "never as low as best effort");
        assert_eq!(requesting(100 * GIB), 3, "never as safe as guaranteed");
        let cpu_only = Resources { cpu_request_millis: Some(100), ..Resources::default() };
        assert_eq!(score_adj_for(&pod(cpu_only), 4 * GIB), 999);
    }

    #[test]
    fn the_machines_memory_is_read() {
        assert_eq!(capacity("MemTotal:        2048 kB\nMemFree: 1 kB\n"), Some(2 << 20));
        assert_eq!(capacity("nothing"), None);
    }
}
