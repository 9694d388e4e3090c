//! NetworkPolicies and the containers' annotations: who reaches whom.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::support::{Finished, PATIENCE, Running, needs_root, run};

/// A policy document that selects every pod of namespace `default`.
fn policy(spec: &str) -> String {
    format!(
        "
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: rules}}
spec: {{podSelector: {{}}, {spec}}}
"
    )
}

/// A pod that runs to its end, under a policy.
fn once(containers: &str, spec: &str) -> Finished {
    let pod = format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: once}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
{containers}{}",
        policy(spec)
    );
    run(&pod, &[])
}

/// A pod named `name` with `labels` that echoes on port 8080, TCP and UDP, and what follows it.
fn server(name: &str, labels: &str, rest: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{{labels}}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: main, image: {{probe}}, args: [serve, '8080'], ports: [{{name: web, containerPort: 8080}}]}}
  - {{name: datagrams, image: {{probe}}, args: [udp-echo, '8080']}}
{rest}"
    )
}

/// What a connection attempt to an echo server comes to.
#[derive(Debug, PartialEq, Eq)]
enum Reached {
    Answered,
    Refused,
    Silence,
}

/// Long enough for an answer within one machine, and for a second SYN.
const SILENCE: Duration = Duration::from_millis(1500);

fn reach(address: SocketAddr) -> Reached {
    let mut stream = match TcpStream::connect_timeout(&address, SILENCE) {
        Ok(stream) => stream,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => return Reached::Refused,
        Err(_) => return Reached::Silence,
    };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"word").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    // An end without an answer: accepted and closed again.
    match stream.read_to_string(&mut answer) {
        Ok(_) if answer == "word" => Reached::Answered,
        _ => Reached::Silence,
    }
}

/// Tries until it is as expected.
#[track_caller]
fn expect(address: SocketAddr, expected: Reached) {
    let end = Instant::now() + PATIENCE;
    loop {
        match reach(address) {
            found if found == expected => return,
            found if Instant::now() > end => panic!("{address}: {found:?} instead of {expected:?}"),
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Runs `check` in the network namespace of a pod, as a native process of it would.
#[track_caller]
fn inside<T: Send + 'static>(pod: &Running, check: impl FnOnce() -> T + Send + 'static) -> T {
    pod.native(check).join().unwrap()
}

#[test]
fn denied_egress_is_eacces_and_told() {
    if needs_root() {
        let containers =
            "  containers:\n  - {name: main, image: {probe}, args: [connect, '192.0.2.1:80', hello]}\n";
        once(containers, "policyTypes: [Egress]")
            .expect_code(1)
            .expect_stderr("PermissionDenied")
            .expect_stderr("container main: connect to 192.0.2.1:80/tcp denied: no egress rule of NetworkPolicy rules allows it");
    }
}

#[test]
fn denied_datagrams_are_eacces() {
    if needs_root() {
        let containers =
            "  containers:\n  - {name: main, image: {probe}, args: [udp-send, '192.0.2.1:80', hello]}\n";
        once(containers, "policyTypes: [Egress]").expect_code(1).expect_stderr("PermissionDenied");
    }
}

#[test]
fn a_policy_does_not_hold_inside_the_pod() {
    let containers = "
  initContainers:
  - {name: server, image: {probe}, args: [serve, '7000'], restartPolicy: Always}
  - {name: up, image: {probe}, args: [connect, '127.0.0.1:7000', up, --retry, '5000']}
  containers:
  - {name: client, image: {probe}, args: [connect, '127.0.0.1:7000', 'over localhost']}
";
    once(containers, "policyTypes: [Ingress, Egress]")
        .expect_code(0)
        .expect_stdout("[client] over localhost");
}

#[test]
fn an_annotation_narrows_one_container_on_the_memory_plane() {
    let text = "
apiVersion: v1
kind: Pod
metadata:
  name: narrow
  annotations:
    peapod.dev/network.narrow: 'connect: localhost:7001'
    peapod.dev/network.none: none
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  initContainers:
  - {name: server, image: {probe}, args: [serve, '7000'], restartPolicy: Always}
  - {name: other, image: {probe}, args: [serve, '7001'], restartPolicy: Always}
  - {name: up, image: {probe}, args: [connect, '127.0.0.1:7000', up, --retry, '5000']}
  - {name: too, image: {probe}, args: [connect, '127.0.0.1:7001', up, --retry, '5000']}
  containers:
  - {name: wide, image: {probe}, args: [connect, '127.0.0.1:7000', 'wide is let']}
  - {name: narrow, image: {probe}, args: [connect, '127.0.0.1:7000', 'narrow is let']}
  - {name: allowed, image: {probe}, args: [connect, '127.0.0.1:7001', 'allowed is let']}
  - {name: none, image: {probe}, args: [bind, '127.0.0.1:7002']}
";
    let text = text.replace(
        "network.none:",
        "network.allowed: 'connect: 127.0.0.1:7001/tcp'\n    peapod.dev/network.none:",
    );
    run(&text, &[])
        .expect_code(1)
        .expect_stdout("[wide] wide is let")
        .expect_stdout("[allowed] allowed is let")
        .expect_stdout("[none] error PermissionDenied")
        .expect_stderr(
            "container narrow: connect to 127.0.0.1:7000/tcp denied: not in connect of annotation peapod.dev/network.narrow",
        );
}

#[test]
fn egress_to_one_pod_by_its_address_and_not_to_another() {
    if needs_root() {
        let (one, two) =
            (Running::start(&server("one", "", ""), &[]), Running::start(&server("two", "", ""), &[]));
        let (one_ip, two_ip) = (one.address(), two.address());
        expect((one_ip, 8080).into(), Reached::Answered);
        expect((two_ip, 8080).into(), Reached::Answered);
        let client = |address: IpAddr| {
            let containers = format!(
                "  containers:\n  - {{name: main, image: {{probe}}, args: [connect, '{address}:8080', hello]}}\n"
            );
            let to = format!("to: [{{ipBlock: {{cidr: {one_ip}/32}}}}], ports: [{{port: 8080}}]");
            once(&containers, &format!("policyTypes: [Egress], egress: [{{{to}}}]"))
        };
        client(one_ip).expect_code(0).expect_stdout("hello");
        client(two_ip).expect_code(1).expect_stderr("PermissionDenied");
    }
}

#[test]
fn datagrams_from_whom_may_come_in_are_answered_without_egress() {
    if needs_root() {
        let isolated =
            Running::start(&server("isolated", "", &policy("policyTypes: [Ingress, Egress]")), &[]);
        let node = UdpSocket::bind("0.0.0.0:0").unwrap();
        node.connect((isolated.address(), 8080)).unwrap();
        node.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let end = Instant::now() + PATIENCE;
        let mut answer = [0; 8];
        // Until the server listens.
        while !matches!((node.send(b"word"), node.recv(&mut answer)), (_, Ok(4))) {
            assert!(Instant::now() < end, "no answer");
        }
        assert_eq!(&answer[..4], b"word");
    }
}

#[test]
fn ingress_from_labelled_pods_only_also_from_those_that_come_later() {
    if needs_root() {
        let from = "ingress: [{from: [{podSelector: {matchLabels: {role: friend}}}], ports: [{port: web}]}]";
        let guarded = Running::start(&server("guarded", "", &policy(from)), &[]);
        let address = guarded.address();
        let target = SocketAddr::from((address, 8080));
        // From the node, always; nobody listens for IPv6, which is an answer too, whatever address the node has.
        expect(target, Reached::Answered);
        if let Some(v6) = guarded.address_v6() {
            expect((v6, 8080).into(), Reached::Refused);
        }

        let stranger = Running::start(&server("stranger", "role: stranger", ""), &[]);
        stranger.wait_for("address");
        assert_eq!(inside(&stranger, move || reach(target)), Reached::Silence);

        let friend = Running::start(&server("friend", "role: friend", ""), &[]);
        friend.wait_for("address");
        inside(&friend, move || expect(target, Reached::Answered));
        // The label is not enough in another namespace.
        let elsewhere = server("elsewhere", "role: friend", "")
            .replace("{name: elsewhere,", "{name: elsewhere, namespace: other,");
        let elsewhere = Running::start(&elsewhere, &[]);
        elsewhere.wait_for("address");
        assert_eq!(inside(&elsewhere, move || reach(target)), Reached::Silence);
        // Datagrams: the named port is TCP's.
        inside(&friend, move || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            socket.send_to(b"word", target).unwrap();
            assert!(socket.recv(&mut [0; 16]).is_err());
        });
        // A second friend makes the first no stranger, and neither does its end.
        let second = Running::start(&server("second", "role: friend", ""), &[]);
        second.wait_for("address");
        inside(&second, move || expect(target, Reached::Answered));
        inside(&friend, move || assert_eq!(reach(target), Reached::Answered));
        second.signal(nix::sys::signal::Signal::SIGTERM);
        { second }.wait();
        inside(&friend, move || assert_eq!(reach(target), Reached::Answered));
        assert!(!guarded.output().contains("refuses"), "{}", guarded.output());
    }
}

#[test]
fn native_processes_in_the_pods_network_are_covered() {
    if needs_root() {
        let other = Running::start(&server("other", "", ""), &[]);
        let target = SocketAddr::from((other.address(), 8080));
        expect(target, Reached::Answered);
        let isolated = server("isolated", "", &policy("policyTypes: [Ingress, Egress]"));
        let isolated = Running::start(&isolated, &[]);
        isolated.wait_for("address");
        inside(&isolated, move || {
            expect("127.0.0.1:8080".parse().unwrap(), Reached::Answered);
            assert_eq!(reach(target), Reached::Refused);
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            let error = socket.send_to(b"word", target).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
        });
        isolated.wait_for("were denied: no egress rule of NetworkPolicy rules allows it");
    }
}

#[test]
fn replies_of_what_may_go_out_come_in() {
    if needs_root() {
        let other = Running::start(&server("other", "", ""), &[]);
        let target = SocketAddr::from((other.address(), 8080));
        expect(target, Reached::Answered);
        let containers = format!(
            "  containers:
  - {{name: stream, image: {{probe}}, args: [connect, '{target}', 'a stream']}}
  - {{name: datagram, image: {{probe}}, args: [udp-send, '{target}', 'a datagram', --retry, '20000']}}
"
        );
        once(&containers, "policyTypes: [Ingress]")
            .expect_code(0)
            .expect_stdout("[stream] a stream")
            .expect_stdout("[datagram] a datagram");
    }
}

#[test]
fn an_annotation_knows_names_by_what_their_lookups_return() {
    let text = "
apiVersion: v1
kind: Pod
metadata:
  name: named
  annotations:
    peapod.dev/network.by-name: 'connect: server.test:7000/tcp; resolve: none'
    peapod.dev/network.by-address: 'connect: server.test:7000/tcp; resolve: none'
    peapod.dev/network.lookup: 'connect: server.test:7000/tcp; resolve: none'
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  hostAliases:
  - {ip: 127.0.0.1, hostnames: [server.test, other.test]}
  initContainers:
  - {name: server, image: {probe}, args: [serve, '7000'], restartPolicy: Always}
  - {name: up, image: {probe}, args: [connect, '127.0.0.1:7000', up, --retry, '5000']}
  containers:
  - {name: by-name, image: {probe}, args: [connect, 'server.test:7000', 'by its name']}
  - {name: by-address, image: {probe}, args: [connect, '127.0.0.1:7000', 'by its address']}
  - {name: lookup, image: {probe}, args: [resolve, other.test]}
";
    run(text, &[])
        .expect_code(1)
        .expect_stdout("[by-name] by its name")
        .expect_stderr("container by-address: connect to 127.0.0.1:7000/tcp denied")
        .expect_stderr("container lookup: lookup of \"other.test\" denied: not in resolve of annotation");
}

#[test]
fn guests_of_wasi_0_3_are_asked_the_same() {
    let text = "
apiVersion: v1
kind: Pod
metadata:
  name: newer
  annotations: {peapod.dev/network.client: none, peapod.dev/network.server: 'bind: none'}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - {name: client, image: {p3}, args: [tcp-connect, '127.0.0.1', '7000', hello]}
  - {name: server, image: {p3}, args: [tcp-serve, '7001']}
";
    run(text, &[])
        .expect_code(1)
        .expect_stderr("AccessDenied")
        .expect_stderr("container client: connect to 127.0.0.1:7000/tcp denied")
        .expect_stderr("container server: bind to 0.0.0.0:7001/tcp denied: not in bind of annotation");
}
