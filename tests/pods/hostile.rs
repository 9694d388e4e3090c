//! A hostile guest hurts only itself.

use super::support::{Running, run};

fn beside(arguments: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: hostile}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: hostile, image: {{probe}}, args: {arguments}, resources: {{limits: {{memory: 64Mi}}}}}}
  - {{name: victim, image: {{probe}}, args: [tick, '10', '100']}}
"
    )
}

fn victim_survives(arguments: &str) {
    let mut pod = Running::start(&beside(arguments), &[]);
    pod.wait_for("victim Completed");
    pod.signal(nix::sys::signal::Signal::SIGINT);
    pod.wait();
}

#[test]
fn one_that_floods_its_log() {
    victim_survives("[flood, '200000000']");
}

#[test]
fn one_that_spins() {
    victim_survives("[spin]");
}

#[test]
fn one_that_eats_memory() {
    victim_survives("[alloc]");
}

#[test]
fn one_that_opens_sockets_without_end() {
    victim_survives("[open-sockets]");
}

/// KiB that a pod of small containers may have in memory, whatever one of them does: three containers of
/// at most 64 MiB, the runtime, and what the network's bounds allow (a debug build's share included).
const MOST_MEMORY: u64 = 384 << 10;

/// A container that misuses the network beside two that talk: they do not notice, and the pod stays small.
fn talk_goes_on(arguments: &str, says: &str) {
    let text = format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: hostile}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  initContainers:
  - {{name: server, image: {{probe}}, args: [serve, '7000'], restartPolicy: Always}}
  - {{name: deaf, image: {{probe}}, args: [udp-deaf, '7001'], restartPolicy: Always}}
  - {{name: hostile, image: {{probe}}, args: {arguments}, restartPolicy: Always, resources: {{limits: {{memory: 64Mi}}}}}}
  containers:
  - {{name: client, image: {{probe}}, args: [pingpong, '127.0.0.1:7000', '2000', --retry, '20000']}}
  - {{name: late, image: {{probe}}, args: [tick, '100', '20']}}
"
    );
    let mut pod = Running::start(&text, &[]);
    pod.wait_for(says);
    pod.wait_for("client Completed");
    let rss = pod.resident();
    assert!(rss < MOST_MEMORY, "{rss} KiB\n{}", pod.output());
    assert_eq!(pod.wait(), 0, "{}", pod.output());
}

#[test]
fn one_that_connects_without_end() {
    talk_goes_on("[open-connections]", "connections, then");
}

#[test]
fn one_that_listens_without_end() {
    talk_goes_on("[open-listeners]", "listeners, then");
}

#[test]
fn one_that_floods_a_socket_that_nobody_reads() {
    talk_goes_on("[udp-flood, '127.0.0.1:7001']", "flooding");
}

#[test]
fn one_that_floods_the_void() {
    talk_goes_on("[udp-flood, '127.0.0.1:9']", "flooding");
}

#[test]
fn who_writes_to_one_that_never_reads_meets_back_pressure_and_then_its_end() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: unread}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  initContainers:
  - {name: writer, image: {probe}, args: [press, '7000'], restartPolicy: Always}
  - {name: deaf, image: {probe}, args: [never-read, '127.0.0.1:7000', --retry, '20000'], restartPolicy: Always}
  containers:
  - {name: main, image: {probe}, args: [tick, '100', '10']}
";
    // The deaf one is stopped with the pod, before the writer: the last started ends first.
    let finished = run(text, &[]).expect_code(0).expect_stdout("[writer] back-pressure after");
    assert!(!finished.stdout.contains("no back-pressure"), "{}", finished.stdout);
}

/// One that dies in the middle of a conversation, with data that it has not read.
fn dies(how: &str) {
    let text = format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: death}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: bereaved, image: {{probe}}, args: [bereaved, '7000']}}
  - {{name: dying, image: {{probe}}, args: [die-midway, '127.0.0.1:7000', {how}, --retry, '20000'], resources: {{limits: {{memory: 64Mi}}}}}}
"
    );
    let finished = run(&text, &[]);
    let said = |text: &str| finished.stdout.contains(text);
    assert!(said("[dying] dying") && said("[bereaved] after 1000 bytes"), "{finished:?}");
    // Which error is wasi-libc's choice: BrokenPipe or an I/O error.
    assert!(said("[bereaved] write: "), "{finished:?}");
    assert!(said("[bereaved] its port is free"), "{finished:?}");
}

#[test]
fn a_trap_resets_connections_and_gives_back_ports() {
    dies("trap");
}

#[test]
fn an_exit_resets_connections_and_gives_back_ports() {
    dies("exit");
}

#[test]
fn running_out_of_memory_resets_connections_and_gives_back_ports() {
    dies("oom");
}
