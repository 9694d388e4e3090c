//! Guests of WASI 0.2 and 0.3 in one pod: each has an engine, and the pod's second may be made while it runs.

use super::support::{Finished, Running, directory, eventually, guests, peapod, run};

fn command(arguments: &[&str]) -> Finished {
    Finished::from(peapod().args(arguments).output().expect("start peapod"))
}

/// A pod whose one container serves, with a directory of tools, one of each version.
fn serving(name: &str, image: &str, arguments: &str) -> (Running, tempfile::TempDir) {
    let tools = directory();
    std::fs::copy(&guests::guests().probe, tools.path().join("probe.wasm")).unwrap();
    std::fs::copy(&guests::guests().p3, tools.path().join("p3.wasm")).unwrap();
    let text = format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: main, image: {image}, args: {arguments}, volumeMounts: [{{name: tools, mountPath: /tools}}]}}
  volumes: [{{name: tools, hostPath: {{path: '{}'}}}}]
",
        tools.path().display()
    );
    let pod = Running::start(&text, &[]);
    pod.wait_for("[main] listening");
    eventually("the pod does not answer", || command(&["ss", name]).code == 0);
    (pod, tools)
}

#[test]
fn a_pod_of_02_takes_commands_and_containers_of_03() {
    let (pod, _tools) = serving("versions-of-2", "{probe}", "[serve, '7000']");
    for _ in 0..2 {
        command(&["exec", "versions-of-2", "--", "/tools/p3.wasm", "hello"])
            .expect_code(0)
            .expect_stdout("hello from preview 3");
    }
    command(&["exec", "versions-of-2", "--", "/tools/p3.wasm", "tick", "1", "3"])
        .expect_code(0)
        .expect_stdout("tick 3 after");
    command(&["exec", "versions-of-2", "--", "/tools/probe.wasm", "hello"]).expect_code(0);
    let image = guests::guests().p3.to_str().unwrap();
    let connect = ["--", "tcp-connect", "127.0.0.1", "7000", "from 0.3"];
    command(&[&["debug", "versions-of-2", "--image", image, "-c", "late"], &connect[..]].concat())
        .expect_code(0);
    pod.wait_for("[late] from 0.3");
}

#[test]
fn a_pod_of_03_takes_commands_and_containers_of_02() {
    let (pod, _tools) = serving("versions-of-3", "{p3}", "[tcp-serve, '7000']");
    command(&["exec", "versions-of-3", "--", "/tools/probe.wasm", "exit", "7"]).expect_code(7);
    command(&["exec", "versions-of-3", "--", "/tools/probe.wasm", "connect", "127.0.0.1:7000", "from 0.2"])
        .expect_code(0)
        .expect_stdout("from 0.2");
    let image = guests::guests().probe.to_str().unwrap();
    command(&["debug", "versions-of-3", "--image", image, "-c", "late", "--", "hello"]).expect_code(0);
    pod.wait_for("[late] hello");
}

#[test]
fn a_program_of_02_may_import_of_03_what_does_not_wait() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: versions-mixed}
spec:
  restartPolicy: Never
  containers: [{name: main, image: {random-0.3}}]
";
    run(text, &[]).expect_code(0);
}
