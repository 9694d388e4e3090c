//! What a pod and its containers may use, and what happens beyond.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::support::{PATIENCE, Running, needs_root, rootless, run};

/// How long shares of the CPU are measured.
const MEASURED: Duration = Duration::from_secs(2);

/// The pod's cgroup of this controller.
fn cgroup(pod: &Running, controller: &str) -> PathBuf {
    let membership = fs::read_to_string(format!("/proc/{}/cgroup", pod.pod_pid())).unwrap();
    let of = |line: &str| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let found = controllers.is_empty() || controllers.split(',').any(|name| name == controller);
        let root = if controllers.is_empty() {
            "/sys/fs/cgroup".into()
        } else {
            format!("/sys/fs/cgroup/{controller}")
        };
        (found && path.contains("peapod")).then(|| PathBuf::from(root + path))
    };
    membership.lines().find_map(of).unwrap_or_else(|| panic!("no cgroup in {membership}"))
}

fn read(pod: &Running, controller: &str, files: [&str; 2]) -> String {
    let directory = cgroup(pod, controller);
    let text = files.iter().find_map(|file| fs::read_to_string(directory.join(file)).ok());
    text.unwrap_or_else(|| panic!("no {files:?} in {}", directory.display())).trim().to_owned()
}

#[test]
fn a_container_of_100m_gets_a_tenth_of_a_core_beside_one_that_spins() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: shares}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: small, image: {probe}, args: [work], resources: {limits: {cpu: 100m}}}
  - {name: greedy, image: {probe}, args: [work]}
";
    let mut pod = Running::start(text, &[]);
    pod.wait_for("[small] worked");
    let (begun, before) = (Instant::now(), pod.thread_cpu_time());
    std::thread::sleep(MEASURED);
    let thread = (pod.thread_cpu_time() - before).as_secs_f64() / begun.elapsed().as_secs_f64();
    let [small, greedy] = pod.work_rates(["small", "greedy"]);
    // Both go at the same speed while they run.
    let share = thread * small / (small + greedy);
    assert!((0.05..0.2).contains(&share), "{share} of a core\n{}", pod.output());
    pod.signal(Signal::SIGTERM);
    assert_eq!(pod.wait(), 143, "{}", pod.output());
}

#[test]
fn a_throttled_container_is_killed_at_once() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: throttled}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: slow, image: {probe}, args: [spin], resources: {limits: {cpu: 10m}}}
";
    let mut pod = Running::start(text, &[]);
    pod.wait_for("[slow] spinning");
    let before = pod.thread_cpu_time();
    std::thread::sleep(MEASURED);
    let used = pod.thread_cpu_time() - before;
    assert!(used < MEASURED / 5, "{used:?} of {MEASURED:?}");
    pod.signal(Signal::SIGINT);
    pod.signal(Signal::SIGINT);
    assert_eq!(pod.wait(), 130, "{}", pod.output());
}

#[test]
fn containers_share_the_pods_memory_and_the_one_beyond_it_ends_alone() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: together}
spec:
  restartPolicy: Never
  resources: {limits: {memory: 48Mi}, requests: {memory: 48Mi}}
  containers:
  - {name: hungry, image: {probe}, args: [alloc]}
  - {name: modest, image: {probe}, args: [sleep, '1500']}
";
    let finished = run(text, &["-o", "json"]).expect_code(137);
    let pod = finished.pod();
    let statuses = pod["status"]["containerStatuses"].as_array().unwrap();
    let reasons: Vec<_> = statuses.iter().map(|status| &status["state"]["terminated"]["reason"]).collect();
    assert_eq!(reasons, ["OOMKilled", "Completed"], "{pod:#}");
    let message = statuses[0]["state"]["terminated"]["message"].as_str().unwrap();
    assert!(message.contains("the pod's limit is 48.0 MiB"), "{message}");
}

#[test]
fn a_pod_beyond_its_cgroup_says_so_for_every_container_that_ran() {
    if !needs_root() {
        return;
    }
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: whole}
spec:
  restartPolicy: Never
  containers:
FILLERS
  - {name: server, image: {probe}, args: [serve, '8080'], resources: {limits: {memory: 16Mi}}}
  volumes: [{name: a, emptyDir: *memory}, {name: b, emptyDir: *memory}, {name: c, emptyDir: *memory}]
";
    // Each volume is no larger than the containers' limits together, and so fits into the cgroup alone.
    let filler = |volume| {
        let mount = format!("volumeMounts: [{{name: {volume}, mountPath: /v}}]");
        format!(
            "  - {{name: fill-{volume}, image: {{probe}}, args: [fill, /v/file, '400'], {mount}, \
             resources: {{limits: {{memory: 16Mi}}}}}}"
        )
    };
    let text = text.replace("FILLERS", &["a", "b", "c"].map(filler).join("\n"));
    let text = &text.replace("*memory", "{medium: Memory}");
    let pod = run(text, &["-o", "json"]).expect_code(137).pod();
    let status = &pod["status"];
    assert_eq!((&status["phase"], &status["reason"]), (&"Failed".into(), &"OOMKilled".into()), "{pod:#}");
    assert!(status["message"].as_str().unwrap().contains("cgroup"), "{pod:#}");
    for container in status["containerStatuses"].as_array().unwrap() {
        let ended = &container["state"]["terminated"];
        assert_eq!((&ended["reason"], &ended["exitCode"]), (&"OOMKilled".into(), &137.into()), "{pod:#}");
    }
}

#[test]
fn a_killed_pod_is_not_out_of_memory_because_a_native_process_in_it_was() {
    if !needs_root() {
        return;
    }
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: native}
spec:
  restartPolicy: Never
  containers:
  - {name: server, image: {probe}, args: [serve, '8080'], resources: {limits: {memory: 16Mi}}}
";
    let mut pod = Running::start(text, &[]);
    pod.wait_for("[server] listening");
    let procs = cgroup(&pod, "memory").join("cgroup.procs");
    // The kernel ends the one with the higher score first; a pod's own is what its class says.
    let script =
        format!("echo 1000 > /proc/self/oom_score_adj; echo 0 > {}; exec tail /dev/zero", procs.display());
    let native = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(!native.status.success(), "{native:?}");
    let lives_on = Instant::now() + Duration::from_secs(2);
    while Instant::now() < lives_on {
        assert!(PathBuf::from(format!("/proc/{}", pod.pod_pid())).exists());
        std::thread::sleep(Duration::from_millis(100));
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pod.pod_pid()), Signal::SIGKILL).unwrap();
    assert_eq!(pod.wait(), 137, "{}", pod.output());
    assert!(!pod.output().contains("out of memory"), "{}", pod.output());
}

#[test]
fn the_kernel_knows_the_pods_class_and_weight() {
    if !needs_root() {
        return;
    }
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: weight}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: one, image: {probe}, args: [serve, '7000'], resources: {requests: {cpu: 250m}, limits: {cpu: 300m}}}
  - {name: two, image: {probe}, args: [serve, '7001'], resources: {requests: {cpu: 750m}}}
";
    let mut pod = Running::start(text, &[]);
    pod.wait_for("[two] listening");
    let weight = read(&pod, "cpu", ["cpu.shares", "cpu.weight"]);
    assert!(["1024", "39"].contains(&weight.as_str()), "{weight}");
    let quota = read(&pod, "cpu", ["cpu.cfs_quota_us", "cpu.max"]);
    assert!(quota == "-1" || quota.starts_with("max"), "{quota}: one has no limit");
    let score = fs::read_to_string(format!("/proc/{}/oom_score_adj", pod.pod_pid())).unwrap();
    assert_eq!(score.trim(), "999", "burstable, without a request for memory");
    pod.signal(Signal::SIGTERM);
    assert_eq!(pod.wait(), 143);
}

#[test]
fn a_best_effort_pod_is_what_the_kernel_ends_first() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: last}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: one, image: {probe}, args: [serve, '7000']}
";
    let arguments: &[&str] = if rootless() { &["--network", "none"] } else { &[] };
    let mut pod = Running::start(text, arguments);
    pod.wait_for("[one] listening");
    let score = fs::read_to_string(format!("/proc/{}/oom_score_adj", pod.pod_pid())).unwrap();
    assert_eq!(score.trim(), "1000");
    pod.signal(Signal::SIGTERM);
    assert_eq!(pod.wait(), 143);
}

/// A pod that takes more of the disk than it may ends as Failed, reason Evicted, with this message.
fn is_evicted(spec: &str, message: &str) {
    let text = format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: full}}
spec:
  terminationGracePeriodSeconds: 0
{spec}"
    );
    let timeout = format!("{}s", PATIENCE.as_secs());
    let arguments = ["-o", "json", "--storage-period", "1s", "--timeout", &timeout];
    let pod = run(&text, &arguments).pod();
    let status = &pod["status"];
    assert_eq!((&status["phase"], &status["reason"]), (&"Failed".into(), &"Evicted".into()), "{pod:#}");
    assert_eq!(status["message"], message, "{pod:#}");
}

#[test]
fn a_volume_beyond_its_size_limit_evicts_the_pod() {
    is_evicted(
        "
  containers:
  - name: web
    image: {probe}
    args: [fill, /cache/file, '3']
    volumeMounts: [{name: cache, mountPath: /cache}]
  - {name: other, image: {probe}, args: [serve, '7000']}
  volumes: [{name: cache, emptyDir: {sizeLimit: 1Mi}}]
",
        "Usage of EmptyDir volume \"cache\" exceeds the limit \"1Mi\". ",
    );
}

#[test]
fn a_container_whose_logs_are_beyond_its_limit_evicts_the_pod() {
    is_evicted(
        "
  containers:
  - name: web
    image: {probe}
    args: [flood, '3000000']
    resources: {limits: {ephemeral-storage: 1Mi}}
  - {name: other, image: {probe}, args: [serve, '7000'], resources: {limits: {ephemeral-storage: 1Gi}}}
",
        "Container web exceeded its local ephemeral storage limit \"1Mi\". ",
    );
}

#[test]
fn containers_beyond_their_limits_together_evict_the_pod() {
    is_evicted(
        "
  containers:
  - name: web
    image: {probe}
    args: [fill, /data/file, '3']
    volumeMounts: [{name: data, mountPath: /data}]
    resources: {limits: {ephemeral-storage: 1Mi}}
  - {name: other, image: {probe}, args: [serve, '7000'], resources: {limits: {ephemeral-storage: 1Mi}}}
  volumes: [{name: data, emptyDir: {}}]
",
        "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. ",
    );
}
