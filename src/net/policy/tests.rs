//! The policy as a whole: Kubernetes' documented examples, the annotation, and a naive reference.

use std::collections::BTreeSet;
use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::net::{Stack, StackConfig};
use crate::spec::container_network;
use crate::spec::network_policy::{
    self as spec, Condition, IpBlock, LabelSelector, Labels, Namespaces, NetworkPolicy, PodSelector, Ports,
    Requirement,
};

const OWN: &str = "10.201.0.2";
const OWN6: &str = "fd00::2";
const NODE: &str = "192.0.2.1";

fn ip(text: &str) -> IpAddr {
    text.parse().expect(text)
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

fn policy_of(rules: &NetworkRules, kernel_filters: bool) -> (Policy, Arc<Mutex<Vec<String>>>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let told = lines.clone();
    let policy = Policy::new(PolicyConfig {
        rules,
        containers: vec!["a", "b"],
        addresses: vec![ip(OWN), ip(OWN6)],
        node: Node { addresses: vec![ip(NODE)], point_to_point: true },
        kernel_filters,
        tell: Tell::new(move |line| told.lock().unwrap().push(line)),
    });
    (policy, lines)
}

fn annotated(text: &str) -> Policy {
    let network = container_network::parse(text).expect(text);
    policy_of(&NetworkRules { policies: vec![], containers: [("a".to_owned(), network)].into() }, true).0
}

fn policies(list: Vec<NetworkPolicy>) -> Policy {
    policy_of(&NetworkRules { policies: list, containers: BTreeMap::new() }, false).0
}

fn policy(name: &str, ingress: Option<Vec<spec::Rule>>, egress: Option<Vec<spec::Rule>>) -> NetworkPolicy {
    NetworkPolicy { name: name.into(), ingress, egress }
}

fn tcp(first: u16, last: u16) -> Ports {
    Ports { protocol: Protocol::Tcp, first, last }
}

fn block(cidr: &str, except: &[&str]) -> spec::Peer {
    let net = |text: &str| text.parse().expect(text);
    spec::Peer::Block(IpBlock { cidr: net(cidr), except: except.iter().map(|text| net(text)).collect() })
}

fn with_label(key: &str, value: &str) -> LabelSelector {
    let condition = Condition::In(BTreeSet::from([value.to_owned()]));
    LabelSelector { requirements: vec![Requirement { key: key.into(), condition }] }
}

fn may(policy: &Policy, request: Request<'_>) -> bool {
    policy.guard("a").check(request).is_ok()
}

/// Of a socket that has received nothing.
fn sends<'a>(remote: SocketAddr) -> Request<'a> {
    Request::UdpSend { remote, is_reply: false }
}

fn connects(policy: &Policy, remote: &str) -> bool {
    may(policy, Request::TcpConnect(addr(remote)))
}

fn accepts(policy: &Policy, from: &str, port: u16) -> bool {
    let local = SocketAddr::new(ip(OWN), port);
    may(policy, Request::TcpAccept { local, remote: SocketAddr::new(ip(from), 40000) })
}

#[test]
fn without_rules_nothing_is_asked() {
    let (policy, _) = policy_of(&NetworkRules::default(), false);
    assert!(policy.guard("a").allows_all());
    assert!(Policy::default().guard("a").allows_all());
    assert!(connects(&policy, "203.0.113.1:80"));
    assert!(policy.denied().is_empty());
}

/// <https://kubernetes.io/docs/concepts/services-networking/network-policies/#networkpolicy-resource>
#[test]
fn the_documented_resource() {
    let from = vec![
        block("172.17.0.0/16", &["172.17.1.0/24"]),
        spec::Peer::Pods(PodSelector {
            namespaces: Namespaces::Labelled(with_label("project", "myproject")),
            pods: LabelSelector::default(),
        }),
        spec::Peer::Pods(PodSelector {
            namespaces: Namespaces::Named("default".into()),
            pods: with_label("role", "frontend"),
        }),
    ];
    let ingress = spec::Rule { peers: Some(from), ports: Some(vec![tcp(6379, 6379)]) };
    let egress =
        spec::Rule { peers: Some(vec![block("10.0.0.0/24", &[])]), ports: Some(vec![tcp(5978, 5978)]) };
    let policy = policies(vec![policy("test-network-policy", Some(vec![ingress]), Some(vec![egress]))]);
    // The pods of the second and third peer.
    policy.set_peers(&[vec![ip("10.201.0.7")], vec![ip("10.201.0.8"), ip("fd00::8")]]);
    for (from, port, allowed) in [
        ("172.17.0.1", 6379, true),
        ("172.17.2.255", 6379, true),
        ("172.17.1.1", 6379, false),
        ("172.18.0.1", 6379, false),
        ("172.17.0.1", 6380, false),
        ("10.201.0.7", 6379, true),
        ("10.201.0.8", 6379, true),
        ("fd00::8", 6379, true),
        ("10.201.0.9", 6379, false),
        ("10.201.0.7", 80, false),
        // Always: the pod itself, and its node.
        (OWN, 80, true),
        (OWN6, 80, true),
        ("127.0.0.1", 80, true),
        (NODE, 80, true),
        ("169.254.1.1", 80, true),
        ("fe80::1", 80, true),
    ] {
        assert_eq!(accepts(&policy, from, port), allowed, "from {from} to {port}");
    }
    for (to, allowed) in [
        ("10.0.0.1:5978", true),
        ("10.0.0.1:5979", false),
        ("10.0.1.1:5978", false),
        ("[2001:db8::1]:5978", false),
        // The node is no exception on the way out.
        ("192.0.2.1:5978", false),
        ("10.201.0.2:80", true),
        ("[fd00::2]:80", true),
        ("127.0.0.1:80", true),
        ("[::1]:80", true),
    ] {
        assert_eq!(connects(&policy, to), allowed, "to {to}");
    }
    assert!(!may(&policy, sends(addr("10.0.0.1:5978"))), "another protocol");
    // Pods come and go.
    policy.set_peers(&[vec![], vec![ip("10.201.0.9")]]);
    assert!(!accepts(&policy, "10.201.0.7", 6379));
    assert!(accepts(&policy, "10.201.0.9", 6379));
}

/// <https://kubernetes.io/docs/concepts/services-networking/network-policies/#default-policies>
#[test]
fn the_documented_defaults() {
    let all = || spec::Rule { peers: None, ports: None };
    for (ingress, egress, comes_in, goes_out) in [
        (Some(vec![]), None, false, true),
        (Some(vec![all()]), None, true, true),
        (None, Some(vec![]), true, false),
        (None, Some(vec![all()]), true, true),
        (Some(vec![]), Some(vec![]), false, false),
    ] {
        let policy = policies(vec![policy("default", ingress, egress)]);
        assert_eq!(accepts(&policy, "203.0.113.1", 80), comes_in);
        assert_eq!(connects(&policy, "203.0.113.1:80"), goes_out);
        assert!(may(&policy, Request::TcpBind(addr("0.0.0.0:80"))));
        assert!(may(&policy, Request::Resolve("example.com")));
    }
}

/// "If multiple policies apply in a direction, the connections allowed are the union."
#[test]
fn policies_add_up() {
    let deny = policy("deny", Some(vec![]), None);
    let rule = spec::Rule { peers: None, ports: Some(vec![tcp(32000, 32768)]) };
    let allow = policy("allow", Some(vec![rule]), None);
    let both = policies(vec![deny, allow]);
    assert!(accepts(&both, "203.0.113.1", 32000));
    assert!(accepts(&both, "203.0.113.1", 32768));
    assert!(!accepts(&both, "203.0.113.1", 32769));
    assert!(connects(&both, "203.0.113.1:80"));
}

#[test]
fn a_rule_whose_ports_do_not_exist_here_allows_nothing() {
    let rule = spec::Rule { peers: None, ports: Some(vec![]) };
    let policy = policies(vec![policy("sctp", None, Some(vec![rule]))]);
    assert!(!connects(&policy, "203.0.113.1:80"));
}

#[test]
fn datagrams_come_in_as_replies_only() {
    let rules =
        NetworkRules { policies: vec![policy("deny", Some(vec![]), None)], containers: BTreeMap::new() };
    let (policy, _) = policy_of(&rules, false);
    let guard = policy.guard("a");
    let mut exchanges = Exchanges::default();
    let (local, remote) = (addr("0.0.0.0:5000"), addr("203.0.113.1:53"));
    let receive = |exchanges: &Exchanges, remote| {
        let is_reply = exchanges.has_sent_to(remote);
        guard.check(Request::UdpReceive { local, remote, is_reply })
    };
    assert_eq!(receive(&exchanges, remote), Err(Error::AccessDenied));
    guard.sent(&mut exchanges, remote);
    assert_eq!(receive(&exchanges, remote), Ok(()));
    assert_eq!(receive(&exchanges, addr("203.0.113.1:54")), Err(Error::AccessDenied));
    // A socket that sends to the whole world holds no more than this.
    for port in 1..=2 * MAX_EXCHANGES as u16 {
        guard.sent(&mut exchanges, SocketAddr::new(ip("203.0.113.2"), port));
    }
    assert_eq!(exchanges.sent.0.len(), MAX_EXCHANGES);
    assert_eq!(receive(&exchanges, remote), Err(Error::AccessDenied));
    // The kernel knows better.
    let (policy, _) = policy_of(&rules, true);
    let guard = policy.guard("a");
    let mut exchanges = Exchanges::default();
    guard.sent(&mut exchanges, remote);
    assert!(exchanges.sent.0.is_empty());
    assert_eq!(guard.check(Request::UdpReceive { local, remote, is_reply: false }), Ok(()));
}

#[test]
fn datagrams_are_answered_whatever_may_go_out() {
    let isolated =
        NetworkRules { policies: vec![policy("deny", None, Some(vec![]))], containers: BTreeMap::new() };
    let (isolated, _) = policy_of(&isolated, true);
    for policy in [isolated, annotated("connect: none; bind: 5000/udp")] {
        let guard = policy.guard("a");
        let mut exchanges = Exchanges::default();
        let (local, remote) = (addr("0.0.0.0:5000"), addr("203.0.113.1:40000"));
        let send = |exchanges: &Exchanges, remote| {
            let is_reply = exchanges.has_received_from(remote);
            guard.check(Request::UdpSend { remote, is_reply })
        };
        assert_eq!(send(&exchanges, remote), Err(Error::AccessDenied));
        assert_eq!(guard.check(Request::UdpReceive { local, remote, is_reply: false }), Ok(()));
        guard.received(&mut exchanges, remote);
        assert_eq!(send(&exchanges, remote), Ok(()));
        assert_eq!(send(&exchanges, addr("203.0.113.1:53")), Err(Error::AccessDenied));
    }
}

#[test]
fn an_annotation_holds_inside_the_pod_too() {
    let policy = annotated("connect: 10.0.0.0/8:8000-8099/tcp, localhost:9000, [fd00::]/8:53/udp");
    for (to, allowed) in [
        ("10.1.2.3:8000", true),
        ("10.1.2.3:8100", false),
        ("11.1.2.3:8000", false),
        ("127.0.0.1:9000", true),
        ("127.1.2.3:9000", true),
        ("[::1]:9000", true),
        ("127.0.0.1:9001", false),
        ("10.201.0.2:9000", false),
        ("[fd00::1]:53", false),
    ] {
        assert_eq!(connects(&policy, to), allowed, "{to}");
    }
    assert!(may(&policy, sends(addr("[fd00::1]:53"))));
    assert!(!may(&policy, sends(addr("10.1.2.3:8000"))));
    assert!(may(&policy, sends(addr("127.0.0.1:9000"))));
    assert!(may(&policy, Request::TcpBind(addr("0.0.0.0:80"))), "an absent direction is not restricted");
    assert!(may(&policy, Request::Resolve("anything.example")));
    assert!(policy.guard("b").allows_all(), "another container");
}

#[test]
fn bind_is_about_listening() {
    let policy = annotated("connect: 10.0.0.1; bind: 8080/tcp, localhost:9000, 53/udp");
    for (local, allowed) in [
        ("0.0.0.0:8080", true),
        ("[::]:8080", true),
        ("127.0.0.1:8080", true),
        ("127.0.0.1:9000", true),
        ("0.0.0.0:9000", false),
        ("0.0.0.0:53", false),
        ("0.0.0.0:0", true),
    ] {
        assert_eq!(may(&policy, Request::TcpBind(addr(local))), allowed, "{local}");
    }
    // The port that 0 became.
    assert!(!may(&policy, Request::TcpListen(addr("0.0.0.0:40000"))));
    assert!(may(&policy, Request::TcpListen(addr("0.0.0.0:8080"))));
    assert!(may(&policy, Request::UdpBind(addr("0.0.0.0:53"))));
    assert!(!may(&policy, Request::UdpBind(addr("0.0.0.0:8080"))));
    let receive = |local: &str, remote: &str| {
        may(&policy, Request::UdpReceive { local: addr(local), remote: addr(remote), is_reply: false })
    };
    assert!(receive("0.0.0.0:53", "203.0.113.1:5000"));
    assert!(receive("0.0.0.0:40000", "10.0.0.1:5000"), "whom it may send to");
    assert!(!receive("0.0.0.0:40000", "203.0.113.1:5000"));
    assert!(may(&annotated("bind: *"), Request::TcpListen(addr("0.0.0.0:40000"))));
}

#[test]
fn names_stand_for_what_their_lookups_returned() {
    let policy =
        annotated("connect: logs.example.com:443, *.internal:80, localhost:9; resolve: other.example");
    for (name, allowed) in [
        ("logs.example.com", true),
        ("LOGS.example.com.", true),
        ("a.internal", true),
        ("internal", false),
        ("other.example", true),
        ("localhost", true),
        ("evil.example", false),
        ("192.0.2.7", true),
        ("[2001:db8::1]", true),
        ("", false),
        ("a b", false),
    ] {
        assert_eq!(may(&policy, Request::Resolve(name)), allowed, "{name:?}");
    }
    assert!(!connects(&policy, "192.0.2.7:443"));
    let guard = policy.guard("a");
    guard.learn("Logs.Example.com.", &[ip("192.0.2.7"), ip("2001:db8::7")]);
    guard.learn("a.internal", &[ip("192.0.2.8")]);
    guard.learn("other.example", &[ip("192.0.2.9")]);
    guard.learn("192.0.2.10", &[ip("192.0.2.10")]);
    for (to, allowed) in [
        ("192.0.2.7:443", true),
        ("[2001:db8::7]:443", true),
        ("192.0.2.7:80", false),
        ("192.0.2.8:80", true),
        ("192.0.2.8:443", false),
        ("192.0.2.9:443", false),
        ("192.0.2.10:443", false),
    ] {
        assert_eq!(connects(&policy, to), allowed, "{to}");
    }
    // A guest cannot make the memory of it grow, and what is new is let.
    for number in 0..10_000u32 {
        guard.learn("logs.example.com", &[IpAddr::V4((0x0a00_0000 + number).into())]);
    }
    assert!(connects(&policy, "10.0.39.15:443"));
    assert!(!connects(&policy, "192.0.2.7:443"));
    assert!(!may(&policy, Request::Resolve(&"a".repeat(1 << 20))));
}

#[tokio::test]
async fn a_denied_lookup_is_counted_like_everything_else() {
    let stack = Stack::new(StackConfig { policy: annotated("resolve: none"), ..StackConfig::default() });
    let endpoint = stack.attach("a");
    assert_eq!(endpoint.resolve("localhost".into()).await, Err(Error::AccessDenied));
    assert_eq!(stack.observe().counters()[0].denied, 1);
    assert_eq!(stack.denied()[0].count, 1);
}

#[test]
fn none_is_nothing() {
    let policy = annotated("none");
    assert!(!connects(&policy, "127.0.0.1:80"));
    assert!(!may(&policy, Request::TcpBind(addr("127.0.0.1:80"))));
    assert!(!may(&policy, Request::TcpListen(addr("127.0.0.1:40000"))));
    assert!(!may(&policy, Request::Resolve("localhost")));
}

#[test]
fn an_annotation_never_widens_a_policy() {
    let network = container_network::parse("connect: *").unwrap();
    let rules = NetworkRules {
        policies: vec![policy("deny", None, Some(vec![]))],
        containers: [("a".to_owned(), network)].into(),
    };
    let (policy, _) = policy_of(&rules, false);
    assert!(!connects(&policy, "203.0.113.1:80"));
}

#[test]
fn denials_are_counted_and_told_once_in_a_while() {
    let network = container_network::parse("connect: none").unwrap();
    let rules = NetworkRules {
        policies: vec![policy("first", None, Some(vec![])), policy("second", None, Some(vec![]))],
        containers: [("a".to_owned(), network)].into(),
    };
    let (policy, lines) = policy_of(&rules, false);
    for _ in 0..100 {
        assert!(!connects(&policy, "203.0.113.1:80"));
    }
    let send = sends(addr("203.0.113.1:53"));
    assert_eq!(policy.guard("b").check(send), Err(Error::AccessDenied));
    let told = lines.lock().unwrap();
    assert_eq!(
        *told,
        [
            "container a: connect to 203.0.113.1:80/tcp denied: not in connect of annotation peapod.dev/network.a",
            "container b: send to 203.0.113.1:53/udp denied: no egress rule of NetworkPolicy first, second allows it",
        ]
    );
    let denied = |container: &str, reason, count| Denied { container: container.into(), reason, count };
    assert_eq!(policy.denied(), [denied("a", Reason::Connect, 100), denied("b", Reason::Egress, 1)]);
}

// A small world, so that rules and packets meet: a few networks, labels and ports.

#[derive(Debug, Clone)]
struct PodOfHost {
    namespace: &'static str,
    labels: Labels,
    addresses: Vec<IpAddr>,
}

fn value() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["x", "y", "z"]).prop_map(str::to_owned)
}

fn labels() -> impl Strategy<Value = Labels> {
    prop::collection::btree_map(prop::sample::select(vec!["p".to_owned(), "q".to_owned()]), value(), 0..3)
}

fn selector(keys: Vec<&'static str>, values: Vec<&'static str>) -> impl Strategy<Value = LabelSelector> {
    let values = move || {
        let one = prop::sample::select(values.clone()).prop_map(str::to_owned);
        prop::collection::btree_set(one, 1..3)
    };
    let condition = prop_oneof![
        values().prop_map(Condition::In),
        values().prop_map(Condition::NotIn),
        Just(Condition::Exists),
        Just(Condition::DoesNotExist),
    ];
    let requirement = (prop::sample::select(keys), condition)
        .prop_map(|(key, condition)| Requirement { key: key.to_owned(), condition });
    prop::collection::vec(requirement, 0..3).prop_map(|requirements| LabelSelector { requirements })
}

fn peer() -> impl Strategy<Value = spec::Peer> {
    let blocks = prop::sample::select(vec![
        ("10.0.0.0/8", vec!["10.1.0.0/16"]),
        ("10.1.0.0/30", vec![]),
        ("0.0.0.0/0", vec!["10.0.0.0/8", "11.0.0.0/8"]),
        ("fd00::/8", vec!["fd00::4/126"]),
        ("::/0", vec![]),
    ]);
    let namespaces = prop_oneof![
        prop::sample::select(vec!["a", "b"]).prop_map(|name| Namespaces::Named(name.to_owned())),
        selector(vec![spec::NAMESPACE_NAME_LABEL, "team"], vec!["a", "b"]).prop_map(Namespaces::Labelled),
    ];
    let pods = (namespaces, selector(vec!["p", "q"], vec!["x", "y"]))
        .prop_map(|(namespaces, pods)| spec::Peer::Pods(PodSelector { namespaces, pods }));
    prop_oneof![blocks.prop_map(|(cidr, except)| block(cidr, &except)), pods]
}

fn rule() -> impl Strategy<Value = spec::Rule> {
    let protocol = prop::sample::select(vec![Protocol::Tcp, Protocol::Udp]);
    let port = (protocol, 1..6u16, 0..3u16).prop_map(|(protocol, first, more)| Ports {
        protocol,
        first,
        last: first + more,
    });
    let peers = prop::option::of(prop::collection::vec(peer(), 1..4));
    let ports = prop::option::of(prop::collection::vec(port, 0..3));
    (peers, ports).prop_map(|(peers, ports)| spec::Rule { peers, ports })
}

fn network_policy() -> impl Strategy<Value = NetworkPolicy> {
    let rules = || prop::option::of(prop::collection::vec(rule(), 0..3));
    (rules(), rules()).prop_map(|(ingress, egress)| policy("p", ingress, egress))
}

fn address() -> impl Strategy<Value = IpAddr> {
    let all =
        ["10.0.0.1", "10.1.0.1", "10.1.0.7", "11.0.0.1", "12.0.0.1", "fd00::1", "fd00::5", "2001:db8::1"];
    prop::sample::select(all.map(ip).to_vec())
}

fn pods() -> impl Strategy<Value = Vec<PodOfHost>> {
    let namespace = prop::sample::select(vec!["a", "b", "c"]);
    let pod = (namespace, labels(), prop::collection::vec(address(), 0..3))
        .prop_map(|(namespace, labels, addresses)| PodOfHost { namespace, labels, addresses });
    prop::collection::vec(pod, 0..5)
}

/// The words of the documentation, one after the other.
fn naively(
    policies: &[NetworkPolicy],
    pods: &[PodOfHost],
    direction: Direction,
    peer: IpAddr,
    port: (Protocol, u16),
) -> bool {
    let mut isolated = false;
    for policy in policies {
        let rules = match direction {
            Direction::Ingress => &policy.ingress,
            Direction::Egress => &policy.egress,
        };
        let Some(rules) = rules else { continue };
        isolated = true;
        for rule in rules {
            let mut peer_matches = rule.peers.is_none();
            for one in rule.peers.iter().flatten() {
                peer_matches |= match one {
                    spec::Peer::Block(block) => {
                        let mut inside = block.cidr.contains(&peer);
                        for except in &block.except {
                            inside &= !except.contains(&peer);
                        }
                        inside
                    }
                    spec::Peer::Pods(selector) => pods.iter().any(|pod| {
                        pod.addresses.contains(&peer) && selector.selects(pod.namespace, &pod.labels)
                    }),
                };
            }
            let mut port_matches = rule.ports.is_none();
            for ports in rule.ports.iter().flatten() {
                port_matches |= ports.protocol == port.0 && ports.first <= port.1 && port.1 <= ports.last;
            }
            if peer_matches && port_matches {
                return true;
            }
        }
    }
    !isolated
}

proptest! {
    #[test]
    fn decides_as_the_documentation_says(
        list in prop::collection::vec(network_policy(), 0..4),
        pods in pods(),
        peer in address(),
        port in 1..9u16,
        is_tcp in any::<bool>(),
    ) {
        let (policy, _) =
            policy_of(&NetworkRules { policies: list.clone(), containers: BTreeMap::new() }, false);
        let selectors = PodRules::new(&list).selectors().to_vec();
        let selected = |selector: &PodSelector| {
            let pods = pods.iter().filter(|pod| selector.selects(pod.namespace, &pod.labels));
            pods.flat_map(|pod| pod.addresses.clone()).collect()
        };
        policy.set_peers(&selectors.iter().map(selected).collect::<Vec<_>>());
        let protocol = if is_tcp { Protocol::Tcp } else { Protocol::Udp };
        let (near, far) = (SocketAddr::new(ip(OWN), port), SocketAddr::new(peer, port));
        let (goes_out, comes_in) = if is_tcp {
            let source = SocketAddr::new(peer, 40000);
            (Request::TcpConnect(far), Request::TcpAccept { local: near, remote: source })
        } else {
            let source = SocketAddr::new(peer, 40000);
            (sends(far), Request::UdpReceive { local: near, remote: source, is_reply: false })
        };
        let naive = |direction| naively(&list, &pods, direction, peer, (protocol, port));
        prop_assert_eq!(may(&policy, goes_out), naive(Direction::Egress));
        prop_assert_eq!(may(&policy, comes_in), naive(Direction::Ingress));
    }
}
