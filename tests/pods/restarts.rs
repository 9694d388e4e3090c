//! Very many restarts of one container: nothing is lost, and nothing stays.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use super::support::{Running, directory, eventually};

/// Runs after which the pod is measured first: what is made once is made by then.
const EARLY: u64 = 20;
const RESTARTS: u64 = 500;
/// KiB that the pod may have more at the end: the allocator's whims, not a leak. The least that a run has, its stack
/// and memory, is a hundred KiB, which would be some fifty MiB.
const GROWTH: u64 = 8 << 10;
/// Threads that the pod may have more at the end: those for file operations come and go.
const MORE_THREADS: usize = 2;

/// What a pod process has.
#[derive(Debug)]
struct Size {
    resident: u64,
    threads: usize,
    /// Descriptors by what they are.
    files: BTreeMap<String, usize>,
    /// Lines of the kernel's socket tables.
    sockets: usize,
}

/// What a descriptor is, without the inode or the number of a log file.
fn kind(target: &str) -> &str {
    match target.strip_suffix(".log") {
        Some(log) => log.trim_end_matches(|c: char| c.is_ascii_digit()),
        None => target.split('[').next().unwrap_or_default(),
    }
}

fn size(pod: &Running) -> Size {
    let pid = pod.pod_pid();
    let entries = |name: &str| fs::read_dir(format!("/proc/{pid}/{name}")).unwrap();
    let mut files = BTreeMap::new();
    for entry in entries("fd") {
        if let Ok(target) = fs::read_link(entry.unwrap().path()) {
            *files.entry(kind(&target.to_string_lossy()).to_owned()).or_default() += 1;
        }
    }
    let table = |name: &str| fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
    Size {
        resident: pod.resident(),
        threads: entries("task").count(),
        files,
        sockets: ["tcp", "tcp6", "udp", "udp6"].map(|name| table(name).lines().count()).iter().sum(),
    }
}

/// The log directory of the only pod's container.
fn container(logs: &Path) -> PathBuf {
    fs::read_dir(logs).unwrap().next().unwrap().unwrap().path().join("main")
}

/// The CRI log of one run, rotated files too, oldest first, without what stands before the lines.
fn log(container: &Path, run: u64) -> Vec<String> {
    let prefix = format!("{run}.log");
    let mut files: Vec<_> = fs::read_dir(container)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(&prefix))
        .collect();
    // `0.log` is the newest; the others have their time in their names.
    files.sort_by_key(|path| (path.extension().is_some_and(|e| e == "log"), path.clone()));
    let text: String = files.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    text.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap().to_owned()).collect()
}

#[test]
fn five_hundred_restarts_lose_no_line_and_leave_nothing() {
    let (data, logs) = (directory(), directory());
    for held in [EARLY + 1, RESTARTS + 1] {
        fs::write(data.path().join(format!("hold-{held}")), "").unwrap();
    }
    let text = format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: restless}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {{probe}}
    args: [nth-run, /data]
    volumeMounts: [{{name: data, mountPath: /data}}]
  volumes: [{{name: data, hostPath: {{path: {}}}}}]
",
        data.path().display()
    );
    let log_dir = logs.path().to_str().unwrap();
    let mut pod = Running::start(&text, &["--backoff-base", "0", "--log-dir", log_dir]);
    let line = |run| format!("run {run} of the volume, 1 of the memory");
    let size_in_run = |run: u64| {
        pod.wait_for(&line(run));
        // The terminal has a line before its file has been opened.
        eventually("the line is not in the log", || log(&container(logs.path()), run - 1) == [line(run)]);
        size(&pod)
    };
    let early = size_in_run(EARLY + 1);
    fs::remove_file(data.path().join(format!("hold-{}", EARLY + 1))).unwrap();
    let late = size_in_run(RESTARTS + 1);

    assert_eq!(early.files, late.files);
    assert_eq!(early.sockets, late.sockets);
    assert!(late.threads <= early.threads + MORE_THREADS, "{early:?}\n{late:?}");
    assert!(late.resident <= early.resident + GROWTH, "{early:?}\n{late:?}");

    pod.signal(Signal::SIGTERM);
    pod.signal(Signal::SIGTERM);
    pod.wait();
    let output = pod.output();
    let printed = output.lines().filter_map(|line| line.strip_prefix("[main] run "));
    let runs: Vec<u64> = printed.map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
    assert!(runs.iter().copied().eq(1..=RESTARTS + 1), "{runs:?}");
    // As with the kubelet, the last run's file and that of the one before are kept.
    for restart in [RESTARTS - 1, RESTARTS] {
        assert_eq!(log(&container(logs.path()), restart), [line(restart + 1)]);
    }
}

#[test]
fn a_log_that_is_rotated_in_every_run_loses_no_line() {
    /// Lines of a run: more than 10 MiB, at which a file is put aside.
    const LINES: usize = 300_000;
    let logs = directory();
    let text = format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: talkative}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: main, image: {{probe}}, args: [print, '{LINES}']}}
"
    );
    let mut pod =
        Running::start(&text, &["--backoff-base", "1h", "--log-dir", logs.path().to_str().unwrap()]);
    pod.wait_for("back-off");
    pod.signal(Signal::SIGTERM);
    pod.wait();
    for restart in 0..2 {
        assert_eq!(log(&container(logs.path()), restart).len(), LINES);
    }
    let output = pod.output();
    assert_eq!(output.lines().filter(|line| line.starts_with("[main] ")).count(), 2 * LINES);
}
