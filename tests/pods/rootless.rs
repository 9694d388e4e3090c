//! What an ordinary user gets. As root, these tests become one first.

use std::os::unix::process::CommandExt;
use std::process::Command;

use super::support::{Finished, guests, peapod, rootless};

/// The user that root becomes for these tests.
const NOBODY: u32 = 65534;

/// Runs a pod as an ordinary user.
fn run(text: &str, arguments: &[&str]) -> Finished {
    let directory = super::support::directory();
    let path = directory.path();
    let mut command = Command::new(peapod().get_program());
    command.env("PEAPOD_ROOT", path.join("root"));
    if !rootless() {
        // The guests and the binary must be readable for that user.
        for guest in guests::all() {
            std::fs::copy(&guest, path.join(guest.file_name().unwrap())).unwrap();
        }
        std::fs::copy(peapod().get_program(), path.join("peapod")).unwrap();
        command = Command::new(path.join("peapod"));
        command.env("PEAPOD_ROOT", path.join("root")).uid(NOBODY).gid(NOBODY);
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let file = path.join("pod.yaml");
    let mut filled = guests::fill_in(text);
    if !rootless() {
        for guest in guests::all() {
            let copy = path.join(guest.file_name().unwrap());
            filled = filled.replace(guest.to_str().unwrap(), copy.to_str().unwrap());
        }
    }
    std::fs::write(&file, filled).unwrap();
    command.current_dir(path).stdin(std::process::Stdio::null());
    command.args(["run", "--timeout", "60s"]).arg(file).args(arguments).output().unwrap().into()
}

const PAIR: &str = "
apiVersion: v1
kind: Pod
metadata: {name: rootless}
spec:
  restartPolicy: Never
  containers:
  - {name: server, image: {probe}, args: [serve, '7000', '1']}
  - {name: client, image: {probe}, args: [connect, '127.0.0.1:7000', 'without root', --retry, '5000']}
";

#[test]
fn a_pod_runs_without_root_and_says_what_is_missing() {
    run(PAIR, &[])
        .expect_code(0)
        .expect_stdout("[client] without root")
        .expect_stderr("not root: no address that the host reaches");
}

#[test]
fn secrets_and_config_maps_work_without_root() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: rootless}
spec:
  restartPolicy: Never
  containers:
  - {name: read, image: {probe}, args: [read-all, /s/key, /c/key], volumeMounts: [{name: s, mountPath: /s}, {name: c, mountPath: /c}]}
  volumes:
  - {name: s, secret: {secretName: o, defaultMode: 0400}}
  - {name: c, configMap: {name: o}}
---
{apiVersion: v1, kind: Secret, metadata: {name: o}, stringData: {key: hush}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: o}, data: {key: words}}
";
    run(text, &[]).expect_code(0).expect_stdout("/s/key: hush").expect_stdout("/c/key: words");
}

#[test]
fn volumes_work_without_root() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: rootless}
spec:
  restartPolicy: Never
  initContainers:
  - {name: write, image: {probe}, args: [write, /v/file, words], volumeMounts: [{name: v, mountPath: /v}]}
  containers:
  - {name: read, image: {probe}, args: [read, /v/file], volumeMounts: [{name: v, mountPath: /v}]}
  volumes: [{name: v, emptyDir: {medium: Memory}}]
";
    run(text, &[]).expect_code(0).expect_stdout("words");
    run(&text.replace("{medium: Memory}", "{}"), &[]).expect_code(0).expect_stdout("words");
}

#[test]
fn single_files_are_mounted_without_root() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: rootless}
spec:
  restartPolicy: Never
  initContainers:
  - {name: write, image: {probe}, args: [write, /v/file, words], volumeMounts: [{name: v, mountPath: /v}]}
  containers:
  - {name: read, image: {probe}, args: [read, /etc/app.conf], volumeMounts: [{name: v, mountPath: /etc/app.conf, subPath: file, readOnly: true}]}
  volumes: [{name: v, emptyDir: {}}]
";
    run(text, &[]).expect_code(0).expect_stdout("words");
    let below = text.replace(
        "volumeMounts: [{name: v, mountPath: /etc",
        "volumeMounts: [{name: v, mountPath: /etc}, {name: v, mountPath: /etc",
    );
    run(&below, &[]).expect_code(0).expect_stdout("words");
}
