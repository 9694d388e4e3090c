//! Commands in a running pod: `peapod exec`, `exec --native`, `debug`, and the WebSocket below them.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::support::{Finished, PATIENCE, Running, directory, eventually, guests, needs_root, peapod, root};

/// A pod with a volume and two containers that serve until they are stopped.
fn pod(name: &str, volume: &str) -> Running {
    let text = format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, uid: {name}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {{probe}}
    args: [serve, '7000']
    workingDir: /data
    env: [{{name: GREETING, value: good morning}}]
    volumeMounts: [{{name: data, mountPath: /data}}]
  - {{name: other, image: {{probe}}, args: [serve, '7001']}}
  volumes: [{{name: data, {volume}}}]
"
    );
    let pod = Running::start(&text, &[]);
    pod.wait_for("[main] listening");
    pod.wait_for("[other] listening");
    served(name);
    pod
}

/// Waits until the pod answers: its containers may be faster than its supervisor.
#[track_caller]
fn served(name: &str) {
    eventually("the pod does not answer", || {
        let said = peapod().args(["ss", name]).output().expect("start peapod");
        said.status.success()
    });
}

const EMPTY: &str = "emptyDir: {}";

fn exec(arguments: &[&str]) -> Finished {
    Finished::from(peapod().arg("exec").args(arguments).output().expect("start peapod"))
}

/// A command whose standard input and output are pipes.
fn spawn(arguments: &[&str]) -> Child {
    let mut command = peapod();
    command.arg("exec").args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start peapod")
}

#[test]
fn a_command_has_the_containers_environment_mounts_and_network_and_its_own_exit_code() {
    let pod = pod("exec-plain", EMPTY);
    exec(&["exec-plain", "-c", "main", "--", "probe", "env"])
        .expect_code(0)
        .expect_stdout("GREETING=good morning")
        .expect_stdout("HOSTNAME=exec-plain");
    exec(&["exec-plain", "-c", "main", "--", "probe.wasm", "write", "/data/f", "kept"]).expect_code(0);
    exec(&["pod/exec-plain", "-n", "default", "-c", "main", "--", "/bin/probe.wasm", "read", "/data/f"])
        .expect_code(0)
        .expect_stdout("kept");
    // The first container of several, and a word about it.
    exec(&["exec-plain", "--", "probe", "exit", "7"])
        .expect_code(7)
        .expect_stderr("Defaulted container \"main\" out of: main, other")
        .expect_stderr("command terminated with exit code 7");
    let quiet = exec(&["exec-plain", "-q", "--", "probe", "exit", "7"]).expect_code(7);
    assert_eq!(quiet.stderr, "");
    // The memory plane leads to the other container.
    exec(&["exec-plain", "-c", "main", "--", "probe", "connect", "127.0.0.1:7001", "ping"])
        .expect_code(0)
        .expect_stdout("ping");
    exec(&["exec-plain", "-c", "main", "--", "probe", "trap"]).expect_code(134).expect_stderr("unreachable");
    let mut reader = spawn(&["exec-plain", "-c", "main", "--", "probe", "flood", "100000000"]);
    drop(reader.stdout.take());
    let deaf = reader.wait_with_output().unwrap();
    assert_eq!((deaf.status.code(), deaf.stderr.len()), (Some(141), 0));
    // The container's own sockets outlive all of that.
    exec(&["exec-plain", "-c", "other", "--", "probe", "connect", "127.0.0.1:7000", "still"])
        .expect_code(0)
        .expect_stdout("still");
    drop(pod);
}

#[test]
fn what_cannot_be_run_says_why() {
    let _pod = pod("exec-wrong", EMPTY);
    exec(&["exec-wrong", "-c", "main", "--", "nonsense"])
        .expect_code(127)
        .expect_stderr("\"nonsense\": not found in container main; there is probe.wasm (the image)")
        .expect_stderr("a mount (/data)");
    exec(&["exec-wrong", "-c", "nobody", "--", "probe"])
        .expect_code(125)
        .expect_stderr("container nobody is not valid for pod exec-wrong");
    exec(&["exec-wrong", "--", ""]).expect_code(127).expect_stderr("no command");
    exec(&["exec-wrongly", "--", "probe"]).expect_code(125).expect_stderr("no pod \"exec-wrongly\"");
}

#[test]
fn a_container_that_does_not_run_has_no_commands() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: exec-ended}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - {name: done, image: {probe}, args: [hello]}
  - {name: on, image: {probe}, args: [serve, '7000']}
";
    let pod = Running::start(text, &[]);
    pod.wait_for("listening");
    pod.wait_for("ended    done");
    served("exec-ended");
    exec(&["exec-ended", "-c", "done", "--", "probe", "hello"])
        .expect_code(125)
        .expect_stderr("does not run");
    exec(&["exec-ended", "-c", "on", "--", "probe", "hello"]).expect_code(0).expect_stdout("hello");
}

#[test]
fn a_mebibyte_goes_through_a_command_both_ways() {
    let _pod = pod("exec-streams", EMPTY);
    let bytes: Vec<u8> =
        (0..1 << 20).map(|index: u32| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut child = spawn(&["-i", "exec-streams", "-c", "main", "--", "probe", "cat"]);
    let (mut stdin, sent) = (child.stdin.take().unwrap(), bytes.clone());
    let writer = std::thread::spawn(move || stdin.write_all(&sent).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == bytes, "{} bytes of {}", output.stdout.len(), bytes.len());
    // Both outputs, apart.
    let both = exec(&["exec-streams", "-c", "main", "--", "probe", "print-both", "100"]).expect_code(0);
    let lines = |text: &str, word: &str| text.lines().filter(|line| line.starts_with(word)).count();
    assert_eq!((lines(&both.stdout, "stdout"), lines(&both.stderr, "stderr")), (100, 100));
    assert_eq!((lines(&both.stdout, "stderr"), lines(&both.stderr, "stdout")), (0, 0));
    // Without -i there is no input to wait for.
    exec(&["exec-streams", "-c", "main", "--", "probe", "stdin"]).expect_stdout("end of stdin after 0 bytes");
}

#[test]
fn a_component_on_a_mount_is_compiled_and_run() {
    let tools = directory();
    let outside = directory();
    std::fs::copy(&guests::guests().probe, tools.path().join("tool.wasm")).unwrap();
    std::fs::copy(&guests::guests().p3, outside.path().join("outside.wasm")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("outside.wasm"), tools.path().join("escape.wasm"))
        .unwrap();
    std::os::unix::fs::symlink("tool.wasm", tools.path().join("inside.wasm")).unwrap();
    std::fs::write(tools.path().join("text.wasm"), "hello").unwrap();
    std::fs::write(tools.path().join("library.wasm"), guests::assemble("library")).unwrap();
    let _pod = pod("exec-mount", &format!("hostPath: {{path: '{}'}}", tools.path().display()));
    let run = |command: &[&str]| exec(&[&["exec-mount", "-c", "main", "--"], command].concat());
    run(&["/data/tool.wasm", "args", "x"]).expect_code(0).expect_stdout("/data/tool.wasm\nargs\nx");
    for name in ["./tool.wasm", "tool.wasm", "/data/inside.wasm", "../data/tool.wasm"] {
        run(&[name, "env", "GREETING"]).expect_code(0).expect_stdout("good morning");
    }
    run(&["/data/escape.wasm"]).expect_code(126).expect_stderr("escape.wasm");
    run(&["/data/../data/../../etc/passwd"]).expect_code(127);
    run(&["/data/text.wasm"]).expect_code(126).expect_stderr("/data/text.wasm: is not WebAssembly but text");
    run(&["/data/library.wasm"]).expect_code(126).expect_stderr("has nothing to run");
    run(&["/data"]).expect_code(126).expect_stderr("not a regular file");
    run(&["/data/none.wasm"]).expect_code(127);
}

#[test]
fn an_export_is_a_command() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: exec-exports}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: main, image: {exports}}
";
    let pod = Running::start(text, &[]);
    pod.wait_for("phase    Running");
    served("exec-exports");
    let run = |command: &[&str]| exec(&[&["exec-exports", "--"], command].concat());
    run(&["hello"]).expect_code(0).expect_stdout("hello\n");
    run(&["refuse"]).expect_code(1).expect_stderr("go away");
    run(&["nothing"]).expect_code(0);
    run(&["seven"]).expect_code(7);
    run(&["no"]).expect_code(1);
    run(&["count", "a", "b", "c"]).expect_code(3);
    run(&["first", "wörd"]).expect_code(0).expect_stdout("wörd");
    run(&["trap"]).expect_code(134);
    run(&["acme:tools/admin/seven"]).expect_code(7);
    run(&["acme:tools/admin@0.1.0/seven"]).expect_code(7);
    run(&["add", "1", "2"]).expect_code(126).expect_stderr("cannot be called as a command");
    run(&["hello", "you"]).expect_code(126).expect_stderr("takes no arguments");
    run(&["bye"])
        .expect_code(127)
        .expect_stderr("hello (an export)")
        .expect_stderr("acme:tools/admin@0.1.0/seven");
}

#[test]
fn sessions_are_bounded_and_end_with_their_clients() {
    let _pod = pod("exec-many", EMPTY);
    let begin = || {
        let mut child = spawn(&["-i", "exec-many", "-c", "main", "--", "probe", "cat"]);
        child.stdin.as_mut().unwrap().write_all(b"x\n").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 2]).unwrap();
        child
    };
    let mut sessions: Vec<Child> = (0..peapod::api::server::MAX_SESSIONS).map(|_| begin()).collect();
    exec(&["exec-many", "-c", "main", "--", "probe", "hello"])
        .expect_code(125)
        .expect_stderr("16 commands run already");
    // Others are answered all the same.
    let said = Finished::from(peapod().args(["ss", "exec-many"]).output().unwrap());
    said.expect_code(0);
    for session in &mut sessions {
        session.kill().unwrap();
        session.wait().unwrap();
    }
    // What the commands held is there again; one that spins is ended, too.
    eventually("the sessions go on without their clients", || {
        exec(&["exec-many", "-c", "main", "--", "probe", "hello"]).code == 0
    });
    let mut spinning = spawn(&["exec-many", "-c", "main", "--", "probe", "spin"]);
    std::thread::sleep(Duration::from_millis(200));
    spinning.kill().unwrap();
    spinning.wait().unwrap();
    let mut sessions: Vec<Child> = Vec::new();
    eventually("places are lost", || {
        while sessions.len() < peapod::api::server::MAX_SESSIONS {
            sessions.push(begin());
        }
        true
    });
    // The end of input is the end of the command.
    for mut session in sessions {
        drop(session.stdin.take());
        assert_eq!(session.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn the_pods_end_is_the_commands_end() {
    let mut pod = pod("exec-last", EMPTY);
    // Without input, whose end would be its end.
    let mut child = spawn(&["exec-last", "-c", "main", "--", "probe", "sleep", "1000000"]);
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 8]).unwrap();
    pod.signal(Signal::SIGTERM);
    pod.wait();
    assert_eq!(child.wait().unwrap().code(), Some(137));
}

#[test]
fn a_native_command_is_in_the_pod_and_ends_with_it() {
    if !needs_root() {
        return;
    }
    let mut pod = pod("exec-native", EMPTY);
    let address = pod.address();
    let sh = |script: &str| exec(&["--native", "exec-native", "--", "sh", "-c", script]);
    sh("hostname; exit 5").expect_code(5).expect_stdout("exec-native\n");
    sh("cat /proc/net/fib_trie").expect_code(0).expect_stdout(&address.to_string());
    sh("cat /proc/self/cgroup").expect_code(0).expect_stdout("peapod/podexec-native");
    sh("env").expect_code(0).expect_stdout("HOSTNAME=exec-native").expect_stdout("PATH=/");
    exec(&["--native", "exec-native", "--", "no-such-command"])
        .expect_code(127)
        .expect_stderr("no-such-command");
    sh("kill -INT $$").expect_code(130);
    // What the caller ignores is not ignored in the pod.
    let status = Command::new("sh")
        .args(["-c", "trap '' INT TERM; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_peapod")])
        .args(["exec", "--native", "exec-native", "--", "sh", "-c", "kill -TERM $$"])
        .env("PEAPOD_ROOT", root())
        .status();
    assert_eq!(status.unwrap().code(), Some(143));
    let mut sleeper = spawn(&["--native", "exec-native", "--", "sh", "-c", "echo on; exec sleep 1000"]);
    sleeper.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).unwrap();
    pod.signal(Signal::SIGTERM);
    pod.wait();
    assert_eq!(sleeper.wait().unwrap().code(), Some(137));
}

#[test]
fn memory_is_the_containers_and_standard_input_ends_when_it_is_asked_to_stop() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: exec-stop}
spec:
  containers:
  - {name: main, image: {probe}, args: [sleep, '1000000'], resources: {limits: {memory: 32Mi}}}
";
    let mut pod = Running::start(text, &[]);
    pod.wait_for("phase    Running");
    exec(&["exec-stop", "--", "probe", "alloc", "100"])
        .expect_code(137)
        .expect_stderr("peapod: memory limit");
    let mut child = spawn(&["-i", "exec-stop", "--", "probe", "cat"]);
    child.stdin.as_mut().unwrap().write_all(b"x\n").unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 2]).unwrap();
    pod.signal(Signal::SIGTERM);
    // The container, which hears nothing, has its grace still.
    assert_eq!(child.wait().unwrap().code(), Some(0));
    pod.signal(Signal::SIGTERM);
    pod.wait();
}

/// Opens a command's WebSocket by hand.
fn web_socket(pod: &str, command: &str) -> UnixStream {
    let mut stream = peapod::api::socket::connect(&root().join("run/pods").join(pod)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "GET /api/v1/namespaces/default/pods/{pod}/exec?container=main&{command}&stdin=true&stdout=true HTTP/1.1\r\n\
         Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    stream
}

#[test]
fn hostile_clients_harm_nobody() {
    let _pod = pod("exec-hostile", EMPTY);
    let cat = "command=probe&command=cat";
    for garbage in [
        // A frame without a mask, a reserved opcode, one that claims to have 2^62 bytes, text, noise.
        &b"\x82\x03\0ab"[..],
        b"\x83\x80\0\0\0\0",
        b"\x82\xff\x40\0\0\0\0\0\0\0\0\0\0\0",
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 4096],
    ] {
        let mut stream = web_socket("exec-hostile", cat);
        let _ = stream.write_all(garbage);
        // The server ends it.
        let _ = stream.read_to_end(&mut Vec::new());
    }
    // Some say nothing, one never reads what a flood sends it: the others go on.
    let _silent: Vec<_> = (0..4).map(|_| web_socket("exec-hostile", cat)).collect();
    let _deaf = web_socket("exec-hostile", "command=probe&command=flood&command=100000000");
    exec(&["exec-hostile", "-c", "main", "--", "probe", "hello"]).expect_code(0).expect_stdout("hello");
    exec(&["exec-hostile", "-c", "other", "--", "probe", "connect", "127.0.0.1:7000", "fine"])
        .expect_code(0)
        .expect_stdout("fine");
}

fn debug(arguments: &[&str]) -> Finished {
    Finished::from(peapod().arg("debug").args(arguments).output().expect("start peapod"))
}

#[test]
fn an_ephemeral_container_is_added_and_a_second_too() {
    let running = pod("exec-debug", EMPTY);
    let probe = guests::guests().probe.to_str().unwrap();
    debug(&[
        "exec-debug",
        "--image",
        probe,
        "-c",
        "first",
        "--target",
        "main",
        "--env",
        "K=v",
        "--",
        "env",
        "K",
    ])
    .expect_code(0);
    debug(&["exec-debug", "--image", probe, "--", "hello"])
        .expect_code(0)
        .expect_stdout("Defaulting debug container name to debugger-");
    running.wait_for("[first] v");
    running.wait_for("] hello");
    let path = "/api/v1/namespaces/default/pods/exec-debug";
    let directory = root().join("run/pods/exec-debug");
    let pod: serde_json::Value = peapod::api::client::get(&directory, path).unwrap();
    let added = pod["spec"]["ephemeralContainers"].as_array().unwrap();
    assert_eq!((added.len(), &added[0]["name"]), (2, &"first".into()));
    assert_eq!(
        (&added[0]["targetContainerName"], &pod["metadata"]["generation"]),
        (&"main".into(), &3.into())
    );
    // What cannot be added changes nothing.
    let refused = |arguments: &[&str], code: i32, words: &str| {
        debug(&[&["exec-debug"], arguments].concat()).expect_code(code).expect_stderr(words);
    };
    refused(&["--image", probe, "-c", "main"], 2, "another container has it");
    refused(&["--image", probe, "-c", "Not A Name"], 2, "name");
    refused(&["--image", probe, "-c", "x", "--target", "nobody"], 2, "targetContainerName");
    refused(&["--image", "/nowhere.wasm", "-c", "x"], 127, "/nowhere.wasm: no such file");
    refused(&["--image", "Cargo.toml", "-c", "x"], 126, "is not WebAssembly");
    let after: serde_json::Value = peapod::api::client::get(&directory, path).unwrap();
    assert_eq!(after["metadata"]["generation"], 3);
}
