//! Nothing of a pod is left behind, however it ends.

use nix::sys::signal::Signal;

use super::support::{Running, needs_root, peapod, root};

const SERVER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: left, uid: UID}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: main, image: {probe}, args: [serve, '8080'], volumeMounts: [{name: v, mountPath: /v}]}
  volumes: [{name: v, emptyDir: {medium: Memory}}]
";

fn fresh() -> (String, String) {
    let uid = uuid::Uuid::new_v4().to_string();
    (SERVER.replace("UID", &uid), uid)
}

/// Everything on this machine whose name or content has the pod's uid.
pub(super) fn leftovers(uid: &str) -> Vec<String> {
    let mut found = Vec::new();
    let places = [root(), "/sys/fs/cgroup".into()];
    for place in places {
        let output = std::process::Command::new("find")
            .arg(&place)
            .args(["-name", &format!("*{uid}*")])
            .output()
            .expect("run find");
        found.extend(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned));
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    found.extend(mounts.lines().filter(|line| line.contains(uid)).map(str::to_owned));
    let short: String = uid.chars().filter(char::is_ascii_hexdigit).take(8).collect();
    for entry in std::fs::read_dir("/sys/class/net").unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        if name.contains(&short) {
            found.push(format!("link {name}"));
        }
    }
    for lease in std::fs::read_dir(root().join("run/net/leases")).into_iter().flatten().flatten() {
        if std::fs::read_to_string(lease.path()).is_ok_and(|owner| owner.contains(uid)) {
            found.push(format!("lease {}", lease.path().display()));
        }
    }
    found
}

/// Whether a process has ended; one whose parent died may wait for the machine's init to reap it.
pub(super) fn gone(process: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"));
    stat.is_err() || stat.is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

#[test]
fn after_a_stop_nothing_is_left() {
    if needs_root() {
        let (text, uid) = fresh();
        let mut pod = Running::start(&text, &[]);
        pod.wait_for("listening");
        let process = pod.pod_pid();
        assert!(leftovers(&uid).len() >= 4, "{:?}", leftovers(&uid));
        pod.signal(Signal::SIGTERM);
        pod.wait();
        assert_eq!(leftovers(&uid), Vec::<String>::new());
        assert!(gone(process));
    }
}

#[test]
fn after_sigkill_of_the_supervisor_the_next_start_cleans_up() {
    if needs_root() {
        let (text, uid) = fresh();
        let mut pod = Running::start(&text, &[]);
        pod.wait_for("listening");
        let process = pod.pod_pid();
        pod.signal(Signal::SIGKILL);
        assert_eq!(pod.wait(), 137);
        let (next, _) = fresh();
        let mut next = Running::start(&next, &[]);
        next.wait_for("listening");
        next.signal(Signal::SIGINT);
        next.wait();
        assert_eq!(leftovers(&uid), Vec::<String>::new());
        assert!(gone(process));
    }
}

#[test]
fn after_sigkill_of_the_pod_process_the_run_fails_and_nothing_is_left() {
    if needs_root() {
        let (text, uid) = fresh();
        let mut pod = Running::start(&text, &[]);
        pod.wait_for("listening");
        let process = nix::unistd::Pid::from_raw(pod.pod_pid());
        nix::sys::signal::kill(process, Signal::SIGKILL).unwrap();
        assert_eq!(pod.wait(), 137);
        assert_eq!(leftovers(&uid), Vec::<String>::new());
    }
}

#[test]
fn check_leaves_nothing_and_runs_nothing() {
    let directory = super::support::directory();
    let (text, uid) = fresh();
    let file = super::support::manifest(directory.path(), &text);
    let output = peapod().arg("check").arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(leftovers(&uid), Vec::<String>::new());
}
