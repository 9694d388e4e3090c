//! The quality-of-service class of a pod
//! (<https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/>).

use super::{Pod, Resources};

/// `status.qosClass`: derived from the containers' requests and limits, never chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QosClass {
    /// Every container has CPU and memory limits equal to its requests.
    Guaranteed,
    /// Some container has a request or a limit.
    Burstable,
    /// No container has any.
    BestEffort,
}

impl QosClass {
    /// The class of `pod` (`ComputePodQOS` in `pkg/apis/core/v1/helper/qos/qos.go`): by `spec.resources` where
    /// there are any, else by all containers, init containers and sidecars among them. Only CPU and memory
    /// count, and ephemeral containers do not.
    pub fn of(pod: &Pod) -> Self {
        let own = [pod.resources];
        let containers = || pod.init_containers.iter().chain(&pod.containers).map(|c| c.resources);
        if has_any(pod.resources) { Self::of_all(own.into_iter()) } else { Self::of_all(containers()) }
    }

    fn of_all(mut all: impl Iterator<Item = Resources> + Clone) -> Self {
        if !all.clone().any(has_any) {
            Self::BestEffort
        } else if all.all(is_guaranteed) {
            Self::Guaranteed
        } else {
            Self::Burstable
        }
    }

    /// As it is written in a Pod's status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

fn has_any(resources: Resources) -> bool {
    let Resources { cpu_limit_millis, memory_limit_bytes, cpu_request_millis, memory_request_bytes, .. } =
        resources;
    cpu_limit_millis.or(memory_limit_bytes).or(cpu_request_millis).or(memory_request_bytes).is_some()
}

fn is_guaranteed(resources: Resources) -> bool {
    let Resources { cpu_limit_millis, memory_limit_bytes, cpu_request_millis, memory_request_bytes, .. } =
        resources;
    cpu_limit_millis.is_some()
        && memory_limit_bytes.is_some()
        && cpu_limit_millis == cpu_request_millis
        && memory_limit_bytes == memory_request_bytes
}

impl std::fmt::Display for QosClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
