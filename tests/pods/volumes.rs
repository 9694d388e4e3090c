//! Volumes as preopens: what is mounted is seen, nothing else is.

use super::support::run;

#[test]
fn containers_share_an_empty_dir_on_disk_and_in_memory() {
    for medium in ["{}", "{medium: Memory, sizeLimit: 1Mi}"] {
        let text = format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: shared}}
spec:
  restartPolicy: Never
  initContainers:
  - {{name: write, image: {{probe}}, args: [write, /out/file, shared words], volumeMounts: [{{name: v, mountPath: /out}}]}}
  containers:
  - {{name: read, image: {{probe}}, args: [read, /in/file], volumeMounts: [{{name: v, mountPath: /in, readOnly: true}}]}}
  volumes: [{{name: v, emptyDir: {medium}}}]
"
        );
        run(&text, &[]).expect_code(0).expect_stdout("shared words");
    }
}

#[test]
fn relative_paths_start_from_the_working_directory() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: cwd}
spec:
  restartPolicy: Never
  initContainers:
  - {name: write, image: {probe}, args: [write, file, relative words], workingDir: /v/sub, volumeMounts: [{name: v, mountPath: /v}]}
  containers:
  - {name: read, image: {probe}, args: [read, /v/sub/file], volumeMounts: [{name: v, mountPath: /v}]}
  volumes: [{name: v, emptyDir: {}}]
";
    run(text, &[]).expect_code(0).expect_stdout("relative words");
    let elsewhere = text.replace("workingDir: /v/sub", "workingDir: /nope");
    run(&elsewhere, &[]).expect_code(2).expect_stderr("spec.initContainers[0].workingDir");
}

#[test]
fn a_read_only_mount_refuses_writes() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: readonly}
spec:
  restartPolicy: Never
  initContainers:
  - {name: fill, image: {probe}, args: [write, /v/there, x], volumeMounts: [{name: v, mountPath: /v}]}
  containers:
  - {name: main, image: {IMAGE}, args: [ARGS], volumeMounts: [{name: v, mountPath: /v, readOnly: true}]}
  volumes: [{name: v, emptyDir: {}}]
";
    // EROFS, as of a file system that is mounted so.
    for args in ["write, /v/file, x", "append, /v/there, x", "mkdir, /v/new", "symlink, x, /v/link"] {
        let finished = run(&text.replace("ARGS", args).replace("IMAGE", "probe"), &[]).expect_code(1);
        finished.expect_stderr("ReadOnlyFilesystem (69)");
    }
    for args in ["write, /v/file, x", "mkdir, /v/new"] {
        let finished = run(&text.replace("ARGS", args).replace("IMAGE", "p3"), &[]).expect_code(1);
        finished.expect_stderr("ErrorCode::ReadOnly");
    }
    run(&text.replace("ARGS", "read, /v/there").replace("IMAGE", "probe"), &[]).expect_code(0);
    // What is no change is refused for what it is.
    let out = run(&text.replace("ARGS", "read, /v/../etc/passwd").replace("IMAGE", "probe"), &[]);
    assert!(!out.expect_code(1).stderr.contains("ReadOnly"));
}

#[test]
fn a_host_path_with_a_sub_path_shows_that_part_only() {
    let host = super::support::directory();
    std::fs::create_dir(host.path().join("part")).unwrap();
    std::fs::write(host.path().join("part/inside"), "visible words").unwrap();
    std::fs::write(host.path().join("outside"), "secret words").unwrap();
    let text = |path: &str| {
        format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: hostpath}}
spec:
  restartPolicy: Never
  containers:
  - {{name: main, image: {{probe}}, args: [read, {path}], volumeMounts: [{{name: v, mountPath: /v, subPath: part}}]}}
  volumes: [{{name: v, hostPath: {{path: {}, type: Directory}}}}]
",
            host.path().display()
        )
    };
    run(&text("/v/inside"), &[]).expect_code(0).expect_stdout("visible words");
    for path in ["/v/../outside", "/outside", "/etc/passwd"] {
        let finished = run(&text(path), &[]).expect_code(1);
        assert!(!finished.stdout.contains("secret"), "{}", finished.stdout);
    }
}

#[test]
fn a_guest_cannot_leave_its_mounts() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: jail}
spec:
  restartPolicy: Never
  containers:
  - {name: main, image: {probe}, args: [escape, /v], volumeMounts: [{name: v, mountPath: /v}]}
  volumes: [{name: v, emptyDir: {}}]
";
    run(text, &[]).expect_code(0);
}

#[test]
fn a_missing_host_path_is_named_before_anything_runs() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: nowhere}
spec:
  containers:
  - {name: main, image: {probe}, args: [hello], volumeMounts: [{name: v, mountPath: /v}]}
  volumes: [{name: v, hostPath: {path: /no/such/place, type: Directory}}]
";
    run(text, &[]).expect_code(125).expect_stderr("/no/such/place");
}
