//! What a test finds: directories, an own network namespace, and helpers for pods' processes.

use peapod::sandbox::record::Identity;

use super::*;

/// The limits of the tests' pods.
pub(super) const LIMITS: cgroup::Limits = cgroup::Limits {
    memory_bytes: Some(256 << 20),
    cpu_millis: Some(1500),
    cpu_shares: Some(512),
    pids: Some(64),
};

pub(super) struct World {
    pub(super) root: PathBuf,
    pub(super) paths: Paths,
}

pub(super) fn paths(root: &Path) -> Paths {
    Paths::resolve(0, |name| (name == "PEAPOD_ROOT").then(|| root.into()))
}

impl World {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { paths: paths(&root), root }
    }

    pub(super) fn config<'a>(&'a self, uid: &'a str) -> Config<'a> {
        Config {
            // Looked for each time: some tests change the machine or the user first.
            host: Box::leak(Box::new(sandbox::Host::look())),
            paths: &self.paths,
            uid,
            identity: Identity {
                name: "test".into(),
                namespace: "default".into(),
                hostname: "test-host".into(),
                ..Identity::default()
            },
            network: NetworkMode::Pod,
            pod_networks: network::PodNetworks::default(),
            host_ports: &[],
            cni: None,
            limits: LIMITS,
            oom_score_adj: 321,
            shm_bytes: 1 << 20,
            fail_at: None,
        }
    }

    pub(super) fn create(&self, child: impl FnOnce(Inside) -> i32) -> Sandbox {
        let uid = fresh_uid();
        create(&self.config(&uid), child).expect("a sandbox")
    }

    /// All that a pod could leave behind. The names of the pods' directories are part of it, base directories
    /// and the lock file in them are not.
    pub(super) fn traces(&self) -> Vec<String> {
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
        for set in ["host-ports-v4", "host-ports-v6", "pods-v4", "pods-v6"] {
            let elements = nftables::elements(&mut netfilter, "peapod", set).unwrap();
            traces.extend(elements.iter().map(|element| format!("{set} {element:?}")));
        }
        let ipv6 = ["all/forwarding", "all/force_forwarding", "default/force_forwarding", "lo/accept_ra"];
        let parameters = ipv6.map(|name| format!("ipv6/conf/{name}"));
        for name in parameters.iter().map(String::as_str).chain(["ipv4/ip_forward"]) {
            traces.push(format!("{name} {:?}", parameter(name).ok()));
        }
        traces.extend(routes());
        traces.extend(children().into_iter().map(|pid| format!("process {pid}")));
        traces.sort();
        traces
    }
}

pub(super) fn fresh_uid() -> String {
    format!("test-{}", uuid::Uuid::new_v4())
}

/// The cgroups of pod `uid`, in every hierarchy.
pub(super) fn cgroups_of(uid: &str) -> Vec<PathBuf> {
    let paths = cgroup::Hierarchy::find().expect("cgroups").paths(uid);
    paths.into_iter().filter(|path| path.exists()).collect()
}

pub(super) fn children() -> Vec<String> {
    let path = format!("/proc/self/task/{}/children", std::process::id());
    let list = fs::read_to_string(path).unwrap_or_default();
    list.split_ascii_whitespace().map(str::to_owned).collect()
}

pub(super) fn remove(sandbox: Sandbox) {
    let cgroups = sandbox.cgroups().to_vec();
    let errors = sandbox.remove();
    assert!(errors.is_empty(), "{errors:?}");
    assert!(!cgroups.iter().any(|path| path.exists()), "{cgroups:?}");
}

/// The pod's IPv4 address.
pub(super) fn address(sandbox: &Sandbox) -> IpAddr {
    both(sandbox)[0]
}

/// The pod's addresses, IPv4 and IPv6.
pub(super) fn both(sandbox: &Sandbox) -> [IpAddr; 2] {
    let [v4 @ IpAddr::V4(_), v6 @ IpAddr::V6(_)] = sandbox.addresses[..] else {
        panic!("{:?} {:?}", sandbox.addresses, sandbox.warnings)
    };
    [v4, v6]
}

/// The routes by way of pods' links, as the kernel's files show them.
fn routes() -> Vec<String> {
    let files = ["route", "ipv6_route"].map(|file| fs::read_to_string(format!("/proc/self/net/{file}")));
    let lines = files.iter().flatten().flat_map(|text| text.lines());
    lines.filter(|line| line.contains(network::LINK_PREFIX)).map(str::to_owned).collect()
}

/// Says one line to the other side.
pub(super) fn say(mut control: &UnixStream, text: impl std::fmt::Display) {
    control.write_all(format!("{text}\n").as_bytes()).expect("the other side listens");
}

/// Hears one line of the other side; empty when it has ended.
pub(super) fn hear(mut control: &UnixStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while control.read(&mut byte).expect("the other side") == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8(line).expect("text")
}

/// A sandbox whose child runs once its network is there.
pub(super) fn create(
    config: &Config<'_>,
    child: impl FnOnce(Inside) -> i32,
) -> Result<Sandbox, SandboxError> {
    sandbox::create(config, |entered: Entered| entered.begin().map_or(1, child))
}

/// Waits until the supervisor lets the pod end.
pub(super) fn until_told(inside: &Inside) -> i32 {
    hear(&inside.control);
    0
}

/// How often this network namespace had to send a SYN again.
pub(super) fn repeated_syns() -> u64 {
    let text = fs::read_to_string("/proc/self/net/netstat").unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut pairs = names.split(' ').zip(values.split(' '));
    pairs.find(|(name, _)| *name == "TCPSynRetrans").unwrap().1.parse().unwrap()
}

/// The host's addresses towards another machine (RFC 5737, RFC 3849).
pub(super) const UPLINK: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1))];
/// The other machine's.
pub(super) const OUTSIDE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(203, 0, 113, 2)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2))];

type Task = Box<dyn FnOnce() + Send>;

/// Another machine: a network namespace, held by a thread, at the other end of a link.
pub(super) struct Outside {
    tasks: std::sync::mpsc::Sender<Task>,
    uplink: u32,
}

impl Outside {
    pub(super) fn new() -> Self {
        let (tasks, next) = std::sync::mpsc::channel::<Task>();
        let (ready, is_ready) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ready.send(fs::File::open("/proc/thread-self/ns/net").unwrap()).unwrap();
            next.into_iter().for_each(|task| task());
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
        let uplink = nix::net::if_::if_nametoindex("uplink").unwrap();
        link_up(uplink);
        UPLINK.into_iter().for_each(|address| add_address(uplink, address));
        let outside = Self { tasks, uplink };
        outside.run(|| {
            let index = nix::net::if_::if_nametoindex("world").unwrap();
            link_up(index);
            OUTSIDE.into_iter().for_each(|address| add_address(index, address));
            wait_for(OUTSIDE[1]);
        });
        wait_for(UPLINK[1]);
        outside
    }

    /// Runs something over there, and waits for its result.
    pub(super) fn run<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = std::sync::mpsc::channel();
        self.tasks.send(Box::new(move || drop(done.send(task())))).unwrap();
        result.recv().expect("the task ends well")
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let mut message = LinkMessage::default();
        message.header.index = self.uplink;
        execute("delete the uplink", RouteNetlinkMessage::DelLink(message));
    }
}

/// A server that tells everyone their address.
pub(super) fn tell_addresses(listener: TcpListener) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let peer = stream.peer_addr().unwrap().ip();
        let _ = writeln!(stream, "{peer}");
    }
}

/// A listener for IPv6 alone, as another for IPv4 has the port.
pub(super) fn only_v6(port: u16) -> TcpListener {
    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, SockaddrIn6, bind, listen, setsockopt, sockopt,
    };
    let socket =
        nix::sys::socket::socket(AddressFamily::Inet6, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
    let socket = socket.unwrap();
    setsockopt(&socket, sockopt::Ipv6V6Only, &true).unwrap();
    let any = std::net::SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0);
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrIn6::from(any)).unwrap();
    listen(&socket, Backlog::MAXCONN).unwrap();
    TcpListener::from(socket)
}

/// The same with datagrams.
pub(super) fn tell_addresses_by_datagram(socket: UdpSocket) {
    while let Ok((_, peer)) = socket.recv_from(&mut [0; 16]) {
        let _ = socket.send_to(peer.ip().to_canonical().to_string().as_bytes(), peer);
    }
}

pub(super) fn ask_address_by_datagram(server: SocketAddr) -> String {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).unwrap();
    socket.set_read_timeout(Some(TEST_TIMEOUT / 4)).unwrap();
    socket.connect(server).unwrap();
    socket.send(b"who am I?").unwrap();
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer).unwrap_or_else(|error| panic!("{server}: {error}"));
    String::from_utf8(answer[..length].to_vec()).unwrap()
}

pub(super) fn ask_address(server: SocketAddr) -> String {
    let stream = TcpStream::connect(server).unwrap_or_else(|error| panic!("{server}: {error}"));
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line.trim().to_owned()
}

pub(super) fn execute(step: &'static str, message: RouteNetlinkMessage) {
    let flags = if matches!(message, RouteNetlinkMessage::DelLink(_)) { 0 } else { CREATE | EXCLUSIVE };
    let mut batch = Batch::default();
    batch.push(step, &message, flags);
    Socket::route().unwrap().execute(&batch).unwrap();
}

pub(super) fn link_up(index: u32) {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    execute("bring a link up", RouteNetlinkMessage::SetLink(message));
}

pub(super) fn add_address(index: u32, address: impl Into<IpAddr>) {
    let address = address.into();
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = match (address, index) {
        (IpAddr::V4(_), 1) => 32,
        (IpAddr::V4(_), _) => 24,
        (IpAddr::V6(_), 1) => 128,
        (IpAddr::V6(_), _) => 64,
    };
    message.header.index = index;
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
        AddressAttribute::Flags(AddressFlags::Nodad),
    ];
    execute("add an address", RouteNetlinkMessage::NewAddress(message));
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// Waits until packets to this address of the host arrive: a worker of the kernel sees to that.
pub(super) fn wait_for(address: impl Into<IpAddr>) {
    let IpAddr::V6(address) = address.into() else { return };
    let hex: String = address.octets().iter().map(|byte| format!("{byte:02x}")).collect();
    let deadline = Instant::now() + TEST_TIMEOUT;
    let is_local = |line: &str| {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        // RTF_LOCAL of linux/ipv6_route.h.
        words[0] == hex && u32::from_str_radix(words[8], 16).unwrap() & 0x8000_0000 != 0
    };
    while !fs::read_to_string("/proc/thread-self/net/ipv6_route").unwrap().lines().any(is_local) {
        assert!(Instant::now() < deadline, "{address} is not there");
        std::thread::yield_now();
    }
}

/// Leads packets out by a link.
pub(super) fn add_route(destination: &str, index: u32) {
    let destination: ipnet::IpNet = destination.parse().unwrap();
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(destination.addr()),
        destination_prefix_length: destination.prefix_len(),
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Static,
        scope: RouteScope::Link,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes = vec![RouteAttribute::Oif(index)];
    if destination.prefix_len() > 0 {
        message.attributes.push(RouteAttribute::Destination(destination.addr().into()));
    }
    execute("add a route", RouteNetlinkMessage::NewRoute(message));
}
