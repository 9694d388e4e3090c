//! The pod's state as Kubernetes reports it: `State` → `v1.PodStatus`. Pure.
//!
//! The one place of [`crate::pod`] that knows the wire type; nothing comes back from it. Written after the
//! kubelet's `pkg/kubelet/status/generate.go` and `pkg/kubelet/kubelet_pods.go`, so that kubectl shows what it
//! shows for any pod.
//!
//! ```text
//! Pod, State, Facts ─► pod_status ─┬─ conditions
//!                                  ├─ container: one for each, in the list of its role
//!                                  └─ resources: requests and limits as quantities
//! ```

mod conditions;
mod container;
mod resources;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as wire;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time as WireTime;
use k8s_openapi::jiff::Timestamp;

use self::conditions::conditions;
use self::container::container_status;
use super::state::{Cause, Stage, State};
use crate::spec::{Pod, Role};

/// Why a pod ended whose `activeDeadlineSeconds` is over (`pkg/kubelet/active_deadline.go`).
pub(super) const DEADLINE_MESSAGE: &str = "Pod was active on the node longer than the specified deadline";

/// What the status says and the state machine does not know.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The pod's addresses, the primary one first.
    pub pod_ips: Vec<IpAddr>,
    /// The host's addresses, the primary one first.
    pub host_ips: Vec<IpAddr>,
    /// `qosClass`: `Guaranteed`, `Burstable` or `BestEffort`.
    pub qos_class: String,
    /// Container name → `imageID`, such as the digest of its component.
    pub image_ids: BTreeMap<String, String>,
}

/// `reason` and `message` of the pod's status.
pub fn reason(state: &State) -> (Option<String>, Option<String>) {
    match state.stage {
        Stage::Finished { cause: Cause::DeadlineExceeded, .. } => {
            (Some("DeadlineExceeded".to_owned()), Some(DEADLINE_MESSAGE.to_owned()))
        }
        Stage::Finished { cause: Cause::Evicted, .. } => (Some("Evicted".to_owned()), state.eviction.clone()),
        _ => (None, None),
    }
}

/// The status of `pod` in `state`.
pub fn pod_status(pod: &Pod, state: &State, facts: &Facts) -> wire::PodStatus {
    let phase = state.phase(pod);
    let (reason, message) = reason(state);
    let statuses = |roles: &[Role]| {
        let those = state.each(pod).filter(|(spec, _)| roles.contains(&spec.role));
        let statuses = those.map(|(spec, record)| container_status(pod, state, facts, spec, record));
        Some(statuses.collect::<Vec<_>>()).filter(|statuses| !statuses.is_empty())
    };
    wire::PodStatus {
        phase: Some(phase.as_str().to_owned()),
        observed_generation: Some(pod.generation),
        reason,
        message,
        conditions: Some(conditions(pod, state, phase)),
        init_container_statuses: statuses(&[Role::Init, Role::Sidecar]),
        container_statuses: statuses(&[Role::Main]),
        ephemeral_container_statuses: statuses(&[Role::Ephemeral]),
        resources: resources::requirements(pod.resources),
        allocated_resources: resources::allocated(pod.resources),
        pod_ip: facts.pod_ips.first().map(IpAddr::to_string),
        pod_ips: list(&facts.pod_ips, |ip| wire::PodIP { ip: ip.to_string() }),
        host_ip: facts.host_ips.first().map(IpAddr::to_string),
        host_ips: list(&facts.host_ips, |ip| wire::HostIP { ip: ip.to_string() }),
        qos_class: Some(facts.qos_class.clone()).filter(|class| !class.is_empty()),
        start_time: Some(time(state.accepted_at.wall)),
        ..wire::PodStatus::default()
    }
}

/// `metav1.Time` has whole seconds.
fn time(wall: Timestamp) -> WireTime {
    WireTime(Timestamp::from_second(wall.as_second()).unwrap_or(wall))
}

fn list<T>(ips: &[IpAddr], each: impl Fn(&IpAddr) -> T) -> Option<Vec<T>> {
    Some(ips.iter().map(each).collect::<Vec<_>>()).filter(|list| !list.is_empty())
}
