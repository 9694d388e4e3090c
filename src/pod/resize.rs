//! Other resources for a running pod, without a restart unless a container asks for one.
//!
//! ```text
//! supervisor                                             pod process (worker)
//!  Resizer::begin: the cgroup gets the wider of both ─ Request::Resize ─► actuate: accounts, the pod's spec
//!  Resizer::settle: exactly the new limits ◄────────── Report::Resized ─┘    │
//!                                                                           └─► what is in use is not taken away:
//!                                                                               tried again when a container has ended
//! ```
//!
//! So nothing is ever allowed less by the cgroup than by the containers' accounts. A guest never gives memory back:
//! a memory limit below what is in use stays as it was, and the pod says so by its condition PodResizeInProgress
//! (reason Error), until the container has ended or been started anew. Sources: `doPodResizeAction` and
//! `validateMemoryResizeAction` in `pkg/kubelet/kuberuntime/kuberuntime_manager.go`,
//! <https://kubernetes.io/docs/tasks/configure-pod-container/resize-container-resources/>.

use std::collections::BTreeMap;

use super::control::{self, Request};
use super::event::{CustomCondition, Event};
use crate::sandbox::cgroup::{CgroupError, Limits};
use crate::spec::{Container, Pod, Resources};

/// The type of the condition that says that a resize has not come to its end.
const IN_PROGRESS: &str = "PodResizeInProgress";

/// The resources that a pod is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resize {
    /// `metadata.generation` of the pod with these.
    pub generation: i64,
    /// The pod's own.
    pub pod: Resources,
    /// The containers', by name.
    pub containers: BTreeMap<String, Resources>,
}

impl Resize {
    /// To the resources of this pod.
    pub fn to(pod: &Pod) -> Self {
        let containers = pod.all_containers().map(|own| (own.name.clone(), own.resources)).collect();
        Self { generation: pod.generation, pod: pod.resources, containers }
    }

    /// The pod with these resources. Containers that are not named stay as they are.
    pub fn apply(&self, pod: &Pod) -> Pod {
        // It may have changed since in another way: a resize is tried again.
        let generation = pod.generation.max(self.generation);
        let mut pod = Pod { generation, resources: self.pod, ..pod.clone() };
        for container in containers_mut(&mut pod) {
            if let Some(resources) = self.containers.get(&container.name) {
                container.resources = *resources;
            }
        }
        pod
    }

    /// The containers that want to start anew for what changes (`resizePolicy`).
    pub fn restarts(&self, pod: &Pod) -> Vec<String> {
        let restarted = pod.all_containers().filter(|container| {
            let (old, policy) = (container.resources, container.resize_policy);
            self.containers.get(&container.name).is_some_and(|new| {
                let cpu = (new.cpu_limit_millis, new.cpu_request_millis);
                let memory = (new.memory_limit_bytes, new.memory_request_bytes);
                policy.cpu_restarts && cpu != (old.cpu_limit_millis, old.cpu_request_millis)
                    || policy.memory_restarts && memory != (old.memory_limit_bytes, old.memory_request_bytes)
            })
        });
        restarted.map(|container| container.name.clone()).collect()
    }
}

/// Every container, to be changed.
pub(super) fn containers_mut(pod: &mut Pod) -> impl Iterator<Item = &mut Container> {
    pod.init_containers.iter_mut().chain(&mut pod.containers).chain(&mut pod.ephemeral_containers)
}

/// What becomes of the condition PodResizeInProgress: it is there as long as a resize could not be brought to its end
/// (`ClearPodResizeInProgressCondition` in `pkg/kubelet/status/status_manager.go`).
pub(super) fn in_progress(error: Option<String>) -> Event {
    let name = IN_PROGRESS.to_owned();
    match error {
        None => Event::ConditionRemoved { name },
        Some(error) => Event::ConditionSet(CustomCondition {
            name,
            holds: Some(true),
            reason: Some("Error".to_owned()),
            message: Some(error),
        }),
    }
}

/// Sets the limits of the pod's cgroup.
pub type SetLimits<'a> = &'a dyn Fn(&Limits) -> Result<(), CgroupError>;

/// The supervisor's part: the limits of the pod's cgroup.
pub struct Resizer<'a> {
    set: SetLimits<'a>,
    /// In force.
    present: Limits,
    /// To be in force when the pod process has done its part.
    wanted: Limits,
}

impl<'a> Resizer<'a> {
    /// For a pod whose cgroup has the limits of `pod`; `set` changes them.
    pub fn new(pod: &Pod, set: SetLimits<'a>) -> Self {
        let limits = Limits::for_pod(pod);
        Self { set, present: limits, wanted: limits }
    }

    /// Makes room for the resources of `pod`, the running pod with others; returns what the pod process is to be
    /// told.
    ///
    /// # Errors
    /// The cgroup's limits cannot be raised: nothing has changed.
    pub fn begin(&mut self, pod: &Pod) -> Result<Request, CgroupError> {
        let wanted = Limits::for_pod(pod);
        let both = self.present.widest(wanted);
        (self.set)(&both)?;
        (self.present, self.wanted) = (both, wanted);
        Ok(Request::Resize(control::Resize::from(Resize::to(pod))))
    }

    /// The pod process has done its part, [`Report::Resized`](control::Report::Resized): takes back what is no
    /// longer allowed.
    ///
    /// # Errors
    /// More is in use ([`CgroupError::is_busy`]), or the kernel refuses: the wider limits stay in force. The
    /// containers' own limits hold all the same.
    pub fn settle(&mut self) -> Result<(), CgroupError> {
        if self.present != self.wanted {
            (self.set)(&self.wanted)?;
            self.present = self.wanted;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::sandbox::cgroup::{RUNTIME_CPU_MILLIS, RUNTIME_MEMORY_BYTES};
    use crate::spec::{ResizePolicy, Role};
    use crate::testing::spec as testing;

    fn limits(cpu: u64, memory: u64) -> Resources {
        Resources {
            cpu_limit_millis: Some(cpu),
            cpu_request_millis: Some(cpu),
            memory_limit_bytes: Some(memory),
            memory_request_bytes: Some(memory),
            ..Resources::default()
        }
    }

    fn pod(web: Resources, log: Resources, generation: i64) -> Pod {
        let mut pod =
            testing::pod([testing::container("log", Role::Sidecar), testing::container("web", Role::Main)]);
        pod.init_containers[0].resources = log;
        pod.init_containers[0].resize_policy = ResizePolicy { cpu_restarts: false, memory_restarts: true };
        pod.containers[0].resources = web;
        pod.containers[0].resize_policy = ResizePolicy { cpu_restarts: true, memory_restarts: false };
        pod.generation = generation;
        pod
    }

    #[test]
    fn the_pod_gets_what_it_is_resized_to() {
        let old = pod(limits(100, 10), limits(200, 20), 1);
        let new = pod(limits(150, 9), limits(200, 20), 2);
        let resize = Resize::to(&new);
        assert_eq!(resize.apply(&old), new);
        let later = Pod { generation: 3, ..old };
        assert_eq!(resize.apply(&later).generation, 3, "it never falls");
        let told = control::Resize::from(resize.clone());
        assert_eq!(Resize::from(told), resize);
    }

    #[test]
    fn a_container_starts_anew_only_for_what_its_policy_names() {
        let old = pod(limits(100, 10), limits(200, 20), 1);
        let restarts = |web, log| Resize::to(&pod(web, log, 2)).restarts(&old);
        assert_eq!(restarts(limits(100, 11), limits(201, 20)), [""; 0]);
        assert_eq!(restarts(limits(101, 10), limits(200, 20)), ["web"]);
        assert_eq!(restarts(limits(101, 10), limits(200, 19)), ["log", "web"]);
    }

    #[test]
    fn the_cgroup_grows_before_and_shrinks_after() {
        let set = RefCell::new(Vec::new());
        let record = |limits: &Limits| {
            let own = |limit: Option<u64>, runtime: u64| limit.unwrap() - runtime;
            let cpu = own(limits.cpu_millis, RUNTIME_CPU_MILLIS);
            set.borrow_mut().push((cpu, own(limits.memory_bytes, RUNTIME_MEMORY_BYTES)));
            Ok(())
        };
        let mut resizer = Resizer::new(&pod(limits(100, 10), limits(200, 20), 1), &record);
        let new = pod(limits(50, 15), limits(200, 20), 2);
        let request = resizer.begin(&new).unwrap();
        assert_eq!(request, Request::Resize(Resize::to(&new).into()));
        assert_eq!(set.take(), [(300, 35)]);
        resizer.settle().unwrap();
        resizer.settle().unwrap();
        assert_eq!(set.take(), [(250, 35)], "once");
    }
}
