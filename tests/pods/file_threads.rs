//! The threads of file operations: a container has so many, and none of another's.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::support::{Running, directory, needs_root};

/// Most threads of one container: `container::user::threads`.
const THREADS: usize = 16;

/// fcntl(2): the signal that tells of a lease; the one by default would end the process.
const F_SETSIG: i32 = 10;

/// A file that nobody else can open: they wait until this is dropped, or the kernel's patience is over
/// (fcntl(2), leases).
fn leased(path: &Path) -> File {
    fs::write(path, "leased").unwrap();
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    for (command, argument) in [(F_SETSIG, libc::SIGURG), (libc::F_SETLEASE, libc::F_WRLCK)] {
        // SAFETY: both take a number.
        let done = unsafe { libc::fcntl(file.as_raw_fd(), command, argument) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    }
    file
}

/// Threads of the pod that work with containers' files.
fn file_threads(pod: &Running) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", pod.pod_pid())).unwrap();
    let names = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default());
    names.filter(|name| name.trim() == "file").count()
}

#[test]
fn a_container_whose_calls_stick_holds_up_only_itself() {
    // As root another user's threads are held as well.
    let users = if needs_root() { ["", "securityContext: {runAsUser: 1000}, "] } else { [""; 2] };
    for user in users {
        let host = directory();
        let lease = leased(&host.path().join("leased"));
        for name in ["after", "free"] {
            fs::write(host.path().join(name), format!("words of {name}")).unwrap();
        }
        let text = format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: file-threads}}
spec:
  restartPolicy: Never
  containers:
  - {{name: stuck, {user}image: {{p3}}, args: [give-up, /v/leased, '300', /v/after], volumeMounts: [{{name: v, mountPath: /v}}]}}
  - {{name: free, {user}image: {{probe}}, args: [read, /v/free], volumeMounts: [{{name: v, mountPath: /v}}]}}
  volumes: [{{name: v, hostPath: {{path: {}}}}}]
",
            host.path().display()
        );
        // Another user may open it, too.
        for (path, mode) in [(host.path().to_owned(), 0o755), (host.path().join("leased"), 0o666)] {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
        let mut pod = Running::start(&text, &[]);
        assert!(pod.wait_for("gave up").ends_with("gave up 300 of 300"));
        assert!(file_threads(&pod) <= 2 * THREADS, "{} threads", file_threads(&pod));
        pod.wait_for("words of free");
        drop(lease);
        pod.wait_for("words of after");
        assert_eq!(pod.wait(), 0, "{}", pod.output());
    }
}
