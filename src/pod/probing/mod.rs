//! The I/O of probes and hooks: what the pure machine orders, done once, within the pod.
//!
//! ```text
//! Action::Probe ─► probe ─┬─ exec ─────► exec (a fresh instance in the container)
//!                         ├─ httpGet ──► http ─┐   dial ─► Connection of the host's, in the pod's network:
//!                         ├─ tcpSocket ► tcp ──┼─► in memory to a Wasm container, else by the kernel; through
//!                         └─ grpc ─────► grpc ─┘   no container's policy or budget
//! Action::Hook  ─► hook ──┴─ sleep
//! ```
//!
//! Modelled on the kubelet's `pkg/probe` and `pkg/kubelet/lifecycle/handlers.go`, with their words. A server is not
//! trusted: what of its answers is kept has a bound, and the probe's timeout holds for all of it.

mod background;
mod connection;
mod exec;
mod go;
mod grpc;
mod http;
mod tcp;
mod tls;
mod url;

#[cfg(test)]
mod grpc_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod http_tests;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::exec::Target;
use crate::net::Stack;
use crate::spec::{Hook, Probe, ProbeHandler};

/// Where probes and hooks of one container go.
#[derive(Clone)]
pub struct Place {
    /// The pod's network.
    pub stack: Arc<Stack>,
    /// What `host` is when the manifest does not say: the pod's primary address, or loopback when it has none.
    pub address: IpAddr,
    /// How commands run in the container; `None` where none can.
    pub target: Option<Target>,
    /// For how long a connection that is refused is tried again.
    pub patience: Duration,
}

/// The [`Place::patience`] of what comes first to a run of a container: its server may not listen yet.
///
/// A kubelet learns that a container runs a second later, and probes at any moment of the first period; here it
/// is microseconds, in which no server gets ready, and a period that nothing is ready in is ten seconds by
/// default. Half of the least `timeoutSeconds`.
pub const FIRST_PATIENCE: Duration = Duration::from_millis(500);

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

/// Runs `probe` once, for at most its timeout (`pkg/kubelet/prober/prober.go`). Dropping the future ends it, with
/// all that it had open.
pub async fn probe(probe: &Probe, place: &Place) -> Outcome {
    match &probe.handler {
        ProbeHandler::Exec(command) => exec::probe(command, place, probe.timeout).await,
        ProbeHandler::HttpGet(get) => http::probe(get, place, probe.timeout).await,
        ProbeHandler::TcpSocket { host, port } => {
            tcp::probe(host.as_deref(), *port, place, probe.timeout).await
        }
        ProbeHandler::Grpc { port, service } => grpc::probe(*port, service, place, probe.timeout).await,
    }
}

/// Runs `hook` to its end, however long that takes: it is bounded by whoever drops the future.
///
/// # Errors
/// Why it failed, for the event.
pub async fn hook(hook: &Hook, place: &Place) -> Result<(), String> {
    match hook {
        Hook::Exec(command) => exec::hook(command, place).await,
        Hook::HttpGet(get) => http::hook(get, place).await,
        Hook::Sleep(duration) => {
            tokio::time::sleep(*duration).await;
            Ok(())
        }
    }
}
