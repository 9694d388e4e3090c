//! A hostile guest hurts only itself.

use super::support::Running;

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
