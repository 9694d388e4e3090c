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
    /// The class of `pod`; init containers and sidecars count as well.
    pub fn of(pod: &Pod) -> Self {
        if pod.all_containers().all(|container| container.resources == Resources::default()) {
            Self::BestEffort
        } else if pod.all_containers().all(|container| is_guaranteed(container.resources)) {
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
