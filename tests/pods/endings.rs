//! How containers end, and what they leave: graceful stops, last words, what a restart keeps. How they begin: command
//! lines and variables.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::support::{PATIENCE, Running, needs_root, run};

/// A pod of one container, `main`, whose other fields follow.
fn one(pod: &str, container: &str) -> String {
    let container = container.trim().replace('\n', "\n    ");
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: ending}}
spec:
  {}
  containers:
  - name: main
    {container}
",
        pod.trim().replace('\n', "\n  ")
    )
}

/// The end of `main`: `state.terminated`.
#[track_caller]
fn ending(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]["state"]["terminated"]
}

/// Starts the container, asks the pod to end when the container says `ready`, and waits for `words`, in order.
#[track_caller]
fn asked_to_end(container: &str, ready: &str, words: &[&str]) {
    let mut pod = Running::start(&one("restartPolicy: Never", container), &[]);
    pod.wait_for(ready);
    pod.signal(Signal::SIGTERM);
    for words in words {
        pod.wait_for(words);
    }
    pod.wait();
}

#[test]
fn a_server_on_the_standard_library_falls_out_of_accept() {
    let ended = "accept ended after 0 connections: InvalidInput";
    asked_to_end(
        "image: {probe}\nargs: [accept-until-error, '7000']",
        "listening",
        &[ended, "main Completed, exit code 0"],
    );
}

#[test]
fn a_server_of_wasi_0_3_sees_the_end_of_its_connections() {
    let ended = "accept ended after 0 connections";
    asked_to_end(
        "image: {p3}\nargs: [tcp-serve, '7000']",
        "listening",
        &[ended, "main Completed, exit code 0"],
    );
}

#[test]
fn servers_in_c_and_python_fall_out_of_accept() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: ending}
spec:
  restartPolicy: Never
  containers:
  - {name: c, image: {c}, args: [serve, '7001']}
  - {name: python, image: {python}, args: [serve, '7002']}
";
    let mut pod = Running::start(text, &["--build"]);
    pod.wait_for("listening on 7001");
    pod.wait_for("listening on 7002");
    pod.signal(Signal::SIGTERM);
    pod.wait_for("c Completed, exit code 0");
    pod.wait_for("python Completed, exit code 0");
    pod.wait();
}

#[test]
fn a_udp_server_falls_out_of_its_receive() {
    let ended = "receive ended after 0 datagrams: ConnectionAborted";
    asked_to_end(
        "image: {probe}\nargs: [udp-until-error, '7000']",
        "listening",
        &[ended, "main Completed, exit code 0"],
    );
    asked_to_end(
        "image: {p3}\nargs: [udp-echo, '7000']",
        "listening",
        &["receive: ErrorCode::ConnectionAborted", "main Error, exit code 1"],
    );
}

#[test]
fn a_guest_that_looks_finishes_its_work() {
    for image in ["{lifecycle-p2}", "{lifecycle-p3}"] {
        asked_to_end(
            &format!("image: {image}\nargs: [finish]"),
            "working",
            &["asked: StopReason::PodEnds, 30 s left", "finished: true", "main Completed, exit code 0"],
        );
    }
}

#[test]
fn a_connection_goes_on_while_the_listener_does_not() {
    if !needs_root() {
        return;
    }
    let container = "image: {probe}\nargs: [serve, '7000']";
    let mut pod = Running::start(&one("restartPolicy: Never", container), &[]);
    pod.wait_for("listening");
    let (connected, is_connected) = std::sync::mpsc::channel();
    let (stop, stopped) = std::sync::mpsc::channel();
    let client = pod.native(move || {
        let mut stream = TcpStream::connect("127.0.0.1:7000").unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut echo = |text: &str| {
            stream.write_all(text.as_bytes()).unwrap();
            let mut answer = vec![0; text.len()];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(answer, text.as_bytes());
        };
        echo("before");
        connected.send(()).unwrap();
        stopped.recv_timeout(PATIENCE).unwrap();
        let end = std::time::Instant::now() + PATIENCE;
        while TcpStream::connect("127.0.0.1:7000").is_ok() {
            assert!(std::time::Instant::now() < end, "it still listens");
        }
        echo("after");
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    });
    is_connected.recv_timeout(PATIENCE).unwrap();
    pod.signal(Signal::SIGTERM);
    pod.wait_for("stopping");
    stop.send(()).unwrap();
    client.join().unwrap();
    pod.wait_for("echoed 11 bytes");
    pod.wait_for("accept: InvalidInput");
    pod.wait();
}

#[test]
fn who_does_not_look_is_killed_at_the_deadline() {
    for (image, args) in [
        ("{probe}", "[spin]"),
        ("{probe}", "[sleep, '3600000']"),
        ("{probe}", "[tick, '10', '1000000']"),
        ("{p3}", "[tick, '10', '1000000']"),
        ("{lifecycle-p2}", "[watch]"),
    ] {
        let pod = "restartPolicy: Never\nterminationGracePeriodSeconds: 1";
        let text = one(pod, &format!("image: {image}\nargs: {args}"));
        let finished = run(&text, &["--timeout", "1s", "-o", "json"]).expect_code(124);
        let pod = finished.pod();
        assert_eq!(
            (&ending(&pod)["exitCode"], &ending(&pod)["reason"]),
            (&137.into(), &"Error".into()),
            "{pod:#}"
        );
        assert_eq!(pod["status"]["phase"], "Failed", "{args}");
    }
}

#[test]
fn a_message_in_the_file_is_the_message_whatever_the_exit_code() {
    for code in [0, 3] {
        let container =
            format!("image: {{probe}}\nargs: [last-words, /dev/termination-log, 'disk on fire', '{code}']");
        let finished = run(&one("restartPolicy: Never", &container), &["-o", "json"]).expect_code(code);
        assert_eq!(ending(&finished.pod())["message"], "disk on fire");
    }
}

#[test]
fn a_container_that_leaves_no_message_has_none() {
    for (args, code) in [("[hello]", 0), ("[exit, '3']", 3)] {
        let container = format!("image: {{probe}}\nargs: {args}");
        let finished = run(&one("restartPolicy: Never", &container), &["-o", "json"]).expect_code(code);
        assert!(ending(&finished.pod())["message"].is_null(), "{:#}", finished.pod());
    }
}

#[test]
fn the_log_stands_for_the_message_of_a_failure_only() {
    let policy = "terminationMessagePolicy: FallbackToLogsOnError";
    let message = |args: &str, code| {
        let container = format!("image: {{probe}}\nargs: {args}\n{policy}");
        let finished = run(&one("restartPolicy: Never", &container), &["-o", "json"]).expect_code(code);
        ending(&finished.pod())["message"].clone()
    };
    assert!(message("[hello]", 0).is_null());
    let complained = message("[read, /nothing]", 1);
    assert!(complained.as_str().unwrap().starts_with("probe: read: /nothing: "), "{complained}");
    assert_eq!(message("[last-words, /dev/termination-log, words, '3']", 3), "words");
    let trapped = message("[trap]", 134);
    assert!(trapped.as_str().unwrap().contains("wasm backtrace"), "{trapped}");
}

#[test]
fn a_message_may_be_in_a_volume_or_anywhere() {
    let message = |path: &str, mounts: &str| {
        let container = format!(
            "image: {{probe}}
args: [last-words, {path}, here, '0']
terminationMessagePath: {path}
volumeMounts: {mounts}"
        );
        let pod = "restartPolicy: Never\nvolumes: [{name: data, emptyDir: {}}]";
        let finished = run(&one(pod, &container), &["-o", "json"]);
        (finished.code, ending(&finished.pod())["message"].clone())
    };
    assert_eq!(message("/var/run/words", "[]"), (0, "here".into()));
    assert_eq!(message("/words", "[]"), (0, "here".into()));
    assert_eq!(message("/dev/words", "[{name: data, mountPath: /}]"), (0, "here".into()));
    // In a volume the container makes the file itself.
    let container = "image: {probe}
args: [write, /data/words, there]
terminationMessagePath: /data/words
volumeMounts: [{name: data, mountPath: /data}]";
    let pod = "restartPolicy: Never\nvolumes: [{name: data, emptyDir: {}}]";
    let finished = run(&one(pod, container), &["-o", "json"]).expect_code(0);
    assert_eq!(ending(&finished.pod())["message"].as_str().map(str::trim), Some("there"));
}

#[test]
fn a_symlink_is_no_message() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: ending}
spec:
  restartPolicy: Never
  initContainers:
  - {name: secret, image: {probe}, args: [write, /data/secret, hidden], volumeMounts: [{name: data, mountPath: /data}]}
  containers:
  - name: main
    image: {probe}
    args: [symlink, secret, /data/words]
    terminationMessagePath: /data/words
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, emptyDir: {}}]
";
    let finished = run(text, &["-o", "json"]).expect_code(0);
    assert!(ending(&finished.pod())["message"].is_null(), "{:#}", finished.pod());
}

#[test]
fn what_a_container_can_put_beside_its_message_is_bounded() {
    let container = "image: {probe}\nargs: [fill, /dev/termination-log, '1']";
    let finished = run(&one("restartPolicy: Never", container), &[]).expect_code(1);
    finished.expect_stderr("probe: fill: /dev/termination-log: ");
}

#[test]
fn a_restarted_container_keeps_its_volumes_and_gets_a_fresh_memory() {
    let container = "image: {probe}
args: [nth-run, /data, '3']
volumeMounts: [{name: data, mountPath: /data}]";
    let pod = "restartPolicy: OnFailure\nvolumes: [{name: data, emptyDir: {}}]";
    let finished = run(&one(pod, container), &["--backoff-base", "0", "-o", "json"]).expect_code(0);
    for run in 1..=3 {
        let line = format!("run {run} of the volume, 1 of the memory");
        assert!(finished.stderr.contains(&line), "no {line:?} in\n{}", finished.stderr);
    }
    assert_eq!(finished.pod()["status"]["containerStatuses"][0]["restartCount"], 2);
}

#[test]
fn every_run_has_a_message_of_its_own() {
    // It appends to the file.
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: ending}
spec:
  restartPolicy: OnFailure
  containers:
  - {name: main, image: {probe}, args: [last-words, /dev/termination-log, again, '1']}
";
    let mut pod = Running::start(text, &["--backoff-base", "0", "-o", "json"]);
    for _ in 0..5 {
        pod.wait_for("main Error, exit code 1");
    }
    pod.signal(Signal::SIGTERM);
    pod.wait_for(r#""message": "again""#);
    pod.wait();
    assert!(!pod.output().contains("againagain"), "{}", pod.output());
}

/// What the container says its arguments are, the first included.
#[track_caller]
fn arguments(image: &str, fields: &str) -> Vec<String> {
    let finished =
        run(&one("restartPolicy: Never", &format!("image: {image}\n{fields}")), &[]).expect_code(0);
    let lines = finished.stdout.lines().filter_map(|line| line.strip_prefix("[main] "));
    lines.map(str::to_owned).collect()
}

#[test]
fn the_image_command_and_arguments_make_the_command_line_as_in_kubernetes() {
    // Neither: the image's own entry point without arguments.
    assert_eq!(arguments("{p3}", ""), ["hello from preview 3"]);
    for image in ["{probe}", "{p3}"] {
        let name = if image == "{p3}" { "p3.wasm" } else { "probe.wasm" };
        assert_eq!(arguments(image, "args: [args, one]"), [name, "args", "one"]);
        assert_eq!(arguments(image, "command: [own, args, two]"), ["own", "args", "two"]);
        assert_eq!(arguments(image, "command: [own]\nargs: [args, '']"), ["own", "args", ""]);
    }
}

#[test]
fn variables_are_expanded_in_env_command_and_args() {
    let fields = "
env:
- {name: A, value: a}
- {name: B, value: '$(A)b'}
- {name: EARLY, value: '$(LATE)'}
- {name: LATE, value: late}
- {name: ESCAPED, value: '$$(A)'}
- {name: EMPTY}
command: ['$(B)', args]
args: ['$(A)$(B)', '$(EARLY)', '$(ESCAPED)', '$$(A)', '$$$(A)', '[$(EMPTY)]', '$(NONE)', '$A', '$(', '$$']";
    assert_eq!(
        arguments("{probe}", fields),
        ["ab", "args", "aab", "$(LATE)", "$(A)", "$(A)", "$a", "[]", "$(NONE)", "$A", "$(", "$"]
    );
}
