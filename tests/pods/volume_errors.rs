//! What is wrong with volumes and mounts: told all at once before anything runs, or waited for until it is mended.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::Value;

use super::support::{Finished, PATIENCE, Running, directory, eventually, needs_root, peapod, run};

fn ask(words: &[&str]) -> Finished {
    Finished::from(peapod().args(words).output().expect("start peapod"))
}

/// A pod whose container does `args`, with `volume` named `v` mounted at `/v` as `mount` says.
fn pod(name: &str, args: &str, mount: &str, volume: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {name}}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: main, image: {{probe}}, args: [{args}], volumeMounts: [{{name: v, {mount}}}]}}
  volumes: [{{name: v, {volume}}}]
"
    )
}

/// Waits until the container waits for its configuration; what it says of that.
#[track_caller]
fn waiting(name: &str) -> String {
    let mut message = String::new();
    eventually("the container does not wait", || {
        let finished = ask(&["get", "pod", name, "-n", name, "-o", "json"]);
        let pod: Value = serde_json::from_str(&finished.stdout).unwrap_or_default();
        let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
        message = waiting["message"].as_str().unwrap_or_default().to_owned();
        waiting["reason"] == "CreateContainerConfigError"
    });
    message
}

#[test]
fn a_sub_path_that_leads_out_is_waited_for_until_it_is_mended() {
    let (inside, outside) = (directory(), directory());
    fs::write(outside.path().join("file"), "secret").unwrap();
    for (name, link, sub_path) in [("out-link", "part", "part"), ("out-below", "link", "link/new")] {
        let link = inside.path().join(link);
        symlink(outside.path(), &link).unwrap();
        let source = format!("hostPath: {{path: {}}}", inside.path().display());
        let mount = format!("mountPath: /v, subPath: {sub_path}");
        let mut running = Running::start(&pod(name, "read, /v/file", &mount, &source), &[]);
        let expected = "failed to prepare subPath for volumeMount \"v\" of container \"main\"";
        running.wait_for(&format!("container main: CreateContainerConfigError: {expected}"));
        let message = waiting(name);
        assert!(message.starts_with(expected), "{message}");
        let described = ask(&["describe", "pod", name, "-n", name]).stdout;
        assert!(described.contains(&format!("Error: {expected}")), "{described}");
        fs::remove_file(&link).unwrap();
        fs::create_dir_all(inside.path().join(sub_path)).unwrap();
        fs::write(inside.path().join(sub_path).join("file"), "mended").unwrap();
        running.wait_for("[main] mended");
        assert_eq!(running.wait(), 0, "{}", running.output());
        assert!(!running.output().contains("secret"));
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "nothing was made outside");
}

/// The kubelet makes it in every kind of volume, and it stays a directory.
#[test]
fn a_sub_path_that_is_missing_in_an_optional_volume_is_an_empty_directory() {
    if !needs_root() {
        return;
    }
    for (name, volume) in [
        ("no-config", "configMap: {name: config, optional: true}"),
        ("no-secret", "secret: {secretName: config, optional: true}"),
        ("no-source", "projected: {sources: [{configMap: {name: config, optional: true}}]}"),
    ] {
        let text = pod(name, "sleep, '3600000'", "mountPath: /v, subPath: a/b", volume);
        let running = Running::start(&text, &[]);
        running.wait_for("phase    Running");
        let exec = |words: &[&str]| ask(&[&["exec", name, "-n", name, "--", "probe.wasm"], words].concat());
        assert_eq!(exec(&["ls", "/v"]).expect_code(0).stdout, "");
        exec(&["write", "/v/new", "x"]).expect_code(1);
        // It is in the way of a key of that name, and others come as ever.
        let kind = if name == "no-secret" { "Secret" } else { "ConfigMap" };
        let data = if name == "no-secret" { "stringData" } else { "data" };
        let object = format!(
            "{{apiVersion: v1, kind: {kind}, metadata: {{name: config, namespace: {name}}}, {data}: {{a: x, other: y}}}}"
        );
        let directory = directory();
        let file = directory.path().join("object.yaml");
        fs::write(&file, object).unwrap();
        ask(&["apply", "-f", &file.display().to_string()]).expect_code(0);
        assert_eq!(exec(&["ls", "/v"]).expect_code(0).stdout, "");
        let described = ask(&["describe", "pod", name, "-n", name]).stdout;
        assert!(!described.contains("FailedMount"), "{described}");
    }
}

#[test]
fn a_sub_path_of_a_claim_to_read_is_not_made() {
    let name = "read-claim";
    let source = "persistentVolumeClaim: {claimName: data, readOnly: true}";
    let claim = format!(
        "
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: data, namespace: {name}}}
spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Mi}}}}}}
"
    );
    let text = pod(name, "hello", "mountPath: /v, subPath: part", source) + &claim;
    let running = Running::start(&text, &[]);
    running.wait_for("failed to create subPath directory for volumeMount \"v\" of container \"main\"");
    drop(running);
    ask(&["delete", "pvc", "data", "-n", name]).expect_code(0);
}

#[test]
fn all_that_is_wrong_with_volumes_is_told_at_once() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: all-wrong}
spec:
  containers:
  - {name: main, image: {probe}, args: [hello]}
  volumes:
  - {name: one, hostPath: {path: /no/such/place}}
  - {name: two, emptyDir: {}}
  - {name: three, hostPath: {path: /etc/hostname/, type: Directory}}
  - name: four
    projected:
      sources:
      - configMap: {name: settings}
      - downwardAPI: {items: [{path: color/x, fieldRef: {fieldPath: metadata.name}}]}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {color: blue}}
";
    let finished = run(text, &["--timeout", &format!("{}s", PATIENCE.as_secs())]).expect_code(125);
    let finished = finished.expect_stderr("volume \"one\": hostPath /no/such/place does not exist");
    let finished = finished.expect_stderr("volume \"three\": hostPath type check failed");
    finished.expect_stderr("volume \"four\": ");
}
