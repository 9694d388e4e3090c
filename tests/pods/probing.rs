//! What probes and hooks meet on the pod's network: servers in containers, by their addresses in memory, and native
//! ones.

use std::io::{Read, Write};
use std::net::TcpListener;

use nix::sys::signal::Signal;

use super::support::{Finished, Running, run};

/// A pod of one container, which has two seconds to stop.
fn pod(args: &str, lifecycle: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: asked}}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - name: main
    image: {{probe}}
    args: {args}
    ports: [{{name: health, containerPort: 7000}}]
    {lifecycle}
"
    )
}

/// One failure is enough; the first probe leaves the server the time to listen.
fn liveness(handler: &str) -> String {
    let when = "initialDelaySeconds: 2, periodSeconds: 1, failureThreshold: 1, timeoutSeconds: 1";
    format!("livenessProbe: {{{handler}, {when}}}")
}

/// Runs a pod for as long as a few probes take.
fn for_a_while(args: &str, lifecycle: &str) -> Finished {
    run(&pod(args, lifecycle), &["-o", "json", "--timeout", "6s"])
}

#[track_caller]
fn restarts(finished: &Finished) -> i64 {
    finished.pod()["status"]["containerStatuses"][0]["restartCount"].as_i64().unwrap()
}

const HTTP: &str = "[http-serve, '7000']";

#[test]
fn probes_pass_as_long_as_the_server_is_well() {
    for (args, handler) in [
        (HTTP, "httpGet: {path: /healthz, port: health}"),
        (HTTP, "httpGet: {path: healthz, port: 7000, host: localhost}"),
        (HTTP, "httpGet: {path: '/redirect?/healthz', port: 7000}"),
        // To another host: success, with a warning.
        (HTTP, "httpGet: {path: '/redirect?http://other.example/', port: 7000}"),
        (HTTP, "tcpSocket: {port: health}"),
        ("[grpc-health, '7000']", "grpc: {port: 7000}"),
        ("[grpc-health, '7000']", "grpc: {port: 7000, service: probe}"),
    ] {
        let finished = for_a_while(args, &liveness(handler));
        assert_eq!(restarts(&finished), 0, "{handler}: {:#}", finished.pod());
    }
}

#[test]
fn probes_fail_when_the_server_does() {
    for (args, handler) in [
        ("[http-serve, '7000', --healthy-until, '1500']", "httpGet: {path: /healthz, port: 7000}"),
        ("[grpc-health, '7000', --healthy-until, '1500']", "grpc: {port: 7000, service: probe}"),
        (HTTP, "httpGet: {path: /status/404, port: 7000}"),
        (HTTP, "httpGet: {path: '/redirect?/redirect?/status/503', port: 7000}"),
        (HTTP, "httpGet: {path: /slow/5000, port: 7000}"),
        (HTTP, "httpGet: {path: /, port: 7000, scheme: HTTPS}"),
        (HTTP, "grpc: {port: 7000}"),
        ("[grpc-health, '7000']", "grpc: {port: 7000, service: other}"),
    ] {
        let mut running = Running::start(&pod(args, &liveness(handler)), &[]);
        running.wait_for("listening");
        running.wait_for("ended    main");
        running.signal(Signal::SIGTERM);
        running.signal(Signal::SIGTERM);
        running.wait();
    }
}

#[test]
fn a_startup_probe_waits_for_a_slow_server() {
    let startup =
        "startupProbe: {httpGet: {path: /healthz, port: 7000}, periodSeconds: 1, failureThreshold: 30}";
    let finished = for_a_while("[http-serve, '7000', --healthy-after, '2500']", startup);
    let pod = finished.pod();
    assert_eq!(restarts(&finished), 0, "{pod:#}");
}

#[test]
fn a_hook_asks_the_container_and_takes_any_answer() {
    let hook = "lifecycle: {preStop: {httpGet: {path: /status/500, port: health}}}";
    let mut running = Running::start(&pod(HTTP, hook), &[]);
    running.wait_for("listening");
    running.signal(Signal::SIGTERM);
    running.wait_for("asked /status/500 by kube-lifecycle/1.37");
    running.wait_for("no more requests");
    running.wait();
}

#[test]
fn a_native_server_in_the_pod_is_probed_by_the_kernel() {
    let probe =
        "startupProbe: {httpGet: {path: /native, port: 7001}, periodSeconds: 1, failureThreshold: 60}";
    let mut running = Running::start(&pod(HTTP, probe), &[]);
    running.wait_for("listening");
    let asked = running.native(|| {
        let (mut stream, _) = TcpListener::bind("0.0.0.0:7001").unwrap().accept().unwrap();
        let mut head = [0; 1000];
        let length = stream.read(&mut head).unwrap();
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").unwrap();
        String::from_utf8_lossy(&head[..length]).into_owned()
    });
    let head = asked.join().unwrap();
    assert!(head.starts_with("GET /native HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nUser-Agent: kube-probe/1.37\r\n"), "{head}");
    running.signal(Signal::SIGTERM);
    running.wait();
}
