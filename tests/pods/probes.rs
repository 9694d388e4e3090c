//! Startup, liveness and readiness probes.

use nix::sys::signal::Signal;
use serde_json::Value;

use super::support::{Finished, Running, directory, peapod, run};

/// Runs a pod of one container for a while; its probes see `/data` as the container does.
fn for_a_while(probes: &str, args: &str, seconds: u32) -> Finished {
    let host = directory();
    let text = pod(probes, args).replace("HOST", &host.path().display().to_string());
    let timeout = format!("{seconds}s");
    run(&text, &["-o", "json", "--backoff-base", "10ms", "--timeout", &timeout])
}

fn pod(probes: &str, args: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: probed}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {{probe}}
    args: {args}
    ports: [{{name: http, containerPort: 7000}}]
    volumeMounts: [{{name: data, mountPath: /data}}]
    {probes}
  volumes: [{{name: data, hostPath: {{path: HOST}}}}]
"
    )
}

const SERVER: &str = "[until-stop, '7000', /data/order, main]";

fn main_status(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

fn restarts(finished: &Finished) -> i64 {
    main_status(&finished.pod())["restartCount"].as_i64().unwrap()
}

/// The status of a running pod.
fn now(name: &str) -> Value {
    let output = peapod().args(["get", "pod", name, "-o", "json"]).output().expect("run peapod get");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn failing_liveness_restarts_the_container_again_and_again() {
    for handler in [
        "exec: {command: [probe.wasm, exit, '1']}",
        "tcpSocket: {port: 7999}",
        "httpGet: {port: 7999, path: /}",
        "grpc: {port: 7999}",
    ] {
        let probe = format!("livenessProbe: {{{handler}, periodSeconds: 1, failureThreshold: 1}}");
        let finished = for_a_while(&probe, SERVER, 8);
        assert!(restarts(&finished) >= 2, "{handler}: {:#}", finished.pod());
    }
}

#[test]
fn passing_liveness_never_restarts() {
    // Those over the network are in `probing`.
    let probe =
        "livenessProbe: {exec: {command: [probe.wasm, hello]}, periodSeconds: 1, failureThreshold: 3}";
    let finished = for_a_while(probe, SERVER, 4);
    assert_eq!(restarts(&finished), 0, "{:#}", finished.pod());
}

#[test]
fn an_exec_probe_that_takes_too_long_has_failed() {
    let probe = "livenessProbe: {exec: {command: [probe.wasm, sleep, '60000']}, periodSeconds: 1, \
                 timeoutSeconds: 1, failureThreshold: 1}";
    let finished = for_a_while(probe, SERVER, 8);
    assert!(restarts(&finished) >= 1, "{:#}", finished.pod());
}

#[test]
fn readiness_that_fails_leaves_the_container_unready_and_running() {
    let probe = "readinessProbe: {exec: {command: [probe.wasm, read, /data/ready]}, periodSeconds: 1}";
    let host = directory();
    let text = pod(probe, SERVER).replace("HOST", &host.path().display().to_string());
    let name = format!("ready-{}", std::process::id());
    let mut running = Running::start(&text, &["--name", &name]);
    running.wait_for("listening");
    std::thread::sleep(std::time::Duration::from_secs(2));
    let status = now(&name);
    assert_eq!(main_status(&status)["ready"], false, "{status:#}");
    assert_eq!(main_status(&status)["started"], true);
    assert_eq!(main_status(&status)["restartCount"], 0);
    std::fs::write(host.path().join("ready"), "yes").unwrap();
    let end = std::time::Instant::now() + super::support::PATIENCE;
    while main_status(&now(&name))["ready"] != true {
        assert!(std::time::Instant::now() < end, "never ready: {:#}", now(&name));
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    running.signal(Signal::SIGTERM);
    running.wait();
}

#[test]
fn failing_startup_restarts_and_pending_startup_holds_liveness_off() {
    let pending = "startupProbe: {exec: {command: [probe.wasm, read, /data/up]}, periodSeconds: 1, \
                   failureThreshold: 100}\n    livenessProbe: {exec: {command: [probe.wasm, exit, '1']}, \
                   periodSeconds: 1, failureThreshold: 1}";
    let finished = for_a_while(pending, SERVER, 4);
    assert_eq!(restarts(&finished), 0, "{:#}", finished.pod());
    let failing = "startupProbe: {exec: {command: [probe.wasm, exit, '1']}, periodSeconds: 1, \
                   failureThreshold: 2}";
    let finished = for_a_while(failing, SERVER, 9);
    assert!(restarts(&finished) >= 1, "{:#}", finished.pod());
}

#[test]
fn a_probe_may_have_a_grace_period_of_its_own() {
    // The pod's is an hour, the container deaf to its stop: only the probe's lets it be restarted.
    let probe = "livenessProbe: {exec: {command: [probe.wasm, exit, '1']}, periodSeconds: 1, \
                 failureThreshold: 1, terminationGracePeriodSeconds: 1}";
    let text = pod(probe, "[sleep, '3600000']")
        .replace("terminationGracePeriodSeconds: 0", "terminationGracePeriodSeconds: 3600");
    let host = directory();
    let text = text.replace("HOST", &host.path().display().to_string());
    let running = Running::start(&text, &["--backoff-base", "10ms"]);
    running.wait_for("137");
    running.signal(Signal::SIGTERM);
    running.signal(Signal::SIGTERM);
}
