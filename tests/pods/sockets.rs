//! Sockets as programs in several languages see them: each against itself, against the others through
//! memory, and against a native process in the pod's network through the kernel.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::support::{Finished, Running, needs_root, run};

/// Runs one container to its end; what it checks must hold.
fn checks_of(image: &str) {
    let text = format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: checks}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: main, image: {image}, args: [checks]}}
"
    );
    all_held(run(&text, &["--build"]));
}

#[track_caller]
fn all_held(finished: Finished) {
    let failed: Vec<&str> =
        finished.stdout.lines().filter(|line| line.contains("not ok") || line.contains("] # ")).collect();
    assert_eq!(finished.code, 0, "{}\n{}", failed.join("\n"), finished.stderr);
    assert!(finished.stdout.contains("1.."), "no plan in\n{}", finished.stdout);
}

#[test]
fn wasi_sockets_0_2_by_their_raw_functions() {
    checks_of("{sockets-p2}");
}

#[test]
fn wasi_sockets_0_3_by_their_raw_functions() {
    checks_of("{sockets-p3}");
}

#[test]
fn bsd_sockets_in_c() {
    checks_of("{c}");
}

#[test]
fn the_socket_module_of_python() {
    checks_of("{python}");
}

/// Clients in C and Python, TCP and UDP at the same time.
const CLIENTS: &str = "
  containers:
  - {name: c-tcp, image: {c}, args: [talk, tcp, localhost, '7000']}
  - {name: c-udp, image: {c}, args: [talk, udp, localhost, '7000']}
  - {name: python-tcp, image: {python}, args: [talk, tcp, localhost, '7000']}
  - {name: python-udp, image: {python}, args: [talk, udp, localhost, '7000']}
";

fn clients_of(server: &str) {
    let text = format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: talk}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  initContainers:
  - {{name: server, image: {server}, args: [serve, '7000'], restartPolicy: Always}}
{CLIENTS}"
    );
    let finished = run(&text, &["--build"]);
    assert_eq!(finished.stdout.matches("# 0 failed").count(), 4, "{finished:?}");
    all_held(finished);
}

#[test]
fn clients_in_c_and_python_talk_to_a_server_in_c() {
    clients_of("{c}");
}

#[test]
fn clients_in_c_and_python_talk_to_a_server_in_python() {
    clients_of("{python}");
}

/// The guest in Python, run by the host's Python.
fn native_python(arguments: &[&str]) -> Command {
    let mut command = Command::new("python3");
    let guest: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/python");
    command.current_dir(guest).args(["-B", "-c", "import app, sys; sys.exit(app.main())"]).args(arguments);
    command.stdin(Stdio::null());
    command
}

#[test]
fn a_native_client_talks_to_servers_in_c_and_python() {
    if needs_root() {
        let text = "
apiVersion: v1
kind: Pod
metadata: {name: served}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: {c}, args: [serve, '7001']}
  - {name: python, image: {python}, args: [serve, '7002']}
";
        let pod = Running::start(text, &["--build"]);
        pod.wait_for("address");
        let native = pod.native(|| {
            for (port, kind) in [("7001", "tcp"), ("7001", "udp"), ("7002", "tcp"), ("7002", "udp")] {
                let output = native_python(&["talk", kind, "127.0.0.1", port]).output().expect("python3");
                assert!(
                    output.status.success(),
                    "{kind} {port}: {}{}",
                    String::from_utf8_lossy(&output.stdout),
                    String::from_utf8_lossy(&output.stderr)
                );
            }
        });
        native.join().unwrap();
    }
}

#[test]
fn clients_in_c_and_python_talk_to_a_native_server() {
    if needs_root() {
        let text = format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: native}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
{CLIENTS}"
        );
        let mut pod = Running::start(&text, &["--build"]);
        pod.wait_for("address");
        let server = pod.native(|| native_python(&["serve", "7000"]).stdout(Stdio::null()).spawn());
        let _server = Killed(server.join().unwrap().expect("python3"));
        assert_eq!(pod.wait(), 0, "{}", pod.output());
        assert_eq!(pod.output().matches("# 0 failed").count(), 4, "{}", pod.output());
    }
}

/// A process that ends with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
