//! What `peapod apply`, `label` and `delete` change is what containers find: variables of the next run, files at once.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::support::{Finished, PATIENCE, Running, directory, needs_root, peapod};

fn ask(arguments: &[&str]) -> Finished {
    Finished::from(peapod().args(arguments).output().expect("start peapod"))
}

#[track_caller]
fn said(arguments: &[&str]) -> String {
    ask(arguments).expect_code(0).stdout
}

#[track_caller]
fn apply(text: &str) -> String {
    let directory = directory();
    let file = directory.path().join("applied.yaml");
    std::fs::write(&file, text).unwrap();
    said(&["apply", "-f", &file.display().to_string()])
}

fn config(namespace: &str, data: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: config, namespace: {namespace}}}, data: {data}}}"
    )
}

/// What a file has, as the container sees it.
#[track_caller]
fn read(pod: &str, path: &str) -> String {
    said(&["exec", pod, "--", "probe.wasm", "read", path])
}

/// The status of the pod's first container, as soon as `ready` likes it.
#[track_caller]
fn status(pod: &str, ready: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + PATIENCE;
    loop {
        let shown: Value = serde_json::from_str(&said(&["get", pod, "-o", "json"])).unwrap();
        let status = shown["status"]["containerStatuses"][0].clone();
        if ready(&status) {
            return status;
        }
        assert!(Instant::now() < end, "never as wanted: {status:#}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn variables_are_those_of_the_next_run() {
    let pod = "
apiVersion: v1
kind: Pod
metadata: {name: follows-env, namespace: follows-env}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {probe}
    args: [env, COLOR]
    env: [{name: COLOR, valueFrom: {configMapKeyRef: {name: config, key: color}}}]
---
"
    .to_owned()
        + &config("follows-env", "{color: red}");
    let running = Running::start(&pod, &["--backoff-base", "100ms"]);
    running.wait_for("red");
    apply(&config("follows-env", "{color: blue}"));
    running.wait_for("blue");
    // Without it the container waits, and begins again as soon as it is there.
    said(&["delete", "configmap", "config", "-n", "follows-env"]);
    let waits = |status: &Value| status["state"]["waiting"]["reason"] == "CreateContainerConfigError";
    status("follows-env", waits);
    apply(&config("follows-env", "{color: green}"));
    running.wait_for("green");
}

#[test]
fn volumes_have_it_when_the_command_returns() {
    let pod = "
apiVersion: v1
kind: Pod
metadata: {name: follows-files, namespace: follows-files, labels: {tier: front}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {probe}
    args: [sleep, '3600000']
    volumeMounts:
    - {name: config, mountPath: /config}
    - {name: late, mountPath: /late}
    - {name: all, mountPath: /all}
  volumes:
  - {name: config, configMap: {name: config}}
  - {name: late, secret: {secretName: late, optional: true}}
  - name: all
    projected:
      sources:
      - configMap: {name: config, items: [{key: color, path: colors/main}]}
      - downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}
---
"
    .to_owned()
        + &config("follows-files", "{color: red, size: big}");
    let running = Running::start(&pod, &[]);
    running.wait_for("phase    Running");
    let pod = "follows-files";
    assert_eq!((&*read(pod, "/config/color"), &*read(pod, "/all/colors/main")), ("red", "red"));
    apply(&config("follows-files", "{color: blue}"));
    assert_eq!((&*read(pod, "/config/color"), &*read(pod, "/all/colors/main")), ("blue", "blue"));
    ask(&["exec", pod, "--", "probe.wasm", "read", "/config/size"]).expect_code(1);
    assert_eq!(read(pod, "/all/labels"), "tier=\"front\"");
    said(&["label", pod, "tier=back", "--overwrite"]);
    assert_eq!(read(pod, "/all/labels"), "tier=\"back\"");

    ask(&["exec", pod, "--", "probe.wasm", "read", "/late/key"]).expect_code(1);
    apply(
        "{apiVersion: v1, kind: Secret, metadata: {name: late, namespace: follows-files}, stringData: {key: now}}",
    );
    assert_eq!(read(pod, "/late/key"), "now");
    // What is optional goes; what is not keeps its files, and the event says why.
    said(&["delete", "secret", "late", "-n", "follows-files"]);
    ask(&["exec", pod, "--", "probe.wasm", "read", "/late/key"]).expect_code(1);
    said(&["delete", "configmap", "config", "-n", "follows-files"]);
    assert_eq!(read(pod, "/config/color"), "blue");
    assert!(said(&["describe", pod]).contains("FailedMount"));
    apply(&config("follows-files", "{color: green}"));
    assert_eq!(read(pod, "/config/color"), "green");
}

#[test]
fn a_key_that_a_container_needs_appears() {
    let pod = "
apiVersion: v1
kind: Pod
metadata: {name: follows-optional, namespace: follows-optional}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {probe}
    args: [env]
    envFrom: [{prefix: FROM_, configMapRef: {name: config, optional: true}}]
";
    let running = Running::start(pod, &["--backoff-base", "100ms"]);
    running.wait_for("HOSTNAME=");
    apply(&config("follows-optional", "{KEY: value}"));
    running.wait_for("FROM_KEY=value");
}

/// The answer to one HTTP request.
#[track_caller]
fn http(address: IpAddr, request: &str) -> String {
    let mut stream = TcpStream::connect((address, 8080)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{request}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// `guest-examples/configuration`: as its README says.
#[test]
fn the_example_follows_and_counts_on() {
    if !needs_root() {
        return;
    }
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest-examples/configuration");
    let text = std::fs::read_to_string(example.join("pod.yaml")).unwrap();
    let text = text.replace("image: ./", &format!("image: {}/", example.display()));
    // To pods of other tests, in the default one, the example's objects would be new.
    let text = text.replace("metadata:\n  name:", "metadata:\n  namespace: follows-example\n  name:");
    let delete_claim = ["delete", "pvc", "visits", "-n", "follows-example"];
    // The first time it is built.
    let run = || Running::start(&text, &["--build"]);
    let patience = Duration::from_secs(600);
    let get = "GET / HTTP/1.1";
    // There if this test failed before.
    ask(&delete_claim);
    let mut running = run();
    let address = running.address_within(patience);
    running.wait_for("[show] serving");
    let page = http(address, get);
    let hello = "variable: Hello\nwasi:config: Hello\nfile: Change me and apply me.\nvisits: 1\n";
    assert!(page.starts_with("HTTP/1.1 200") && page.ends_with(hello), "{page}");
    let objects = ["configmap/site", "secret/login", "persistentvolumeclaim/visits", "pod/configuration"];
    assert_eq!(apply(&text), objects.map(|object| format!("{object} unchanged\n")).concat());
    apply(&text.replace("Hello", "Good evening").replace("Change me", "Changed").replace("open-", ""));
    let page = http(address, get);
    let changed = "variable: Hello\nwasi:config: Good evening\nfile: Changed and apply me.\nvisits: 2\n";
    assert!(page.ends_with(changed), "{page}");
    let reset = |token: &str| http(address, &format!("POST / HTTP/1.1\r\nAuthorization: Bearer {token}"));
    assert!(reset("open-sesame").starts_with("HTTP/1.1 403"), "{}", running.output());
    assert!(reset("sesame").ends_with("counting from 0\n"), "{}", running.output());
    assert!(http(address, get).ends_with("visits: 1\n"));
    said(&["delete", "configuration"]);
    running.wait();
    assert!(running.output().contains("show Completed"), "{}", running.output());

    let mut again = run();
    let address = again.address_within(patience);
    again.wait_for("[show] serving");
    let page = http(address, get);
    assert!(page.contains("variable: Hello") && page.ends_with("visits: 2\n"), "{page}");
    said(&["delete", "configuration"]);
    again.wait();
    said(&delete_claim);
}

#[test]
fn files_of_the_downward_api_follow_a_resize() {
    let pod = "
apiVersion: v1
kind: Pod
metadata: {name: follows-size, namespace: follows-size}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {probe}
    args: [follow, /v/cpu, '3']
    resources: {limits: {cpu: '1'}}
    volumeMounts: [{name: v, mountPath: /v}]
  volumes:
  - name: v
    downwardAPI: {items: [{path: cpu, resourceFieldRef: {containerName: main, resource: limits.cpu}}]}
";
    let running = Running::start(pod, &[]);
    running.wait_for("now 1");
    for cpu in ["2", "3"] {
        let patch = format!(
            "{{\"spec\":{{\"containers\":[{{\"name\":\"main\",\"resources\":{{\"limits\":{{\"cpu\":\"{cpu}\"}}}}}}]}}}}"
        );
        said(&["patch", "follows-size", "--subresource", "resize", "-p", &patch]);
        running.wait_for(&format!("now {cpu}"));
    }
    running.wait_for("held 1");
}
