//! Ports of the host that lead to pods.

use peapod::sandbox::host_port::{HostPortError, PortMapping};
use peapod::spec::{HostPort, Protocol};

use super::*;

/// Where the pods of these tests answer.
const POD_PORT: u16 = 8080;

fn mapping(ip: Option<&str>, port: u16, protocol: Protocol) -> PortMapping {
    let host = HostPort { port, ip: ip.map(|ip| ip.parse().unwrap()) };
    PortMapping { host, protocol, pod_port: POD_PORT }
}

/// A pod that tells everyone their address on [`POD_PORT`] by both protocols, and asks what it is told to ask.
fn pod_with(world: &World, host_ports: &[PortMapping]) -> Sandbox {
    let uid = fresh_uid();
    server_pod_of(&Config { host_ports, ..world.config(&uid) })
}

pub(super) fn host_ports_lead_in_from_everywhere(world: &World) {
    let both_protocols = [mapping(None, 18080, Protocol::Tcp), mapping(None, 18080, Protocol::Udp)];
    let sandbox = pod_with(world, &both_protocols);
    let other = server_pod(world);
    let outside = Outside::new();
    let ask: [fn(SocketAddr) -> String; 2] = [ask_address, ask_address_by_datagram];
    for ask in ask {
        for (family, host) in [IpAddr::from(HOST), HOST_V6.into()].into_iter().enumerate() {
            let server = SocketAddr::from((host, 18080));
            assert_eq!(ask(server), host.to_string(), "the host itself");
            let uplink = SocketAddr::from((UPLINK[family], 18080));
            assert_eq!(outside.run(move || ask(uplink)), OUTSIDE[family].to_string(), "another machine");
        }
        // Who asks is on loopback, and an answer would not find there: it gets an address of the host.
        let of_the_host = |text: String| {
            let address = text.parse::<IpAddr>().unwrap();
            assert!(!address.is_loopback() && !both(&sandbox).contains(&address), "{address}");
        };
        of_the_host(ask("127.0.0.1:18080".parse().unwrap()));
        of_the_host(ask("127.1.2.3:18080".parse().unwrap()));
        of_the_host(ask("[::1]:18080".parse().unwrap()));
    }
    for (family, host) in [IpAddr::from(HOST), HOST_V6.into()].into_iter().enumerate() {
        say(&other.control, SocketAddr::from((host, 18080)));
        assert_eq!(hear(&other.control), both(&other)[family].to_string(), "another pod");
        // The pod itself: an answer straight back would make no sense to it.
        say(&sandbox.control, SocketAddr::from((host, 18080)));
        let seen: IpAddr = hear(&sandbox.control).parse().unwrap();
        assert!(!both(&sandbox).contains(&seen), "{seen}");
        // And nothing else is led astray.
        assert!(TcpStream::connect((host, 18081)).is_err());
    }
    // What lets loopback lead to the pod does not let the pod reach the host's.
    let listener = TcpListener::bind("127.0.0.1:18082").unwrap();
    listener.set_nonblocking(true).unwrap();
    let namespace = fs::File::open(format!("/proc/{}/ns/net", sandbox.pid())).unwrap();
    let attacker = std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        for name in ["all", "eth0"] {
            set_network_parameter(&format!("ipv4/conf/{name}/route_localnet"), "1").unwrap();
        }
        // Its own 127.0.0.1 is out of the way: the packet leaves.
        let delete = ["route", "del", "local", "127.0.0.0/8", "dev", "lo", "table", "local"];
        assert!(Command::new("ip").args(delete).status().unwrap().success());
        let _ = Command::new("ip").args(["route", "del", "local", "127.0.0.1", "table", "local"]).status();
        let _ = Command::new("ip").args(["addr", "del", "127.0.0.1/8", "dev", "lo"]).status();
        let target = "127.0.0.1:18082".parse().unwrap();
        TcpStream::connect_timeout(&target, Duration::from_millis(300)).map(drop)
    });
    assert!(attacker.join().unwrap().is_err());
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    remove(sandbox);
    assert!(TcpStream::connect((HOST, 18080)).is_err(), "the pod is gone");
    remove(other);
}

pub(super) fn a_host_ip_is_exact(world: &World) {
    let (one, other) = (
        pod_with(world, &[mapping(Some("127.0.0.1"), 18080, Protocol::Tcp)]),
        pod_with(world, &[mapping(Some(&HOST.to_string()), 18080, Protocol::Tcp)]),
    );
    let third = pod_with(world, &[mapping(Some("::"), 18080, Protocol::Tcp)]);
    let refused = |address: &str| {
        let error = TcpStream::connect(address.parse::<SocketAddr>().unwrap()).expect_err(address);
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{address}");
    };
    ask_address("127.0.0.1:18080".parse().unwrap());
    assert_eq!(ask_address((HOST, 18080).into()), HOST.to_string());
    assert_eq!(ask_address((HOST_V6, 18080).into()), HOST_V6.to_string());
    ask_address("[::1]:18080".parse().unwrap());
    refused("127.0.0.2:18080");
    remove(third);
    refused("[::1]:18080");
    remove(one);
    refused("127.0.0.1:18080");
    assert_eq!(ask_address((HOST, 18080).into()), HOST.to_string());
    remove(other);
}

pub(super) fn a_host_port_is_had_once(world: &World) {
    let before = world.traces();
    let create_with = |mappings: &[PortMapping]| {
        let uid = fresh_uid();
        let config = Config { host_ports: mappings, ..world.config(&uid) };
        create(&config, |inside| until_told(&inside))
    };
    let refused = |mappings: &[PortMapping]| match create_with(mappings) {
        Err(SandboxError::HostPort(error)) => error,
        other => panic!("{other:?}"),
    };
    let listener = TcpListener::bind((HOST, 18080)).unwrap();
    assert!(matches!(refused(&[mapping(None, 18080, Protocol::Tcp)]), HostPortError::InUse(_)));
    assert_eq!(world.traces(), before);
    remove(
        create_with(&[mapping(None, 18080, Protocol::Udp), mapping(Some("::"), 18080, Protocol::Tcp)])
            .unwrap(),
    );
    drop(listener);

    let sandbox = create_with(&[mapping(None, 18080, Protocol::Tcp)]).unwrap();
    let error = refused(&[mapping(Some("127.0.0.1"), 18080, Protocol::Tcp)]);
    assert!(matches!(error, HostPortError::InUse(_)));
    assert!(error.to_string().contains("hostPort 127.0.0.1:18080/tcp is in use"), "{error}");
    for taken in ["0.0.0.0:18080", "127.0.0.1:18080", "[::1]:18080"] {
        let error = TcpListener::bind(taken).expect_err(taken);
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    }
    UdpSocket::bind("0.0.0.0:18080").expect("another protocol's");
    remove(sandbox);
    TcpListener::bind("0.0.0.0:18080").expect("free again");
    let elsewhere = mapping(Some("192.0.2.99"), 18080, Protocol::Tcp);
    assert!(matches!(refused(&[elsewhere]), HostPortError::NotLocal(_)));
}

pub(super) fn host_ports_of_many_pods_are_their_own(world: &World) {
    let pods: Vec<_> = (0..4)
        .map(|index| {
            let port = 18080 + index;
            (port, pod_with(world, &[mapping(None, port, Protocol::Tcp), mapping(None, port, Protocol::Udp)]))
        })
        .collect();
    let check = |pods: &[(u16, Sandbox)]| {
        for (port, pod) in pods {
            // Which pod it was shows in whom it says that it is.
            let stream = TcpStream::connect(("::1", *port)).unwrap();
            drop(stream);
            say(&pod.control, SocketAddr::from((HOST, *port)));
            let seen: IpAddr = hear(&pod.control).parse().unwrap();
            assert!(!both(pod).contains(&seen), "not led back to the same pod: {seen}");
            ask_address(SocketAddr::from(([127, 0, 0, 1], *port)));
            ask_address_by_datagram(SocketAddr::from((Ipv6Addr::LOCALHOST, *port)));
        }
    };
    check(&pods);
    let mut pods = pods;
    while !pods.is_empty() {
        let (port, pod) = pods.remove(pods.len() / 2);
        remove(pod);
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
        check(&pods);
    }
}

pub(super) fn datagrams_follow_the_port_to_the_next_pod(world: &World) {
    // Keeps connections tracked throughout.
    let keeper = server_pod(world);
    let client = UdpSocket::bind("0.0.0.0:0").unwrap();
    client.set_read_timeout(Some(TEST_TIMEOUT / 4)).unwrap();
    client.connect((HOST, 18080)).unwrap();
    let ask = || {
        client.send(b"who am I?").unwrap();
        client.recv(&mut [0; 64])
    };
    assert_eq!(ask().unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused, "nobody there");
    for _ in 0..2 {
        let sandbox = pod_with(world, &[mapping(None, 18080, Protocol::Udp)]);
        ask().expect("an answer at once");
        remove(sandbox);
        assert_eq!(ask().unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused, "nobody there again");
    }
    remove(keeper);
}

/// What a killed supervisor of another set of directories left behind is not swept by this one.
pub(super) fn stale_host_ports_are_in_nobodys_way(world: &World) {
    let other = World::new(world.root.join("other"));
    let mut victim = supervisor(&other);
    let (pid, _, _) = said(&mut victim);
    let pod = pidfd::open(pid).unwrap();
    assert!(ask_address((HOST, SUPERVISED_HOST_PORT).into()).parse::<IpAddr>().is_ok());
    victim.kill().unwrap();
    victim.wait().unwrap();
    let ended = poll(&mut [PollFd::new(pod.as_fd(), PollFlags::POLLIN)], PollTimeout::from(10_000u16));
    assert_eq!(ended.unwrap(), 1);
    let sandbox = pod_with(world, &[mapping(None, SUPERVISED_HOST_PORT, Protocol::Tcp)]);
    assert_eq!(ask_address((HOST, SUPERVISED_HOST_PORT).into()), HOST.to_string());
    // The late sweep takes nothing from the new pod.
    let swept = sandbox::sweep(&other.paths).unwrap();
    assert!(swept.len() == 1 && swept[0].errors.is_empty(), "{swept:?}");
    assert_eq!(ask_address((HOST_V6, SUPERVISED_HOST_PORT).into()), HOST_V6.to_string());
    remove(sandbox);
}
