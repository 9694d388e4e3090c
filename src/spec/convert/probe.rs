//! `startupProbe`, `livenessProbe` and `readinessProbe` of a container.
//!
//! The defaults are those of `SetDefaults_Probe` (`pkg/apis/core/v1/defaults.go`), to which 0 is as good as
//! nothing; the checks those of `validateProbe` (`pkg/apis/core/validation/validation.go`).

use std::time::Duration;

use k8s_openapi::api::core::v1 as wire;

use super::report::Report;
use super::{PROBE_FAILURES, PROBE_PERIOD_SECONDS, PROBE_SUCCESSES, PROBE_TIMEOUT_SECONDS, action};
use crate::manifest::FieldPath;
use crate::spec::{Probe, ProbeHandler, ProbeKind, Probes};

/// The probes of a container as they are written.
pub(super) struct Fields<'a> {
    pub(super) startup: &'a Option<wire::Probe>,
    pub(super) liveness: &'a Option<wire::Probe>,
    pub(super) readiness: &'a Option<wire::Probe>,
}

impl Fields<'_> {
    /// Each with its name and kind.
    pub(super) fn each(&self) -> [(&'static str, ProbeKind, &Option<wire::Probe>); 3] {
        [
            ("startupProbe", ProbeKind::Startup, self.startup),
            ("livenessProbe", ProbeKind::Liveness, self.liveness),
            ("readinessProbe", ProbeKind::Readiness, self.readiness),
        ]
    }
}

/// Converts the probes of the container at `path`, which has these ports.
pub(super) fn convert(
    fields: &Fields<'_>,
    ports: &[wire::ContainerPort],
    path: &FieldPath,
    report: &mut Report,
) -> Probes {
    let mut probes = Probes::default();
    for (field, kind, probe) in fields.each() {
        let converted = probe.as_ref().and_then(|p| convert_one(p, kind, ports, &path.field(field), report));
        match kind {
            ProbeKind::Startup => probes.startup = converted,
            ProbeKind::Liveness => probes.liveness = converted,
            ProbeKind::Readiness => probes.readiness = converted,
        }
    }
    probes
}

fn convert_one(
    probe: &wire::Probe,
    kind: ProbeKind,
    ports: &[wire::ContainerPort],
    path: &FieldPath,
    report: &mut Report,
) -> Option<Probe> {
    let wire::Probe {
        exec,
        failure_threshold,
        grpc,
        http_get,
        initial_delay_seconds,
        period_seconds,
        success_threshold,
        tcp_socket,
        termination_grace_period_seconds,
        timeout_seconds,
    } = probe;
    let given = [
        ("exec", exec.is_some()),
        ("httpGet", http_get.is_some()),
        ("tcpSocket", tcp_socket.is_some()),
        ("grpc", grpc.is_some()),
    ];
    let handler = if !action::exactly_one(&given, path, report) {
        None
    } else if let Some(exec) = exec {
        action::exec(exec, &path.field("exec"), report).map(ProbeHandler::Exec)
    } else if let Some(get) = http_get {
        action::http_get(get, ports, &path.field("httpGet"), report).map(ProbeHandler::HttpGet)
    } else if let Some(socket) = tcp_socket {
        convert_tcp_socket(socket, ports, &path.field("tcpSocket"), report)
    } else {
        grpc.as_ref().and_then(|grpc| convert_grpc(grpc, &path.field("grpc"), report))
    };

    let mut number = |value: &Option<i32>, default: u32, field: &str| match value.unwrap_or_default() {
        0 => Some(default),
        value => u32::try_from(value)
            .map_err(|_| {
                let message = format_args!("invalid value {value}: must be greater than or equal to 0");
                report.error(&path.field(field), message);
            })
            .ok(),
    };
    let initial_delay = number(initial_delay_seconds, 0, "initialDelaySeconds");
    let period = number(period_seconds, PROBE_PERIOD_SECONDS, "periodSeconds");
    let timeout = number(timeout_seconds, PROBE_TIMEOUT_SECONDS, "timeoutSeconds");
    let successes = number(success_threshold, PROBE_SUCCESSES, "successThreshold");
    let failures = number(failure_threshold, PROBE_FAILURES, "failureThreshold");
    if let Some(successes) = successes.filter(|successes| kind != ProbeKind::Readiness && *successes != 1) {
        report.error(&path.field("successThreshold"), format_args!("invalid value {successes}: must be 1"));
    }
    let grace_path = path.field("terminationGracePeriodSeconds");
    let termination_grace = match (kind, termination_grace_period_seconds) {
        (_, None) => None,
        (ProbeKind::Readiness, Some(_)) => {
            report.error(&grace_path, "must not be set for readinessProbes: they end no container");
            None
        }
        (_, Some(value)) if *value <= 0 => {
            report.error(&grace_path, format_args!("invalid value {value}: must be greater than 0"));
            None
        }
        (_, value) => report.seconds(*value, 1, &grace_path).map(Duration::from_secs),
    };
    let of_seconds = |seconds: u32| Duration::from_secs(seconds.into());
    Some(Probe {
        handler: handler?,
        initial_delay: of_seconds(initial_delay?),
        period: of_seconds(period?),
        timeout: of_seconds(timeout?),
        success_threshold: successes?,
        failure_threshold: failures?,
        termination_grace,
    })
}

fn convert_tcp_socket(
    socket: &wire::TCPSocketAction,
    ports: &[wire::ContainerPort],
    path: &FieldPath,
    report: &mut Report,
) -> Option<ProbeHandler> {
    let wire::TCPSocketAction { host, port } = socket;
    let host = action::host(host, &path.field("host"), report);
    let port = action::port(port, ports, &path.field("port"), report);
    Some(ProbeHandler::TcpSocket { host: host?, port: port? })
}

fn convert_grpc(grpc: &wire::GRPCAction, path: &FieldPath, report: &mut Report) -> Option<ProbeHandler> {
    let wire::GRPCAction { mode, port, service } = grpc;
    let mode_path = path.field("mode");
    let mode = mode.as_deref().filter(|mode| !mode.is_empty());
    let tls = mode.and_then(|mode| report.choice(&mode_path, mode, &[("Plaintext", false), ("TLS", true)]));
    report.unsupported(tls == Some(true), &mode_path, "health checks are in the clear; use Plaintext");
    let port = super::port::number(*port, &path.field("port"), report)?;
    Some(ProbeHandler::Grpc { port, service: service.clone().unwrap_or_default() })
}
