//! Pods while they live: what their status says at a moment, and what changes it from outside.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::support::{PATIENCE, Running, directory, peapod};

/// A pod that runs, under a name of its own.
struct Live {
    running: Running,
    name: String,
    host: tempfile::TempDir,
}

impl Live {
    /// Starts a pod; `HOST` in its manifest is a directory of the host.
    fn start(name: &str, text: &str, arguments: &[&str]) -> Self {
        let host = directory();
        let name = format!("{name}-{}", std::process::id());
        let text = text.replace("HOST", &host.path().display().to_string());
        let running = Running::start(&text, &[&["--name", &name], arguments].concat());
        Self { running, name, host }
    }

    fn ask(&self, arguments: &[&str]) -> std::process::Output {
        peapod().args(arguments).output().expect("start peapod")
    }

    /// The pod, as soon as `ready` likes it.
    #[track_caller]
    fn when(&self, ready: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let output = self.ask(&["get", "pod", &self.name, "-o", "json"]);
            let pod = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
            if ready(&pod) {
                return pod;
            }
            assert!(Instant::now() < end, "never as wanted: {pod:#}\n{output:?}\n{}", self.running.output());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    fn patch(&self, subresource: &str, patch: &str) {
        let output = self.ask(&["patch", &self.name, "--subresource", subresource, "-p", patch]);
        assert!(output.status.success(), "{output:?}");
    }
}

fn condition<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let conditions = pod["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().find(|condition| condition["type"] == name).unwrap_or(&Value::Null)
}

fn main_status(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

#[test]
fn a_pod_whose_init_container_fails_stays_pending_and_can_be_deleted() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: x}
spec:
  terminationGracePeriodSeconds: 0
  initContainers:
  - {name: setup, image: {probe}, args: [exit, '3']}
  containers:
  - {name: main, image: {probe}, args: [hello]}
";
    let mut live = Live::start("pending", text, &[]);
    let pod = live.when(|pod| {
        pod["status"]["initContainerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    });
    assert_eq!(pod["status"]["phase"], "Pending");
    assert_eq!(condition(&pod, "Initialized")["status"], "False");
    assert_eq!(main_status(&pod)["state"]["waiting"]["reason"], "PodInitializing");
    let deleted = live.ask(&["delete", &live.name]);
    assert!(deleted.status.success(), "{deleted:?}");
    live.running.wait();
}

#[test]
fn a_container_that_always_fails_has_a_reason_and_can_be_deleted() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: x}
spec:
  containers:
  - {name: main, image: {probe}, args: [exit, '3']}
";
    let mut live = Live::start("failing", text, &[]);
    let pod = live.when(|pod| main_status(pod)["state"]["waiting"]["reason"] == "CrashLoopBackOff");
    assert_eq!(main_status(&pod)["lastState"]["terminated"]["reason"], "Error");
    assert_eq!(main_status(&pod)["lastState"]["terminated"]["exitCode"], 3);
    assert!(live.ask(&["delete", &live.name]).status.success());
    live.running.wait();
}

#[test]
fn readiness_waits_for_its_first_probe_and_for_startup_and_comes_at_once_after_it() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: x}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {probe}
    args: [sleep, '3600000']
    startupProbe: {exec: {command: [probe.wasm, read, /data/up]}, periodSeconds: 1, failureThreshold: 100}
    readinessProbe: {exec: {command: [probe.wasm, hello]}, periodSeconds: 3600}
    volumeMounts: [{name: data, mountPath: /data}]
  - name: late
    image: {probe}
    args: [sleep, '3600000']
    readinessProbe: {exec: {command: [probe.wasm, hello]}, initialDelaySeconds: 4, periodSeconds: 1}
  volumes: [{name: data, hostPath: {path: HOST}}]
";
    let live = Live::start("delayed", text, &[]);
    let started = Instant::now();
    let pod = live.when(|pod| pod["status"]["phase"] == "Running");
    assert_eq!((&main_status(&pod)["started"], &main_status(&pod)["ready"]), (&false.into(), &false.into()));
    let late = |pod: &Value| pod["status"]["containerStatuses"][1].clone();
    let pod = live.when(|pod| late(pod)["ready"] == true);
    assert!(started.elapsed() >= Duration::from_secs(3), "before its initial delay");
    assert_eq!((&late(&pod)["restartCount"], &main_status(&pod)["ready"]), (&0.into(), &false.into()));
    std::fs::write(live.host.path().join("up"), "yes").unwrap();
    // The next readiness probe by its period would be in an hour.
    let pod = live.when(|pod| main_status(pod)["ready"] == true);
    assert_eq!(main_status(&pod)["started"], true);
    assert_eq!(condition(&pod, "Ready")["status"], "True");
}

#[test]
fn readiness_gates_hold_the_pod_back_until_somebody_sets_them() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: x}
spec:
  terminationGracePeriodSeconds: 0
  readinessGates: [{conditionType: example.com/warm}]
  containers:
  - {name: main, image: {probe}, args: [sleep, '3600000']}
";
    let live = Live::start("gated", text, &[]);
    let pod = live.when(|pod| condition(pod, "ContainersReady")["status"] == "True");
    assert_eq!(condition(&pod, "Ready")["status"], "False");
    assert_eq!(condition(&pod, "Ready")["reason"], "ReadinessGatesNotReady");
    live.patch("status", "status: {conditions: [{type: example.com/warm, status: 'True'}]}");
    live.when(|pod| condition(pod, "Ready")["status"] == "True");
    live.patch("status", "status: {conditions: [{type: example.com/warm, status: 'False'}]}");
    live.when(|pod| condition(pod, "Ready")["status"] == "False");
}

#[test]
fn while_a_pod_ends_readiness_goes_on_and_liveness_does_not() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: x}
spec:
  terminationGracePeriodSeconds: 600
  containers:
  - name: main
    image: {probe}
    args: [sleep, '3600000']
    readinessProbe: {exec: {command: [probe.wasm, read, /data/ready]}, periodSeconds: 1, failureThreshold: 1}
    livenessProbe: {exec: {command: [probe.wasm, read, /data/ready]}, periodSeconds: 1, failureThreshold: 2}
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, hostPath: {path: HOST}}]
";
    let live = Live::start("ending", text, &[]);
    std::fs::write(live.host.path().join("ready"), "yes").unwrap();
    live.when(|pod| main_status(pod)["ready"] == true);
    live.running.signal(Signal::SIGTERM);
    live.when(|pod| pod["metadata"]["deletionTimestamp"].is_string());
    std::fs::remove_file(live.host.path().join("ready")).unwrap();
    live.when(|pod| main_status(pod)["ready"] == false);
    std::thread::sleep(Duration::from_secs(3));
    let pod = live.when(|pod| pod["status"].is_object());
    assert_eq!(main_status(&pod)["restartCount"], 0);
    assert!(main_status(&pod)["state"]["running"].is_object(), "{pod:#}");
}

#[test]
fn a_running_pod_is_resized() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: x}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {probe}
    args: [sleep, '3600000']
    resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 200m, memory: 64Mi}}
  - name: anew
    image: {probe}
    args: [sleep, '3600000']
    resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 200m, memory: 64Mi}}
    resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]
";
    let live = Live::start("resized", text, &[]);
    live.when(|pod| pod["status"]["phase"] == "Running");
    live.patch(
        "resize",
        r#"{"spec":{"containers":[{"name":"main","resources":{"limits":{"cpu":"400m","memory":"128Mi"}}},
            {"name":"anew","resources":{"limits":{"memory":"96Mi"}}}]}}"#,
    );
    let pod = live.when(|pod| {
        main_status(pod)["resources"]["limits"]["memory"] == "128Mi"
            && pod["status"]["containerStatuses"][1]["restartCount"] == 1
    });
    assert_eq!(main_status(&pod)["resources"]["limits"]["cpu"], "400m");
    assert_eq!(main_status(&pod)["restartCount"], 0);
    assert_eq!(pod["spec"]["containers"][0]["resources"]["limits"]["memory"], "128Mi");
    assert_eq!(pod["metadata"]["generation"], 2);
    live.when(|pod| pod["status"]["observedGeneration"] == 2);
    let refused = live.ask(&[
        "patch",
        &live.name,
        "--subresource",
        "resize",
        "-p",
        r#"{"spec":{"containers":[{"name":"main","resources":{"limits":{"memory":"16Mi"}}}]}}"#,
    ]);
    assert!(!refused.status.success());
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(why.contains("spec.containers[0].resources"), "{why}");
}
