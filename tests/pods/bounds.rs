//! What one container may hold of what its pod's process has: the others go on, and nothing is left when it ends.

use super::support::{Finished, PATIENCE, Running, eventually, peapod, run};

/// Files that the pod process may open: few, so that a guest soon has what it can get.
const FILES: usize = 1024;

/// What of them a container that takes all it can get leaves to others, at the least.
const LEFT: usize = 400;

/// KiB that a pod of small containers may have in memory, whatever one of them does (a debug build's share included).
const MOST_MEMORY: u64 = 256 << 10;

/// A container that hoards, beside two that talk, and one that works with files when all is hoarded.
fn pod(name: &str, annotations: &str, image: &str, arguments: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, annotations: {annotations}}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  volumes: [{{name: data, emptyDir: {{}}}}]
  initContainers:
  - {{name: server, image: {{probe}}, args: [serve, '7000'], restartPolicy: Always}}
  - name: hostile
    image: {{{image}}}
    args: {arguments}
    restartPolicy: Always
    resources: {{limits: {{memory: 64Mi}}}}
    volumeMounts: [{{name: data, mountPath: /data}}]
  - name: gate
    image: {{probe}}
    args: [await-file, /data/hoarded]
    volumeMounts: [{{name: data, mountPath: /data}}]
  containers:
  - {{name: client, image: {{probe}}, args: [pingpong, '127.0.0.1:7000', '500', --retry, '20000']}}
  - name: user
    image: {{probe}}
    args: [use-files, /data/user, '50', '20']
    volumeMounts: [{{name: data, mountPath: /data}}]
  - name: last
    image: {{probe}}
    args: [await-file, /data/end]
    volumeMounts: [{{name: data, mountPath: /data}}]
"
    )
}

/// A command in the container `last`, which shares the volume.
fn exec_in_last(pod: &str, command: &[&str]) -> Finished {
    let output = peapod().args(["exec", pod, "-c", "last", "--", "probe"]).args(command).output();
    Finished::from(output.expect("start peapod"))
}

/// The same, which succeeds.
#[track_caller]
fn in_last(pod: &str, command: &[&str]) -> Finished {
    let mut finished = None;
    // Its containers may be faster than its supervisor.
    eventually("no command can be run", || {
        let tried = exec_in_last(pod, command);
        if tried.code != 0 {
            eprintln!("{}{}", tried.stdout, tried.stderr);
        }
        finished.insert(tried).code == 0
    });
    finished.unwrap()
}

/// Lets `last` end, and the pod with it.
#[track_caller]
fn end(pod: &str) {
    in_last(pod, &["env"]);
    // The pod may be gone before this command has said how it went.
    exec_in_last(pod, &["write", "/data/end", "end"]);
}

/// One that takes all of a kind that it can get: to those who come after it, and to the supervisor, enough is left.
fn others_go_on(name: &str, image: &str, arguments: &str, says: &str) {
    let annotations = "{peapod.dev/ipc.handles: '65536'}";
    let text = pod(name, annotations, image, arguments);
    let mut pod = Running::start_with_files(FILES as u64, &text, &[]);
    pod.wait_for(says);
    pod.wait_for("client Completed");
    pod.wait_for("user Completed");
    let (files, rss) = (pod.open_files(), pod.resident());
    assert!(files + LEFT < FILES, "{files} files open\n{}", pod.output());
    assert!(rss < MOST_MEMORY, "{rss} KiB\n{}", pod.output());
    in_last(name, &["use-files", "/data/command", "2"]).expect_stdout("used files");
    end(name);
    assert_eq!(pod.wait(), 0, "{}", pod.output());
}

#[test]
fn one_that_opens_files_without_end() {
    others_go_on("bounds-files", "probe", "[hoard, files, /data, '100000']", " files, then quota");
}

#[test]
fn one_that_opens_directories_without_end() {
    let arguments = "[hoard, directories, /data, '100000']";
    others_go_on("bounds-directories", "probe", arguments, " directories, then quota");
}

#[test]
fn one_that_lists_directories_without_end() {
    others_go_on("bounds-listings", "probe", "[hoard, listings, /data, '100000']", "hoarded 64 listings");
}

#[test]
fn one_that_opens_streams_without_end() {
    // What is being read at that moment counts as well.
    let says = " streams, then insufficient-memory";
    others_go_on("bounds-streams", "probe", "[hoard, streams, /data, '100000']", says);
}

#[test]
fn one_that_has_timers_without_end() {
    others_go_on("bounds-timers", "probe", "[hoard, timers, /data, '90000']", "hoarded 90000 timers");
}

#[test]
fn one_that_opens_message_queues_without_end() {
    let arguments = "[hoard, queues, '100000', /data]";
    others_go_on("bounds-queues", "ipc", arguments, " queues, then EMFILE");
}

#[test]
fn one_that_maps_segments_without_end() {
    let arguments = "[hoard, memory, '100000', /data]";
    others_go_on("bounds-memory", "ipc", arguments, " memory, then EMFILE");
}

#[test]
fn one_of_preview_3_that_opens_files_without_end() {
    others_go_on("bounds-files-p3", "p3", "[hoard, files, /data, '30000']", " files, then ErrorCode::Quota");
}

#[test]
fn one_of_preview_3_that_opens_all_at_the_same_time() {
    others_go_on("bounds-opens-p3", "p3", "[hoard, opens, /data, '15000']", "hoarded 15000 opens");
}

/// wasmtime-wasi's listings would hold all threads that work with files.
#[test]
fn one_of_preview_3_that_lists_directories_without_end() {
    let arguments = "[hoard, listings, /data, '30000']";
    others_go_on("bounds-listings-p3", "p3", arguments, "hoarded 64 listings");
}

#[test]
fn one_of_preview_3_that_opens_streams_without_end() {
    let says = " streams, then ErrorCode::InsufficientMemory";
    others_go_on("bounds-streams-p3", "p3", "[hoard, streams, /data, '30000']", says);
}

#[test]
fn one_of_preview_3_that_calls_without_end() {
    others_go_on("bounds-calls-p3", "p3", "[hoard, calls, /data, '30000']", "hoarded 30000 calls");
}

/// What goes beyond the bounds on what the host keeps for a guest ends the guest.
#[test]
fn one_that_goes_beyond_its_handles_or_permits_traps() {
    for (image, kind, most, why) in [
        ("probe", "timers", "200000", "handle limit exceeded"),
        ("p3", "calls", "200000", "handle limit exceeded"),
        ("probe", "writes", "1", "write of more bytes than permitted"),
    ] {
        let text = format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: bounds-beyond}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  volumes: [{{name: data, emptyDir: {{}}}}]
  containers:
  - name: hostile
    image: {{{image}}}
    args: [hoard, {kind}, /data, '{most}']
    volumeMounts: [{{name: data, mountPath: /data}}]
  - {{name: victim, image: {{probe}}, args: [tick, '10', '20']}}
"
        );
        let finished = run(&text, &[]).expect_code(134).expect_stderr("victim Completed");
        finished.expect_stderr("exit code 134").expect_stderr(why);
    }
}

/// A directory of many entries with long names, which wasmtime-wasi would read whole for each of its listings.
#[test]
fn a_large_directory_is_listed_without_being_kept() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: bounds-large}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  volumes: [{name: data, emptyDir: {medium: Memory}}]
  initContainers:
  - {name: make, image: {probe}, args: [many-files, /data, '3000'], volumeMounts: [{name: data, mountPath: /data}]}
  - {name: count, image: {probe}, args: [count-entries, /data], volumeMounts: [{name: data, mountPath: /data}]}
  - name: hostile
    image: {probe}
    args: [hoard, listings, /data, '100000']
    restartPolicy: Always
    volumeMounts: [{name: data, mountPath: /data}]
  containers:
  - {name: main, image: {probe}, args: [await-file, /data/hoarded], volumeMounts: [{name: data, mountPath: /data}]}
  - {name: last, image: {probe}, args: [await-file, /data/end], volumeMounts: [{name: data, mountPath: /data}]}
";
    let mut pod = Running::start(text, &[]);
    pod.wait_for("3000 entries, 3000 files");
    pod.wait_for("hoarded 64 listings, then quota");
    let rss = pod.resident();
    assert!(rss < MOST_MEMORY, "{rss} KiB\n{}", pod.output());
    end("bounds-large");
    assert_eq!(pod.wait(), 0, "{}", pod.output());
}

/// Containers that trap, or are killed for their memory, 200 times while they hold what a guest can hold.
#[test]
fn nothing_is_left_of_containers_that_died_while_they_held_much() {
    let container = |name: &str, image: &str, arguments: &str| {
        format!(
            "
  - name: {name}
    image: {{{image}}}
    args: {arguments}
    resources: {{limits: {{memory: 16Mi}}}}
    volumeMounts: [{{name: data, mountPath: /data, subPath: {name}}}]"
        )
    };
    let dying = [
        container("files", "probe", "[hoard, files, /data, '50', trap, '200']"),
        container("listings", "probe", "[hoard, listings, /data, '20', oom, '200']"),
        container("queues", "ipc", "[hoard, queues, '50', /data, '200']"),
        container("memory", "ipc", "[hoard, memory, '50', /data, '200']"),
    ];
    let text = format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: bounds-left}}
spec:
  restartPolicy: OnFailure
  terminationGracePeriodSeconds: 0
  volumes: [{{name: data, emptyDir: {{}}}}]
  containers:
  - {{name: last, image: {{probe}}, args: [await-file, /data/end], volumeMounts: [{{name: data, mountPath: /data}}]}}{}
",
        dying.concat()
    );
    let mut pod = Running::start(&text, &["--backoff-base", "0"]);
    for name in ["files", "listings", "queues", "memory"] {
        pod.wait_within(&format!("[{name}] ended 200 times"), 5 * PATIENCE);
    }
    // The event loop may be about to drop the last ones.
    eventually("files are left open", || pod.open_files() < 100);
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", pod.pod_pid())).unwrap();
    assert!(!maps.contains("/dev/shm"), "{maps}");
    let rss = pod.resident();
    assert!(rss < MOST_MEMORY, "{rss} KiB");
    end("bounds-left");
    assert_eq!(pod.wait(), 0, "{}", pod.output());
}
