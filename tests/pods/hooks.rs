//! `lifecycle.postStart` and `preStop`.

use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::support::{Running, directory, run};

/// A pod with a directory of the host at `/data`; what is in its file `order` afterwards.
struct Traced {
    host: tempfile::TempDir,
    text: String,
}

impl Traced {
    fn new(text: &str) -> Self {
        let host = directory();
        let text = text.replace("HOST", &host.path().display().to_string());
        Self { host, text }
    }

    fn order(&self) -> Vec<String> {
        let order = std::fs::read_to_string(self.host.path().join("order")).unwrap_or_default();
        order.lines().map(str::to_owned).collect()
    }
}

fn main_status(pod: &Value) -> &Value {
    let statuses = pod["status"]["containerStatuses"].as_array().unwrap();
    statuses.iter().find(|status| status["name"] == "main").unwrap()
}

#[test]
fn post_start_of_one_container_gates_the_next() {
    let pod = Traced::new(
        "
apiVersion: v1
kind: Pod
metadata: {name: gated}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {probe}
    args: [sleep, '1500']
    lifecycle: {postStart: {exec: {command: [probe.wasm, append-late, /data/order, hook, '300']}}}
    volumeMounts: [{name: data, mountPath: /data}]
  - {name: next, image: {probe}, args: [append, /data/order, next], volumeMounts: [{name: data, mountPath: /data}]}
  volumes: [{name: data, hostPath: {path: HOST}}]
",
    );
    run(&pod.text, &[]).expect_code(0);
    assert_eq!(pod.order(), ["hook", "next"]);
}

#[test]
fn a_failing_post_start_ends_the_container_which_follows_its_restart_policy() {
    for (policy, code) in [("Never", 137), ("OnFailure", 124)] {
        let text = format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: failing}}
spec:
  restartPolicy: {policy}
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {{probe}}
    args: [sleep, '3600000']
    lifecycle: {{postStart: {{exec: {{command: [probe.wasm, exit, '1']}}}}}}
"
        );
        let arguments = ["-o", "json", "--backoff-base", "10ms", "--timeout", "9s"];
        let finished = run(&text, &arguments).expect_code(code);
        let restarts = main_status(&finished.pod())["restartCount"].as_i64().unwrap();
        assert_eq!(restarts > 0, policy == "OnFailure", "{:#}", finished.pod());
    }
}

/// A server that falls out of its accept loop when it is stopped, with a `preStop`.
fn stopped(pre_stop: &str, grace: u32) -> (Vec<String>, i32, f32) {
    let pod = Traced::new(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: stopped}}
spec:
  terminationGracePeriodSeconds: {grace}
  containers:
  - name: main
    image: {{probe}}
    args: [until-stop, '7000', /data/order, main]
    lifecycle: {{preStop: {pre_stop}}}
    volumeMounts: [{{name: data, mountPath: /data}}]
  volumes: [{{name: data, hostPath: {{path: HOST}}}}]
"
    ));
    let mut running = Running::start(&pod.text, &[]);
    running.wait_for("listening");
    let asked = Instant::now();
    running.signal(Signal::SIGTERM);
    let code = running.wait();
    (pod.order(), code, asked.elapsed().as_secs_f32())
}

#[test]
fn pre_stop_runs_before_the_container_hears_of_its_stop() {
    let hook = "{exec: {command: [probe.wasm, append-late, /data/order, hook, '300']}}";
    let (order, code, _) = stopped(hook, 30);
    assert_eq!((order, code), (vec!["main starts".into(), "hook".into(), "main ends".into()], 0));
}

#[test]
fn pre_stop_may_sleep_also_for_no_time_at_all() {
    let (order, code, took) = stopped("{sleep: {seconds: 1}}", 30);
    assert_eq!((order.len(), code), (2, 0));
    assert!(took >= 1.0, "{took}");
    let (order, code, _) = stopped("{sleep: {seconds: 0}}", 30);
    assert_eq!((order.len(), code), (2, 0));
}

#[test]
fn pre_stop_is_bounded_by_the_grace_period() {
    // The kubelet, too, leaves a container two seconds after that.
    let (order, code, took) = stopped("{exec: {command: [probe.wasm, sleep, '3600000']}}", 1);
    assert_eq!((order, code), (vec!["main starts".into(), "main ends".into()], 0));
    assert!(took >= 1.0, "{took}");
}

#[test]
fn a_failing_pre_stop_does_not_hold_the_stop_up() {
    let (order, code, _) = stopped("{exec: {command: [probe.wasm, exit, '1']}}", 30);
    assert_eq!((order.len(), code), (2, 0));
}

#[test]
fn a_sleeping_pre_stop_ends_with_its_container() {
    let pod = Traced::new(
        "
apiVersion: v1
kind: Pod
metadata: {name: early}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 60
  containers:
  - name: main
    image: {probe}
    args: [sleep, '1500']
    lifecycle: {preStop: {sleep: {seconds: 50}}}
",
    );
    let mut running = Running::start(&pod.text, &[]);
    running.wait_for("main");
    let asked = Instant::now();
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(), 0);
    assert!(asked.elapsed().as_secs() < 40);
}
