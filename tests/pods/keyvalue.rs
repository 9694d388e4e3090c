//! `wasi:keyvalue`: state that the containers of a pod share, and that lasts as long as its volume.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::support::{Running, directory, run};

fn pod(name: &str, annotations: &str, volumes: &str, containers: &[(&str, &[&str])]) -> String {
    let mut text = format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, annotations: {{{annotations}}}}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 5
  volumes: [{volumes}]
  containers:
"
    );
    for (name, args) in containers {
        text.push_str(&format!("  - {{name: {name}, image: {{state}}, args: {args:?}}}\n"));
    }
    text
}

#[test]
fn a_sidecar_shares_a_counter_and_the_sum_is_exact() {
    let counted = |key| ["increment", "default", key, "200"];
    let swapped = |key| ["swap", "default", key, "50"];
    let text = pod(
        "counters",
        "",
        "",
        &[
            ("a", &counted("n")),
            ("b", &counted("n")),
            ("c", &counted("n")),
            ("sum", &["wait", "default", "n", "600"]),
            ("d", &swapped("m")),
            ("e", &swapped("m")),
            ("swaps", &["wait", "default", "m", "100"]),
        ],
    );
    run(&text, &[])
        .expect_code(0)
        .expect_stdout("incremented to 600")
        .expect_stdout("[sum] waited: 600")
        .expect_stdout("[swaps] waited: 100");
}

#[test]
fn every_function_works_and_has_its_bounds() {
    run(&pod("tour", "", "", &[("main", &["tour", "default"])]), &[])
        .expect_code(0)
        .expect_stdout("keys 1024 and 476, more: false")
        .expect_stdout("many [Some(3), None]")
        .expect_stdout("there false false true")
        .expect_stdout("too large: bytes of a value: 1048577, at most 1048576")
        .expect_stdout("bad name: no-such-store")
        .expect_stdout("handles 1023");
}

#[test]
fn state_survives_restarts_of_the_container() {
    let text = pod("restarts", "", "", &[("main", &["runs", "default", "2"])])
        .replace("restartPolicy: Never", "restartPolicy: OnFailure");
    run(&text, &[]).expect_code(0).expect_stdout("run 1, restarts 0").expect_stdout("run 2, restarts 1");
}

#[test]
fn on_a_host_path_it_survives_the_pod_and_elsewhere_it_does_not() {
    let host = directory();
    let volumes = format!(
        "{{name: data, hostPath: {{path: {}}}}}, {{name: scratch, emptyDir: {{}}}}",
        host.path().display()
    );
    let annotations = "peapod.dev/keyvalue: data, peapod.dev/keyvalue.cache: scratch";
    for count in ["5", "10"] {
        let containers: &[(&str, &[&str])] =
            &[("kept", &["increment", "default", "n", "5"]), ("lost", &["increment", "cache", "n", "5"])];
        run(&pod("keeper", annotations, &volumes, containers), &[])
            .expect_code(0)
            .expect_stdout(&format!("[kept] incremented to {count}"))
            .expect_stdout("[lost] incremented to 5");
    }
    assert!(host.path().join(".peapod/keyvalue.redb").is_file());
}

#[test]
fn what_was_kept_outlives_a_pod_that_is_killed_in_the_midst_of_it() {
    let host = directory();
    let volumes = format!("{{name: data, hostPath: {{path: {}}}}}", host.path().display());
    let annotations = "peapod.dev/keyvalue: data";
    let text = |args| pod("ledger", annotations, &volumes, &[("main", args)]);
    let mut kept = 0;
    for _ in 0..3 {
        let mut pod = Running::start(&text(&["ledger", "default"]), &[]);
        pod.wait_for("kept 20");
        kill(Pid::from_raw(pod.pod_pid()), Signal::SIGKILL).unwrap();
        pod.wait();
        let told =
            pod.output().lines().filter_map(|line| line.split_once("kept ")?.1.parse::<u64>().ok()).max();
        kept = kept.max(told.unwrap() + 1);
        let read = run(&text(&["ledger-length", "default"]), &[]).expect_code(0);
        let lines = read.stdout.lines().find_map(|line| line.split_once("lines ")?.1.parse::<u64>().ok());
        assert!(lines.unwrap() >= kept, "{kept} were kept:\n{}", read.stdout);
    }
}

#[test]
fn a_file_that_another_pod_has_open_is_said_to_be_in_use() {
    let host = directory();
    let volumes = format!("{{name: data, hostPath: {{path: {}}}}}", host.path().display());
    let annotations = "peapod.dev/keyvalue: data";
    let set = |name| pod(name, annotations, &volumes, &[("main", &["set", "default", "k", "v"])]);
    let waits: &[(&str, &[&str])] =
        &[("main", &["wait", "default", "never", "1"]), ("set", &["set", "default", "a", "b"])];
    let first = Running::start(&pod("first", annotations, &volumes, waits), &[]);
    first.wait_for("[set] set a");
    run(&set("second"), &[])
        .expect_code(1)
        .expect_stderr(".peapod/keyvalue.redb of volume \"data\" is in use: another pod has it open");
    drop(first);
    run(&set("second"), &[]).expect_code(0).expect_stdout("set k");
}

#[test]
fn what_is_no_store_is_left_as_it_is() {
    let host = directory();
    std::fs::create_dir(host.path().join(".peapod")).unwrap();
    let file = host.path().join(".peapod/keyvalue.redb");
    std::fs::write(&file, "something else").unwrap();
    let volumes = format!("{{name: data, hostPath: {{path: {}}}}}", host.path().display());
    let text = pod("damaged", "peapod.dev/keyvalue: data", &volumes, &[("main", &["get", "default", "k"])]);
    run(&text, &[]).expect_code(1).expect_stderr("is no key-value store, or damaged");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "something else");
}

#[test]
fn what_is_wrong_with_the_annotation_is_said_at_its_path() {
    let volumes = "{name: data, emptyDir: {}}, {name: socket, hostPath: {path: /run/x, type: File}}";
    for (annotation, message) in [
        (
            "peapod.dev/keyvalue: dat",
            "metadata.annotations[peapod.dev/keyvalue]: there is no volume \"dat\", did you mean data?",
        ),
        (
            "peapod.dev/keyvalue.cache: socket",
            "metadata.annotations[peapod.dev/keyvalue.cache]: volume \"socket\" cannot hold buckets: its hostPath is no directory",
        ),
        (
            "peapod.dev/keyvalu: data",
            "metadata.annotations[peapod.dev/keyvalu]: unknown annotation, did you mean peapod.dev/keyvalue?",
        ),
    ] {
        let text = pod("wrong", annotation, volumes, &[("main", &["get", "default", "k"])]);
        run(&text, &[]).expect_code(2).expect_stderr(message);
    }
}

#[test]
fn components_built_for_wasmtimes_own_version_share_the_buckets() {
    let text = pod("draft", "", "", &[("old", &["draft", "b"]), ("new", &["wait", "b", "n", "5"])]);
    run(&text, &[])
        .expect_code(0)
        .expect_stdout("draft keys 1500 in 2 pages")
        .expect_stdout("draft many [Some(1), None]")
        .expect_stdout("draft incremented to 5")
        .expect_stdout("draft Some(3) false")
        .expect_stdout("[new] waited: 5");
}
