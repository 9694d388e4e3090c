//! Namespaces and network.

use super::*;

pub(super) fn the_pod_has_namespaces_of_its_own(world: &World) {
    let marker = format!("/dev/shm/{}", fresh_uid());
    let sandbox = world.create(|inside| {
        assert_eq!(process::threads().unwrap(), 1);
        fs::write(&marker, "x").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).expect("lo is up");
        let text = |path: &str| fs::read_to_string(path).unwrap().trim().to_owned();
        say(&inside.control, std::process::id());
        say(&inside.control, text("/proc/sys/kernel/hostname"));
        say(&inside.control, text("/proc/sys/net/ipv4/ip_local_port_range"));
        say(&inside.control, fs::read_link("/proc/self").unwrap().display());
        say(
            &inside.control,
            text("/proc/self/mountinfo").lines().filter(|line| line.contains("/dev/shm")).count(),
        );
        until_told(&inside)
    });
    assert!(sandbox.warnings.is_empty(), "{:?}", sandbox.warnings);
    for namespace in ["net", "uts", "ipc", "mnt", "pid"] {
        let link = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{namespace}")).unwrap();
        assert_ne!(link(&sandbox.pid().to_string()), link("self"), "{namespace}");
    }
    assert_eq!(hear(&sandbox.control), "1", "the pod process is the first of its pid namespace");
    assert_eq!(hear(&sandbox.control), "test-host");
    assert_eq!(hear(&sandbox.control), "32768\t49151");
    assert_eq!(hear(&sandbox.control), "1", "/proc is the pod's");
    assert_ne!(hear(&sandbox.control), "0");
    assert!(!Path::new(&marker).exists(), "/dev/shm is the host's");
    assert!(sandbox.pod_dir.is_dir());
    let names: Vec<_> = sandbox.timings.iter().map(|(name, _)| *name).collect();
    let expected = ["own", "cgroup", "clone", "lease", "masquerade", "enter", "link", "route", "ready"];
    assert_eq!(names, expected);
    eprintln!("{:?}", sandbox.timings);
    remove(sandbox);
}

pub(super) fn the_first_packet_is_never_lost(world: &World) {
    let hosts: [IpAddr; 2] = [HOST.into(), HOST_V6.into()];
    // Each time another family first.
    for round in 0..20 {
        let (host, family) = (hosts[round % 2], round % 2);
        let server = TcpListener::bind((host, 0)).unwrap();
        let towards = server.local_addr().unwrap();
        let sandbox = world.create(|inside| {
            let listener = TcpListener::bind("[::]:8080").unwrap();
            say(&inside.control, "listening");
            // Either side's first packet: whichever comes first.
            TcpStream::connect(towards).unwrap();
            listener.accept().unwrap();
            say(&inside.control, repeated_syns());
            until_told(&inside)
        });
        assert_eq!(hear(&sandbox.control), "listening");
        TcpStream::connect((both(&sandbox)[family], 8080)).unwrap();
        assert_eq!(server.accept().unwrap().1.ip(), both(&sandbox)[family]);
        assert_eq!(hear(&sandbox.control), "0", "the pod's first packet was lost");
        remove(sandbox);
    }
    assert_eq!(repeated_syns(), 0, "the host's first packet was lost");
}

pub(super) fn server_pod(world: &World) -> Sandbox {
    let uid = fresh_uid();
    server_pod_of(&world.config(&uid))
}

/// A pod that tells everyone their address on port 8080, and asks what it is told to ask.
pub(super) fn server_pod_of(config: &Config<'_>) -> Sandbox {
    let sandbox = create(config, |inside| {
        let listeners = [TcpListener::bind("0.0.0.0:8080").unwrap(), only_v6(8080)];
        // Both families.
        let datagrams = UdpSocket::bind("[::]:8080").unwrap();
        say(&inside.control, "listening");
        let servers = listeners.map(|listener| std::thread::spawn(move || tell_addresses(listener)));
        std::thread::spawn(move || tell_addresses_by_datagram(datagrams));
        loop {
            // Each line is a server to ask; an empty one is the end.
            match hear(&inside.control).as_str() {
                "" => return i32::from(servers.iter().any(|server| server.is_finished())),
                other => say(&inside.control, ask_address(other.parse().unwrap())),
            }
        }
    });
    let sandbox = sandbox.expect("a sandbox");
    assert_eq!(hear(&sandbox.control), "listening");
    sandbox
}

pub(super) fn two_pods_use_one_port_and_see_real_addresses(world: &World) {
    let (one, other) = (server_pod(world), server_pod(world));
    assert_ne!(address(&one), address(&other));
    for (from, to) in [(&one, &other), (&other, &one), (&one, &one)] {
        for (family, host) in [IpAddr::from(HOST), HOST_V6.into()].into_iter().enumerate() {
            let (from_address, to_address) = (both(from)[family], both(to)[family]);
            say(&from.control, SocketAddr::from((to_address, 8080)));
            assert_eq!(hear(&from.control), from_address.to_string());
            assert_eq!(ask_address((to_address, 8080).into()), host.to_string());
        }
    }
    // And the pod asks the host.
    for (family, host) in [IpAddr::from(HOST), HOST_V6.into()].into_iter().enumerate() {
        let listener = TcpListener::bind((host, 0)).unwrap();
        say(&one.control, listener.local_addr().unwrap());
        std::thread::spawn(move || tell_addresses(listener));
        assert_eq!(hear(&one.control), both(&one)[family].to_string());
    }
    remove(one);
    remove(other);
}

pub(super) fn the_link_is_quiet(world: &World) {
    let sandbox = world.create(|inside| {
        say(&inside.control, ipv6_addresses(network::POD_LINK).join(" "));
        until_told(&inside)
    });
    // Its flags (linux/if_addr.h): NODAD and PERMANENT, and not TENTATIVE.
    let own = hear(&sandbox.control);
    let expected: String = match both(&sandbox)[1] {
        IpAddr::V6(address) => address.octets().iter().map(|byte| format!("{byte:02x}")).collect(),
        IpAddr::V4(_) => unreachable!(),
    };
    assert_eq!(own, format!("{expected}/82"), "no link-local address, no address that is tentative");
    let links = nix::net::if_::if_nameindex().unwrap();
    let link = links.iter().map(|link| link.name().to_string_lossy().into_owned());
    let link = { link }.find(|name| name.starts_with(network::LINK_PREFIX)).unwrap();
    assert_eq!(ipv6_addresses(&link), Vec::<String>::new());
    remove(sandbox);
}

/// The IPv6 addresses of a link with their flags, as proc_net_if_inet6 has them.
pub(super) fn ipv6_addresses(link: &str) -> Vec<String> {
    let text = fs::read_to_string("/proc/self/net/if_inet6").unwrap();
    let lines = text.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    lines.filter(|words| words[5] == link).map(|words| format!("{}/{}", words[0], words[4])).collect()
}

pub(super) fn a_host_without_ipv6_has_pods_without(world: &World) {
    let parameter_name = "ipv6/conf/default/disable_ipv6";
    set_network_parameter(parameter_name, "1").unwrap();
    let sandbox = world.create(|inside| {
        say(&inside.control, "begun");
        until_told(&inside)
    });
    assert_eq!(hear(&sandbox.control), "begun");
    assert!(matches!(sandbox.addresses[..], [IpAddr::V4(_)]), "{:?}", sandbox.addresses);
    assert!(sandbox.warnings.is_empty(), "{:?}", sandbox.warnings);
    assert_eq!(parameter("ipv6/conf/all/force_forwarding").unwrap_or_else(|_| "0".into()), "0");
    remove(sandbox);
    set_network_parameter(parameter_name, "0").unwrap();
}

pub(super) fn ipv6_forwarding_makes_no_router_of_the_host(world: &World) {
    let forced = |link: &str| parameter(&format!("ipv6/conf/{link}/force_forwarding"));
    if forced("all").is_err() {
        eprintln!("this kernel has no force_forwarding");
        return;
    }
    let one = server_pod(world);
    assert_eq!(parameter("ipv6/conf/all/forwarding").unwrap(), "0");
    assert_eq!([forced("lo").unwrap(), forced("default").unwrap()], ["1", "1"]);
    // Someone turns it off for all; the next pod turns it on again.
    set_network_parameter("ipv6/conf/all/force_forwarding", "0").unwrap();
    let other = server_pod(world);
    say(&one.control, SocketAddr::from((both(&other)[1], 8080)));
    assert_eq!(hear(&one.control), both(&one)[1].to_string());
    remove(one);
    assert_eq!(forced("default").unwrap(), "1");
    remove(other);
    assert_eq!([forced("all").unwrap(), forced("default").unwrap()], ["0", "0"]);
}

/// As before Linux 6.17: what this test cannot hide from the kernel it hides from peapod.
pub(super) fn a_host_that_forwards_listens_to_its_router_still(world: &World) {
    let all = Path::new("/proc/sys/net/ipv6/conf/all");
    let fake = world.root.join("all");
    fs::create_dir(&fake).unwrap();
    let mount_over = |from: &Path, to: &Path| {
        nix::mount::mount(Some(from), to, None::<&str>, nix::mount::MsFlags::MS_BIND, None::<&str>).unwrap();
    };
    fs::write(fake.join("forwarding"), "").unwrap();
    mount_over(&all.join("forwarding"), &fake.join("forwarding"));
    let flags = nix::mount::MsFlags::MS_BIND | nix::mount::MsFlags::MS_REC;
    nix::mount::mount(Some(&fake), all, None::<&str>, flags, None::<&str>).unwrap();
    assert!(parameter("ipv6/conf/all/force_forwarding").is_err());
    let accept_ra =
        || ["lo", "default"].map(|link| parameter(&format!("ipv6/conf/{link}/accept_ra")).unwrap());
    assert_eq!(accept_ra(), ["1", "1"]);
    set_network_parameter("ipv6/conf/default/accept_ra", "0").unwrap();

    let (one, other) = (server_pod(world), server_pod(world));
    assert_eq!(parameter("ipv6/conf/all/forwarding").unwrap(), "1");
    assert_eq!(accept_ra(), ["2", "0"], "what listened listens; what did not does not");
    say(&one.control, SocketAddr::from((both(&other)[1], 8080)));
    assert_eq!(hear(&one.control), both(&one)[1].to_string());
    remove(one);
    assert_eq!(accept_ra(), ["2", "0"]);
    remove(other);
    assert_eq!(parameter("ipv6/conf/all/forwarding").unwrap(), "0");
    assert_eq!(accept_ra(), ["1", "0"]);
    nix::mount::umount2(all, nix::mount::MntFlags::MNT_DETACH).unwrap();
    nix::mount::umount(&fake.join("forwarding")).unwrap();
}

pub(super) fn no_more_pods_than_addresses(world: &World) {
    let before = world.traces();
    // Of four addresses one is a pod's: not the network's, the router's, the broadcast's.
    let pod_networks = network::PodNetworks { v4: "10.99.0.0/30".parse().unwrap(), ..Default::default() };
    let (first, second) = (fresh_uid(), fresh_uid());
    let create_with =
        |uid| create(&Config { pod_networks, ..world.config(uid) }, |inside| until_told(&inside));
    let sandbox = create_with(&first).unwrap();
    assert_eq!(both(&sandbox).map(|address| address.to_string()), ["10.99.0.2", "fd70:6561:706f:64::a63:2"]);
    let with_one = world.traces();
    match create_with(&second) {
        Err(SandboxError::Address(error)) => assert!(error.to_string().contains("10.99.0.0/30"), "{error}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.traces(), with_one);
    remove(sandbox);
    assert_eq!(world.traces(), before);
    remove(create_with(&second).unwrap());
}

pub(super) fn a_native_process_enters_the_pod(world: &World) {
    let mut sandbox = server_pod(world);
    let namespace = fs::File::open(format!("/proc/{}/ns/net", sandbox.pid())).unwrap();
    let native = std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        ask_address("127.0.0.1:8080".parse().unwrap())
    });
    assert_eq!(native.join().unwrap(), "127.0.0.1");
    say(&sandbox.control, "");
    assert_eq!(sandbox.wait().unwrap(), Exit::Code(0));
    assert_eq!(sandbox.try_wait().unwrap(), Some(Exit::Code(0)));
    remove(sandbox);
}

pub(super) fn the_outside_sees_the_hosts_address(world: &World) {
    let sandbox = server_pod(world);
    let outside = Outside::new();
    outside.run(|| {
        for listener in OUTSIDE.map(|address| TcpListener::bind((address, 80)).unwrap()) {
            std::thread::spawn(move || tell_addresses(listener));
        }
    });
    // The outside has no route to the pod: an answer shows that the source was rewritten.
    for (outside, uplink) in OUTSIDE.into_iter().zip(UPLINK) {
        say(&sandbox.control, SocketAddr::from((outside, 80)));
        assert_eq!(hear(&sandbox.control), uplink.to_string());
    }
    remove(sandbox);
}

pub(super) fn links_carry_no_more_than_the_way_out(world: &World) {
    let mtu_of_pod = || {
        let sandbox = world.create(|inside| {
            say(&inside.control, mtu(network::POD_LINK));
            until_told(&inside)
        });
        let inside = hear(&sandbox.control);
        remove(sandbox);
        inside
    };
    assert_eq!(mtu_of_pod(), "1500");
    let mut narrow = LinkMessage::default();
    narrow.header.index = 1;
    narrow.attributes = vec![LinkAttribute::Mtu(1400)];
    execute("narrow lo", RouteNetlinkMessage::SetLink(narrow));
    add_route("0.0.0.0/0", 1);
    assert_eq!(mtu_of_pod(), "1400");
}

/// The MTU of a link of this network namespace.
pub(super) fn mtu(link: &str) -> u32 {
    let index = nix::net::if_::if_nametoindex(link).unwrap();
    // struct ifinfomsg.
    let mut request = [0; 16];
    request[4..8].copy_from_slice(&index.to_ne_bytes());
    let mut mtu = 0;
    let mut socket = Socket::route().unwrap();
    let each = |_, payload: &[u8]| {
        let mut found = attributes(payload, request.len()).filter(|(kind, _)| *kind == 4);
        mtu = found.next().map_or(0, |(_, value)| u32::from_ne_bytes(value.try_into().unwrap()));
    };
    socket.dump("look at a link", 18, ACK, &request, each).unwrap();
    mtu
}

pub(super) fn no_network_is_loopback_only(world: &World) {
    let uid = fresh_uid();
    let config = Config { network: NetworkMode::None, ..world.config(&uid) };
    let sandbox = create(&config, |inside| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).expect("lo is up");
        say(&inside.control, nix::net::if_::if_nameindex().unwrap().iter().count());
        until_told(&inside)
    })
    .unwrap();
    assert!(sandbox.addresses.is_empty() && sandbox.warnings.is_empty(), "{:?}", sandbox.warnings);
    let links = hear(&sandbox.control);
    assert!(
        !nix::net::if_::if_nameindex()
            .unwrap()
            .iter()
            .any(|link| { link.name().to_string_lossy().starts_with(network::LINK_PREFIX) })
    );
    remove(sandbox);
    let own = nix::net::if_::if_nameindex().unwrap().iter().count();
    let host = peapod::spec::HostPort { port: 18080, ip: None };
    let protocol = peapod::spec::Protocol::Tcp;
    let host_ports = [peapod::sandbox::host_port::PortMapping { host, protocol, pod_port: 80 }];
    let config = Config { host_ports: &host_ports, ..config };
    let sandbox = create(&config, |inside| until_told(&inside)).unwrap();
    assert_eq!(sandbox.warnings, ["hostPort leads nowhere: the pod has no network"]);
    remove(sandbox);
    assert_eq!(links, own.to_string(), "a fresh network namespace has as many links as the test's");
}

pub(super) fn the_hosts_network_stays_the_hosts(world: &World) {
    let uid = fresh_uid();
    let config = Config { network: NetworkMode::Host, ..world.config(&uid) };
    let range = parameter("ipv4/ip_local_port_range").unwrap();
    let sandbox = create(&config, |inside| until_told(&inside)).unwrap();
    let link = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    assert_eq!(link(&sandbox.pid().to_string()), link("self"));
    assert_eq!(parameter("ipv4/ip_local_port_range").unwrap(), range);
    remove(sandbox);
}

pub(super) fn a_host_without_addresses_reaches_its_pods(world: &World) {
    let (first, sandbox) = (server_pod(world), server_pod(world));
    for address in both(&sandbox) {
        let gateway = network::gateway_of(address);
        assert_eq!(ask_address((address, 8080).into()), gateway.to_string());
        // Which the pod reaches, too.
        let listener = TcpListener::bind((gateway, 0)).unwrap();
        say(&sandbox.control, listener.local_addr().unwrap());
        std::thread::spawn(move || tell_addresses(listener));
        assert_eq!(hear(&sandbox.control), address.to_string());
    }
    // The one is not the other's.
    remove(first);
    for address in both(&sandbox) {
        assert_eq!(ask_address((address, 8080).into()), network::gateway_of(address).to_string());
    }
    remove(sandbox);
}

pub(super) fn the_network_moves_aside(world: &World) {
    let routes = ["10.201.128.0/20", "fd70:6561:706f::/56"];
    routes.into_iter().for_each(|route| add_route(route, 1));
    let sandbox = server_pod(world);
    assert_eq!(both(&sandbox).map(|address| address.to_string()), ["10.202.0.2", "fd70:6561:7070:65::aca:2"]);
    for route in routes {
        assert!(sandbox.warnings.iter().any(|line| line.contains(route)), "{:?}", sandbox.warnings);
    }
    assert_eq!(ask_address((both(&sandbox)[0], 8080).into()), HOST.to_string());
    assert_eq!(ask_address((both(&sandbox)[1], 8080).into()), HOST_V6.to_string());
    remove(sandbox);
}

pub(super) fn two_roots_never_share_an_address(world: &World) {
    let other = World::new(world.root.join("other"));
    let (one, two) = (world.create(|inside| until_told(&inside)), other.create(|inside| until_told(&inside)));
    assert_ne!(address(&one), address(&two));
    remove(one);
    let mut netfilter = Socket::netfilter().unwrap();
    assert!(nftables::table_exists(&mut netfilter, "peapod").unwrap(), "the other root's pod needs it");
    remove(two);
    assert!(other.traces().iter().all(|trace| !trace.contains("pods/")));
}
