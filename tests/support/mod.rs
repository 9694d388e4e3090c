//! What the integration tests share: the peapod binary under test, its manifests and its leftovers.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod debian;
pub mod guests;
mod languages;

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long anything in a test may take before the test fails. Generous: CI machines are slow.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Where the tests' pods keep their state, away from the user's own.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("peapod-root")
}

/// Whether this run is the rootless set, which the user asked for.
pub fn rootless() -> bool {
    std::env::var_os("PEAPOD_TESTS").is_some_and(|set| set == "rootless")
}

/// Fails loudly where a test that needs root has none; returns false in the rootless set.
pub fn needs_root() -> bool {
    if rootless() {
        eprintln!("not part of the rootless set");
        return false;
    }
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test needs root; PEAPOD_TESTS=rootless runs the set that does not"
    );
    true
}

/// The peapod binary with the tests' directories.
pub fn peapod() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peapod"));
    command.env("PEAPOD_ROOT", root()).env_remove("PEAPOD_LOG").stdin(Stdio::null());
    command
}

/// A directory for one test's manifests and volumes, gone when it is dropped.
pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Waits until `done`; fails with `what` when that takes too long.
#[track_caller]
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Writes a manifest beside the guests that it names. `{probe}` and its like stand for the guests' files.
pub fn manifest(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("pod.yaml");
    std::fs::write(&path, languages::fill_in(guests::fill_in(text))).expect("write the manifest");
    path
}

/// Runs a pod to its end, which comes with exit code 124 where it does not end by itself.
pub fn run(text: &str, arguments: &[&str]) -> Finished {
    let directory = directory();
    let file = manifest(directory.path(), text);
    if arguments.contains(&"--build") {
        debian::require_python();
    }
    let mut command = peapod();
    command.arg("run").arg(file).args(arguments);
    if !arguments.contains(&"--timeout") {
        command.args(["--timeout", &format!("{}s", PATIENCE.as_secs())]);
    }
    let output = command.output().expect("start peapod");
    Finished::from(output)
}

/// How a run ended.
#[derive(Debug)]
pub struct Finished {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let signal = || 128 + output.status.signal().unwrap_or_default();
        Self {
            code: output.status.code().unwrap_or_else(signal),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Finished {
    /// Asserts the exit code, showing all output when it is another.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts that the containers' output has a text.
    #[track_caller]
    pub fn expect_stdout(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "no {text:?} in\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts that standard error has a text.
    #[track_caller]
    pub fn expect_stderr(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "no {text:?} in\n{}\nstdout:\n{}", self.stderr, self.stdout);
        self
    }

    /// The final Pod of a run with `-o json`.
    #[track_caller]
    pub fn pod(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in\n{}\nstderr:\n{}", self.stdout, self.stderr))
    }
}

/// A pod that runs in the background; killed when it is dropped, also by a failing test.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    /// Lines that nobody has waited for yet.
    passed: RefCell<Vec<String>>,
    seen: Arc<Mutex<String>>,
    _directory: tempfile::TempDir,
}

impl Running {
    /// Starts a pod.
    pub fn start(text: &str, arguments: &[&str]) -> Self {
        Self::start_by(peapod(), text, arguments)
    }

    /// Starts a pod whose processes may open so many files each.
    pub fn start_with_files(files: u64, text: &str, arguments: &[&str]) -> Self {
        let peapod = peapod();
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\"")]).arg(peapod.get_program());
        for (name, value) in peapod.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell.stdin(Stdio::null());
        Self::start_by(shell, text, arguments)
    }

    fn start_by(mut command: Command, text: &str, arguments: &[&str]) -> Self {
        let directory = directory();
        let file = manifest(directory.path(), text);
        if arguments.contains(&"--build") {
            debian::require_python();
        }
        command.arg("run").arg(file).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("start peapod");
        let (sender, lines) = channel();
        let seen = Arc::new(Mutex::new(String::new()));
        let stdout = child.stdout.take().expect("a pipe");
        let stderr: ChildStderr = child.stderr.take().expect("a pipe");
        for stream in [Box::new(stdout) as Box<dyn Read + Send>, Box::new(stderr)] {
            let (sender, seen) = (sender.clone(), Arc::clone(&seen));
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    seen.lock().unwrap().push_str(&format!("{line}\n"));
                    let _ = sender.send(line);
                }
            });
        }
        Self { child, lines, passed: RefCell::default(), seen, _directory: directory }
    }

    /// The supervisor's process id.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// The pod process's id: the supervisor's one child.
    #[track_caller]
    pub fn pod_pid(&self) -> i32 {
        let pid = self.pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.split_whitespace().next().unwrap_or_else(|| panic!("no pod process")).parse().unwrap()
    }

    /// How many files the pod process has open.
    #[track_caller]
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pod_pid())).unwrap().count()
    }

    /// KiB of the pod process in memory.
    #[track_caller]
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pod_pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// CPU time that the thread which all containers run on has used.
    #[track_caller]
    pub fn thread_cpu_time(&self) -> Duration {
        let pid = self.pod_pid();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/schedstat")).unwrap();
        Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
    }

    /// How fast the containers that `probe work` go, units a second from their first line to their last.
    pub fn work_rates<const N: usize>(&self, containers: [&str; N]) -> [f64; N] {
        let output = self.output();
        containers.map(|name| {
            let prefix = format!("[{name}] worked ");
            let told = output.lines().filter_map(|line| {
                let (units, at) = line.split_once(&prefix)?.1.split_once(" at ")?;
                Some((units.parse::<f64>().ok()?, at.trim().parse::<f64>().ok()?))
            });
            let told: Vec<_> = told.collect();
            let [(first, begun), .., (last, ended)] = told[..] else { panic!("{name} is silent:\n{output}") };
            (last - first) / (ended - begun) * 1e6
        })
    }

    /// A thread in the pod's network, for a native peer: setns works per thread.
    pub fn native<T: Send + 'static>(&self, peer: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let namespace = std::fs::File::open(format!("/proc/{}/ns/net", self.pod_pid())).unwrap();
        std::thread::spawn(move || {
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            peer()
        })
    }

    /// Waits for a line of output that has `text` and was not returned before. The two outputs of the command come in
    /// no order.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> String {
        self.wait_within(text, PATIENCE)
    }

    /// [`Self::wait_for`] with another patience: for a pod whose images are built first.
    #[track_caller]
    pub fn wait_within(&self, text: &str, patience: Duration) -> String {
        let end = Instant::now() + patience;
        let mut passed = self.passed.borrow_mut();
        if let Some(at) = passed.iter().position(|line| line.contains(text)) {
            return passed.remove(at);
        }
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => passed.push(line),
                Err(RecvTimeoutError::Timeout) => panic!("no {text:?} in time, only\n{}", self.output()),
                Err(RecvTimeoutError::Disconnected) => panic!("ended without {text:?}:\n{}", self.output()),
            }
        }
    }

    /// All output so far.
    pub fn output(&self) -> String {
        self.seen.lock().unwrap().clone()
    }

    /// Waits for the pod's address.
    #[track_caller]
    pub fn address(&self) -> IpAddr {
        self.address_within(PATIENCE)
    }

    /// [`Self::address`] of a pod whose images are built first.
    #[track_caller]
    pub fn address_within(&self, patience: Duration) -> IpAddr {
        let addresses = self.addresses_within(patience);
        addresses.first().copied().unwrap_or_else(|| panic!("no address in\n{}", self.output()))
    }

    /// The pod's IPv6 address, where the machine has IPv6.
    #[track_caller]
    pub fn address_v6(&self) -> Option<IpAddr> {
        self.addresses().into_iter().find(IpAddr::is_ipv6)
    }

    /// The pod's addresses. May be asked for more than once.
    #[track_caller]
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.addresses_within(PATIENCE)
    }

    #[track_caller]
    fn addresses_within(&self, patience: Duration) -> Vec<IpAddr> {
        let line = self.wait_within("│ address ", patience);
        let words = line.split_whitespace().filter_map(|word| word.trim_end_matches(',').parse().ok());
        let addresses = words.collect();
        self.passed.borrow_mut().push(line);
        addresses
    }

    /// Sends the supervisor a signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).expect("signal peapod");
    }

    /// Waits for the end and returns the exit code; fails when it takes too long.
    #[track_caller]
    pub fn wait(&mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("wait for peapod") {
                return status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("peapod does not end:\n{}", self.output());
    }
}

impl Drop for Running {
    /// Ends the pod as a user would who is in a hurry, so that nothing of a failed test's pod is left: a supervisor that
    /// is killed leaves that to the next run.
    fn drop(&mut self) {
        let end = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            let pid = nix::unistd::Pid::from_raw(self.pid());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
