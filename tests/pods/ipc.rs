//! `peapod:ipc` between containers, with native processes of the pod, and its limits.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::Signal;

use libc::ETIMEDOUT;
use peapod::sys::futex::{self, Control, Number};
use peapod::sys::mqueue::{Access, MessageQueue};
use peapod::sys::shared::Mapping;

use super::support::{Finished, PATIENCE, Running, needs_root, peapod, run};

/// A pod of containers that each run one command of the guest.
fn pod(name: &str, containers: &[(&str, &[&str])]) -> String {
    pod_with(name, "{}", containers)
}

fn pod_with(name: &str, annotations: &str, containers: &[(&str, &[&str])]) -> String {
    let mut text = format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, annotations: {annotations}}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 20
  containers:
"
    );
    for (name, args) in containers {
        text.push_str(&format!("  - {{name: {name}, image: {{ipc}}, args: {args:?}}}\n"));
    }
    text
}

/// A thread in the pod's IPC and mount namespaces: what a native process of the pod sees.
fn native<T: Send + 'static>(pod: &Running, peer: impl FnOnce() -> T + Send + 'static) -> T {
    let open = |kind| std::fs::File::open(format!("/proc/{}/ns/{kind}", pod.pod_pid())).unwrap();
    let (ipc, mounts) = (open("ipc"), open("mnt"));
    let thread = std::thread::spawn(move || {
        setns(ipc, CloneFlags::CLONE_NEWIPC).unwrap();
        // A mount namespace is entered by threads that share no working directory.
        unshare(CloneFlags::CLONE_FS).unwrap();
        setns(mounts, CloneFlags::CLONE_NEWNS).unwrap();
        peer()
    });
    thread.join().unwrap()
}

/// A command of the host in a pod.
fn native_command(pod: &str, script: &str) -> Finished {
    Finished::from(peapod().args(["exec", "--native", pod, "--", "sh", "-c", script]).output().unwrap())
}

fn list(directory: &str) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn containers_talk_by_every_kind() {
    let text = pod(
        "talk",
        &[
            ("queue-receive", &["queue-receive", "/q", "2"]),
            ("queue-send-a", &["queue-send", "/q", "hello", "1"]),
            ("queue-send-b", &["queue-send", "/q", "world", "2"]),
            ("memory-read", &["memory-read", "/m", "5"]),
            ("memory-write", &["memory-write", "/m", "bytes"]),
            ("channel-receive", &["channel-receive", "/c"]),
            ("channel-send", &["channel-send", "/c", "1000"]),
            ("all-a", &["channel-receive-all", "/all"]),
            ("all-b", &["channel-receive-all", "/all"]),
            ("all-send", &["channel-send-all", "/all", "2"]),
            ("take-a", &["semaphore-take", "/s", "200"]),
            ("take-b", &["semaphore-take", "/s", "200"]),
            ("poll", &["poll"]),
        ],
    );
    run(&text, &[])
        .expect_code(0)
        .expect_stdout("got hello 1")
        .expect_stdout("got world 2")
        .expect_stdout("read bytes")
        .expect_stdout("received 1000, last message 999")
        .expect_stdout("[all-a] received 100 of all")
        .expect_stdout("[all-b] received 100 of all")
        .expect_stdout("[take-a] taken")
        .expect_stdout("[take-b] taken")
        .expect_stdout("polled");
}

#[test]
fn a_guest_of_0_3_streams_to_another() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: stream}
spec:
  restartPolicy: Never
  containers:
  - {name: receive, image: {ipc-p3}, args: [receive, /bulk]}
  - {name: send, image: {ipc-p3}, args: [send, /bulk, '4']}
  - {name: tasks, image: {ipc-p3}, args: [tasks]}
";
    run(text, &[]).expect_code(0).expect_stdout("received 4194304 bytes").expect_stdout("tasks done");
}

#[test]
fn native_processes_of_the_pod_take_part_and_nobody_else() {
    if !needs_root() {
        return;
    }
    let mine = Running::start(
        &pod(
            "mine",
            &[
                ("receive", &["queue-receive", "/native", "1"]),
                ("write", &["memory-write", "/native", "bytes"]),
                ("touch", &["memory-touch", "/touched"]),
                ("stay", &["memory-hold", "/stay"]),
            ],
        ),
        &[],
    );
    let other = Running::start(
        &pod("other", &[("queue", &["queue-exists", "/native"]), ("stay", &["memory-hold", "/other"])]),
        &[],
    );
    mine.wait_for("receiving");
    mine.wait_for("wrote");
    mine.wait_for("touching");
    other.wait_for("mapped");
    // The other pod's container and native processes see nothing of this pod, nor does the host.
    other.wait_for("ENOENT");
    assert_eq!(native(&other, || list("/dev/shm")), ["other"]);
    assert!(!Path::new("/dev/shm/native").exists());
    assert!(MessageQueue::open(c"/native", Access::Both, None).is_err());
    let ls = |pod| {
        native_command(pod, "ls /dev/mqueue && test -c /dev/null && ls -d /dev/pts /dev/shm").expect_code(0)
    };
    assert_eq!(ls("mine").stdout, "native\n/dev/pts\n/dev/shm\n");
    assert_eq!(ls("other").stdout, "/dev/pts\n/dev/shm\n");
    native_command("mine", "head -c1 /dev/zero > /dev/null && cat /dev/mqueue/native")
        .expect_code(0)
        .expect_stdout("QSIZE:0");
    native_command("other", "cat /dev/mqueue/native").expect_code(1);
    assert_eq!(native(&mine, || list("/dev/mqueue")), ["native"]);
    let bytes = native(&mine, || {
        let mut bytes = [0; 5];
        std::fs::File::open("/dev/shm/native").unwrap().read_exact_at(&mut bytes, 8).unwrap();
        bytes
    });
    assert_eq!(&bytes, b"bytes");
    native(&mine, || {
        MessageQueue::open(c"/native", Access::Write, None).unwrap().send(b"mail", 7).unwrap();
    });
    mine.wait_for("got mail 7");
    // A native process takes the memory away that a container has mapped.
    native(&mine, || {
        std::fs::OpenOptions::new().write(true).open("/dev/shm/touched").unwrap().set_len(0).unwrap();
    });
    mine.wait_for("lost: EFAULT");
    mine.wait_for("again: 0");
}

#[test]
fn a_native_futex_wake_ends_a_containers_wait() {
    if !needs_root() {
        return;
    }
    if !futex::is_supported() {
        eprintln!("skipped: no futex_waitv(2)");
        return;
    }
    const TURNS: u32 = 200;
    let count = TURNS.to_string();
    let mut pod = Running::start(&pod("futex", &[("answer", &["memory-answer", "/turns", &count])]), &[]);
    pod.wait_for("answering");
    // Neither side looks again by itself: a wake-up that is lost is a turn that never comes.
    native(&pod, || {
        let file = std::fs::OpenOptions::new().read(true).write(true).open("/dev/shm/turns").unwrap();
        let mapping = Arc::new(Mapping::new(&file, 4096).unwrap());
        let at = |offset, access: fn(&AtomicU32) -> u32| mapping.with(offset, access).unwrap().unwrap();
        let control = Control::default();
        for turn in 0..TURNS {
            assert_eq!(at(0, |theirs| u32::from_le(theirs.fetch_add(1_u32.to_le(), SeqCst))), turn);
            mapping.wake(0, 1);
            while u32::from_le(at(4, |ours| ours.load(SeqCst))) == turn {
                let answer = Number { mapping: Arc::clone(&mapping), offset: 4, value: turn.to_le() };
                let woken = control.wait(control.value(), &[answer], PATIENCE);
                let error = woken.err().and_then(|error| error.raw_os_error());
                assert!(error != Some(ETIMEDOUT), "no answer to turn {turn}");
            }
        }
    });
    pod.wait_for("answered");
    assert_eq!(pod.wait(), 0);
}

#[test]
fn a_container_that_ends_gives_back_what_it_held() {
    for end in ["trap", "return", "oom"] {
        let holder = format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: holder}}
spec:
  restartPolicy: Never
  containers:
  - {{name: hold, image: {{ipc}}, args: [semaphore-hold, /s, {end}], \
     resources: {{limits: {{memory: 16Mi}}}}}}
  - {{name: take, image: {{ipc}}, args: [semaphore-take, /s, '1']}}
"
        );
        run(&holder, &[]).expect_stdout("held").expect_stdout("taken");
    }
}

/// The third of the criteria, however the container ends.
#[test]
fn whoever_ends_with_everything_in_hand_leaves_the_others_working() {
    for (end, code) in [("trap", 134), ("exit", 1), ("oom", 137), ("kill", 137)] {
        let probe = match end {
            "kill" => {
                "livenessProbe: {exec: {command: [ipc.wasm, queue-missing, /victim]}, periodSeconds: 1, \
                 timeoutSeconds: 30, failureThreshold: 1},"
            }
            _ => "",
        };
        let text = format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: victim-{end}}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - {{name: victim, image: {{ipc}}, args: [victim, {end}], {probe} resources: {{limits: {{memory: 16Mi}}}}}}
  - {{name: survivor, image: {{ipc}}, args: [survivor]}}
"
        );
        run(&text, &[]).expect_stdout("in position").expect_stdout("survived").expect_code(code);
    }
}

#[test]
fn stop_ends_every_wait() {
    let kinds = ["memory", "queue", "semaphore", "channel", "poll"];
    let waits: Vec<[&str; 2]> = kinds.iter().map(|kind| ["wait", *kind]).collect();
    let containers: Vec<(&str, &[&str])> =
        kinds.iter().zip(&waits).map(|(kind, wait)| (*kind, &wait[..])).collect();
    let flood: (&str, &[&str]) = ("flood", &["queue-flood", "/flood"]);
    let mut pod = Running::start(&pod("stop", &[&containers[..], &[flood]].concat()), &[]);
    for _ in kinds {
        pod.wait_for("waiting");
    }
    pod.wait_for("full");
    pod.signal(Signal::SIGTERM);
    for kind in kinds {
        pod.wait_for(&format!("[{kind}] ended: ECANCELED"));
    }
    pod.wait_for("queue-flood: ECANCELED");
    assert_eq!(pod.wait(), 143);
    assert!(pod.output().contains("ready: [0, 1, 2]"));
}

#[test]
fn limits_hold() {
    let annotations = "{peapod.dev/ipc.semaphores: '3', peapod.dev/ipc.queues: '2', peapod.dev/ipc.channels: '4', \
                       peapod.dev/ipc.handles: '5'}";
    let text = pod_with(
        "limits",
        annotations,
        &[
            ("semaphores", &["limit", "semaphores"]),
            ("queues", &["limit", "queues"]),
            ("channels", &["limit", "channels"]),
            ("memory", &["limit", "memory"]),
        ],
    );
    let finished: Finished = run(&text, &[]).expect_code(0);
    let finished = finished.expect_stdout("[semaphores] opened 3, then ENOSPC");
    let finished = finished.expect_stdout("[queues] opened 2, then ENOSPC");
    let finished = finished.expect_stdout("[channels] opened 4, then ENOSPC");
    // 64 MiB of shared memory.
    finished.expect_stdout("[memory] opened 4, then ENOSPC");
    let text = pod_with("limits", annotations, &[("handles", &["limit", "handles"])]);
    run(&text, &[]).expect_code(0).expect_stdout("opened 5, then EMFILE");
    let text = pod_with("limits", "{peapod.dev/ipc.queues: many}", &[("handles", &["limit", "handles"])]);
    run(&text, &[]).expect_code(2).expect_stderr("metadata.annotations[peapod.dev/ipc.queues]");
}

fn ask(words: &[&str]) -> Finished {
    Finished::from(peapod().arg("ipc").args(words).output().unwrap())
}

/// What `peapod ipc ls` shows. The containers may be quicker than the supervisor, which serves the socket.
fn served(pod: &str) -> Finished {
    let end = Instant::now() + PATIENCE;
    loop {
        let shown = ask(&["ls", pod]);
        if shown.code == 0 || Instant::now() >= end {
            return shown.expect_code(0);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A command of the guest in a running container.
fn exec(pod: &str, container: &str, words: &[&str]) -> Child {
    let mut command = peapod();
    command.args(["exec", pod, "-c", container, "--", "ipc.wasm"]).args(words);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// How a command ended, within the tests' patience.
fn ended(mut command: Child) -> Finished {
    let end = Instant::now() + PATIENCE;
    while command.try_wait().unwrap().is_none() {
        if Instant::now() >= end {
            command.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Finished::from(command.wait_with_output().unwrap())
}

#[test]
fn what_is_killed_while_others_go_on_gives_back_what_it_held() {
    // The probe, a command of its own, fails when the queue has no name any more.
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: kill}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  initContainers:
  - {name: alive, image: {ipc}, args: [queue-send, /alive, yes, '0']}
  containers:
  - name: hold
    image: {ipc}
    args: [semaphore-hold, /s, never]
    livenessProbe: {exec: {command: [ipc.wasm, queue-exists, /alive]}, periodSeconds: 1, timeoutSeconds: 30, \
failureThreshold: 1}
  - {name: stay, image: {ipc}, args: [queue-create, /stay, '10', '64']}
";
    let pod = Running::start(text, &[]);
    pod.wait_for("[hold] held");
    pod.wait_for("[stay] created");
    served("kill");
    let take = exec("kill", "stay", &["semaphore-take", "/s", "1"]);
    ask(&["rm", "kill", "queue", "/alive"]).expect_code(0);
    ended(take).expect_code(0).expect_stdout("taken");
    // A command's client is killed, and the command with it; its container goes on.
    let mut hold = exec("kill", "stay", &["semaphore-hold", "/t", "never"]);
    let mut said = [0; 4];
    hold.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    assert_eq!(&said, b"held");
    let take = exec("kill", "stay", &["semaphore-take", "/t", "1"]);
    hold.kill().unwrap();
    hold.wait().unwrap();
    ended(take).expect_code(0).expect_stdout("taken");
    assert!(served("kill").stdout.contains("/stay"));
}

#[test]
fn ls_and_rm_show_and_remove() {
    let pod = Running::start(
        &pod(
            "ls",
            &[
                ("queue", &["queue-create", "/jobs", "10", "1000"]),
                ("memory", &["memory-hold", "/table"]),
                ("semaphore", &["semaphore-hold", "/lock", "never"]),
                ("channel", &["channel-receive", "/news"]),
            ],
        ),
        &[],
    );
    pod.wait_for("created");
    pod.wait_for("mapped");
    pod.wait_for("held");
    let shown = served("ls");
    let line = |name: &str| -> String {
        let line = shown.stdout.lines().find(|line| line.contains(name));
        line.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("/jobs"), "queue /jobs 0 of 10 1000 queue");
    assert_eq!(line("/table"), "memory /table 4096 - memory");
    assert_eq!(line("/lock"), "semaphore /lock 0 - semaphore semaphore holds 1");
    assert_eq!(line("/news"), "channel /news 0 of 64 4096 channel to one, 0 senders, 1 receivers");
    ask(&["rm", "ls", "queue", "/jobs"]).expect_code(0);
    ask(&["rm", "ls", "queue", "/jobs"]).expect_code(125).expect_stderr("/jobs");
    ask(&["rm", "ls", "memory", "/table"]).expect_code(0);
    let shown = ask(&["ls", "ls", "-o", "json"]).expect_code(0);
    let objects: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(objects["objects"].as_array().unwrap().len(), 2, "{objects}");
}

#[test]
fn ls_and_rm_know_what_native_processes_have_made() {
    if !needs_root() {
        return;
    }
    let pod = Running::start(&pod("natives", &[("stay", &["queue-create", "/ours", "10", "64"])]), &[]);
    pod.wait_for("created");
    native(&pod, || {
        let theirs = MessageQueue::open(c"/theirs", Access::Both, Some((3, 8))).unwrap();
        theirs.send(b"mail", 0).unwrap();
        std::fs::write("/dev/shm/segment", "bytes").unwrap();
    });
    let shown = served("natives").stdout;
    let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[1], ["queue", "/ours", "0", "of", "10", "64", "stay"]);
    assert_eq!(lines[2], ["queue", "/theirs", "1", "of", "3", "8", "-"]);
    assert_eq!(lines[3], ["memory", "/segment", "5", "-", "-"]);
    ask(&["rm", "natives", "queue", "/theirs"]).expect_code(0);
    ask(&["rm", "natives", "memory", "/segment"]).expect_code(0);
    assert_eq!(served("natives").stdout.lines().count(), 2);
    native_command("natives", "ls /dev/mqueue /dev/shm")
        .expect_code(0)
        .expect_stdout("/dev/mqueue:\nours\n\n/dev/shm:\n");
}

#[test]
fn python_talks_to_rust() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: python}
spec:
  restartPolicy: Never
  containers:
  - {name: python, image: {ipc-python}, args: [talk]}
  - {name: errors, image: {ipc-python}, args: [errors]}
  - {name: queue, image: {ipc}, args: [queue-receive, /py-q, '1']}
  - {name: memory, image: {ipc}, args: [memory-read, /py-m, '6']}
  - {name: channel, image: {ipc}, args: [channel-send, /py-c, '100']}
";
    run(text, &["--build"])
        .expect_code(0)
        .expect_stdout("python received 100")
        .expect_stdout("python: ENOENT")
        .expect_stdout("got from python 5")
        .expect_stdout("read python");
}

/// `guest-examples/ipc`: four languages around a volume, a semaphore and a queue.
#[test]
fn the_example_serves_refreshes_and_ships() {
    if !needs_root() {
        return;
    }
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest-examples/ipc");
    let text = std::fs::read_to_string(example.join("pod.yaml")).unwrap();
    let text = text.replace("image: ./", &format!("image: {}/", example.display()));
    // The first time it fetches tools and builds.
    let patience = Duration::from_secs(600);
    let mut pod = Running::start(&text, &["--build"]);
    let address = pod.address_within(patience);
    pod.wait_for("info: written 2");
    let mut page = String::new();
    let mut stream = TcpStream::connect((address, 8080)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: pod\r\n\r\n").unwrap();
    stream.read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("were served 0 times"), "{page}");
    pod.wait_for("info: served 1");
    pod.wait_for("[ship] notice: seen");
    native_command("ipc", "cat /dev/mqueue/log && od -An -t u8 -N 8 /dev/shm/counters")
        .expect_code(0)
        .expect_stdout(" 1\n");
    pod.signal(Signal::SIGTERM);
    pod.wait();
    for name in ["serve", "watch", "refresh", "ship"] {
        assert!(pod.output().contains(&format!("{name} Completed")), "{}", pod.output());
    }
}
