//! `peapod ss POD`: the sockets of a running pod's containers, as ss(8) shows those of the kernel.
//!
//! ```text
//! records ─► which pod ─► its control socket ─► PodNetwork ─► filter ─► table, or JSON
//! ```

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use super::table::{Align, Table};
use super::{Failure, target};
use crate::api::client;
use crate::api::types::{self, Plane, PodNetwork, Protocol, Socket};
use crate::paths::Paths;

/// Show the sockets of a running pod's containers, also those that the kernel does not know.
///
/// Without -a or -l: connections. Connections between two containers of the pod are on the memory plane, all
/// others on the kernel's; a listener is on both. Sockets of native processes in the pod are the
/// kernel's to show: nsenter -t PID -n ss.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  peapod ss                connections, when only one pod runs
  peapod ss web -a         listeners too
  peapod ss web -tln       who listens on TCP
  peapod ss prod/web -s    totals by container and plane: connections, bytes, resets, drops
  peapod ss web -o json    everything, for programs

Queues: bytes; of a listener: connections that wait to be accepted, and how many may.
In and Out (-i): bytes that the container has read and written.
Packets denied by policy (-s): by the kernel, which does so for native processes too; some
seconds old.")]
pub struct Args {
    /// The pod: NAME, pod/NAME, NAMESPACE/NAME or the first letters of its uid [default: the one that runs].
    pod: Option<String>,
    /// Listeners only.
    #[arg(short, long)]
    listening: bool,
    /// Listeners, connections and unconnected sockets.
    #[arg(short, long)]
    all: bool,
    /// TCP.
    #[arg(short, long)]
    tcp: bool,
    /// UDP.
    #[arg(short, long)]
    udp: bool,
    /// IPv4.
    #[arg(short = '4', long)]
    ipv4: bool,
    /// IPv6.
    #[arg(short = '6', long)]
    ipv6: bool,
    /// Bytes read and written, too.
    #[arg(short, long)]
    info: bool,
    /// Totals instead of sockets.
    #[arg(short, long)]
    summary: bool,
    /// Numbers instead of names: they always are; accepted because fingers know it.
    #[arg(short, long, hide = true)]
    numeric: bool,
    /// Whose sockets: it is always told; accepted like the above.
    #[arg(short, long, hide = true)]
    processes: bool,
    /// Another form than a table. JSON has all sockets and counters, whatever else is asked for.
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    /// The PodNetwork object of the API.
    Json,
}

/// Asks the pod and prints.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let paths = Paths::from_env();
    let pod = target::find(&paths, None, target::one_name(args.pod.as_slice())?)?;
    let identity = &pod.identity;
    let path = format!("/api/v1/namespaces/{}/pods/{}/network", identity.namespace, identity.name);
    let network = client::get(&paths.pod_run(&pod.uid), &path);
    let network: PodNetwork = network.map_err(|error| target::about(&pod, &error))?;
    let text = match args.output {
        Some(Format::Json) => serde_json::to_string_pretty(&network)? + "\n",
        None if args.summary => summary(&network),
        None => sockets(args, &network),
    };
    target::print(&text)?;
    if network.omitted > 0 && args.output.is_none() && std::io::stderr().is_terminal() {
        let _ = writeln!(std::io::stderr(), "peapod: {} more sockets are not shown", network.omitted);
    }
    Ok(ExitCode::SUCCESS)
}

fn is_shown(args: &Args, socket: &Socket) -> bool {
    let protocol = match socket.protocol {
        Protocol::Tcp => args.tcp || !args.udp,
        Protocol::Udp => args.udp || !args.tcp,
    };
    let family = if socket.local.is_ipv4() { args.ipv4 || !args.ipv6 } else { args.ipv6 || !args.ipv4 };
    // As ss(8): UDP that hears everybody counts as listening; what is neither that nor a connection is shown
    // with -a only.
    let listens = match socket.protocol {
        Protocol::Tcp => socket.state == "LISTEN",
        Protocol::Udp => socket.state == "UNCONN",
    };
    let connected = !matches!(socket.state.as_str(), "LISTEN" | "UNCONN" | "TIME-WAIT");
    protocol && family && (args.all || if args.listening { listens } else { connected })
}

fn sockets(args: &Args, network: &PodNetwork) -> String {
    use Align::{Left, Right};
    let mut head = vec![
        ("Netid", Left),
        ("State", Left),
        ("Recv-Q", Right),
        ("Send-Q", Right),
        ("Local Address:Port", Left),
        ("Peer Address:Port", Left),
        ("Plane", Left),
        ("Container", Left),
        ("Peer", Left),
    ];
    if args.info {
        head.extend([("In", Right), ("Out", Right)]);
    }
    let mut table = Table::new(&head);
    for socket in network.sockets.iter().filter(|socket| is_shown(args, socket)) {
        let mut row = vec![
            netid(socket.protocol).to_owned(),
            socket.state.clone(),
            socket.recv_queue.to_string(),
            socket.send_queue.to_string(),
            address(socket.local),
            socket.peer.map_or_else(|| any_peer(socket.local), address),
            plane(socket.plane).to_owned(),
            socket.container.clone(),
            socket.peer_container.clone().unwrap_or_else(|| "-".to_owned()),
        ];
        if args.info {
            row.extend([socket.bytes_in.to_string(), socket.bytes_out.to_string()]);
        }
        table.row(row);
    }
    table.to_string()
}

fn netid(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

fn plane(plane: Plane) -> &'static str {
    match plane {
        Plane::Memory => "memory",
        Plane::Kernel => "kernel",
        Plane::Both => "both",
    }
}

/// As ss(8): `*` for port 0.
fn address(address: SocketAddr) -> String {
    match (address, address.port()) {
        (SocketAddr::V4(v4), 0) => format!("{}:*", v4.ip()),
        (SocketAddr::V6(v6), 0) => format!("[{}]:*", v6.ip()),
        (address, _) => address.to_string(),
    }
}

fn any_peer(local: SocketAddr) -> String {
    if local.is_ipv4() { "0.0.0.0:*" } else { "[::]:*" }.to_owned()
}

/// The counters of each container and plane. Lines that would say nothing but zero are left out.
fn summary(network: &PodNetwork) -> String {
    use Align::{Left, Right};
    let numbers = |names: &[&'static str]| {
        let columns = names.iter().map(|name| (*name, Right));
        [("Container", Left), ("Plane", Left)].into_iter().chain(columns).collect::<Vec<_>>()
    };
    let mut tcp = Table::new(&numbers(&[
        "Listen",
        "Open",
        "Opened",
        "Accepted",
        "Refused",
        "RST in",
        "RST out",
        "Bytes in",
        "Bytes out",
    ]));
    let mut udp = Table::new(&numbers(&["Open", "Datagrams in", "out", "dropped", "Bytes in", "Bytes out"]));
    let mut denied = Table::new(&[("Container", Left), ("Denied", Right)]);
    for container in &network.containers {
        for (plane, counters) in [("memory", &container.memory), ("kernel", &container.kernel)] {
            let row = |numbers: &[Option<u64>]| {
                let numbers = numbers.iter().map(|n| n.map_or_else(|| "-".to_owned(), |n| n.to_string()));
                [container.name.clone(), plane.to_owned()].into_iter().chain(numbers).collect::<Vec<_>>()
            };
            // What only the kernel could tell of its own plane.
            let known = |n| (plane == "memory").then_some(n);
            let t = &counters.tcp;
            if *t != types::Tcp::default() {
                tcp.row(row(&[
                    Some(t.listening),
                    Some(t.open),
                    Some(t.opened),
                    Some(t.accepted),
                    Some(t.refused),
                    Some(t.resets_received),
                    known(t.resets_sent),
                    Some(t.bytes_in),
                    Some(t.bytes_out),
                ]));
            }
            let u = &counters.udp;
            if *u != types::Udp::default() {
                udp.row(row(&[
                    Some(u.open),
                    Some(u.datagrams_in),
                    Some(u.datagrams_out),
                    known(u.dropped),
                    Some(u.bytes_in),
                    Some(u.bytes_out),
                ]));
            }
        }
        if container.denied > 0 {
            denied.row([container.name.clone(), container.denied.to_string()]);
        }
    }
    let mut packets = Table::new(&[("Direction", Left), ("Packets", Right)]);
    let types::DeniedPackets { ingress, egress } = network.denied_packets;
    for (direction, count) in [("in", ingress), ("out", egress)].into_iter().filter(|(_, count)| *count > 0) {
        packets.row([direction.to_owned(), count.to_string()]);
    }
    let named =
        [("TCP", tcp), ("UDP", udp), ("Denied by policy", denied), ("Packets denied by policy", packets)];
    let shown: Vec<_> = named
        .iter()
        .filter(|(_, table)| !table.is_empty())
        .map(|(name, table)| format!("{name}\n{table}"))
        .collect();
    if shown.is_empty() { "no traffic so far\n".to_owned() } else { shown.join("\n") }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(words: &[&str]) -> Args {
        Line::parse_from(std::iter::once(&"ss").chain(words)).args
    }

    fn socket(protocol: Protocol, state: &str, local: &str) -> Socket {
        Socket {
            container: "web".to_owned(),
            protocol,
            plane: Plane::Kernel,
            state: state.to_owned(),
            local: local.parse().unwrap(),
            peer: None,
            peer_container: None,
            recv_queue: 0,
            send_queue: 128,
            bytes_in: 1,
            bytes_out: 2,
        }
    }

    #[test]
    fn the_flags_are_ss_s() {
        let all = [
            socket(Protocol::Tcp, "LISTEN", "0.0.0.0:80"),
            socket(Protocol::Tcp, "ESTAB", "127.0.0.1:80"),
            socket(Protocol::Tcp, "CLOSE-WAIT", "[::1]:80"),
            socket(Protocol::Udp, "UNCONN", "0.0.0.0:53"),
            socket(Protocol::Udp, "ESTAB", "[::1]:53"),
        ];
        let shown = |words: &[&str]| {
            let args = args(words);
            all.iter().map(|socket| is_shown(&args, socket)).collect::<Vec<_>>()
        };
        assert_eq!(shown(&[]), [false, true, true, false, true]);
        assert_eq!(shown(&["-a"]), [true; 5]);
        assert_eq!(shown(&["-l"]), [true, false, false, true, false]);
        assert_eq!(shown(&["-t"]), [false, true, true, false, false]);
        assert_eq!(shown(&["-ua"]), [false, false, false, true, true]);
        assert_eq!(shown(&["-tua4np"]), [true, true, false, true, false]);
        assert_eq!(shown(&["-a6"]), [false, false, true, false, true]);
        assert_eq!(shown(&["-a46"]), [true; 5]);
    }

    #[test]
    fn a_table_is_aligned() {
        let network = PodNetwork {
            api_version: String::new(),
            kind: String::new(),
            metadata: Default::default(),
            sockets: vec![
                socket(Protocol::Tcp, "LISTEN", "0.0.0.0:80"),
                Socket {
                    plane: Plane::Memory,
                    peer: Some("127.0.0.1:49152".parse().unwrap()),
                    peer_container: Some("client".to_owned()),
                    ..socket(Protocol::Tcp, "ESTAB", "127.0.0.1:80")
                },
            ],
            omitted: 0,
            containers: Vec::new(),
            denied_packets: types::DeniedPackets::default(),
        };
        let expected = "\
Netid  State   Recv-Q  Send-Q  Local Address:Port  Peer Address:Port  Plane   Container  Peer    In  Out
tcp    LISTEN       0     128  0.0.0.0:80          0.0.0.0:*          kernel  web        -        1    2
tcp    ESTAB        0     128  127.0.0.1:80        127.0.0.1:49152    memory  web        client   1    2
";
        assert_eq!(sockets(&args(&["-ai"]), &network), expected);
    }

    #[test]
    fn totals_leave_out_what_says_nothing() {
        let busy = types::Container {
            name: "web".to_owned(),
            denied: 2,
            memory: types::Counters::default(),
            kernel: types::Counters {
                tcp: types::Tcp { listening: 1, accepted: 3, ..types::Tcp::default() },
                ..types::Counters::default()
            },
        };
        let idle =
            types::Container { name: "idle".to_owned(), denied: 0, kernel: busy.memory, ..busy.clone() };
        let mut network = PodNetwork {
            api_version: String::new(),
            kind: String::new(),
            metadata: Default::default(),
            sockets: Vec::new(),
            omitted: 0,
            containers: vec![idle],
            denied_packets: types::DeniedPackets::default(),
        };
        assert_eq!(summary(&network), "no traffic so far\n");
        network.containers.push(busy);
        let expected = "\
TCP
Container  Plane   Listen  Open  Opened  Accepted  Refused  RST in  RST out  Bytes in  Bytes out
web        kernel       1     0       0         3        0       0        -         0          0

Denied by policy
Container  Denied
web             2

Packets denied by policy
Direction  Packets
in               7
";
        network.denied_packets.ingress = 7;
        assert_eq!(summary(&network), expected);
    }
}
