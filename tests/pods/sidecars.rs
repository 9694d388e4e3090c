//! Sidecars: init containers with `restartPolicy: Always`.

use super::support::{Finished, directory, run};

/// Runs a pod whose containers write to `/data/order`; how it ended, and what they wrote.
fn order(text: &str, arguments: &[&str]) -> (Finished, Vec<String>) {
    let host = directory();
    let text = text.replace("HOST", &host.path().display().to_string());
    let finished = run(&text, &[&["-o", "json", "--backoff-base", "10ms"], arguments].concat());
    let order = std::fs::read_to_string(host.path().join("order")).unwrap_or_default();
    (finished, order.lines().map(str::to_owned).collect())
}

#[test]
fn a_sidecar_starts_before_what_comes_after_it_and_sidecars_end_in_reverse_after_the_main_one() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: sidecars}
spec:
  restartPolicy: Never
  initContainers:
  - name: a
    image: {probe}
    restartPolicy: Always
    args: [until-stop, '7001', /data/order, a]
    startupProbe: {tcpSocket: {port: 7001}, periodSeconds: 1}
    volumeMounts: [{name: data, mountPath: /data}]
  - name: b
    image: {probe}
    restartPolicy: Always
    args: [until-stop, '7002', /data/order, b, '7']
    startupProbe: {tcpSocket: {port: 7002}, periodSeconds: 1}
    volumeMounts: [{name: data, mountPath: /data}]
  containers:
  - {name: main, image: {probe}, args: [append, /data/order, main], volumeMounts: [{name: data, mountPath: /data}]}
  volumes: [{name: data, hostPath: {path: HOST}}]
";
    let (finished, order) = order(text, &[]);
    assert_eq!(order, ["a starts", "b starts", "main", "b ends", "a ends"]);
    // The sidecar's own failure is nobody's.
    assert_eq!(finished.code, 0);
    assert_eq!(finished.pod()["status"]["phase"], "Succeeded");
    let sidecars = finished.pod()["status"]["initContainerStatuses"].clone();
    assert_eq!(sidecars[1]["state"]["terminated"]["exitCode"], 7, "{sidecars:#}");
}

#[test]
fn a_sidecar_is_restarted_even_under_never() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: restarted}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  initContainers:
  - name: side
    image: {probe}
    restartPolicy: Always
    args: [fail-times, /data/runs, '1000', '3']
    volumeMounts: [{name: data, mountPath: /data}]
  containers:
  - {name: main, image: {probe}, args: [sleep, '500']}
  volumes: [{name: data, hostPath: {path: HOST}}]
";
    let (finished, _) = order(text, &[]);
    assert_eq!((finished.code, &finished.pod()["status"]["phase"]), (0, &"Succeeded".into()));
    let restarts = finished.pod()["status"]["initContainerStatuses"][0]["restartCount"].as_i64();
    assert!(restarts.unwrap() >= 2, "{restarts:?}");
}

#[test]
fn a_sidecar_that_never_passes_its_startup_probe_holds_the_main_container_up() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: held}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  initContainers:
  - name: side
    image: {probe}
    restartPolicy: Always
    args: [until-stop, '7001', /data/order, side]
    startupProbe: {tcpSocket: {port: 7999}, periodSeconds: 1, failureThreshold: 100}
    volumeMounts: [{name: data, mountPath: /data}]
  containers:
  - {name: main, image: {probe}, args: [append, /data/order, main], volumeMounts: [{name: data, mountPath: /data}]}
  volumes: [{name: data, hostPath: {path: HOST}}]
";
    let (finished, order) = order(text, &["--timeout", "3s"]);
    assert_eq!(finished.code, 124);
    assert_eq!(order.first().map(String::as_str), Some("side starts"));
    assert!(!order.contains(&"main".to_owned()), "{order:?}");
    let main = finished.pod()["status"]["containerStatuses"][0].clone();
    assert_eq!(main["state"]["waiting"]["reason"], "PodInitializing", "{main:#}");
}
