//! What names mean in a pod: its own, its neighbours', and the files that say so.

use std::process::Command;

use super::support::{Running, needs_root, run};

/// A pod of a headless service. Its namespace is this test's own: the tests' pods share their directories.
const MEMBER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: first, namespace: names-members}
spec:
  hostname: db-0
  subdomain: db
  terminationGracePeriodSeconds: 0
  containers:
  - {name: main, image: {probe}, args: [serve, '8080']}
";

#[test]
fn pods_reach_each_other_by_name() {
    if needs_root() {
        let mut server = Running::start(MEMBER, &[]);
        let address = server.address();
        let client = "
apiVersion: v1
kind: Pod
metadata: {name: second, namespace: names-members}
spec:
  restartPolicy: Never
  containers:
  - {name: talk, image: {probe}, args: [connect, 'first:8080', 'by name', --retry, '20000']}
  - {name: fqdn, image: {probe}, args: [resolve, db-0.db.names-members.svc.cluster.local]}
  - {name: service, image: {probe}, args: [resolve, db]}
  - {name: member, image: {probe}, args: [resolve, db-0.db]}
  - {name: pod, image: {probe}, args: [resolve, first.names-members.pod]}
  - {name: own, image: {probe}, args: [resolve, second.names-members]}
";
        let finished = run(client, &[]).expect_code(0).expect_stdout("[talk] by name");
        for container in ["fqdn", "service", "member", "pod"] {
            assert!(finished.stdout.contains(&format!("[{container}] {address}")), "{finished:?}");
        }
        assert!(!finished.stdout.contains(&format!("[own] {address}")), "{finished:?}");

        // The record of a pod whose supervisor is killed stays until somebody sweeps; its name does not.
        server.signal(nix::sys::signal::Signal::SIGKILL);
        server.wait();
        let gone = "
apiVersion: v1
kind: Pod
metadata: {name: third, namespace: names-members}
spec:
  restartPolicy: Never
  containers:
  - {name: main, image: {probe}, args: [resolve, db-0.db.names-members.svc.cluster.local]}
";
        run(gone, &[]).expect_code(1);
    }
}

/// A pod that says all there is to say about names, and shows its files.
const FILES: &str = "
apiVersion: v1
kind: Pod
metadata: {name: files, namespace: names-files}
spec:
  hostname: www
  subdomain: web
  setHostnameAsFQDN: true
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  hostAliases:
  - {ip: 192.0.2.7, hostnames: [db, db.example]}
  dnsPolicy: None
  dnsConfig:
    nameservers: [192.0.2.53]
    searches: [names.example]
    options: [{name: ndots, value: '2'}, {name: edns0}]
  volumes:
  - {name: own, emptyDir: {}}
  initContainers:
  - {name: config, image: {probe}, args: [write, /etc/mine, 'own file'], volumeMounts: [{name: own, mountPath: /etc}]}
  containers:
  - {name: hosts, image: {probe}, args: [read, /etc/hosts]}
  - {name: resolv, image: {probe}, args: [read, /etc/resolv.conf]}
  - {name: hostname, image: {probe}, args: [read, /etc/hostname]}
  - {name: env, image: {probe}, args: [env, HOSTNAME]}
  - {name: alias, image: {probe}, args: [resolve, db.example]}
  - {name: self, image: {probe}, args: [resolve, www.web.names-files.svc.cluster.local]}
  - {name: own, image: {probe}, args: [read, /etc/mine], volumeMounts: [{name: own, mountPath: /etc}]}
  - {name: below, image: {probe}, args: [read, /etc/app/mine], volumeMounts: [{name: own, mountPath: /etc/app}]}
";

#[test]
fn the_files_in_etc_are_the_pods_own() {
    let fqdn = "www.web.names-files.svc.cluster.local";
    let finished = run(FILES, &[]).expect_code(0);
    for line in [
        "[hosts] # Kubernetes-managed hosts file.".to_owned(),
        "[hosts] 127.0.0.1\tlocalhost".to_owned(),
        format!("\t{fqdn}\twww"),
        "[hosts] 192.0.2.7\tdb\tdb.example".to_owned(),
        "[resolv] search names.example".to_owned(),
        "[resolv] nameserver 192.0.2.53".to_owned(),
        "[resolv] options ndots:2 edns0".to_owned(),
        format!("[hostname] {fqdn}"),
        format!("{fqdn}\n"),
        "[alias] 192.0.2.7".to_owned(),
        "[own] own file".to_owned(),
        "[below] own file".to_owned(),
    ] {
        assert!(finished.stdout.contains(&line), "no {line:?} in\n{}", finished.stdout);
    }
    assert!(finished.stdout.lines().any(|line| line.starts_with("[self] ")), "{}", finished.stdout);
}

#[test]
fn guests_cannot_write_to_etc() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: scribe}
spec:
  restartPolicy: Never
  containers:
  - {name: main, image: {probe}, args: [write, /etc/hosts, '127.0.0.1 bank.example']}
";
    run(text, &[]).expect_code(1);
}

#[test]
fn native_processes_see_the_pods_files_and_the_host_its_own() {
    if needs_root() {
        let before = std::fs::read_to_string("/etc/hosts").unwrap();
        let text = "
apiVersion: v1
kind: Pod
metadata: {name: native-names}
spec:
  terminationGracePeriodSeconds: 0
  hostAliases: [{ip: 192.0.2.7, hostnames: [db]}]
  containers:
  - {name: main, image: {probe}, args: [serve, '8080']}
";
        let pod = Running::start(text, &[]);
        let address = pod.address();
        pod.wait_for("listening");
        let enter = format!("nsenter -t {} -m cat /etc/hosts /etc/hostname", pod.pod_pid());
        let output = Command::new("sh").args(["-c", &enter]).output().unwrap();
        let seen = String::from_utf8_lossy(&output.stdout).into_owned();
        for line in
            [format!("{address}\tnative-names\n"), "192.0.2.7\tdb\n".into(), "\nnative-names\n".into()]
        {
            assert!(seen.contains(&line), "no {line:?} in {seen}");
        }
        assert_eq!(std::fs::read_to_string("/etc/hosts").unwrap(), before);
    }
}

#[test]
fn without_a_network_other_names_fail_at_once_and_say_why() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: offline}
spec:
  restartPolicy: Never
  containers:
  - {name: main, image: {probe}, args: [resolve, example.com]}
";
    run(text, &["--network", "none"]).expect_code(1).expect_stderr("no network but its loopback");
}

#[test]
fn on_the_hosts_network_the_hosts_names_resolve_with_the_aliases() {
    if needs_root() {
        let text = "
apiVersion: v1
kind: Pod
metadata: {name: hosted-names}
spec:
  restartPolicy: Never
  hostNetwork: true
  hostAliases: [{ip: 192.0.2.7, hostnames: [db]}]
  containers:
  - {name: hosts, image: {probe}, args: [read, /etc/hosts]}
  - {name: alias, image: {probe}, args: [resolve, db]}
";
        let finished = run(text, &[]).expect_code(0).expect_stdout("[alias] 192.0.2.7");
        let host = std::fs::read_to_string("/etc/hosts").unwrap();
        for line in host.lines().filter(|line| !line.trim().is_empty()) {
            assert!(finished.stdout.contains(line.trim_end()), "no {line:?} in {}", finished.stdout);
        }
    }
}
