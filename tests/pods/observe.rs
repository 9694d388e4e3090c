//! What can be seen of a running pod: `peapod ss`, the control socket, `--pcap`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use serde_json::Value;

use super::support::{Finished, PATIENCE, Running, directory, needs_root, peapod, root, run};

fn ss(arguments: &[&str]) -> Finished {
    Finished::from(peapod().arg("ss").args(arguments).output().expect("start peapod"))
}

/// What `peapod ss POD -o json` says, as soon as `ready` likes it.
#[track_caller]
fn network(pod: &str, ready: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + PATIENCE;
    loop {
        let said = ss(&[pod, "-o", "json"]);
        let network: Value = serde_json::from_str(&said.stdout).unwrap_or(Value::Null);
        if ready(&network) {
            return network;
        }
        assert!(Instant::now() < end, "never as wanted:\n{network:#}\n{}", said.stderr);
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The sockets of a container in a state.
fn sockets<'a>(network: &'a Value, container: &str, state: &str) -> Vec<&'a Value> {
    let all = network["sockets"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().filter(|socket| socket["container"] == container && socket["state"] == state).collect()
}

/// The counters of a container on a plane.
fn counters<'a>(network: &'a Value, container: &str, plane: &str) -> &'a Value {
    let all = network["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().find(|c| c["name"] == container).map_or(&Value::Null, |container| &container[plane])
}

#[test]
fn connections_of_both_planes_are_seen_and_counted_exactly() {
    if !needs_root() {
        return;
    }
    let gate = directory();
    let text = format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: seen, namespace: watched}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  initContainers:
  - {{name: server, image: {{probe}}, args: [serve, '7000'], restartPolicy: Always}}
  - name: gate
    image: {{probe}}
    args: [await-file, /gate/go]
    volumeMounts: [{{name: gate, mountPath: /gate}}]
  containers:
  - {{name: client, image: {{probe}}, args: [connect, '127.0.0.1:7000', waiting]}}
  - {{name: udp, image: {{probe}}, args: [udp-echo, '9000']}}
  volumes: [{{name: gate, hostPath: {{path: '{}'}}}}]
",
        gate.path().display()
    );
    let pod = Running::start(&text, &[]);
    pod.wait_for("listening");
    // A native client holds the server, which takes one connection after the other.
    let mut native = pod.native(|| TcpStream::connect("127.0.0.1:7000").unwrap()).join().unwrap();
    native.set_read_timeout(Some(PATIENCE)).unwrap();
    native.write_all(b"hello").unwrap();
    native.read_exact(&mut [0; 5]).unwrap();
    std::fs::write(gate.path().join("go"), "").unwrap();

    let seen = network("watched/seen", |network| !sockets(network, "client", "FIN-WAIT-1").is_empty());
    assert_eq!((&seen["kind"], &seen["metadata"]["name"]), (&"PodNetwork".into(), &"seen".into()));
    let listener = sockets(&seen, "server", "LISTEN")[0];
    assert_eq!((&listener["local"], &listener["plane"]), (&"0.0.0.0:7000".into(), &"Both".into()));
    assert_eq!((&listener["recvQueue"], &listener["sendQueue"]), (&1.into(), &128.into()), "its backlog");
    let kernel = sockets(&seen, "server", "ESTAB")[0];
    assert_eq!(
        (&kernel["plane"], &kernel["bytesIn"], &kernel["bytesOut"]),
        (&"Kernel".into(), &5.into(), &5.into())
    );
    assert_eq!(kernel["peer"], native.local_addr().unwrap().to_string());
    let memory = sockets(&seen, "client", "FIN-WAIT-1")[0];
    assert_eq!((&memory["plane"], &memory["peerContainer"]), (&"Memory".into(), &"server".into()));
    assert_eq!((&memory["peer"], &memory["sendQueue"]), (&"127.0.0.1:7000".into(), &7.into()));
    let udp = sockets(&seen, "udp", "UNCONN")[0];
    assert_eq!((&udp["protocol"], &udp["local"]), (&"UDP".into(), &"0.0.0.0:9000".into()));

    // The same as people see it.
    let table = ss(&["seen", "-tln"]).expect_code(0).stdout;
    let lines: Vec<_> = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(lines[0][..4], ["Netid", "State", "Recv-Q", "Send-Q"]);
    assert_eq!(
        lines[1..],
        [["tcp", "LISTEN", "1", "128", "0.0.0.0:7000", "0.0.0.0:*", "both", "server", "-"]]
    );
    assert_eq!(ss(&["seen"]).expect_code(0).stdout.lines().count(), 3);
    assert_eq!(ss(&["seen", "-6a"]).expect_code(0).stdout.lines().count(), 1);

    // The server's turn comes to the client, which ends then.
    drop(native);
    pod.wait_for("[client] waiting");
    let counted = network("seen", |network| sockets(network, "client", "FIN-WAIT-1").is_empty());
    let server = counters(&counted, "server", "memory");
    assert_eq!((&server["tcp"]["accepted"], &server["tcp"]["opened"]), (&1.into(), &0.into()));
    assert_eq!((&server["tcp"]["bytesIn"], &server["tcp"]["bytesOut"]), (&7.into(), &7.into()));
    let server = &counters(&counted, "server", "kernel")["tcp"];
    assert_eq!(
        (&server["accepted"], &server["listening"], &server["bytesIn"]),
        (&1.into(), &1.into(), &5.into())
    );
    let client = &counters(&counted, "client", "memory")["tcp"];
    assert_eq!((&client["opened"], &client["accepted"], &client["open"]), (&1.into(), &0.into(), &0.into()));
    assert_eq!((&client["bytesIn"], &client["bytesOut"]), (&7.into(), &7.into()));
    assert_eq!(
        (&client["resetsSent"], &client["resetsReceived"], &client["refused"]),
        (&0.into(), &0.into(), &0.into())
    );
    assert_eq!(counters(&counted, "udp", "kernel")["udp"]["open"], 1);
    ss(&["seen", "-s"]).expect_code(0).expect_stdout("client     memory");
}

#[test]
fn counters_outlive_a_containers_restart() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: again}
spec:
  restartPolicy: Always
  terminationGracePeriodSeconds: 0
  initContainers:
  - {name: server, image: {probe}, args: [serve, '7000'], restartPolicy: Always}
  containers:
  - {name: client, image: {probe}, args: [connect, '127.0.0.1:7000', word, --retry, '5000']}
";
    let _pod = Running::start(text, &[]);
    network("again", |network| counters(network, "client", "memory")["tcp"]["opened"].as_u64() >= Some(2));
}

#[test]
fn a_pod_that_is_not_there_is_named_with_those_that_are() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: lonely}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: main, image: {probe}, args: [serve, '7000']}
";
    let pod = Running::start(text, &[]);
    pod.wait_for("listening");
    network("lonely", |network| !sockets(network, "main", "LISTEN").is_empty());
    ss(&["lonly"]).expect_code(125).expect_stderr("no pod \"lonly\"").expect_stderr("default/lonely");
    let elsewhere = directory();
    let mut command = peapod();
    command.env("PEAPOD_ROOT", elsewhere.path());
    let none = Finished::from(command.arg("ss").output().unwrap());
    none.expect_code(125).expect_stderr("no pod runs");
}

#[test]
fn the_control_socket_is_private_refuses_garbage_and_goes_with_the_pod() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: solid, uid: observe-solid}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: main, image: {probe}, args: [serve, '7000']}
";
    let mut pod = Running::start(text, &[]);
    pod.wait_for("listening");
    network("solid", |network| !sockets(network, "main", "LISTEN").is_empty());
    let directory = root().join("run/pods/observe-solid");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&directory), mode(&directory.join("control.sock"))), (0o700, 0o600));

    let say = |words: &str| {
        let mut stream = peapod::api::socket::connect(&directory).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.write_all(words.as_bytes());
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    assert!(!say("{\"stop\":{\"cause\":\"timeout\"}}\n\n").contains("HTTP/1.1 2"));
    assert!(!say("\0\u{1}\u{2}\r\n\r\n").contains("HTTP/1.1 2"));
    let missing = say("GET /api/v1/namespaces/default/pods/other HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(missing.starts_with("HTTP/1.1 404"), "{missing}");
    let status: Value = serde_json::from_str(missing.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!((&status["kind"], &status["code"]), (&"Status".into(), &404.into()));
    let found = say("GET /api/v1/namespaces/default/pods/solid HTTP/1.1\r\nHost: x\r\n\r\n");
    let found: Value = serde_json::from_str(found.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(
        (&found["metadata"]["uid"], &found["status"]["phase"]),
        (&"observe-solid".into(), &"Running".into())
    );

    pod.signal(nix::sys::signal::Signal::SIGTERM);
    pod.wait();
    assert!(!directory.exists());
    ss(&["solid"]).expect_code(125);
}

/// What was said, by (source, destination).
type Streams = BTreeMap<(SocketAddr, SocketAddr), Vec<u8>>;

/// The streams of a capture, and the flags of its segments; panics at what tcpdump would complain about.
fn streams(file: &Path) -> (Streams, Vec<String>) {
    let bytes = std::fs::read(file).unwrap();
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!((number(0), number(20)), (0xa1b2_3c4d, 101), "nanoseconds, raw IP");
    let (mut streams, mut flags) = (BTreeMap::<_, (u32, Vec<u8>)>::new(), Vec::new());
    let mut at = 24;
    while at < bytes.len() {
        let length = number(at + 8) as usize;
        let packet = SlicedPacket::from_ip(&bytes[at + 16..at + 16 + length]).unwrap();
        at += 16 + length;
        let Some(NetSlice::Ipv4(ip)) = &packet.net else { panic!("{packet:?}") };
        let Some(TransportSlice::Tcp(tcp)) = &packet.transport else { continue };
        let (source, destination) = (ip.header().source_addr(), ip.header().destination_addr());
        let checksum =
            tcp.to_header().calc_checksum_ipv4_raw(source.octets(), destination.octets(), tcp.payload());
        assert_eq!(tcp.checksum(), checksum.unwrap());
        let key = (
            SocketAddr::new(source.into(), tcp.source_port()),
            SocketAddr::new(destination.into(), tcp.destination_port()),
        );
        let names = [(tcp.syn(), 'S'), (tcp.fin(), 'F'), (tcp.rst(), 'R'), (tcp.ack(), '.')];
        flags.push(names.iter().filter(|(set, _)| *set).map(|(_, name)| name).collect());
        if tcp.syn() {
            streams.insert(key, (tcp.sequence_number().wrapping_add(1), Vec::new()));
        }
        let (next, data) = streams.get_mut(&key).expect("SYN comes first");
        if !tcp.payload().is_empty() {
            assert_eq!(*next, tcp.sequence_number(), "a gap");
            *next = next.wrapping_add(tcp.payload().len() as u32);
            data.extend_from_slice(tcp.payload());
        }
    }
    (streams.into_iter().map(|(key, (_, data))| (key, data)).collect(), flags)
}

#[test]
fn a_capture_has_what_was_said_in_memory() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: recorded}
spec:
  restartPolicy: Never
  initContainers:
  - {name: server, image: {probe}, args: [serve, '7000'], restartPolicy: Always}
  - {name: up, image: {probe}, args: [connect, '127.0.0.1:7000', up, --retry, '5000']}
  containers:
  - {name: client, image: {probe}, args: [connect, '127.0.0.1:7000', over localhost]}
";
    let directory = directory();
    let file = directory.path().join("memory.pcap");
    run(text, &["--pcap", file.to_str().unwrap()]).expect_code(0).expect_stdout("[client] over localhost");
    let (streams, flags) = streams(&file);
    let server: SocketAddr = "127.0.0.1:7000".parse().unwrap();
    let sent: Vec<_> = streams.iter().filter(|((_, to), _)| *to == server).map(|(_, data)| data).collect();
    let returned: Vec<_> =
        streams.iter().filter(|((from, _), _)| *from == server).map(|(_, data)| data).collect();
    assert_eq!(sent, returned);
    let mut words: Vec<_> = sent.into_iter().map(|data| String::from_utf8_lossy(data).into_owned()).collect();
    words.sort();
    assert_eq!(words, ["over localhost", "up"]);
    assert_eq!(flags[..3], ["S", "S.", "."]);
    assert_eq!(flags.iter().filter(|flags| flags.contains('F')).count(), 4);
    assert!(!flags.iter().any(|flags| flags.contains('R')), "{flags:?}");
}

#[test]
fn a_capture_of_a_killed_run_can_be_read() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: cut}
spec:
  containers:
  - {name: server, image: {probe}, args: [serve, '7000']}
  - {name: client, image: {probe}, args: [connect, '127.0.0.1:7000', word, --retry, '5000']}
";
    let directory = directory();
    let file = directory.path().join("memory.pcap");
    let mut pod = Running::start(text, &["--pcap", file.to_str().unwrap()]);
    pod.wait_for("[client] word");
    let end = Instant::now() + PATIENCE;
    while std::fs::metadata(&file).unwrap().len() <= 24 {
        assert!(Instant::now() < end, "nothing is written");
        std::thread::sleep(Duration::from_millis(10));
    }
    pod.signal(nix::sys::signal::Signal::SIGKILL);
    pod.wait();
    assert!(streams(&file).0.values().any(|data| data == b"word"));
}

#[test]
fn a_capture_on_standard_output_is_alone_there() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: piped}
spec:
  restartPolicy: Never
  containers:
  - {name: server, image: {probe}, args: [serve, '7000', '1']}
  - {name: client, image: {probe}, args: [connect, '127.0.0.1:7000', piped word, --retry, '5000']}
";
    let directory = directory();
    let manifest = super::support::manifest(directory.path(), text);
    let output =
        peapod().arg("run").arg(&manifest).args(["--pcap", "-", "--timeout", "60s"]).output().unwrap();
    let file = directory.path().join("memory.pcap");
    std::fs::write(&file, &output.stdout).unwrap();
    assert!(streams(&file).0.values().any(|data| data == b"piped word"));
    Finished::from(output).expect_code(0).expect_stderr("[client] piped word");
    run(text, &["--pcap", "-", "-o", "json"]).expect_code(2).expect_stderr("both want standard output");
    run(text, &["--pcap", "/nowhere/x.pcap"]).expect_code(125).expect_stderr("/nowhere/x.pcap");
}
