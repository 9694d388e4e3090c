//! The kernel's filter against the rules themselves: random policies, real datagrams.
//!
//! Each case has a network namespace of its own with a link that leads nowhere: a datagram that the filter lets out is
//! sent into nothing, one that it drops fails with EPERM. Both chains are made by the same code; what comes in is
//! tested with whole pods in `tests/pods/policy.rs`.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::io::ErrorKind;

use nix::net::if_::if_nametoindex;
use peapod::net::policy::{Direction, Node, PodRules, PolicyConfig, Reason};
use peapod::net::{Family, Policy, Stack, StackConfig, Tell};
use peapod::pod::network::firewall::Firewall;
use peapod::spec::network_policy::{
    Condition, IpBlock, LabelSelector, Namespaces, NetworkPolicy, Peer, PodSelector, Ports, Requirement, Rule,
};
use peapod::spec::{NetworkRules, Protocol};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

const LINK: &str = "nowhere";
/// Where datagrams are sent to; the first two are pods of the selectors.
const TARGETS: [&str; 9] = [
    "10.0.0.1",
    "fd00::1",
    "10.0.0.2",
    "10.1.0.1",
    "10.1.2.3",
    "11.0.0.1",
    "192.0.2.1",
    "fd00:1::1",
    "2001:db8::1",
];
const PORTS: std::ops::Range<u16> = 1..6;

fn ip(text: &str) -> IpAddr {
    text.parse().expect(text)
}

/// A link with an address of each family, and everything behind it: a veth whose other end nobody listens at.
fn link_to_nowhere() {
    // Without ARP nobody is asked where a neighbour is.
    let end = |name: &str| {
        let mut link = LinkMessage::default();
        link.header.flags = LinkFlags::Noarp;
        link.header.change_mask = LinkFlags::Noarp;
        link.attributes.push(LinkAttribute::IfName(name.into()));
        link
    };
    let mut link = end(LINK);
    let data = InfoData::Veth(InfoVeth::Peer(end("far")));
    link.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(data)]));
    execute("make a link", RouteNetlinkMessage::NewLink(link));
    let [far, near] = ["far", LINK].map(|name| if_nametoindex(name).expect("the link"));
    link_up(far);
    link_up(near);
    add_address(near, ip("198.51.100.1"));
    add_address(near, ip("2001:db8:1::1"));
    add_route("0.0.0.0/0", near);
    add_route("::/0", near);
}

/// Runs `check` on a thread in a network namespace of its own.
fn in_namespace<T: Send + 'static>(check: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        link_to_nowhere();
        check()
    });
    thread.join().expect("no panic")
}

/// Whether the kernel lets a datagram out.
fn is_let_out(target: SocketAddr) -> bool {
    let socket = UdpSocket::bind(if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).expect("a socket");
    match socket.send_to(b"word", target) {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => false,
        Err(error) => panic!("{target}: {error}"),
    }
}

fn selector(value: &str) -> PodSelector {
    let condition = Condition::In(BTreeSet::from([value.to_owned()]));
    let pods = LabelSelector { requirements: vec![Requirement { key: "app".into(), condition }] };
    PodSelector { namespaces: Namespaces::Named("default".into()), pods }
}

fn peer() -> impl Strategy<Value = Peer> {
    let blocks = vec![
        ("10.0.0.0/8", vec!["10.1.0.0/16"]),
        ("10.1.0.0/16", vec!["10.1.0.0/24", "10.1.1.0/24"]),
        ("0.0.0.0/0", vec![]),
        ("0.0.0.0/0", vec!["10.0.0.0/8"]),
        ("10.0.0.2/31", vec![]),
        ("fd00::/8", vec!["fd00::/32"]),
        ("::/0", vec![]),
    ];
    let block = prop::sample::select(blocks).prop_map(|(cidr, except)| {
        let net = |text: &str| text.parse().expect(text);
        Peer::Block(IpBlock { cidr: net(cidr), except: except.into_iter().map(net).collect() })
    });
    prop_oneof![block, prop::sample::select(vec!["x", "y", "z"]).prop_map(|app| Peer::Pods(selector(app)))]
}

fn rule() -> impl Strategy<Value = Rule> {
    let protocol = prop_oneof![Just(Protocol::Udp), Just(Protocol::Udp), Just(Protocol::Tcp)];
    let ports = (protocol, PORTS, 0..3u16).prop_map(|(protocol, first, more)| Ports {
        protocol,
        first,
        last: first + more,
    });
    let peers = prop::option::of(prop::collection::vec(peer(), 1..4));
    let ports = prop::option::of(prop::collection::vec(ports, 0..3));
    (peers, ports).prop_map(|(peers, ports)| Rule { peers, ports })
}

fn policy() -> impl Strategy<Value = NetworkPolicy> {
    let egress = prop::option::of(prop::collection::vec(rule(), 0..3));
    egress.prop_map(|egress| NetworkPolicy { name: "p".into(), ingress: Some(vec![]), egress })
}

/// The first selector's pods, the second's, and so on; another time another way round.
fn peers(rules: &PodRules, turn: usize) -> Vec<Vec<IpAddr>> {
    let pods = [
        vec![ip(TARGETS[0])],
        vec![ip(TARGETS[0]), ip(TARGETS[1])],
        vec![ip(TARGETS[1]), ip(TARGETS[1])],
        vec![],
    ];
    (0..rules.selectors().len()).map(|place| pods[(place + turn) % pods.len()].clone()).collect()
}

fn compare(rules: &PodRules, turn: usize) -> Result<(), String> {
    rules.set_peers(&peers(rules, turn));
    for target in TARGETS.map(ip) {
        for port in PORTS {
            let (kernel, own) = (
                is_let_out((target, port).into()),
                rules.allow(Direction::Egress, target, Protocol::Udp, port),
            );
            if kernel != own {
                return Err(format!("{target} port {port}: the kernel says {kernel}, turn {turn}"));
            }
        }
    }
    Ok(())
}

pub(super) fn the_kernel_lets_out_what_the_rules_allow(_: &World) {
    let mut runner = TestRunner::new(Config { cases: 48, failure_persistence: None, ..Config::default() });
    let policies = prop::collection::vec(policy(), 1..4);
    let result = runner.run(&policies, |policies| {
        let found = in_namespace(move || {
            let rules = PodRules::new(&policies);
            let mut firewall =
                Firewall::apply(&rules, &peers(&rules, 0), &Node::default()).map_err(|e| e.to_string())?;
            compare(&rules, 0)?;
            // Pods come and go; some stay.
            firewall.set_peers(&peers(&rules, 1)).map_err(|error| error.to_string())?;
            compare(&rules, 1)
        });
        found.map_err(TestCaseError::fail)
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

pub(super) fn thousands_of_rules_and_peers_are_one_transaction(_: &World) {
    in_namespace(|| {
        let ports = |first| Ports { protocol: Protocol::Udp, first, last: first };
        let rule = Rule {
            peers: Some(vec![
                Peer::Pods(selector("x")),
                Peer::Block(IpBlock {
                    cidr: "10.9.0.0/16".parse().unwrap(),
                    except: vec!["10.9.9.0/24".parse().unwrap(); 100],
                }),
            ]),
            ports: Some((1..2000).map(ports).collect()),
        };
        let rules =
            PodRules::new(&[NetworkPolicy { name: "p".into(), ingress: None, egress: Some(vec![rule]) }]);
        let many = |family: fn(u32) -> IpAddr| (0..3000).map(family);
        let v4 = |number: u32| IpAddr::V4((0x0a01_0000 + number).into());
        let v6 = |number: u32| IpAddr::V6((0xfd00_u128 << 112 | u128::from(number)).into());
        let addresses = vec![many(v4).chain(many(v6)).collect::<Vec<_>>()];
        let mut firewall = Firewall::apply(&rules, &addresses, &Node::default()).expect("applied");
        assert!(is_let_out((v4(2999), 1999).into()));
        assert!(is_let_out((v6(2999), 1).into()));
        assert!(!is_let_out((v4(2999), 2000).into()));
        assert!(!is_let_out((v4(3000), 1).into()));
        assert!(is_let_out("10.9.8.1:1000".parse().unwrap()));
        assert!(!is_let_out("10.9.9.1:1000".parse().unwrap()));
        assert_eq!(firewall.denied(Direction::Egress).expect("a counter"), 3);
        firewall.denied(Direction::Ingress).expect_err("no policy for it");
        firewall.set_peers(&addresses).expect("the same again");
        firewall.set_peers(&[vec![]]).expect("none");
        assert!(!is_let_out((v4(2999), 1999).into()));
    });
}

pub(super) fn a_change_that_is_refused_says_nothing_of_the_next(_: &World) {
    in_namespace(|| {
        let rule = Rule { peers: Some(vec![Peer::Pods(selector("x"))]), ports: None };
        let both = NetworkPolicy { name: "p".into(), ingress: Some(vec![]), egress: Some(vec![rule]) };
        let rules = PodRules::new(&[both]);
        let mut firewall = Firewall::apply(&rules, &[], &Node::default()).expect("applied");
        let (one, other) = ([ip("10.0.0.1")], [ip("10.0.0.2"), ip("fd00::1")]);
        for _ in 0..3 {
            // There is no second selector.
            firewall.set_peers(&[one.to_vec(), one.to_vec()]).expect_err("no such set");
            assert!(!is_let_out("10.0.0.1:1".parse().unwrap()));
            firewall.set_peers(&[other.to_vec()]).expect("the first alone");
            assert!(is_let_out("10.0.0.2:1".parse().unwrap()));
            firewall.add_node(&other).expect("also when they are there already");
            firewall.denied(Direction::Ingress).expect("a counter");
        }
    });
}

pub(super) fn what_comes_in_is_judged_without_the_kernels_filter_too(_: &World) {
    in_namespace(|| {
        // Addresses that are neither the pod's nor loopback, and reach it all the same.
        let addresses = ["198.51.100.1", "198.51.100.2", "198.51.100.3"].map(ip);
        link_up(1);
        addresses[1..].iter().for_each(|address| add_address(1, *address));
        let [own, friend, stranger] = addresses;
        let peers = vec![Peer::Block(IpBlock { cidr: friend.into(), except: vec![] })];
        let rules = NetworkRules {
            policies: vec![NetworkPolicy {
                name: "p".into(),
                ingress: Some(vec![Rule { peers: Some(peers), ports: None }]),
                egress: None,
            }],
            ..NetworkRules::default()
        };
        let policy = Policy::new(PolicyConfig {
            rules: &rules,
            containers: vec!["main"],
            addresses: vec![own],
            node: Node::default(),
            kernel_filters: false,
            tell: Tell::default(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let config = StackConfig { addresses: vec![own], policy, ..StackConfig::default() };
            let stack = Stack::new(config);
            let endpoint = stack.attach("main");
            let listener = endpoint.tcp_socket(Family::V4).unwrap();
            listener.bind((own, 7000).into()).unwrap();
            let mut acceptor = listener.listen().unwrap();
            let socket = endpoint.udp_socket(Family::V4).unwrap();
            socket.bind((own, 7000).into()).unwrap();
            let connect = |from: IpAddr| async move {
                let socket = tokio::net::TcpSocket::new_v4().unwrap();
                socket.bind((from, 0).into()).unwrap();
                socket.connect((own, 7000).into()).await.unwrap()
            };
            // The stranger comes first, and yet it is the friend who is accepted.
            let _stranger = connect(stranger).await;
            let _friend = connect(friend).await;
            let accepted = poll_fn(|cx| acceptor.poll_accept(cx)).await.unwrap();
            assert_eq!(accepted.remote_address().unwrap().ip(), friend);
            for from in [stranger, friend] {
                let sender = UdpSocket::bind((from, 0)).unwrap();
                sender.send_to(b"word", (own, 7000)).unwrap();
            }
            let (_, from) = poll_fn(|cx| socket.poll_receive(cx)).await.unwrap();
            assert_eq!(from.ip(), friend);
            // Whoever was sent to may answer.
            let asked = UdpSocket::bind((stranger, 7001)).unwrap();
            let remote = asked.local_addr().unwrap();
            poll_fn(|cx| socket.poll_send(cx, &mut b"question".to_vec(), Some(remote))).await.unwrap();
            asked.send_to(b"answer", (own, 7000)).unwrap();
            let (answer, from) = poll_fn(|cx| socket.poll_receive(cx)).await.unwrap();
            assert_eq!((&answer[..], from), (&b"answer"[..], remote));
            let [denied] = &stack.denied()[..] else { panic!("{:?}", stack.denied()) };
            assert_eq!(
                (denied.container.as_str(), denied.reason, denied.count),
                ("main", Reason::Ingress, 2)
            );
        });
    });
}
