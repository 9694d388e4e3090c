//! One localhost and one port space a pod; an address of its own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use super::support::{PATIENCE, Running, needs_root, run};

#[test]
fn two_containers_talk_over_localhost() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: pair}
spec:
  restartPolicy: Never
  containers:
  - {name: server, image: {probe}, args: [serve, '7000', '1']}
  - {name: client, image: {probe}, args: [connect, '127.0.0.1:7000', 'over localhost', --retry, '5000']}
";
    run(text, &[]).expect_code(0).expect_stdout("[client] over localhost");
}

#[test]
fn containers_of_wasi_0_3_share_the_same_localhost() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: mixed}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  initContainers:
  - {name: server, image: {probe}, args: [serve, '7000'], restartPolicy: Always}
  - {name: up, image: {probe}, args: [connect, '127.0.0.1:7000', up, --retry, '5000']}
  containers:
  - {name: client, image: {p3}, args: [tcp-connect, '127.0.0.1', '7000', 'from 0.3']}
";
    run(text, &[]).expect_code(0).expect_stdout("[client] from 0.3");
}

/// Linux resets the connections of a process that ends with data unread; a clean end would look like success.
#[test]
fn a_container_that_ends_with_data_unread_resets_its_peers() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: reset}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  initContainers:
  - {name: server, image: {p3}, args: [tcp-serve, '7000'], restartPolicy: Always}
  - {name: up, image: {probe}, args: [connect, '127.0.0.1:7000', up, --retry, '5000']}
  - {name: leaves, image: {p3}, args: [tcp-leave, '127.0.0.1', '7000']}
  containers:
  - {name: later, image: {probe}, args: [connect, '127.0.0.1:7000', later]}
";
    let finished = run(text, &[]).expect_code(0);
    finished.expect_stdout("[server] lost a connection: ErrorCode::ConnectionReset");
}

#[test]
fn a_port_taken_by_one_container_is_in_use_for_the_other() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: clash}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  initContainers:
  - {name: first, image: {probe}, args: [serve, '7000'], restartPolicy: Always}
  - {name: up, image: {probe}, args: [connect, '127.0.0.1:7000', up, --retry, '5000']}
  containers:
  - {name: second, image: {probe}, args: [bind, '127.0.0.1:7000']}
";
    run(text, &[]).expect_code(0).expect_stdout("[second] error AddrInUse");
}

const SERVER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: echo}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: main, image: {probe}, args: [serve, '8080']}
";

/// Sends a word to an echo server, retrying until it listens, and returns the answer.
fn echo(address: impl std::net::ToSocketAddrs + Copy, word: &str) -> String {
    let end = std::time::Instant::now() + PATIENCE;
    let mut stream = loop {
        match TcpStream::connect(address) {
            Ok(stream) => break stream,
            Err(error) if std::time::Instant::now() > end => panic!("cannot connect: {error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(word.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn two_pods_use_the_same_port_on_addresses_of_their_own() {
    if needs_root() {
        let (first, second) = (Running::start(SERVER, &[]), Running::start(SERVER, &[]));
        let (one, two) = (first.address(), second.address());
        assert_ne!(one, two);
        assert_eq!(echo((one, 8080), "to the first"), "to the first");
        assert_eq!(echo((two, 8080), "to the second"), "to the second");
    }
}

#[test]
fn a_port_of_the_host_leads_to_a_container() {
    if needs_root() {
        // Free a moment ago.
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let ports = format!("ports: [{{containerPort: 8080, hostPort: {port}, hostIP: 127.0.0.1}}]");
        let text = SERVER.replace("args: [serve, '8080']", &format!("args: [serve, '8080'], {ports}"));
        let pod = Running::start(&text, &[]);
        let address = pod.wait_for("address");
        assert!(address.contains(&format!("host port 127.0.0.1:{port}/tcp to 8080")), "{address}");
        assert_eq!(echo(("127.0.0.1", port), "by way of the host"), "by way of the host");
        let words = format!("hostPort 127.0.0.1:{port}/tcp is in use on this host");
        run(&text, &[]).expect_code(125).expect_stderr(&words);
        drop(pod);
    }
}

#[test]
fn the_status_has_addresses_of_both_families_and_the_hosts() {
    if needs_root() {
        let text = "
apiVersion: v1
kind: Pod
metadata: {name: status}
spec:
  restartPolicy: Never
  containers:
  - {name: main, image: {probe}, args: [print, '1']}
";
        let addresses = |list: &serde_json::Value, field: &str| -> Vec<std::net::IpAddr> {
            let items = list.as_array().into_iter().flatten();
            items.map(|item| item[field].as_str().unwrap().parse().unwrap()).collect()
        };
        let status = run(text, &["-o", "json"]).expect_code(0).pod()["status"].take();
        let pod_ips = addresses(&status["podIPs"], "ip");
        assert_eq!(status["podIP"], pod_ips[0].to_string());
        assert!(pod_ips[0].is_ipv4());
        let has_ipv6 = std::fs::read_to_string("/proc/sys/net/ipv6/conf/default/disable_ipv6");
        let families = if has_ipv6.is_ok_and(|disabled| disabled.trim() == "0") { 2 } else { 1 };
        assert_eq!(pod_ips.len(), families, "{pod_ips:?}");
        let host_ips = addresses(&status["hostIPs"], "ip");
        assert!(host_ips.iter().all(|ip| !pod_ips.contains(ip)));

        let host = run(text, &["-o", "json", "--network", "host"]).expect_code(0).pod()["status"].take();
        assert_eq!(addresses(&host["podIPs"], "ip"), host_ips, "on the host's network they are the host's");
        assert_eq!(host["hostIPs"], status["hostIPs"]);
    }
}

#[test]
fn native_processes_in_the_pods_network_reach_wasm_and_are_reached() {
    if needs_root() {
        let text = "
apiVersion: v1
kind: Pod
metadata: {name: native}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: server, image: {probe}, args: [serve, '8080']}
  - {name: client, image: {probe}, args: [connect, '127.0.0.1:9090', 'to native', --retry, '60000']}
";
        let pod = Running::start(text, &[]);
        pod.wait_for("address");
        let native = pod.native(|| {
            assert_eq!(echo("127.0.0.1:8080", "from native"), "from native");
            let listener = TcpListener::bind("127.0.0.1:9090").unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            let mut word = String::new();
            stream.read_to_string(&mut word).unwrap();
            stream.write_all(b"native heard ").unwrap();
            stream.write_all(word.as_bytes()).unwrap();
            let taken = TcpListener::bind("127.0.0.1:8080").unwrap_err();
            assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
        });
        pod.wait_for("native heard to native");
        native.join().unwrap();
    }
}

#[test]
fn the_pod_has_namespaces_and_a_cgroup_of_its_own() {
    if needs_root() {
        let pod = Running::start(SERVER, &[]);
        pod.wait_for("address");
        let pid = pod.pod_pid();
        for namespace in ["net", "uts", "ipc", "mnt"] {
            let own = std::fs::read_link(format!("/proc/{pid}/ns/{namespace}")).unwrap();
            let host = std::fs::read_link(format!("/proc/self/ns/{namespace}")).unwrap();
            assert_ne!(own, host, "{namespace}");
        }
        let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert!(cgroups.contains("peapod/pod"), "{cgroups}");
        let nsenter = format!("nsenter -t {pid} -u hostname");
        let hostname = Command::new("sh").args(["-c", &nsenter]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&hostname.stdout).trim(), "echo");
    }
}

#[test]
fn network_none_is_loopback_only() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: alone}
spec:
  restartPolicy: Never
  containers:
  - {name: server, image: {probe}, args: [serve, '7000', '1']}
  - {name: client, image: {probe}, args: [connect, '127.0.0.1:7000', inside, --retry, '5000']}
";
    let finished = run(text, &["--network", "none", "-o", "json"]).expect_code(0);
    assert!(finished.pod()["status"]["podIP"].is_null());
}

#[test]
fn network_host_shares_the_hosts_ports() {
    if needs_root() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let text = format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: hosted}}
spec:
  restartPolicy: Never
  containers:
  - {{name: main, image: {{probe}}, args: [bind, '127.0.0.1:{port}']}}
"
        );
        let finished = run(&text, &["--network", "host"]);
        assert!(
            finished.stdout.contains("AddrInUse") || finished.stderr.contains("AddrInUse"),
            "{finished:?}"
        );
    }
}
