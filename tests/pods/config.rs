//! `wasi:config/store`: ConfigMaps that an annotation names, and variables over them.

use super::support::{Finished, Running, needs_root, peapod, run};

fn manifest(annotation: &str) -> String {
    format!(
        "
apiVersion: v1
kind: ConfigMap
metadata: {{name: base}}
data: {{color: blue, size: small, mode: quiet}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: special}}
data: {{size: large, mode: loud}}
---
apiVersion: v1
kind: Pod
metadata:
  name: config
  annotations: {{{annotation}}}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: {{state}}
    args: [config-all]
    env: [{{name: mode, value: own}}]
  - {{name: other, image: {{state}}, args: [config, size]}}
"
    )
}

#[test]
fn a_container_finds_its_config_maps_and_its_variables() {
    run(&manifest("peapod.dev/config.main: 'base, special'"), &[])
        .expect_code(0)
        .expect_stdout("[main] config all color=blue mode=own size=large\n")
        .expect_stdout("[other] config size=(none)");
}

#[test]
fn without_the_annotation_it_finds_its_variables() {
    run(&manifest(""), &[]).expect_code(0).expect_stdout("[main] config all mode=own\n");
}

#[test]
fn what_is_wrong_with_the_annotation_is_said_at_its_path() {
    for (annotation, message) in [
        (
            "peapod.dev/config.main: 'base,specail'",
            "metadata.annotations[peapod.dev/config.main]: there is no ConfigMap \"specail\", did you mean special?",
        ),
        (
            "peapod.dev/config.mian: base",
            "metadata.annotations[peapod.dev/config.mian]: there is no container \"mian\", did you mean main?",
        ),
        (
            "peapod.dev/config.main: ''",
            "metadata.annotations[peapod.dev/config.main]: expected names of ConfigMaps",
        ),
        (
            "peapod.dev/confg.main: base",
            "metadata.annotations[peapod.dev/confg.main]: unknown annotation, did you mean peapod.dev/config.main?",
        ),
    ] {
        run(&manifest(annotation), &[]).expect_code(2).expect_stderr(message);
    }
}

#[test]
fn what_the_annotation_names_changes_while_the_pod_runs() {
    if !needs_root() {
        return;
    }
    let ask = |words: &[&str]| Finished::from(peapod().args(words).output().expect("start peapod"));
    let text = manifest("peapod.dev/config.main: base").replace("name: config\n", "name: config-live\n");
    let text = text.replace("restartPolicy: Never", "restartPolicy: Always");
    let running = Running::start(&text, &["--backoff-base", "100ms"]);
    running.wait_for("[main] config all color=blue mode=own size=small");
    let annotate = |annotation: &str| ask(&["annotate", "pod", "config-live", annotation, "--overwrite"]);
    annotate("peapod.dev/config.main=base,special").expect_code(0);
    running.wait_for("[main] config all color=blue mode=own size=large");
    annotate("peapod.dev/config.other=special").expect_code(0);
    running.wait_for("[other] config size=large");
    annotate("peapod.dev/config.main-").expect_code(0);
    running.wait_for("[main] config all mode=own");
    for (wrong, why) in [
        ("peapod.dev/config.main=none", "there is no ConfigMap \"none\""),
        ("peapod.dev/keyvalue=none", "cannot change while the pod runs"),
    ] {
        annotate(wrong).expect_code(1).expect_stderr(why);
    }
}
