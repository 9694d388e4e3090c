//! `peapod apply`, `label`, `annotate`: what a running pod's configuration comes from changes.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::support::{Finished, PATIENCE, Running, directory, manifest, peapod, root};

fn ask(arguments: &[&str]) -> Finished {
    Finished::from(peapod().args(arguments).output().expect("start peapod"))
}

/// What a command prints that succeeds.
#[track_caller]
fn said(arguments: &[&str]) -> String {
    ask(arguments).expect_code(0).stdout
}

/// `peapod apply` of this text.
fn apply(text: &str) -> Finished {
    let directory = directory();
    let file = directory.path().join("applied.yaml");
    std::fs::write(&file, text).unwrap();
    ask(&["apply", "-f", &file.display().to_string()])
}

#[track_caller]
fn got(words: &[&str]) -> Value {
    let text = said(&[&["get"], words, &["-o", "json"]].concat());
    serde_json::from_str(&text).unwrap()
}

/// The directory of the pod of this name.
#[track_caller]
fn pod_directory(name: &str) -> PathBuf {
    let directories = std::fs::read_dir(root().join("run/pods")).unwrap().flatten();
    let directories = directories.map(|entry| entry.path());
    let mut named = directories.filter(|path| record(path)["name"] == name);
    named.next().unwrap_or_else(|| panic!("no pod {name}"))
}

fn record(directory: &Path) -> Value {
    let text = std::fs::read_to_string(directory.join("record.json")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// One request on a pod's control socket: the status code and the body.
#[track_caller]
fn http(pod: &str, request: &str, media_type: &str, body: &Value) -> (u16, Value) {
    let mut stream = UnixStream::connect(pod_directory(pod).join("control.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let body = body.to_string();
    let headers = format!("Host: x\r\nContent-Type: {media_type}\r\nContent-Length: {}", body.len());
    write!(stream, "{request} HTTP/1.1\r\n{headers}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    (code.unwrap_or_else(|| panic!("{answer}")), serde_json::from_str(body).unwrap_or(Value::Null))
}

fn pod(name: &str, namespace: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: {namespace}
  labels: {{app: {name}}}
  annotations: {{peapod.dev/ipc.queues: '4'}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: main, image: {{probe}}, args: [sleep, '3600000'], resources: {{limits: {{cpu: 300m}}}}}}
"
    )
}

fn objects(namespace: &str) -> String {
    format!(
        "
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: web-config, namespace: {namespace}}}
data: {{color: red, size: big}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: fixed, namespace: {namespace}}}
immutable: true
data: {{a: '1'}}
---
apiVersion: v1
kind: Secret
metadata: {{name: login, namespace: {namespace}}}
stringData: {{password: hunter2}}
"
    )
}

#[test]
fn pods_are_labeled_and_annotated() {
    let text = pod("labeled", "marks") + "  - {name: other, image: {probe}, args: [sleep, '3600000']}\n";
    let running = Running::start(&text, &[]);
    running.wait_for("phase    Running");
    assert_eq!(said(&["label", "pod", "labeled", "tier=front"]), "pod/labeled labeled\n");
    assert_eq!(said(&["label", "pod/labeled", "tier=front", "-n", "marks"]), "pod/labeled not labeled\n");
    ask(&["label", "labeled", "tier=back"])
        .expect_code(1)
        .expect_stderr("'tier' already has a value (front), and --overwrite is false");
    assert_eq!(said(&["label", "labeled", "tier=back", "--overwrite"]), "pod/labeled labeled\n");
    assert_eq!(
        said(&["label", "pods", "--all", "-n", "marks", "tier-", "env=test"]),
        "pod/labeled modified\n"
    );
    assert_eq!(said(&["label", "labeled", "--list"]), "app=labeled\nenv=test\n");
    assert_eq!(
        said(&["label", "labeled", "env-", "gone-"]),
        "label \"gone\" not found.\npod/labeled unlabeled\n"
    );
    ask(&["label", "labeled", "a b=c"]).expect_code(1).expect_stderr("a b");
    ask(&["label", "labeled"]).expect_code(1).expect_stderr("at least one label update is required");
    ask(&["label", "nobody", "a=b"]).expect_code(1).expect_stderr("no pod \"nobody\"");
    // Other pods' NetworkPolicies select by the record.
    said(&["label", "labeled", "role=db"]);
    assert_eq!(record(&pod_directory("labeled"))["labels"], json!({"app": "labeled", "role": "db"}));
    let shown = got(&["labeled"]);
    assert_eq!(shown["metadata"]["labels"], json!({"app": "labeled", "role": "db"}));
    assert_eq!(shown["metadata"]["generation"], 1, "metadata are no generation");
    assert!(said(&["describe", "labeled"]).contains("role=db"));

    assert_eq!(said(&["annotate", "labeled", "note=of Monday"]), "pod/labeled annotated\n");
    ask(&["annotate", "labeled", "note=x"])
        .expect_code(1)
        .expect_stderr("declared annotation(s): 'note' already");
    assert_eq!(got(&["labeled"])["metadata"]["annotations"]["note"], "of Monday");
    for change in ["peapod.dev/ipc.queues=5", "peapod.dev/ipc.queues-", "peapod.dev/other=x"] {
        ask(&["annotate", "labeled", change, "--overwrite"])
            .expect_code(1)
            .expect_stderr("cannot change while the pod runs");
    }
    let patch = "metadata: {labels: {app: patched}}";
    assert_eq!(said(&["patch", "labeled", "-p", patch]), "pod/labeled patched\n");
    assert_eq!(got(&["labeled"])["metadata"]["labels"]["app"], "patched");
    ask(&["patch", "labeled", "-p", "spec: {restartPolicy: Never}"])
        .expect_code(2)
        .expect_stderr("pod updates may not change fields other than");
}

#[test]
fn config_maps_and_secrets_are_applied_and_got() {
    let text = pod("applied", "config") + &objects("config");
    let running = Running::start(&text, &[]);
    running.wait_for("phase    Running");
    let table = said(&["get", "configmaps", "-n", "config", "-o", "wide"]);
    let rows: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "DATA", "AGE", "PODS"], "{table}");
    assert_eq!((rows[1][0], rows[1][1], rows[2][0]), ("fixed", "1", "web-config"), "{table}");
    let table = said(&["get", "secrets", "-n", "config", "--no-headers"]);
    assert!(table.starts_with("login   Opaque   1 "), "{table}");
    let secret = said(&["get", "secret", "login", "-n", "config", "-o", "yaml"]);
    assert!(secret.contains("password: \"aHVudGVyMg==\"") && !secret.contains("hunter2"), "{secret}");
    assert_eq!(said(&["get", "cm/fixed", "-n", "config", "-o", "name"]), "configmap/fixed\n");
    ask(&["get", "cm", "nothing", "-n", "config"]).expect_code(1).expect_stderr("\"nothing\" not found");

    let config = |data: &str| {
        format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: web-config, namespace: config}}, data: {data}}}"
        )
    };
    let same = apply(&config("{color: red, size: big}")).expect_code(0);
    assert_eq!(same.stdout, "configmap/web-config unchanged\n");
    assert!(same.stderr.contains("no pod that runs in namespace \"config\" refers to"), "{}", same.stderr);
    assert_eq!(apply(&config("{color: blue}")).expect_code(0).stdout, "configmap/web-config configured\n");
    let data = got(&["cm", "web-config", "-n", "config"])["data"].clone();
    assert_eq!(data, json!({"color": "blue"}));
    let both = config("{color: green}")
        + "\n---\n{apiVersion: v1, kind: Secret, metadata: {name: new, namespace: config}, stringData: {a: b}}";
    assert_eq!(apply(&both).expect_code(0).stdout, "configmap/web-config configured\nsecret/new created\n");

    // Immutable, and the rest is applied nevertheless.
    let fixed = "{apiVersion: v1, kind: ConfigMap, metadata: {name: fixed, namespace: config}, immutable: true, \
                 data: {a: '2'}}\n---\n";
    let refused = apply(&(fixed.to_owned() + &config("{color: white}"))).expect_code(1);
    assert!(
        refused.stderr.contains("data: Forbidden: field is immutable when `immutable` is set"),
        "{refused:?}"
    );
    assert_eq!(refused.stdout, "configmap/web-config configured\n");
    // Invalid: nothing is.
    let invalid = apply(&(config("{color: black}") + "\n---\n" + &config("{../x: y}"))).expect_code(1);
    assert!(invalid.stderr.contains("document 2: data[../x]"), "{invalid:?}");
    assert!(invalid.stderr.contains("nothing is applied") && invalid.stdout.is_empty());
    let wrong = "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, dat: {a: b}}";
    apply(wrong).expect_code(1).expect_stderr("unknown field, did you mean data?");
    apply("{apiVersion: apps/v1, kind: Deployment}").expect_code(1).expect_stderr("not a Deployment");
    assert_eq!(got(&["cm", "web-config", "-n", "config"])["data"], json!({"color": "white"}));
    // Of a namespace without pods.
    let nowhere = "{apiVersion: v1, kind: ConfigMap, metadata: {name: x, namespace: nowhere-at-all}}";
    apply(nowhere).expect_code(1).expect_stderr("no pod runs in namespace \"nowhere-at-all\"");

    let described = said(&["describe", "secret", "login", "-n", "config"]);
    assert!(described.ends_with("password:  7 bytes\n"), "{described}");
    let deleted = said(&["delete", "secret", "new", "-n", "config"]);
    assert_eq!(deleted, "secret \"new\" deleted from config namespace\n");
    ask(&["delete", "secret", "new", "-n", "config"]).expect_code(1).expect_stderr("not found");
    // No value of a Secret is in what the supervisor says.
    assert!(!running.output().contains("hunter2") && !running.output().contains("aHVudGVyMg"));
}

#[test]
fn a_pods_own_manifest_is_applied() {
    let text = pod("again", "manifest") + &objects("manifest");
    let running = Running::start(&text, &[]);
    running.wait_for("phase    Running");
    let text = got(&["again"]);
    let image = text["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
    let file = (pod("again", "manifest") + &objects("manifest")).replace("{probe}", &image);
    assert_eq!(
        apply(&file).expect_code(0).stdout,
        "pod/again unchanged\nconfigmap/web-config unchanged\nconfigmap/fixed unchanged\nsecret/login unchanged\n"
    );
    said(&["label", "again", "theirs=1"]);
    let labeled = file.replace("labels: {app: again}", "labels: {tier: front}").replace("300m", "400m");
    assert!(apply(&labeled).expect_code(0).stdout.starts_with("pod/again configured\n"));
    let shown = got(&["again"]);
    assert_eq!(shown["metadata"]["labels"], json!({"theirs": "1", "tier": "front"}));
    assert_eq!(shown["spec"]["containers"][0]["resources"]["limits"]["cpu"], "400m");
    assert_eq!(shown["metadata"]["generation"], 2);
    let other = labeled.replace("3600000", "3600001");
    apply(&other)
        .expect_code(1)
        .expect_stderr("pod updates may not change fields other than")
        .expect_stderr("spec.containers[0].args");
    // What the pod was printed as is applied, too.
    let printed = said(&["get", "again", "-o", "yaml"]);
    assert_eq!(apply(&printed).expect_code(0).stdout, "pod/again unchanged\n");
    let list = said(&["get", "configmaps", "-n", "manifest", "-o", "yaml"]);
    assert!(list.contains("kind: List"), "{list}");
    let unchanged = "configmap/fixed unchanged\nconfigmap/web-config unchanged\n";
    assert_eq!(apply(&list).expect_code(0).stdout, unchanged);
    let service = "\n---\n{apiVersion: v1, kind: Service, metadata: {name: s}}";
    apply(&(labeled + service)).expect_code(0).expect_stderr("the Service is not applied");
    apply(service).expect_code(1).expect_stderr("there is no ConfigMap, Secret or Pod in it");
    let missing = pod("absent", "manifest").replace("{probe}", &image);
    apply(&missing).expect_code(1).expect_stderr("it does not run in namespace \"manifest\"");
}

#[test]
fn the_api_is_kubernetes() {
    let text = pod("api", "api") + &objects("api");
    let running = Running::start(&text, &[]);
    running.wait_for("phase    Running");
    let json_type = "application/json";
    let all = "/api/v1/namespaces/api/configmaps";
    let one = format!("{all}/web-config");
    let (code, mut object) = http("api", &format!("GET {one}"), json_type, &Value::Null);
    assert_eq!((code, &object["kind"]), (200, &"ConfigMap".into()));
    object["data"] = json!({"color": "blue"});
    let (code, replaced) = http("api", &format!("PUT {one}"), json_type, &object);
    assert_eq!((code, &replaced["data"]), (200, &json!({"color": "blue"})));
    let (code, status) = http("api", &format!("PUT {one}"), json_type, &object);
    assert_eq!((code, &status["reason"]), (409, &"Conflict".into()));
    let patch = json!({"data": {"size": "small"}});
    let (code, patched) = http("api", &format!("PATCH {one}"), "application/merge-patch+json", &patch);
    assert_eq!((code, &patched["data"]), (200, &json!({"color": "blue", "size": "small"})));
    let wrong = json!({"data": {"../x": "y"}});
    let (code, status) = http("api", &format!("PATCH {one}"), "application/merge-patch+json", &wrong);
    assert_eq!((code, &status["details"]["kind"]), (422, &"ConfigMap".into()));
    assert_eq!(status["details"]["causes"][0]["field"], "data[../x]");
    let new =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "new"}, "data": {"a": "b"}});
    assert_eq!(http("api", &format!("POST {all}"), json_type, &new).0, 201);
    assert_eq!(http("api", &format!("POST {all}"), json_type, &new).1["reason"], "AlreadyExists");
    assert_eq!(http("api", &format!("DELETE {all}/new"), json_type, &Value::Null).0, 200);
    assert_eq!(http("api", &format!("DELETE {all}/new"), json_type, &Value::Null).0, 404);
    let elsewhere = "PUT /api/v1/namespaces/default/configmaps/web-config";
    assert_eq!(http("api", elsewhere, json_type, &object).0, 404);
    let (_, list) = http("api", "GET /api/v1/secrets", json_type, &Value::Null);
    assert_eq!((&list["kind"], list["items"].as_array().map(Vec::len)), (&"SecretList".into(), Some(1)));

    // Many at once: one after the other, and none is lost.
    let writers: Vec<_> = (0..12)
        .map(|n| {
            std::thread::spawn(move || {
                let patch = json!({"data": {format!("key-{n}"): "x".repeat(1000)}});
                let path = "PATCH /api/v1/namespaces/api/configmaps/web-config";
                http("api", path, "application/merge-patch+json", &patch).0
            })
        })
        .collect();
    assert!(writers.into_iter().all(|writer| writer.join().unwrap() == 200));
    let (_, object) = http("api", &format!("GET {one}"), json_type, &Value::Null);
    assert_eq!(object["data"].as_object().map(serde_json::Map::len), Some(14));
    // The longest that there can be.
    let big = json!({"data": {"big": "\u{1}".repeat(400_000)}});
    assert_eq!(http("api", &format!("PATCH {one}"), "application/merge-patch+json", &big).0, 200);
}

#[test]
fn all_pods_of_the_namespace_get_it() {
    let first = Running::start(&(pod("first", "shared") + &objects("shared")), &[]);
    let second = Running::start(&pod("second", "shared"), &[]);
    let stranger = Running::start(&pod("stranger", "strange"), &[]);
    for running in [&first, &second, &stranger] {
        running.wait_for("phase    Running");
    }
    let text =
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: web-config, namespace: shared}, data: {n: '1'}}";
    assert_eq!(apply(text).expect_code(0).stdout, "configmap/web-config configured\n");
    let table = said(&["get", "cm", "web-config", "-n", "shared", "-o", "wide", "--no-headers"]);
    assert!(table.trim_end().ends_with("first,second"), "{table}");
    let fixed =
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: web-config, namespace: strange}, data: {}}";
    assert_eq!(apply(fixed).expect_code(0).stdout, "configmap/web-config created\n");
    assert_eq!(got(&["cm", "web-config", "-n", "shared"])["data"], json!({"n": "1"}));
}

#[test]
fn what_would_become_of_a_file_is_told_and_nothing_changes() {
    let name = "dry";
    let running = Running::start(&(pod(name, name) + &objects(name)), &[]);
    running.wait_for("phase    Running");
    let directory = directory();
    let write = |path: &str, text: String| {
        let path = directory.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let map = |name: &str, data: &str| {
        format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}, namespace: dry}}, data: {data}}}"
        )
    };
    write("1.yaml", map("web-config", "{color: blue, size: big}"));
    write("2.yaml", map("fixed", "{a: '1'}").replace(", data:", ", immutable: true, data:"));
    write("below/3.json", map("new", "{}"));
    write("below/4.txt", "no manifest".to_owned());
    let files = directory.path().display().to_string();
    let apply = |words: &[&str]| said(&[&["apply", "-f", &*files], words].concat());
    let of_server =
        "configmap/web-config configured (server dry run)\nconfigmap/fixed unchanged (server dry run)\n";
    assert_eq!(apply(&["--dry-run=server"]), of_server);
    let new = "configmap/new created (server dry run)\n";
    assert_eq!(apply(&["--dry-run=server", "-R"]), format!("{of_server}{new}"));
    let of_client = "configmap/web-config configured (dry run)\nconfigmap/fixed configured (dry run)\n";
    assert_eq!(apply(&["--dry-run=client"]), of_client);
    assert_eq!(apply(&["--dry-run=client", "-o", "name"]), "configmap/web-config\nconfigmap/fixed\n");
    let tried: Value = serde_json::from_str(&apply(&["--dry-run=server", "-o", "json"])).unwrap();
    assert_eq!((&tried["kind"], tried["items"].as_array().map(Vec::len)), (&json!("List"), Some(2)));
    assert_eq!(tried["items"][0]["data"]["color"], "blue");
    assert_eq!(got(&["cm", "web-config", "-n", name])["data"]["color"], "red", "nothing has changed");
    ask(&["get", "cm", "new", "-n", name]).expect_code(1);

    // What a pod would refuse is refused; what only the client looks at is not.
    let wrong = directory.path().join("wrong.yaml");
    std::fs::write(&wrong, map("fixed", "{a: '2'}")).unwrap();
    let wrong = wrong.display().to_string();
    ask(&["apply", "-f", &wrong, "--dry-run=server"]).expect_code(1).expect_stderr("immutable");
    ask(&["apply", "-f", &wrong, "--dry-run=client"]).expect_code(0);
    std::fs::remove_file(wrong).unwrap();

    // The pod itself.
    let guest = manifest(directory.path(), &pod(name, name).replace("app: dry", "app: dry, tier: front"));
    let guest = guest.display().to_string();
    assert_eq!(said(&["apply", "-f", &guest, "--dry-run=server"]), "pod/dry configured (server dry run)\n");
    let tried = said(&["apply", "-f", &guest, "--dry-run=server", "-o", "yaml"]);
    assert!(tried.contains("tier: front") && tried.contains("phase: Running"), "{tried}");
    assert_eq!(got(&["dry", "-n", name])["metadata"]["labels"], json!({"app": "dry"}));
    let text = std::fs::read_to_string(&guest).unwrap();
    std::fs::write(&guest, text.replace("queues: '4'", "queues: '5'")).unwrap();
    ask(&["apply", "-f", &guest, "--dry-run=server"]).expect_code(1).expect_stderr("cannot change while");
    std::fs::remove_file(guest).unwrap();

    ask(&["apply", "-f", &files, "--dry-run"]).expect_code(2);
    ask(&["apply", "-f", &format!("{files}/none")]).expect_code(1).expect_stderr("does not exist");
    assert_eq!(
        apply(&["-R"]),
        "configmap/web-config configured\nconfigmap/fixed unchanged\nconfigmap/new created\n"
    );
    assert_eq!(got(&["cm", "web-config", "-n", name])["data"]["color"], "blue");
}

#[test]
fn objects_are_selected_by_labels_and_fields() {
    let name = "selected";
    let text = pod(name, name).replace("app: selected", "app: web, tier: front") + &objects(name);
    let text = text.replace("name: web-config, ", "name: web-config, labels: {app: web}, ");
    let first = Running::start(&text, &[]);
    let second = Running::start(&pod("selected-too", name), &[]);
    first.wait_for("phase    Running");
    second.wait_for("phase    Running");
    let names = |kind: &str, selection: &[&str]| {
        let words = [&["get", kind, "-n", name, "-o", "name"], selection].concat();
        said(&words).lines().map(|line| line.split_once('/').unwrap().1.to_owned()).collect::<Vec<_>>()
    };
    let both = ["selected", "selected-too"];
    for (selection, expected) in [
        (&["-l", "app=web"][..], &both[..1]),
        (&["-l", "app==web,tier!=back"], &both[..1]),
        (&["--selector", "app in (web, selected-too)"], &both),
        (&["-l", "app notin (web)"], &both[1..]),
        (&["-l", "!tier"], &both[1..]),
        (&["-l", "tier"], &both[..1]),
        (&["--field-selector", "status.phase=Running,metadata.name!=selected"], &both[1..]),
        (&["--field-selector", "status.phase=Pending"], &[]),
        (&["--field-selector", "metadata.namespace=selected", "-l", "app=web"], &both[..1]),
    ] {
        assert_eq!(names("pods", selection), expected, "{selection:?}");
    }
    assert_eq!(names("configmaps", &["-l", "app=web"]), ["web-config"]);
    assert_eq!(names("secrets", &["--field-selector", "type=Opaque"]), ["login"]);
    let node = got(&["selected", "-n", name])["spec"]["nodeName"].as_str().unwrap().to_owned();
    assert_eq!(names("pods", &["--field-selector", &format!("spec.nodeName={node}")]), both);
    ask(&["get", "pods", "-n", name, "-l", "app=none"]).expect_code(0).expect_stderr("No resources found in");
    for (wrong, why) in [
        (&["-l", "app web"][..], "unable to parse requirement: found 'web'"),
        (&["--field-selector", "spec.x=1"], "field label not supported: spec.x"),
        (&["selected", "-l", "app"], "name cannot be provided when a selector is specified"),
    ] {
        ask(&[&["get", "pods", "-n", name], wrong].concat()).expect_code(1).expect_stderr(why);
    }
    let table = said(&["get", "pods", "-n", name, "-L", "tier,none", "--show-labels"]);
    let last = |line: &str| {
        let cells: Vec<_> = line.split_whitespace().collect();
        cells[cells.len() - 3..].join(" ")
    };
    let lines: Vec<_> = table.lines().map(last).collect();
    assert_eq!(
        lines,
        ["TIER NONE LABELS", "front <none> app=web,tier=front", "<none> <none> app=selected-too"]
    );
    assert!(said(&["get", "cm", "-n", name, "--show-labels"]).contains("app=web"));
}
