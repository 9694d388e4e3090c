//! How a pod ends: by itself, by a signal, by its time; and what is printed of it then.

use nix::sys::signal::Signal;

use super::support::{Running, rootless, run};

#[test]
fn a_sidecar_does_not_hold_the_pod_open() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: job}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  initContainers:
  - {name: sidecar, image: {probe}, args: [serve, '7000'], restartPolicy: Always}
  containers:
  - {name: main, image: {probe}, args: [connect, '127.0.0.1:7000', ping, --retry, '2000']}
";
    run(text, &[]).expect_code(0).expect_stdout("[main] ping");
}

#[test]
fn restart_policy_always_restarts_with_back_off() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: again}
spec:
  containers:
  - {name: main, image: {probe}, args: [hello]}
";
    let mut pod = Running::start(text, &[]);
    pod.wait_for("back-off");
    pod.signal(Signal::SIGTERM);
    // Its last run ended well, so the stopped pod Succeeded.
    assert_eq!(pod.wait(), 0);
}

#[test]
fn ctrl_c_lets_a_server_fall_out_of_its_accept_loop() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: server}
spec:
  containers:
  - {name: main, image: {probe}, args: [accept-until-error, '7000']}
";
    let mut pod = Running::start(text, &[]);
    pod.wait_for("listening");
    pod.signal(Signal::SIGINT);
    pod.wait_for("accept ended after 0 connections");
    // It ended well, and so did the pod.
    assert_eq!(pod.wait(), 0);
}

#[test]
fn a_second_ctrl_c_ends_the_pod_at_once() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: stubborn}
spec:
  terminationGracePeriodSeconds: 3600
  containers:
  - {name: main, image: {probe}, args: [tick, '10', '1000000']}
";
    let mut pod = Running::start(text, &[]);
    pod.wait_for("[main]");
    pod.signal(Signal::SIGINT);
    pod.wait_for("stopping");
    pod.signal(Signal::SIGINT);
    assert_eq!(pod.wait(), 130);
}

#[test]
fn a_timeout_is_124() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: late}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: main, image: {probe}, args: [sleep, '3600000']}
";
    run(text, &["--timeout", "1s"]).expect_code(124);
}

#[test]
fn an_active_deadline_fails_the_pod() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: overdue}
spec:
  activeDeadlineSeconds: 1
  terminationGracePeriodSeconds: 0
  containers:
  - {name: main, image: {probe}, args: [sleep, '3600000']}
";
    let finished = run(text, &["-o", "json"]);
    let pod = finished.pod();
    assert_eq!(pod["status"]["phase"], "Failed");
    assert_eq!(pod["status"]["reason"], "DeadlineExceeded");
    assert_ne!(finished.code, 0);
}

#[test]
fn the_final_pod_is_printed_alone_on_standard_output() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: printed, labels: {app: x}}
spec:
  restartPolicy: Never
  containers:
  - {name: main, image: {probe}, args: [hello]}
";
    let json = run(text, &["-o", "json", "--name", "other"]).expect_code(0);
    let pod = json.pod();
    assert_eq!((&pod["kind"], &pod["apiVersion"]), (&"Pod".into(), &"v1".into()));
    assert_eq!(pod["metadata"]["name"], "other");
    assert_eq!(pod["status"]["phase"], "Succeeded");
    // An ordinary user's pod has no address.
    assert_eq!(pod["status"]["podIP"].is_string(), !rootless(), "{pod:#}");
    json.expect_stderr("[main] hello");
    run(text, &["-o", "yaml"]).expect_code(0).expect_stdout("phase: Succeeded");
}
