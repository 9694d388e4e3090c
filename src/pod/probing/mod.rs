//! The I/O of probes and hooks: what the pure machine orders, done once, within the pod.
//!
//! ```text
//! Action::Probe ─► probe ─┬─ exec ─────► exec (a fresh instance in the container)
//!                         ├─ httpGet ──► http ─┐
//!                         ├─ tcpSocket ► tcp ──┼─► the pod's network, as somebody outside of the pod would
//!                         └─ grpc ─────► grpc ─┘    come: never through a container's policy or budget
//! Action::Hook  ─► hook ──┴─ sleep
//! ```
//!
//! Modelled on the kubelet's `pkg/probe` and `pkg/kubelet/lifecycle/handlers.go`.

use std::net::IpAddr;
use std::sync::Arc;

use super::exec::Target;
use crate::net::Stack;
use crate::spec::{Hook, Probe};

/// Where probes and hooks of one container go.
#[derive(Clone)]
pub struct Place {
    /// The pod's network.
    pub stack: Arc<Stack>,
    /// What `host` is when the manifest does not say: the pod's primary address, or loopback when it has none.
    pub address: IpAddr,
    /// How commands run in the container.
    pub target: Target,
}

/// How one probe ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded.
    Success,
    /// It succeeded, but: an HTTP redirect to another host, which is not followed.
    Warning(String),
    /// It failed, or took too long.
    Failure(String),
}

/// Runs `probe` once, for at most its timeout.
pub async fn probe(probe: &Probe, place: &Place) -> Outcome {
    let _ = (probe, &place.stack, place.address, &place.target);
    Outcome::Failure("probes do not run yet".to_owned())
}

/// Runs `hook` to its end.
///
/// # Errors
/// Why it failed, for the event.
pub async fn hook(hook: &Hook, place: &Place) -> Result<(), String> {
    let _ = (hook, place);
    Err("hooks do not run yet".to_owned())
}
