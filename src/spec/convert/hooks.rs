//! `lifecycle` of a container: `postStart`, `preStop`, and the signal that it cannot be sent
//! (`validateLifecycle` in `pkg/apis/core/validation/validation.go`).

use std::time::Duration;

use k8s_openapi::api::core::v1 as wire;

use super::action;
use super::report::Report;
use crate::manifest::FieldPath;
use crate::spec::{Hook, Hooks};

/// Converts `lifecycle` of a container with these ports. `grace`: the pod's, seconds; `None` when it is wrong.
pub(super) fn convert(
    lifecycle: &wire::Lifecycle,
    ports: &[wire::ContainerPort],
    grace: Option<u64>,
    path: &FieldPath,
    report: &mut Report,
) -> Hooks {
    let wire::Lifecycle { post_start, pre_stop, stop_signal } = lifecycle;
    report.unsupported(
        stop_signal.is_some(),
        &path.field("stopSignal"),
        "a WebAssembly guest has no signals; it is told through peapod:pod/lifecycle",
    );
    let mut hook = |handler: &Option<wire::LifecycleHandler>, field: &str| {
        handler.as_ref().and_then(|handler| convert_hook(handler, ports, grace, &path.field(field), report))
    };
    Hooks { post_start: hook(post_start, "postStart"), pre_stop: hook(pre_stop, "preStop") }
}

fn convert_hook(
    handler: &wire::LifecycleHandler,
    ports: &[wire::ContainerPort],
    grace: Option<u64>,
    path: &FieldPath,
    report: &mut Report,
) -> Option<Hook> {
    let wire::LifecycleHandler { exec, http_get, sleep, tcp_socket } = handler;
    let given = [
        ("exec", exec.is_some()),
        ("httpGet", http_get.is_some()),
        ("tcpSocket", tcp_socket.is_some()),
        ("sleep", sleep.is_some()),
    ];
    if !action::exactly_one(&given, path, report) {
        return None;
    }
    // The API server takes it and the kubelet's hook then always fails.
    report.unsupported(
        tcp_socket.is_some(),
        &path.field("tcpSocket"),
        "a hook of this kind fails in Kubernetes too; use exec, httpGet or sleep",
    );
    if let Some(exec) = exec {
        action::exec(exec, &path.field("exec"), report).map(Hook::Exec)
    } else if let Some(get) = http_get {
        action::http_get(get, ports, &path.field("httpGet"), report).map(Hook::HttpGet)
    } else {
        sleep.as_ref().and_then(|sleep| convert_sleep(sleep, grace, &path.field("sleep"), report))
    }
}

fn convert_sleep(
    sleep: &wire::SleepAction,
    grace: Option<u64>,
    path: &FieldPath,
    report: &mut Report,
) -> Option<Hook> {
    let wire::SleepAction { seconds } = sleep;
    // With a wrong grace period there is no more to say than that it is wrong.
    let grace = grace?;
    let valid = u64::try_from(*seconds).ok().filter(|seconds| *seconds <= grace);
    if valid.is_none() {
        // In the words of Kubernetes, which allows all of the grace period.
        report.error(
            path,
            format_args!(
                "invalid value {seconds}: must be non-negative and less than terminationGracePeriodSeconds ({grace})"
            ),
        );
    }
    valid.map(|seconds| Hook::Sleep(Duration::from_secs(seconds)))
}
