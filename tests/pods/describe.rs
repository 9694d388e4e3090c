//! What a person sees of a pod's life: `peapod get`, `describe`, `delete`, `patch` and `--trace`.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use super::support::{Finished, PATIENCE, Running, directory, peapod, root, run};

fn ask(arguments: &[&str]) -> Finished {
    Finished::from(peapod().args(arguments).output().expect("start peapod"))
}

/// What a command says, as soon as `ready` likes it.
#[track_caller]
fn said(arguments: &[&str], ready: impl Fn(&str) -> bool) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let said = ask(arguments);
        if ready(&said.stdout) {
            return said.stdout;
        }
        assert!(Instant::now() < end, "never as wanted:\n{}\n{}", said.stdout, said.stderr);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// The directory of the pod of this name.
#[track_caller]
fn pod_directory(name: &str) -> PathBuf {
    let directories = std::fs::read_dir(root().join("run/pods")).unwrap().flatten();
    let is_it = |directory: &Path| {
        let record = std::fs::read_to_string(directory.join("record.json")).unwrap_or_default();
        serde_json::from_str::<Value>(&record).is_ok_and(|record| record["name"] == name)
    };
    directories.map(|entry| entry.path()).find(|path| is_it(path)).unwrap_or_else(|| panic!("no pod {name}"))
}

/// One request on a pod's control socket: the status code and the body.
#[track_caller]
fn http(pod: &str, request: &str, headers: &str, body: &str) -> (u16, Value) {
    let mut stream = UnixStream::connect(pod_directory(pod).join("control.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    write!(stream, "{request} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    (code.unwrap_or_else(|| panic!("{answer}")), serde_json::from_str(body).unwrap_or(Value::Null))
}

fn server(name: &str, grace: u32) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: seen, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: {grace}
  initContainers:
  - {{name: setup, image: {{probe}}, args: [hello]}}
  containers:
  - {{name: web, image: {{probe}}, args: [serve, '7000'], ports: [{{containerPort: 7000}}]}}
"
    )
}

#[test]
fn a_running_pod_is_got_and_described() {
    let files = directory();
    let pod = Running::start(&server("described", 0), &[]);
    pod.wait_for("phase    Running");
    let table = said(&["get", "pods", "-n", "seen"], |table| table.contains("Running"));
    let row: Vec<_> =
        table.lines().find(|line| line.starts_with("described")).unwrap().split("   ").collect();
    assert_eq!((row[0], row[1].trim(), row[2].trim()), ("described", "1/1", "Running"), "{table}");
    assert!(table.starts_with("NAME"), "{table}");
    assert!(ask(&["get", "-n", "nowhere"]).stderr.contains("No resources found in nowhere namespace."));
    assert!(ask(&["get", "-A", "-o", "name"]).stdout.contains("pod/described\n"));
    let object: Value = serde_json::from_str(&ask(&["get", "pod/described", "-o", "json"]).stdout).unwrap();
    assert_eq!((&object["kind"], &object["status"]["phase"]), (&"Pod".into(), &"Running".into()));
    assert!(object["metadata"]["creationTimestamp"].is_string());
    let yaml = ask(&["get", "pod", "described", "-o", "yaml"]).stdout;
    assert!(yaml.contains("\nkind: Pod\n") && yaml.contains("  nodeName: "), "{yaml}");

    let trace = files.path().join("trace.json");
    let arguments = ["describe", "pod/described", "-n", "seen", "--trace", trace.to_str().unwrap()];
    let text =
        said(&arguments, |text| text.matches("first host call").count() == 2 && text.contains("ready"));
    for part in [
        "Name:         described\nNamespace:    seen\n",
        "Labels:       app=described\n",
        "Init Containers:\n  setup:\n    Container ID:  peapod://",
        "      Reason:       Completed\n      Exit Code:    0\n",
        "    Port:          7000/TCP\n    Host Port:     0/TCP\n    Args:\n      serve\n      7000\n",
        "Conditions:\n  Type ",
        "QoS Class:",
        "Successfully assigned seen/described to ",
        "Created container: web",
        "Started container web",
        "already present on machine",
        "Timeline:  microseconds since ",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    let (_, timeline) = text.split_once("Timeline:").unwrap();
    let steps = [
        "accepted",
        "sandbox",
        "volumes",
        "network",
        "setup:",
        "web:",
        "image",
        "instantiate",
        "first host call",
        "started",
        "ready",
    ];
    for step in steps {
        assert!(timeline.contains(step), "no {step:?} in\n{timeline}");
    }
    check_trace(&trace, &["setup", "web"]);
}

/// One axis: what comes later happened later, in both processes.
#[track_caller]
fn check_trace(file: &Path, containers: &[&str]) {
    let trace: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let at = |category: &str, name: &str| {
        let found = events.iter().find(|event| event["cat"] == category && event["name"] == name);
        found.and_then(|event| event["ts"].as_u64()).unwrap_or_else(|| panic!("no {name} in {trace:#}"))
    };
    let order = [
        at("supervisor", "manifest"),
        at("supervisor", "accepted"),
        at("supervisor", "images"),
        at("supervisor", "sandbox"),
        at("pod", "volumes"),
        at("container", "start"),
        at("container", "instantiate"),
        at("container", "started"),
    ];
    assert!(order.is_sorted(), "{order:?}");
    let tracks: Vec<_> = events.iter().filter(|event| event["name"] == "thread_name").collect();
    let names: Vec<_> = tracks.iter().filter_map(|event| event["args"]["name"].as_str()).collect();
    for container in containers {
        assert!(names.contains(&&*format!("container {container}")), "{names:?}");
    }
}

#[test]
fn a_run_leaves_its_trace() {
    let files = directory();
    let trace = files.path().join("trace.json");
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: traced}
spec:
  restartPolicy: Never
  containers:
  - {name: main, image: {probe}, args: [hello]}
";
    run(text, &["--trace", trace.to_str().unwrap()]).expect_code(0);
    check_trace(&trace, &["main"]);
}

#[test]
fn a_crash_loop_is_seen_in_its_events() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: loops, namespace: seen}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: main, image: {probe}, args: [exit, '7']}
";
    let pod = Running::start(text, &[]);
    pod.wait_for("back-off");
    let text = said(&["describe", "loops"], |text| {
        text.contains("Reason:       CrashLoopBackOff") && text.contains("Back-off restarting")
    });
    assert!(text.contains("Back-off restarting failed container main in pod loops_seen("), "{text}");
    assert!(
        text.contains("      Reason:       CrashLoopBackOff\n    Last State:     Terminated\n"),
        "{text}"
    );
    let table = ask(&["get", "-n", "seen", "--no-headers"]).stdout;
    let row = table.lines().find(|line| line.starts_with("loops")).unwrap().to_owned();
    assert!(row.contains("0/1") && row.contains("CrashLoopBackOff"), "{row}");
    let (code, events) = http("loops", "GET /api/v1/events?fieldSelector=reason%3DBackOff", "", "");
    let event = &events["items"][0];
    assert_eq!(
        (code, &events["kind"], &event["type"]),
        (200, &"EventList".into(), &"Warning".into()),
        "{events}"
    );
    assert_eq!(event["involvedObject"]["fieldPath"], "spec.containers{main}");
}

#[test]
fn deleting_a_pod_ends_it_and_waits_until_it_is_gone() {
    let mut pod = Running::start(&server("deleted", 0), &[]);
    pod.wait_for("phase    Running");
    let place = pod_directory("deleted");
    ask(&["delete", "pod", "deleted", "-n", "seen"])
        .expect_code(0)
        .expect_stdout("pod \"deleted\" deleted from seen namespace");
    assert!(!place.exists());
    assert_eq!(pod.wait(), 143, "{}", pod.output());
    assert_ne!(ask(&["delete", "deleted"]).code, 0);
}

#[test]
fn grace_shrinks_with_a_second_delete() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: shrinks, namespace: seen}
spec:
  terminationGracePeriodSeconds: 600
  containers:
  - {name: main, image: {probe}, args: [sleep, '600000']}
";
    let mut pod = Running::start(text, &[]);
    pod.wait_for("started");
    ask(&["delete", "shrinks", "--wait=false"]).expect_code(0);
    let object = || -> Value {
        serde_json::from_str(&ask(&["get", "pod/shrinks", "-o", "json"]).stdout).unwrap_or(Value::Null)
    };
    let metadata = object()["metadata"].clone();
    assert_eq!(metadata["deletionGracePeriodSeconds"], 600);
    assert!(metadata["deletionTimestamp"].is_string());
    let described = said(&["describe", "shrinks"], |text| text.contains("Stopping container main"));
    assert!(described.contains("Terminating (lasts "), "{described}");
    assert!(described.contains("Termination Grace Period:  600s"), "{described}");
    assert!(ask(&["get", "-n", "seen"]).stdout.contains("Terminating"));
    // More does not help.
    ask(&["delete", "shrinks", "--wait=false", "--grace-period=900"]).expect_code(0);
    assert_eq!(object()["metadata"]["deletionGracePeriodSeconds"], 600);
    ask(&["delete", "shrinks", "--grace-period=0", "--force"]).expect_code(0);
    assert_eq!(pod.wait(), 143, "{}", pod.output());
}

#[test]
fn a_stop_is_told_before_its_hook_and_its_turn() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: told, namespace: seen}
spec:
  terminationGracePeriodSeconds: 600
  initContainers:
  - {name: side, image: {probe}, args: [sleep, '600000'], restartPolicy: Always}
  containers:
  - {name: main, image: {probe}, args: [sleep, '600000'], lifecycle: {preStop: {sleep: {seconds: 500}}}}
";
    let mut pod = Running::start(text, &[]);
    pod.wait_for("phase    Running");
    ask(&["delete", "told", "--wait=false"]).expect_code(0);
    said(&["describe", "told"], |text| {
        text.contains("Stopping container main") && text.contains("Stopping container side")
    });
    ask(&["delete", "told", "--grace-period=0", "--force"]).expect_code(0);
    assert_eq!(pod.wait(), 143, "{}", pod.output());
}

#[test]
fn a_patch_of_what_is_peapods_own_is_refused_with_its_field() {
    let pod = Running::start(&server("patched", 0), &[]);
    pod.wait_for("phase    Running");
    // Setting a condition to what it is changes nothing and is no error.
    said(&["get", "-n", "seen"], |table| {
        table.lines().any(|line| line.starts_with("patched") && line.contains("1/1"))
    });
    let patch = |patch: &str| ask(&["patch", "patched", "--subresource", "status", "-p", patch]);
    patch("status: {conditions: [{type: example.com/warm, status: 'True'}]}")
        .expect_code(0)
        .expect_stdout("pod/patched patched");
    let refused = patch(r#"{"status":{"conditions":[{"type":"Ready","status":"False"}]}}"#);
    refused.expect_code(125).expect_stderr("Ready is peapod's own");
    let media_type = "Content-Type: application/merge-patch+json\r\n";
    let body = json!({"status": {"phase": "Failed"}}).to_string();
    let path = "PATCH /api/v1/namespaces/seen/pods/patched/status";
    let (code, status) = http("patched", path, media_type, &body);
    assert_eq!((code, &status["reason"]), (422, &"Invalid".into()), "{status}");
    assert_eq!(status["details"]["causes"][0]["field"], "status.phase");
}

#[test]
fn a_pod_whose_supervisor_was_killed_is_unknown() {
    let pod = Running::start(&server("orphaned", 0), &[]);
    pod.wait_for("phase    Running");
    pod.signal(nix::sys::signal::Signal::SIGKILL);
    let table = said(&["get", "-n", "seen"], |table| {
        table.lines().any(|line| line.starts_with("orphaned") && line.contains("Unknown"))
    });
    let text = ask(&["describe", "orphaned"]).stdout;
    assert!(text.contains("Status:       Unknown\nMessage:      nobody answers"), "{text}\n{table}");
    assert!(text.contains("Labels:       app=orphaned"), "{text}");
    // The start of another test's pod may have removed it meanwhile, too.
    let deleted = ask(&["delete", "orphaned"]);
    assert!(deleted.code == 0 || deleted.stderr.contains("no pod \"orphaned\""), "{}", deleted.stderr);
    let table = ask(&["get", "-n", "seen"]).stdout;
    assert!(!table.contains("orphaned"), "{table}");
}
