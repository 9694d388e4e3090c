//! What a test finds: directories, an own network namespace, and helpers for pods' processes.

use peapod::sandbox::record::Identity;

use super::*;

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
            pod_cidr: "10.201.0.0/16".parse().unwrap(),
            limits: cgroup::Limits { memory_bytes: Some(256 << 20), cpu_millis: Some(1500), pids: Some(64) },
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
        traces.push(format!("ip_forward {}", peapod::sys::namespace::ipv4_parameter("ip_forward").unwrap()));
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

pub(super) fn address(sandbox: &Sandbox) -> IpAddr {
    assert_eq!(sandbox.addresses.len(), 1, "{:?}", sandbox.warnings);
    sandbox.addresses[0]
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

/// A server that tells everyone their address.
pub(super) fn tell_addresses(listener: TcpListener) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let peer = stream.peer_addr().unwrap().ip();
        let _ = writeln!(stream, "{peer}");
    }
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

pub(super) fn add_address(index: u32, address: Ipv4Addr) {
    let mut message = AddressMessage::default();
    message.header.family = netlink_packet_route::AddressFamily::Inet;
    message.header.prefix_len = if index == 1 { 32 } else { 24 };
    message.header.index = index;
    message.attributes =
        vec![AddressAttribute::Local(address.into()), AddressAttribute::Address(address.into())];
    execute("add an address", RouteNetlinkMessage::NewAddress(message));
}

pub(super) fn add_route(destination: &str) {
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
