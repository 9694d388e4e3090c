//! `peapod:pod/identity`: a guest knows who it is.

use super::support::run;

#[test]
fn a_guest_knows_its_pod_and_itself() {
    let text = "
apiVersion: v1
kind: Pod
metadata:
  name: somebody
  namespace: team-a
  uid: 6fa459ea-ee8a-3ca4-894e-db77e160355e
  labels: {app: web, tier: front}
  annotations: {note: hello}
spec:
  restartPolicy: Never
  containers:
  - {name: main, image: {state}, args: [identity]}
  - {name: other, image: {state}, args: [identity]}
";
    let finished = run(text, &[])
        .expect_code(0)
        .expect_stdout(
            "[main] i am team-a/somebody 6fa459ea-ee8a-3ca4-894e-db77e160355e in main, started again 0",
        )
        .expect_stdout(
            "[other] i am team-a/somebody 6fa459ea-ee8a-3ca4-894e-db77e160355e in other, started again 0",
        )
        .expect_stdout("labels app=web,tier=front; annotations note=hello");
    let line = finished.stdout.lines().find_map(|line| line.split_once("[main] at ")).expect("addresses").1;
    assert!(line.starts_with("[\"") && line.contains("] on [\"") && line.ends_with("as default"), "{line}");
}

#[test]
fn on_the_hosts_network_the_addresses_are_the_hosts() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: on-host}
spec:
  restartPolicy: Never
  hostNetwork: true
  containers:
  - {name: main, image: {state}, args: [identity]}
";
    let finished = run(text, &[]).expect_code(0);
    let line = finished.stdout.lines().find_map(|line| line.split_once("at [")).expect("addresses").1;
    let (pod, host) = line.split_once("] on [").unwrap();
    assert_eq!(host.split_once(']').unwrap().0, pod);
}
