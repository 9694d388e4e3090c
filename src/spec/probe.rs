//! Probes: what is asked of a running container, how often, and how many answers count.
//!
//! Source: <https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/>

use std::time::Duration;

/// The probes of one container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Probes {
    /// `startupProbe`: holds the other two off until it has succeeded.
    pub startup: Option<Probe>,
    /// `livenessProbe`: a container that fails it is restarted.
    pub liveness: Option<Probe>,
    /// `readinessProbe`: a container that fails it is not ready.
    pub readiness: Option<Probe>,
}

impl Probes {
    /// The probe of this kind.
    pub fn of(&self, kind: ProbeKind) -> Option<&Probe> {
        match kind {
            ProbeKind::Startup => self.startup.as_ref(),
            ProbeKind::Liveness => self.liveness.as_ref(),
            ProbeKind::Readiness => self.readiness.as_ref(),
        }
    }
}

/// Which of a container's probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeKind {
    /// `startupProbe`.
    Startup,
    /// `livenessProbe`.
    Liveness,
    /// `readinessProbe`.
    Readiness,
}

impl ProbeKind {
    /// All of them, in the order in which they matter.
    pub const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    /// As events name it: `Startup`, `Liveness`, `Readiness`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What is done.
    pub handler: ProbeHandler,
    /// `initialDelaySeconds`: from the container's start to the first probe.
    pub initial_delay: Duration,
    /// `periodSeconds`, 10 s when absent.
    pub period: Duration,
    /// `timeoutSeconds`, 1 s when absent: one that takes longer has failed.
    pub timeout: Duration,
    /// `successThreshold`: successes in a row that make it pass. 1 for liveness and startup.
    pub success_threshold: u32,
    /// `failureThreshold`, 3 when absent: failures in a row that make it fail.
    pub failure_threshold: u32,
    /// `terminationGracePeriodSeconds`, where it overrides the pod's. Not for readiness.
    pub termination_grace: Option<Duration>,
}

/// What a probe does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeHandler {
    /// Runs a command in the container; exit code 0 is success.
    Exec(Vec<String>),
    /// An HTTP request; a status from 200 to 399 is success.
    HttpGet(HttpGet),
    /// A connection; that it is accepted is success.
    TcpSocket {
        /// `host`; the pod's own address when absent.
        host: Option<String>,
        /// `port`, a name resolved.
        port: u16,
    },
    /// The standard gRPC health check (`grpc.health.v1.Health/Check`); SERVING is success.
    Grpc {
        /// `port`.
        port: u16,
        /// `service`, empty when absent.
        service: String,
    },
}

/// An HTTP request of a probe or a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpGet {
    /// `scheme`, HTTP when absent. HTTPS does not verify the certificate, as in the kubelet.
    pub scheme: Scheme,
    /// `host`, a name or an address without brackets; the pod's own address when absent.
    pub host: Option<String>,
    /// `port`, a name resolved.
    pub port: u16,
    /// `path` with its query, `/` when absent: begins with a slash, percent-encoded where it has to be, so that it
    /// can stand in a request line.
    pub path: String,
    /// `httpHeaders`, in order; valid ones only.
    pub headers: Vec<(String, String)>,
}

/// How an HTTP request travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}
