//! Real sandboxes: namespaces, cgroups, links and processes of this machine. Needs root.
//!
//! Only a single-threaded process may fork a pod, so each test runs in a process of its own, which this binary
//! starts from itself; its "host" is a network namespace of its own. `cargo test --test sandbox -- FILTER`.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use peapod::paths::Paths;
use peapod::sandbox::{self, Config, Entered, Inside, Sandbox, SandboxError, Step, cgroup, network};
use peapod::spec::NetworkMode;
use peapod::sys::netlink::{ACK, Batch, CREATE, EXCLUSIVE, Socket, attributes};
use peapod::sys::pidfd::{self, Exit};
use peapod::sys::{nftables, process};

/// After this a test is killed and has failed: far beyond what any needs, even on a busy machine.
const TEST_TIMEOUT: Duration = Duration::from_secs(120);
/// The user without privileges, `nobody`.
const NOBODY: u32 = 65534;
/// The host's own address (RFC 5737).
const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The test that becomes an ordinary user, or is run by one.
const ROOTLESS: &str = "without_root_a_pod_has_loopback";
/// What tells this binary which part to play, and where.
const PART: &str = "PEAPOD_TEST_PART";
const ROOT: &str = "PEAPOD_TEST_ROOT";

type Test = (&'static str, fn(&World));

const TESTS: &[Test] = &[
    ("the_pod_has_namespaces_of_its_own", the_pod_has_namespaces_of_its_own),
    ("the_first_packet_is_never_lost", the_first_packet_is_never_lost),
    ("two_pods_use_one_port_and_see_real_addresses", two_pods_use_one_port_and_see_real_addresses),
    ("a_native_process_enters_the_pod", a_native_process_enters_the_pod),
    ("the_outside_sees_the_hosts_address", the_outside_sees_the_hosts_address),
    ("links_carry_no_more_than_the_way_out", links_carry_no_more_than_the_way_out),
    ("no_network_is_loopback_only", no_network_is_loopback_only),
    ("the_hosts_network_stays_the_hosts", the_hosts_network_stays_the_hosts),
    ("a_host_without_addresses_reaches_its_pods", a_host_without_addresses_reaches_its_pods),
    ("the_network_moves_aside", the_network_moves_aside),
    ("two_roots_never_share_an_address", two_roots_never_share_an_address),
    ("the_cgroup_limits_and_kills", the_cgroup_limits_and_kills),
    (
        "the_unified_hierarchy_is_entered_killed_and_removed",
        the_unified_hierarchy_is_entered_killed_and_removed,
    ),
    ("read_only_cgroups_are_a_warning", read_only_cgroups_are_a_warning),
    ("removal_ends_native_processes_too", removal_ends_native_processes_too),
    ("the_last_pod_out_turns_off_the_light", the_last_pod_out_turns_off_the_light),
    ("a_mount_in_the_pods_directory_is_not_entered", a_mount_in_the_pods_directory_is_not_entered),
    ("a_failure_at_any_step_is_undone", a_failure_at_any_step_is_undone),
    ("one_uid_runs_once", one_uid_runs_once),
    ("a_process_with_threads_is_refused", a_process_with_threads_is_refused),
    ("a_panic_in_the_pod_stays_there", a_panic_in_the_pod_stays_there),
    ("a_killed_supervisor_is_swept_up_after", a_killed_supervisor_is_swept_up_after),
    (
        "a_supervisor_killed_at_any_instant_is_swept_up_after",
        a_supervisor_killed_at_any_instant_is_swept_up_after,
    ),
    ("garbage_is_swept_up", garbage_is_swept_up),
    ("eight_at_once_get_eight_addresses", eight_at_once_get_eight_addresses),
    ("without_root_a_pod_has_loopback", without_root_a_pod_has_loopback),
    ("the_floor_is_measured_and_removed", the_floor_is_measured_and_removed),
];

fn main() -> ExitCode {
    if let Ok(part) = std::env::var(PART) {
        play(&part);
        return ExitCode::SUCCESS;
    }
    let filters: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if std::env::args().any(|argument| argument == "--list") {
        TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let chosen =
        |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()));
    let rootless = std::env::var_os("PEAPOD_TESTS").is_some_and(|set| set == "rootless");
    if rootless {
        println!("the rootless set: {ROOTLESS} only");
    }
    let in_set = |name: &str| !rootless || name == ROOTLESS;
    let tests: Vec<_> = TESTS.iter().filter(|(name, _)| chosen(name) && in_set(name)).collect();
    let begin = Instant::now();
    println!("\nrunning {} tests", tests.len());
    let mut failures = Vec::new();
    for (name, _) in &tests {
        match run_alone(if rootless { "rootless" } else { name }) {
            Ok(()) => println!("test {name} ... ok"),
            Err(output) => {
                println!("test {name} ... FAILED");
                failures.push((name, output));
            }
        }
    }
    for (name, output) in &failures {
        println!("\n---- {name} ----\n{output}");
    }
    let result = if failures.is_empty() { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {result}. {} passed; {} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
        tests.len() - failures.len(),
        failures.len(),
        TESTS.len() - tests.len(),
        begin.elapsed().as_secs_f64()
    );
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(101) }
}

/// Runs one test in its own process; its output when it failed. What it left behind is removed.
fn run_alone(name: &str) -> Result<(), String> {
    let root = tempfile::tempdir().expect("a temporary directory");
    let mut child = Command::new(std::env::current_exe().expect("this binary's path"))
        .env(PART, name)
        .env(ROOT, root.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this binary starts");
    if !ended_within(&child, TEST_TIMEOUT) {
        let _ = child.kill();
    }
    let output = child.wait_with_output().expect("the test's output");
    let left = sandbox::sweep(&paths(root.path())).expect("the sweep after a test");
    match output.status.success() && left.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "{}{}{}; left behind: {left:?}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            output.status
        )),
    }
}

fn ended_within(child: &Child, timeout: Duration) -> bool {
    let process = pidfd::open(child.id() as i32).expect("the test's process");
    let timeout = PollTimeout::try_from(timeout).expect("a short timeout");
    poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], timeout).expect("poll") == 1
}

fn play(part: &str) {
    let root = PathBuf::from(std::env::var_os(ROOT).expect("a directory"));
    match part {
        "supervisor" => supervise(&World::new(root)),
        "rootless" => rootless(&World::new(root)),
        name => {
            assert!(
                nix::unistd::geteuid().is_root(),
                "this test needs root; PEAPOD_TESTS=rootless runs the set that does not"
            );
            let (_, test) = TESTS.iter().find(|(other, _)| *other == name).expect("a test of this name");
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("namespaces for the test");
            peapod::sys::mount::make_private().expect("private mounts");
            let world = World::new(root);
            link_up(1);
            if name != "a_host_without_addresses_reaches_its_pods" {
                add_address(1, HOST);
            }
            let before = world.traces();
            test(&world);
            assert_eq!(world.traces(), before, "something is left behind");
        }
    }
}

// ---- the world of a test -------------------------------------------------------------------------

struct World {
    root: PathBuf,
    paths: Paths,
}

fn paths(root: &Path) -> Paths {
    Paths::resolve(0, |name| (name == "PEAPOD_ROOT").then(|| root.into()))
}

impl World {
    fn new(root: PathBuf) -> Self {
        Self { paths: paths(&root), root }
    }

    fn config<'a>(&'a self, uid: &'a str) -> Config<'a> {
        Config {
            // Looked for each time: some tests change the machine or the user first.
            host: Box::leak(Box::new(sandbox::Host::look())),
            paths: &self.paths,
            uid,
            name: "test",
            namespace: "default",
            hostname: "test-host",
            network: NetworkMode::Pod,
            pod_cidr: "10.201.0.0/16".parse().unwrap(),
            limits: cgroup::Limits { memory_bytes: Some(256 << 20), cpu_millis: Some(1500), pids: Some(64) },
            shm_bytes: 1 << 20,
            fail_at: None,
        }
    }

    fn create(&self, child: impl FnOnce(Inside) -> i32) -> Sandbox {
        let uid = fresh_uid();
        create(&self.config(&uid), child).expect("a sandbox")
    }

    /// All that a pod could leave behind. The names of the pods' directories are part of it, base directories
    /// and the lock file in them are not.
    fn traces(&self) -> Vec<String> {
        let mut traces: Vec<String> = Vec::new();
        traces.extend(
            nix::net::if_::if_nameindex().unwrap().iter().map(|link| format!("link {:?}", link.name())),
        );
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        traces.extend(mounts.lines().filter(|line| line.contains("peapod")).map(str::to_owned));
        for directory in ["run/pods", "run/net", "run/net/leases", "state/pods"] {
            let entries = fs::read_dir(self.root.join(directory)).into_iter().flatten().flatten();
            traces.extend(entries.map(|entry| entry.path().display().to_string()));
        }
        let mut netfilter = Socket::netfilter().unwrap();
        if nftables::table_exists(&mut netfilter, "peapod").unwrap() {
            traces.push("nftables table".into());
        }
        traces.push(format!("ip_forward {}", peapod::sys::namespace::ipv4_parameter("ip_forward").unwrap()));
        traces.extend(children().into_iter().map(|pid| format!("process {pid}")));
        traces.sort();
        traces
    }
}

fn fresh_uid() -> String {
    format!("test-{}", uuid::Uuid::new_v4())
}

/// The cgroups of pod `uid`, in every hierarchy.
fn cgroups_of(uid: &str) -> Vec<PathBuf> {
    let paths = cgroup::Hierarchy::find().expect("cgroups").paths(uid);
    paths.into_iter().filter(|path| path.exists()).collect()
}

fn children() -> Vec<String> {
    let path = format!("/proc/self/task/{}/children", std::process::id());
    let list = fs::read_to_string(path).unwrap_or_default();
    list.split_ascii_whitespace().map(str::to_owned).collect()
}

fn remove(sandbox: Sandbox) {
    let cgroups = sandbox.cgroups().to_vec();
    let errors = sandbox.remove();
    assert!(errors.is_empty(), "{errors:?}");
    assert!(!cgroups.iter().any(|path| path.exists()), "{cgroups:?}");
}

fn address(sandbox: &Sandbox) -> IpAddr {
    assert_eq!(sandbox.addresses.len(), 1, "{:?}", sandbox.warnings);
    sandbox.addresses[0]
}

/// Says one line to the other side.
fn say(mut control: &UnixStream, text: impl std::fmt::Display) {
    control.write_all(format!("{text}\n").as_bytes()).expect("the other side listens");
}

/// Hears one line of the other side; empty when it has ended.
fn hear(mut control: &UnixStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while control.read(&mut byte).expect("the other side") == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8(line).expect("text")
}

/// A sandbox whose child runs once its network is there.
fn create(config: &Config<'_>, child: impl FnOnce(Inside) -> i32) -> Result<Sandbox, SandboxError> {
    sandbox::create(config, |entered: Entered| entered.begin().map_or(1, child))
}

/// Waits until the supervisor lets the pod end.
fn until_told(inside: &Inside) -> i32 {
    hear(&inside.control);
    0
}

/// How often this network namespace had to send a SYN again.
fn repeated_syns() -> u64 {
    let text = fs::read_to_string("/proc/self/net/netstat").unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut pairs = names.split(' ').zip(values.split(' '));
    pairs.find(|(name, _)| *name == "TCPSynRetrans").unwrap().1.parse().unwrap()
}

/// A server that tells everyone their address.
fn tell_addresses(listener: TcpListener) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let peer = stream.peer_addr().unwrap().ip();
        let _ = writeln!(stream, "{peer}");
    }
}

fn ask_address(server: SocketAddr) -> String {
    let stream = TcpStream::connect(server).unwrap_or_else(|error| panic!("{server}: {error}"));
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line.trim().to_owned()
}

fn execute(step: &'static str, message: RouteNetlinkMessage) {
    let flags = if matches!(message, RouteNetlinkMessage::DelLink(_)) { 0 } else { CREATE | EXCLUSIVE };
    let mut batch = Batch::default();
    batch.push(step, &message, flags);
    Socket::route().unwrap().execute(&batch).unwrap();
}

fn link_up(index: u32) {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    execute("bring a link up", RouteNetlinkMessage::SetLink(message));
}

fn add_address(index: u32, address: Ipv4Addr) {
    let mut message = AddressMessage::default();
    message.header.family = netlink_packet_route::AddressFamily::Inet;
    message.header.prefix_len = if index == 1 { 32 } else { 24 };
    message.header.index = index;
    message.attributes =
        vec![AddressAttribute::Local(address.into()), AddressAttribute::Address(address.into())];
    execute("add an address", RouteNetlinkMessage::NewAddress(message));
}

fn add_route(destination: &str) {
    let destination: ipnet::Ipv4Net = destination.parse().unwrap();
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: netlink_packet_route::AddressFamily::Inet,
        destination_prefix_length: destination.prefix_len(),
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Static,
        scope: RouteScope::Link,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes = vec![RouteAttribute::Oif(1)];
    if destination.prefix_len() > 0 {
        message.attributes.push(RouteAttribute::Destination(destination.addr().into()));
    }
    execute("add a route", RouteNetlinkMessage::NewRoute(message));
}

// ---- namespaces and network ----------------------------------------------------------------------

fn the_pod_has_namespaces_of_its_own(world: &World) {
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

fn the_first_packet_is_never_lost(world: &World) {
    let servers: Vec<_> = (0..20).map(|_| TcpListener::bind((HOST, 0)).unwrap()).collect();
    for server in servers {
        let towards = server.local_addr().unwrap();
        let sandbox = world.create(|inside| {
            let listener = TcpListener::bind("0.0.0.0:8080").unwrap();
            say(&inside.control, "listening");
            // Either side's first packet: whichever comes first.
            TcpStream::connect(towards).unwrap();
            listener.accept().unwrap();
            say(&inside.control, repeated_syns());
            until_told(&inside)
        });
        assert_eq!(hear(&sandbox.control), "listening");
        TcpStream::connect((address(&sandbox), 8080)).unwrap();
        assert_eq!(server.accept().unwrap().1.ip(), address(&sandbox));
        assert_eq!(hear(&sandbox.control), "0", "the pod's first packet was lost");
        remove(sandbox);
    }
    assert_eq!(repeated_syns(), 0, "the host's first packet was lost");
}

fn server_pod(world: &World) -> Sandbox {
    let sandbox = world.create(|inside| {
        let listener = TcpListener::bind("0.0.0.0:8080").unwrap();
        say(&inside.control, "listening");
        let server = std::thread::spawn(move || tell_addresses(listener));
        loop {
            // Each line is a server to ask; an empty one is the end.
            match hear(&inside.control).as_str() {
                "" => return i32::from(server.is_finished()),
                other => say(&inside.control, ask_address(other.parse().unwrap())),
            }
        }
    });
    assert_eq!(hear(&sandbox.control), "listening");
    sandbox
}

fn two_pods_use_one_port_and_see_real_addresses(world: &World) {
    let (one, other) = (server_pod(world), server_pod(world));
    assert_ne!(address(&one), address(&other));
    for (from, to) in [(&one, &other), (&other, &one), (&one, &one)] {
        say(&from.control, SocketAddr::from((address(to), 8080)));
        assert_eq!(hear(&from.control), address(from).to_string());
        assert_eq!(ask_address((address(to), 8080).into()), HOST.to_string());
    }
    remove(one);
    remove(other);
}

fn a_native_process_enters_the_pod(world: &World) {
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

fn the_outside_sees_the_hosts_address(world: &World) {
    let (inside, outside) = (Ipv4Addr::new(203, 0, 113, 1), Ipv4Addr::new(203, 0, 113, 2));
    let sandbox = server_pod(world);
    // Another machine: a network namespace, held by a thread, at the other end of a link.
    let (ready, is_ready) = std::sync::mpsc::channel();
    let (attached, is_attached) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ready.send(fs::File::open("/proc/thread-self/ns/net").unwrap()).unwrap();
        is_attached.recv().unwrap();
        let index = nix::net::if_::if_nametoindex("world").unwrap();
        link_up(index);
        add_address(index, outside);
        let listener = TcpListener::bind((outside, 80)).unwrap();
        ready.send(fs::File::open("/dev/null").unwrap()).unwrap();
        tell_addresses(listener);
    });
    let namespace = is_ready.recv().unwrap();
    let mut peer = LinkMessage::default();
    peer.attributes = vec![
        LinkAttribute::IfName("world".into()),
        LinkAttribute::NetNsFd(std::os::fd::AsRawFd::as_raw_fd(&namespace)),
    ];
    let mut uplink = LinkMessage::default();
    uplink.attributes = vec![
        LinkAttribute::IfName("uplink".into()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    execute("make an uplink", RouteNetlinkMessage::NewLink(uplink));
    let index = nix::net::if_::if_nametoindex("uplink").unwrap();
    link_up(index);
    add_address(index, inside);
    attached.send(()).unwrap();
    is_ready.recv().unwrap();
    // The outside has no route to the pod: an answer shows that the source was rewritten.
    say(&sandbox.control, SocketAddr::from((outside, 80)));
    assert_eq!(hear(&sandbox.control), inside.to_string());
    remove(sandbox);
    let mut message = LinkMessage::default();
    message.header.index = index;
    execute("delete the uplink", RouteNetlinkMessage::DelLink(message));
}

fn links_carry_no_more_than_the_way_out(world: &World) {
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
    add_route("0.0.0.0/0");
    assert_eq!(mtu_of_pod(), "1400");
}

/// The MTU of a link of this network namespace.
fn mtu(link: &str) -> u32 {
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

fn no_network_is_loopback_only(world: &World) {
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
    assert_eq!(links, own.to_string(), "a fresh network namespace has as many links as the test's");
}

fn the_hosts_network_stays_the_hosts(world: &World) {
    let uid = fresh_uid();
    let config = Config { network: NetworkMode::Host, ..world.config(&uid) };
    let range = peapod::sys::namespace::ipv4_parameter("ip_local_port_range").unwrap();
    let sandbox = create(&config, |inside| until_told(&inside)).unwrap();
    let link = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    assert_eq!(link(&sandbox.pid().to_string()), link("self"));
    assert_eq!(peapod::sys::namespace::ipv4_parameter("ip_local_port_range").unwrap(), range);
    remove(sandbox);
}

fn a_host_without_addresses_reaches_its_pods(world: &World) {
    let sandbox = server_pod(world);
    assert_eq!(ask_address((address(&sandbox), 8080).into()), network::GATEWAY.to_string());
    remove(sandbox);
}

fn the_network_moves_aside(world: &World) {
    add_route("10.201.128.0/20");
    let sandbox = server_pod(world);
    assert_eq!(address(&sandbox).to_string(), "10.202.0.2");
    assert!(sandbox.warnings.iter().any(|line| line.contains("10.201.128.0/20")), "{:?}", sandbox.warnings);
    assert_eq!(ask_address((address(&sandbox), 8080).into()), HOST.to_string());
    remove(sandbox);
}

fn two_roots_never_share_an_address(world: &World) {
    let other = World::new(world.root.join("other"));
    let (one, two) = (world.create(|inside| until_told(&inside)), other.create(|inside| until_told(&inside)));
    assert_ne!(address(&one), address(&two));
    remove(one);
    let mut netfilter = Socket::netfilter().unwrap();
    assert!(nftables::table_exists(&mut netfilter, "peapod").unwrap(), "the other root's pod needs it");
    remove(two);
    assert!(other.traces().iter().all(|trace| !trace.contains("pods/")));
}

// ---- cgroup --------------------------------------------------------------------------------------

fn the_cgroup_limits_and_kills(world: &World) {
    let uid = fresh_uid();
    let mut sandbox = create(&world.config(&uid), |inside| {
        hear(&inside.control);
        let mut hoard = Vec::new();
        loop {
            hoard.push(vec![1u8; 1 << 20]);
        }
    })
    .unwrap();
    let membership = fs::read_to_string(format!("/proc/{}/cgroup", sandbox.pid())).unwrap();
    for path in sandbox.cgroups() {
        assert!(path.ends_with(format!("peapod/pod{uid}")), "{}", path.display());
    }
    let inside = membership.lines().filter(|line| line.ends_with(&format!("/peapod/pod{uid}"))).count();
    assert_eq!(inside, sandbox.cgroups().len(), "{membership}");
    let read = |file: &str| {
        let mut found = sandbox.cgroups().iter().filter_map(|path| fs::read_to_string(path.join(file)).ok());
        found.next().map(|text| text.trim().to_owned())
    };
    let memory = read("memory.max").or_else(|| read("memory.limit_in_bytes"));
    assert_eq!(memory.unwrap(), (256u64 << 20).to_string());
    let quota = read("cpu.max").or_else(|| read("cpu.cfs_quota_us")).unwrap();
    assert_eq!(quota.split(' ').next(), Some("150000"));
    assert_eq!(read("pids.max").unwrap(), "64");
    assert!(!sandbox.oom_killed());
    say(&sandbox.control, "eat");
    assert_eq!(sandbox.wait().unwrap(), Exit::Signal(9));
    assert!(sandbox.oom_killed());
    remove(sandbox);
}

/// The mount points of the test's own view of the cgroup hierarchies of this type.
fn cgroup_mounts(kind: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    lines.filter(|words| words[2] == kind).map(|words| words[1].into()).collect()
}

fn the_unified_hierarchy_is_entered_killed_and_removed(world: &World) {
    // Where v1 has the controllers, v2 can only be had without: hidden, v1 is not found.
    for place in cgroup_mounts("cgroup") {
        nix::mount::umount2(&place, nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
    assert!(matches!(cgroup::Hierarchy::find(), Some(cgroup::Hierarchy::V2 { .. })), "no cgroup2 is mounted");
    let sandbox = world.create(|inside| until_told(&inside));
    let [path] = sandbox.cgroups() else { panic!("{:?}", sandbox.cgroups()) };
    assert_eq!(fs::read_to_string(path.join("cgroup.procs")).unwrap().trim(), sandbox.pid().to_string());
    let controllers = fs::read_to_string(path.join("cgroup.controllers")).unwrap();
    let limited =
        controllers.contains("memory") && controllers.contains("cpu") && controllers.contains("pids");
    assert_eq!(sandbox.warnings.is_empty(), limited, "{:?}", sandbox.warnings);
    if limited {
        assert_eq!(fs::read_to_string(path.join("memory.max")).unwrap().trim(), (256u64 << 20).to_string());
        assert_eq!(fs::read_to_string(path.join("cpu.max")).unwrap().trim(), "150000 100000");
        assert_eq!(fs::read_to_string(path.join("pids.max")).unwrap().trim(), "64");
    }
    let mut native = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    fs::write(path.join("cgroup.procs"), native.id().to_string()).unwrap();
    let parent = path.parent().unwrap().to_owned();
    remove(sandbox);
    assert!(!native.wait().unwrap().success());
    assert!(!parent.exists() || fs::read_dir(&parent).unwrap().flatten().any(|entry| entry.path().is_dir()));
}

fn read_only_cgroups_are_a_warning(world: &World) {
    let flags =
        nix::mount::MsFlags::MS_REMOUNT | nix::mount::MsFlags::MS_BIND | nix::mount::MsFlags::MS_RDONLY;
    for place in cgroup_mounts("cgroup").into_iter().chain(cgroup_mounts("cgroup2")) {
        nix::mount::mount(None::<&str>, &place, None::<&str>, flags, None::<&str>).unwrap();
    }
    let sandbox = server_pod(world);
    assert!(sandbox.warnings.iter().all(|line| line.starts_with("no ")), "{:?}", sandbox.warnings);
    assert!(!sandbox.warnings.is_empty() && sandbox.cgroups().is_empty());
    assert_eq!(ask_address((address(&sandbox), 8080).into()), HOST.to_string());
    remove(sandbox);
}

fn removal_ends_native_processes_too(world: &World) {
    // Not of the pod's pid namespace, but of its network and cgroup: what `nsenter -n` and `cgexec` make.
    let sandbox = world.create(|inside| until_told(&inside));
    let mut native = Command::new("nsenter")
        .args(["-t", &sandbox.pid().to_string(), "-n", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("nsenter (util-linux)");
    let mut stdin = native.stdin.take().unwrap();
    writeln!(stdin, "hello").unwrap();
    let mut echoed = String::new();
    BufReader::new(native.stdout.take().unwrap()).read_line(&mut echoed).unwrap();
    for path in sandbox.cgroups() {
        fs::write(path.join("cgroup.procs"), native.id().to_string()).unwrap();
    }
    remove(sandbox);
    assert!(!native.wait().unwrap().success());
}

fn the_last_pod_out_turns_off_the_light(world: &World) {
    let mut netfilter = Socket::netfilter().unwrap();
    let mut there = || nftables::table_exists(&mut netfilter, "peapod").unwrap();
    let forwarding = || peapod::sys::namespace::ipv4_parameter("ip_forward").unwrap();
    assert!(!there());
    peapod::sys::namespace::set_ipv4_parameter("ip_forward", "0").unwrap();
    let one = world.create(|inside| until_told(&inside));
    let two = world.create(|inside| until_told(&inside));
    assert!(there());
    assert_eq!(forwarding(), "1");
    remove(one);
    assert!(there(), "the other pod needs it");
    assert_eq!(forwarding(), "1");
    remove(two);
    assert!(!there());
    assert_eq!(forwarding(), "0");

    peapod::sys::namespace::set_ipv4_parameter("ip_forward", "1").unwrap();
    remove(world.create(|inside| until_told(&inside)));
    assert_eq!(forwarding(), "1", "it was on before");
    peapod::sys::namespace::set_ipv4_parameter("ip_forward", "0").unwrap();
}

// ---- roll-back, removal, sweeping ----------------------------------------------------------------

fn a_mount_in_the_pods_directory_is_not_entered(world: &World) {
    let sandbox = world.create(|inside| until_told(&inside));
    let precious = world.root.join("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("file"), "x").unwrap();
    let inside = sandbox.pod_dir.join("volume");
    fs::create_dir(&inside).unwrap();
    // A bind mount of the same filesystem: the device number does not tell it.
    let flags = nix::mount::MsFlags::MS_BIND;
    nix::mount::mount(Some(&precious), &inside, None::<&str>, flags, None::<&str>).unwrap();
    let errors = sandbox.remove();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(precious.join("file").exists(), "removed through a mount");
    nix::mount::umount(&inside).unwrap();
    let swept = sandbox::sweep(&world.paths).unwrap();
    assert!(swept.len() == 1 && swept[0].errors.is_empty(), "{swept:?}");
    assert!(precious.join("file").exists());
}

fn a_failure_at_any_step_is_undone(world: &World) {
    let before = world.traces();
    for step in Step::ALL {
        let uid = fresh_uid();
        let config = Config { fail_at: Some(step), ..world.config(&uid) };
        let error = create(&config, |inside| until_told(&inside)).expect_err("it was to fail");
        match (step, &error) {
            (Step::Inside, SandboxError::Inside(_)) => {}
            (_, SandboxError::Failpoint(at)) => assert_eq!(*at, step),
            _ => panic!("{step:?}: {error}"),
        }
        assert_eq!(world.traces(), before, "{step:?}");
        assert!(cgroups_of(&uid).is_empty(), "{step:?}");
    }
    // And errors of the kernel's own: a hostname that is too long.
    let uid = fresh_uid();
    let hostname = "h".repeat(65);
    let config = Config { hostname: &hostname, ..world.config(&uid) };
    let error = sandbox::create(&config, |entered| entered.begin().map_or(1, |_| 0))
        .expect_err("it was to fail")
        .to_string();
    assert!(error.contains("hostname"), "{error}");
    assert_eq!(world.traces(), before);
}

fn one_uid_runs_once(world: &World) {
    let uid = fresh_uid();
    let sandbox = create(&world.config(&uid), |inside| until_told(&inside)).unwrap();
    let error = sandbox::create(&world.config(&uid), |entered| entered.begin().map_or(1, |_| 0))
        .expect_err("it runs already");
    assert!(matches!(error, SandboxError::Record(_)), "{error}");
    assert!(sandbox::sweep(&world.paths).unwrap().is_empty(), "a living pod was swept");
    assert!(sandbox.pod_dir.is_dir() && !cgroups_of(&uid).is_empty());
    remove(sandbox);
    for hostile in ["../x", "", "a/b"] {
        assert!(sandbox::create(&world.config(hostile), |entered| entered.begin().map_or(1, |_| 0)).is_err());
    }
}

fn a_process_with_threads_is_refused(world: &World) {
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || ended.recv());
    let uid = fresh_uid();
    let error = sandbox::create(&world.config(&uid), |entered| entered.begin().map_or(1, |_| 0))
        .expect_err("two threads");
    assert!(matches!(error, SandboxError::Clone(_)), "{error}");
    drop(end);
    let _ = thread.join();
}

fn a_panic_in_the_pod_stays_there(world: &World) {
    let mut sandbox = world.create(|_| panic!("on purpose"));
    assert_eq!(sandbox.wait().unwrap(), Exit::Code(101));
    remove(sandbox);
}

/// A supervisor in a process of its own: says its pod's pid, uid and address, then waits for its stdin to end.
fn supervise(world: &World) {
    let uid = fresh_uid();
    let sandbox = create(&world.config(&uid), |inside| until_told(&inside)).unwrap();
    println!("{} {uid} {}", sandbox.pid(), address(&sandbox));
    let _ = std::io::stdin().read_line(&mut String::new());
    remove(sandbox);
}

fn supervisor(world: &World) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .env(PART, "supervisor")
        .env(ROOT, &world.root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What a supervisor says: pid, uid and address of its pod.
fn said(supervisor: &mut Child) -> (i32, String, String) {
    let mut line = String::new();
    BufReader::new(supervisor.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let words: Vec<_> = line.split_ascii_whitespace().map(str::to_owned).collect();
    let [pid, uid, address] = <[String; 3]>::try_from(words).expect("three words");
    (pid.parse().unwrap(), uid, address)
}

fn a_killed_supervisor_is_swept_up_after(world: &World) {
    let before = world.traces();
    let mut victim = supervisor(world);
    let (pid, uid, address) = said(&mut victim);
    let pod = pidfd::open(pid).unwrap();
    assert!(sandbox::sweep(&world.paths).unwrap().is_empty(), "swept though its supervisor lives");
    victim.kill().unwrap();
    victim.wait().unwrap();
    // The pod process ends with its supervisor, before any sweep.
    let ended =
        poll(&mut [PollFd::new(pod.as_fd(), PollFlags::POLLIN)], PollTimeout::from(10_000u16)).unwrap();
    assert_eq!(ended, 1);
    assert!(!cgroups_of(&uid).is_empty());
    let swept = sandbox::sweep(&world.paths).unwrap();
    assert_eq!(swept.len(), 1);
    assert!(swept[0].errors.is_empty(), "{swept:?}");
    assert_eq!((swept[0].uid.as_str(), swept[0].name.as_deref()), (uid.as_str(), Some("test")));
    assert_eq!(swept[0].addresses[0].to_string(), address);
    assert_eq!(world.traces(), before);
    assert!(cgroups_of(&uid).is_empty());
}

fn a_supervisor_killed_at_any_instant_is_swept_up_after(world: &World) {
    let before = world.traces();
    let mut caught = 0;
    for instant in 0..40 {
        let mut victim = supervisor(world);
        // Not a wait for anything: the instant of death is what varies.
        std::thread::sleep(Duration::from_micros(500 + 150 * instant));
        victim.kill().unwrap();
        victim.wait().unwrap();
        let pods = fs::read_dir(world.root.join("run/pods")).into_iter().flatten().flatten();
        let uids: Vec<_> = pods.map(|entry| entry.file_name().into_string().unwrap()).collect();
        // A pod process that was just forked holds the lock, too, until it has closed its copy or has seen that
        // its supervisor is dead: then a later sweep finds it.
        let deadline = Instant::now() + Duration::from_secs(10);
        while fs::read_dir(world.root.join("run/pods")).is_ok_and(|mut pods| pods.next().is_some()) {
            assert!(Instant::now() < deadline, "{uids:?} cannot be swept");
            let swept = sandbox::sweep(&world.paths).unwrap();
            assert!(swept.iter().all(|pod| pod.errors.is_empty()), "{swept:?}");
            caught += swept.len();
        }
        assert_eq!(world.traces(), before, "after {instant}");
        assert!(uids.iter().all(|uid| cgroups_of(uid).is_empty()), "{uids:?}");
    }
    eprintln!("{caught} of 40 died with something to sweep");
}

fn garbage_is_swept_up(world: &World) {
    let pods = world.root.join("run/pods");
    let uids: Vec<_> = (0..4).map(|_| fresh_uid()).collect();
    let texts = [
        "",
        "{\"uid\":",
        "\u{0}\u{1}",
        "{\"uid\":\"x\",\"name\":\"\",\"namespace\":\"\",\"pid\":1,\
        \"started\":1,\"cgroups\":[\"/sys/fs/cgroup\",\"/etc\"],\"link\":\"lo\",\"addresses\":[]}",
    ];
    let leases = world.root.join("run/net/leases");
    fs::create_dir_all(&leases).unwrap();
    for (index, (uid, text)) in uids.iter().zip(texts).enumerate() {
        fs::create_dir_all(pods.join(uid).join("unexpected/deep")).unwrap();
        fs::write(pods.join(uid).join("record.json"), text).unwrap();
        fs::create_dir_all(world.paths.pod_state(uid).join("volumes/a")).unwrap();
        std::os::unix::fs::symlink(uid, leases.join(format!("10.201.0.{}", index + 2))).unwrap();
        for path in cgroup::Hierarchy::find().unwrap().paths(uid) {
            fs::create_dir_all(path).unwrap();
        }
    }
    std::os::unix::fs::symlink("nobody-at-all", leases.join("10.201.0.99")).unwrap();
    fs::create_dir(pods.join("empty")).unwrap();
    fs::write(pods.join("a-file"), "x").unwrap();
    let swept = sandbox::sweep(&world.paths).unwrap();
    assert_eq!(swept.len(), 5, "{swept:?}");
    assert!(swept.iter().all(|pod| pod.errors.is_empty()), "{swept:?}");
    assert!(uids.iter().all(|uid| cgroups_of(uid).is_empty()));
    assert!(!leases.exists() || fs::read_dir(&leases).unwrap().next().is_none());
    assert!(Path::new("/etc").exists() && nix::net::if_::if_nametoindex("lo").is_ok());
    fs::remove_file(pods.join("a-file")).unwrap();
    fs::remove_dir(&leases).ok();
    fs::remove_dir(world.root.join("run/net")).ok();
}

fn eight_at_once_get_eight_addresses(world: &World) {
    let mut supervisors: Vec<_> = (0..8).map(|_| supervisor(world)).collect();
    let said: Vec<_> = supervisors.iter_mut().map(said).collect();
    let addresses: HashSet<_> = said.iter().map(|(_, _, address)| address).collect();
    assert_eq!(addresses.len(), 8, "{said:?}");
    for mut supervisor in supervisors {
        drop(supervisor.stdin.take());
        assert!(supervisor.wait().unwrap().success());
    }
    assert!(said.iter().all(|(_, uid, _)| cgroups_of(uid).is_empty()));
}

// ---- without root --------------------------------------------------------------------------------

fn without_root_a_pod_has_loopback(world: &World) {
    let root = world.root.join("nobody");
    fs::create_dir(&root).unwrap();
    // The test's own directory is for root alone.
    fs::set_permissions(&world.root, std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    std::os::unix::fs::chown(&root, Some(NOBODY), Some(NOBODY)).unwrap();
    // Where nobody may run it, too.
    let binary = root.join("test");
    fs::copy(std::env::current_exe().unwrap(), &binary).unwrap();
    let output = Command::new(&binary)
        .env(PART, "rootless")
        .env(ROOT, &root)
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn rootless(world: &World) {
    let user = nix::unistd::geteuid().as_raw();
    assert_ne!(user, 0);
    let uid = fresh_uid();
    let mut sandbox = create(&world.config(&uid), |inside| {
        let listener = TcpListener::bind("127.0.0.1:80").expect("a low port of the pod's own");
        TcpStream::connect(listener.local_addr().unwrap()).expect("lo is up");
        fs::write(inside.pod_dir.join("file"), "x").unwrap();
        fs::write("/dev/shm/file", "x").unwrap();
        say(&inside.control, fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim());
        until_told(&inside)
    })
    .unwrap();
    assert_eq!(hear(&sandbox.control), "test-host");
    assert!(sandbox.addresses.is_empty());
    assert!(sandbox.cgroups().is_empty());
    let [warning] = sandbox.warnings.as_slice() else { panic!("{:?}", sandbox.warnings) };
    assert!(warning.contains("no address") && warning.contains("no cgroup"), "{warning}");
    assert_eq!(fs::metadata(sandbox.pod_dir.join("file")).unwrap().uid(), user);
    say(&sandbox.control, "end");
    assert_eq!(sandbox.wait().unwrap(), Exit::Code(0));
    let pod_dir = sandbox.pod_dir.clone();
    remove(sandbox);
    assert!(!pod_dir.exists());
    assert!(sandbox::sweep(&world.paths).unwrap().is_empty());
}

// ---- the bench's floor ---------------------------------------------------------------------------

fn the_floor_is_measured_and_removed(_: &World) {
    for _ in 0..3 {
        let floor = sandbox::floor().unwrap();
        let phases: Vec<_> = floor.phases.iter().map(|(name, _)| *name).collect();
        assert_eq!(phases, ["cgroup", "clone", "link", "route", "ready"]);
        eprintln!("{floor:?}");
    }
    assert!(cgroups_of(&format!("floor-{}", std::process::id())).is_empty());
}
