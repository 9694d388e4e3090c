//! Any process of peapod's may die at any moment: the next start leaves nothing of the pod behind.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cleanup::{gone, leftovers};
use super::support::{PATIENCE, directory, manifest, needs_root, peapod, run};

/// Kills in the whole test.
const KILLS: u64 = 200;

/// Kills before the next start that is let live, and clears up after them.
const ROUND: u64 = 10;

/// The latest moment of a kill after the start: the pod of a debug build runs well before it.
const LATEST: Duration = Duration::from_millis(200);

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: prey, uid: UID}
spec:
  terminationGracePeriodSeconds: 0
  initContainers:
  - {name: side, image: IMAGE, args: [serve, '7000'], restartPolicy: Always}
  containers:
  - name: main
    image: {probe}
    args: [serve, '8080']
    ports: [{containerPort: 8080, hostPort: PORT}]
    volumeMounts: [{name: v, mountPath: /v}, {name: d, mountPath: /d}]
  volumes: [{name: v, emptyDir: {medium: Memory}}, {name: d, emptyDir: {}}]
";

/// Numbers that look random (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// A process and all that descend from it.
fn family(pid: i32) -> Vec<i32> {
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(&parent) = all.get(at) {
        let tasks = std::fs::read_dir(format!("/proc/{parent}/task"));
        for task in tasks.into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().map(|child| child.parse::<i32>().unwrap()));
        }
        at += 1;
    }
    all
}

/// Waits for a process of ours, which may be the one that was killed.
fn reap(mut supervisor: Child) {
    let end = Instant::now() + PATIENCE;
    while supervisor.try_wait().expect("wait for peapod").is_none() {
        assert!(Instant::now() < end, "the supervisor does not end after one of its processes was killed");
        // One whose processes were not there yet, or a helper of which was killed, may live on.
        let _ = kill(Pid::from_raw(supervisor.id() as i32), Signal::SIGTERM);
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// An image that has not been compiled before: a name section makes it another one.
fn unseen_image(directory: &Path, number: u64) -> String {
    let text = format!("(component $prey-{}-{number})", std::process::id());
    let path = directory.join(format!("unseen-{number}.wasm"));
    std::fs::write(&path, wat::parse_str(text).unwrap()).unwrap();
    path.display().to_string()
}

#[test]
fn whichever_process_dies_at_whatever_moment_nothing_is_left() {
    if !needs_root() {
        return;
    }
    let seed = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    println!("seed {seed}");
    let mut random = Random(seed);
    let mut uids = Vec::new();
    for number in 0..KILLS {
        let directory = directory();
        let uid = uuid::Uuid::new_v4().to_string();
        // Some never get to a pod: the compiler's process is prey, too.
        let image =
            if number % 8 == 7 { unseen_image(directory.path(), number) } else { "{probe}".to_owned() };
        let port = 20_000 + number;
        let text = POD.replace("UID", &uid).replace("IMAGE", &image).replace("PORT", &port.to_string());
        let file = manifest(directory.path(), &text);
        let mut command: Command = peapod();
        command.arg("run").arg(file).stdout(Stdio::null()).stderr(Stdio::null());
        let supervisor = command.spawn().expect("start peapod");
        std::thread::sleep(Duration::from_micros(random.below(LATEST.as_micros() as u64)));
        let prey = family(supervisor.id() as i32);
        let victim = prey[random.below(prey.len() as u64) as usize];
        let _ = kill(Pid::from_raw(victim), Signal::SIGKILL);
        reap(supervisor);
        uids.push((uid, prey));
        if uids.len() as u64 == ROUND {
            let next = "
apiVersion: v1
kind: Pod
metadata: {name: next}
spec:
  restartPolicy: Never
  containers: [{name: main, image: {probe}, args: [hello]}]
";
            run(next, &[]).expect_code(0);
            for (uid, prey) in uids.drain(..) {
                assert_eq!(leftovers(&uid), Vec::<String>::new(), "seed {seed}, kill {number}");
                let end = Instant::now() + PATIENCE;
                for process in prey {
                    while !gone(process) {
                        assert!(Instant::now() < end, "process {process} lives on: seed {seed}");
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
            }
        }
    }
}
