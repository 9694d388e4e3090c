//! `securityContext`: whose files are, and who may use them.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::{Running, directory, needs_root, peapod, run};

/// Of the pod whose volumes are looked at.
const UID: &str = "users-fs-group";

/// A directory of the host that all users may write to.
fn open_directory() -> tempfile::TempDir {
    let host = directory();
    fs::set_permissions(host.path(), Permissions::from_mode(0o777)).unwrap();
    host
}

/// Owner, group and mode of a file.
#[track_caller]
fn is(path: impl AsRef<Path>) -> (u32, u32, u32) {
    let metadata = fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("{}: {e}", path.as_ref().display()));
    (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)
}

/// A file of the host with an owner and a mode.
fn file(path: PathBuf, (uid, gid, mode): (u32, u32, u32)) -> PathBuf {
    fs::write(&path, "words\n").unwrap();
    chown(&path, Some(uid), Some(gid)).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path
}

/// A pod of containers on one hostPath at `/v`; each is `name, args, securityContext`.
fn pod_on(host: &Path, security: &str, containers: &[(&str, &str, &str, &str)]) -> String {
    let containers: String = containers
        .iter()
        .map(|(name, image, args, own)| {
            format!(
                "  - {{name: {name}, image: {{{image}}}, args: [{args}], securityContext: {{{own}}}, \
                 volumeMounts: [{{name: v, mountPath: /v}}]}}\n"
            )
        })
        .collect();
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: users}}
spec:
  restartPolicy: Never
  securityContext: {{{security}}}
  containers:
{containers}  volumes: [{{name: v, hostPath: {{path: {}, type: Directory}}}}]
",
        host.display()
    )
}

#[test]
fn what_containers_make_is_their_users() {
    if !needs_root() {
        return;
    }
    let host = open_directory();
    let write = |name: &str| format!("write, /v/{name}, x");
    let text = pod_on(
        host.path(),
        "runAsUser: 1000, runAsGroup: 2000, fsGroup: 3000",
        &[
            ("pod", "probe", &write("pod"), ""),
            ("own", "probe", &write("own"), "runAsUser: 1001, runAsGroup: 2001"),
            ("root", "probe", &write("root"), "runAsUser: 0, runAsGroup: 0"),
            ("dir", "probe", "mkdir, /v/dir", "runAsUser: 1002"),
            ("third", "p3", &write("third"), "runAsUser: 1003"),
            ("third-dir", "p3", "mkdir, /v/third-dir", ""),
        ],
    );
    run(&text, &[]).expect_code(0);
    let made = |name: &str| is(host.path().join(name));
    assert_eq!(made("pod"), (1000, 2000, 0o644));
    assert_eq!(made("own"), (1001, 2001, 0o644));
    assert_eq!(made("root"), (0, 0, 0o644));
    assert_eq!(made("dir"), (1002, 2000, 0o755));
    assert_eq!(made("third"), (1003, 2000, 0o644));
    assert_eq!(made("third-dir"), (1000, 2000, 0o755));
    assert_eq!(is(host.path()), (0, 0, 0o777), "fsGroup does not change a hostPath");
}

#[test]
fn the_kernel_decides_what_a_user_may() {
    if !needs_root() {
        return;
    }
    let host = open_directory();
    file(host.path().join("root"), (0, 0, 0o600));
    file(host.path().join("all"), (0, 0, 0o644));
    file(host.path().join("mine"), (1000, 0, 0o600));
    file(host.path().join("group"), (0, 2000, 0o660));
    file(host.path().join("extra"), (0, 4000, 0o640));
    let closed = host.path().join("closed");
    fs::create_dir(&closed).unwrap();
    file(closed.join("file"), (0, 0, 0o666));
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    let may = "may, /v/root, /v/all, /v/mine, /v/group, /v/extra, /v/closed/file";
    let text = pod_on(
        host.path(),
        "supplementalGroups: [4000]",
        &[
            ("user", "probe", may, "runAsUser: 1000, runAsGroup: 2000"),
            ("root", "probe", may, ""),
            ("not-root", "probe", may, "runAsNonRoot: true"),
            ("third", "p3", "read, /v/root", "runAsUser: 1000"),
            ("third-list", "p3", "ls, /v/closed", "runAsUser: 1000"),
        ],
    );
    let no = "PermissionDenied (2): Permission denied (os error 2)";
    let mut finished = run(&text, &[]).expect_code(1);
    for (name, said) in [
        ("root", [no, no]),
        ("all", ["yes", no]),
        ("mine", ["yes", "yes"]),
        ("group", ["yes", "yes"]),
        ("extra", ["yes", no]),
        ("closed/file", [no, no]),
    ] {
        let [read, write] = said;
        finished = finished.expect_stdout(&format!("[user] /v/{name}: read {read}; write {write}"));
        finished = finished.expect_stdout(&format!("[root] /v/{name}: read yes; write yes"));
    }
    finished
        .expect_stdout(&format!("[not-root] /v/root: read {no}; write {no}"))
        .expect_stdout(&format!("[not-root] /v/all: read yes; write {no}"))
        .expect_stderr("[third] p3: /v/root: ErrorCode::Access")
        .expect_stderr("[third-list] p3: /v/closed: ErrorCode::Access");
}

#[test]
fn volumes_belong_to_the_fs_group() {
    if !needs_root() {
        return;
    }
    for medium in ["{}", "{medium: Memory}"] {
        let text = format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: fs-group, uid: {UID}}}
spec:
  restartPolicy: Never
  securityContext: {{fsGroup: 3000, fsGroupChangePolicy: OnRootMismatch, runAsNonRoot: true}}
  initContainers:
  - name: make
    image: {{probe}}
    args: [mkdir, /v/dir]
    securityContext: {{runAsUser: 1000, runAsGroup: 2000}}
    volumeMounts: [{{name: v, mountPath: /v}}]
  - name: write
    image: {{probe}}
    args: [write, /v/dir/file, x]
    securityContext: {{runAsUser: 1000, runAsGroup: 2000}}
    volumeMounts: [{{name: v, mountPath: /v}}]
  containers:
  - name: main
    image: {{probe}}
    args: [serve, '7000']
    securityContext: {{runAsUser: 1001}}
    volumeMounts: [{{name: v, mountPath: /v}}]
  volumes: [{{name: v, emptyDir: {medium}}}]
"
        );
        let pod = Running::start(&text, &[]);
        pod.wait_for("listening");
        let volume = volume_of(&pod);
        assert_eq!(is(&volume), (0, 3000, 0o2777), "{medium}");
        assert_eq!(is(volume.join("dir")), (1000, 3000, 0o2755), "{medium}");
        assert_eq!(is(volume.join("dir/file")), (1000, 3000, 0o644), "{medium}");
    }
}

/// The emptyDir `v` of a pod, as the pod's own mount namespace has it.
fn volume_of(pod: &Running) -> PathBuf {
    let output = Command::new("find")
        .arg(super::support::root())
        .args(["-path", "*/UID/*", "-path", "*kubernetes.io~empty-dir/v"].map(|arg| arg.replace("UID", UID)))
        .output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let [path] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
    format!("/proc/{}/root{path}", pod.pod_pid()).into()
}

#[test]
fn commands_work_as_the_containers_user() {
    if !needs_root() {
        return;
    }
    let host = open_directory();
    file(host.path().join("root"), (0, 0, 0o600));
    let text = pod_on(host.path(), "", &[("main", "probe", "serve, '7000'", "runAsUser: 1000")])
        .replace("{name: users}", "{name: user-exec, uid: user-exec}");
    let pod = Running::start(&text, &[]);
    pod.wait_for("listening");
    let exec = |arguments: &[&str]| {
        let mut command = peapod();
        command.args(["exec", "user-exec", "--", "probe"]).args(arguments);
        super::support::Finished::from(command.output().unwrap())
    };
    let end = std::time::Instant::now() + super::support::PATIENCE;
    while !peapod().args(["ss", "user-exec"]).output().unwrap().status.success() {
        assert!(std::time::Instant::now() < end, "the pod does not answer");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    exec(&["write", "/v/made", "x"]).expect_code(0);
    exec(&["read", "/v/root"]).expect_code(1).expect_stderr("PermissionDenied");
    assert_eq!(is(host.path().join("made")), (1000, 0, 0o644));
}

#[test]
fn last_words_can_be_left_by_any_user() {
    if !needs_root() {
        return;
    }
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: user-words}
spec:
  restartPolicy: Never
  securityContext: {runAsUser: 1000}
  containers:
  - {name: main, image: {probe}, args: [last-words, /dev/termination-log, the last words, '3']}
";
    let finished = run(text, &["-o", "json"]).expect_code(3);
    let ended = &finished.pod()["status"]["containerStatuses"][0]["state"]["terminated"];
    assert!(ended["message"].as_str().is_some_and(|words| words.contains("the last words")), "{ended:#}");
}

#[test]
fn root_that_must_not_be_is_refused() {
    let text = pod_on(
        Path::new("/tmp"),
        "runAsNonRoot: true",
        &[("main", "probe", "hello", "runAsUser: 0"), ("other", "probe", "hello", "runAsUser: -1")],
    );
    run(&text, &[])
        .expect_code(2)
        .expect_stderr(
            "spec.containers[0].securityContext.runAsUser: container's runAsUser breaks non-root policy",
        )
        .expect_stderr("spec.containers[1].securityContext.runAsUser: invalid value -1");
}
