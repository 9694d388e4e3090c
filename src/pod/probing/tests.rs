//! Servers for the tests of probes, of containers and of native processes; and what TCP probes, hooks and names do.

use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;

use super::connection::Connection;
use super::*;
use crate::net::policy::{Node, PolicyConfig};
use crate::net::{Family, PlaneConfig, Policy, StackConfig, TcpSocket, Tell};
use crate::spec::network_policy::NetworkPolicy;
use crate::spec::{HttpGet, NetworkRules, Scheme};

/// Long enough for every probe that is to succeed on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Short, for those that are to fail by it.
pub(super) const IMPATIENCE: Duration = Duration::from_millis(300);

/// The pod's own address, which no interface has: what comes there comes through memory.
const OWN: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 3);

/// A connection that a server accepted.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}
pub(super) type Accepted = Box<dyn Io>;

type Handling = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a server does with each connection.
pub(super) type Handler = Arc<dyn Fn(Accepted) -> Handling + Send + Sync>;

pub(super) fn handler<F>(handle: impl Fn(Accepted) -> F + Send + Sync + 'static) -> Handler
where
    F: Future<Output = ()> + Send + 'static,
{
    Arc::new(move |accepted| Box::pin(handle(accepted)))
}

/// Where servers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Where {
    /// In a container: in memory.
    Container,
    /// In a native process: by the kernel.
    Native,
}

/// A pod, and its servers.
pub(super) struct Pod {
    pub(super) place: Place,
    served: Arc<AtomicUsize>,
    servers: JoinSet<()>,
}

impl Pod {
    pub(super) fn new() -> Self {
        Self::with(StackConfig { addresses: vec![OWN.into()], ..StackConfig::default() })
    }

    fn with(config: StackConfig) -> Self {
        let stack = Stack::new(config);
        let place = Place { stack, address: OWN.into(), target: None, patience: Duration::ZERO };
        Self { place, served: Arc::default(), servers: JoinSet::new() }
    }

    /// Begins to serve, and returns the port. Of a native server only the loopback leads there, which is the
    /// place's address from now on.
    pub(super) async fn serve(&mut self, at: Where, handler: Handler) -> u16 {
        match at {
            Where::Container => self.serve_in_container(handler),
            Where::Native => {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
                let port = listener.local_addr().expect("address").port();
                self.place.address = Ipv4Addr::LOCALHOST.into();
                let served = self.served.clone();
                self.servers.spawn(async move {
                    let mut connections = JoinSet::new();
                    while let Ok((accepted, _)) = listener.accept().await {
                        served.fetch_add(1, Ordering::Relaxed);
                        connections.spawn(handler(Box::new(accepted)));
                    }
                });
                port
            }
        }
    }

    fn serve_in_container(&mut self, handler: Handler) -> u16 {
        let (endpoint, socket) = self.listening();
        let mut acceptor = socket.listen().expect("listen");
        let port = socket.local_address().expect("address").port();
        let served = self.served.clone();
        self.servers.spawn(async move {
            let _socket = socket;
            let mut connections = JoinSet::new();
            while let Ok(accepted) = poll_fn(|cx| acceptor.poll_accept(cx)).await {
                assert!(accepted.is_memory());
                served.fetch_add(1, Ordering::Relaxed);
                let connection = Connection::new(endpoint.clone(), accepted).expect("connection");
                connections.spawn(handler(Box::new(connection)));
            }
        });
        port
    }

    fn listening(&self) -> (crate::net::Endpoint, TcpSocket) {
        let endpoint = self.place.stack.attach("web");
        let socket = endpoint.tcp_socket(Family::V4).expect("socket");
        socket.bind("0.0.0.0:0".parse().expect("address")).expect("bind");
        (endpoint, socket)
    }

    /// How many connections were accepted.
    pub(super) fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    pub(super) async fn run(&self, handler: ProbeHandler, timeout: Duration) -> Outcome {
        probe(&with(handler, timeout), &self.place).await
    }

    /// An `httpGet` probe of a path.
    pub(super) async fn get(&self, port: u16, path: &str) -> Outcome {
        self.run(ProbeHandler::HttpGet(http_get(port, path)), PATIENCE).await
    }

    async fn connects(&self, host: Option<&str>, port: u16, timeout: Duration) -> Outcome {
        self.run(ProbeHandler::TcpSocket { host: host.map(str::to_owned), port }, timeout).await
    }

    /// Ends the servers and waits until nothing of them or of the probes is left.
    pub(super) async fn end(mut self) {
        self.servers.shutdown().await;
        let until = Instant::now() + PATIENCE;
        while !self.place.stack.is_idle() {
            assert!(Instant::now() < until, "a port or a connection is left");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn with(handler: ProbeHandler, timeout: Duration) -> Probe {
    Probe {
        handler,
        initial_delay: Duration::ZERO,
        period: Duration::from_secs(10),
        timeout,
        success_threshold: 1,
        failure_threshold: 3,
        termination_grace: None,
    }
}

pub(super) fn http_get(port: u16, path: &str) -> HttpGet {
    HttpGet { scheme: Scheme::Http, host: None, port, path: path.to_owned(), headers: Vec::new() }
}

pub(super) fn failure(why: impl Into<String>) -> Outcome {
    Outcome::Failure(why.into())
}

pub(super) fn why(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failure(why) => why,
        other => panic!("{other:?} is no failure"),
    }
}

/// Reads the head of a request.
pub(super) async fn head(accepted: &mut Accepted) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match accepted.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Answers every request with these bytes, and closes.
pub(super) fn answering(answer: impl Into<Vec<u8>>) -> Handler {
    let answer: Arc<[u8]> = answer.into().into();
    handler(move |mut accepted| {
        let answer = answer.clone();
        async move {
            head(&mut accepted).await;
            let _ = accepted.write_all(&answer).await;
            let _ = accepted.shutdown().await;
        }
    })
}

/// A port on which nobody listens.
async fn free_port() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    listener.local_addr().expect("address").port()
}

#[tokio::test]
async fn a_connection_is_all_that_a_tcp_probe_wants() {
    for at in [Where::Container, Where::Native] {
        let mut pod = Pod::new();
        let port = pod.serve(at, handler(|_| std::future::ready(()))).await;
        assert_eq!(pod.connects(None, port, PATIENCE).await, Outcome::Success, "{at:?}");
        assert_eq!(pod.connects(Some("localhost"), port, PATIENCE).await, Outcome::Success, "{at:?}");
        assert_eq!(pod.connects(Some("127.0.0.1"), port, PATIENCE).await, Outcome::Success, "{at:?}");
        pod.end().await;
    }
}

#[tokio::test]
async fn a_tcp_probe_fails_in_go_s_words() {
    let mut pod = Pod::new();
    pod.place.address = Ipv4Addr::LOCALHOST.into();
    let port = free_port().await;
    let refused = pod.connects(None, port, PATIENCE).await;
    assert_eq!(refused, failure(format!("dial tcp 127.0.0.1:{port}: connect: connection refused")));
    // RFC 6761: there is no such name, and here there is no nameserver either.
    let unknown = why(pod.connects(Some("nobody.invalid"), port, PATIENCE).await);
    assert!(unknown.starts_with("dial tcp: lookup nobody.invalid: "), "{unknown}");
}

#[tokio::test]
async fn one_with_patience_waits_for_the_server_to_listen() {
    let mut pod = Pod::new();
    pod.place.patience = PATIENCE;
    let (_endpoint, socket) = pod.listening();
    let port = socket.local_address().expect("address").port();
    let place = pod.place.clone();
    let probe = tokio::spawn(async move { super::tcp::probe(None, port, &place, PATIENCE).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!probe.is_finished(), "nobody listens");
    let _acceptor = socket.listen().expect("listen");
    assert_eq!(probe.await.expect("probe"), Outcome::Success);
}

#[tokio::test]
async fn patience_ends() {
    let mut pod = Pod::new();
    pod.place.address = Ipv4Addr::LOCALHOST.into();
    pod.place.patience = Duration::from_millis(50);
    let port = free_port().await;
    let began = Instant::now();
    let refused = pod.connects(None, port, PATIENCE).await;
    assert_eq!(refused, failure(format!("dial tcp 127.0.0.1:{port}: connect: connection refused")));
    assert!(began.elapsed() >= Duration::from_millis(25));
}

#[tokio::test]
async fn a_container_that_accepts_nothing_passes_until_its_backlog_is_full() {
    let pod = Pod::new();
    let (_endpoint, socket) = pod.listening();
    socket.set_backlog(2).expect("backlog");
    let _acceptor = socket.listen().expect("listen");
    let port = socket.local_address().expect("address").port();
    for _ in 0..3 {
        assert_eq!(pod.connects(None, port, PATIENCE).await, Outcome::Success);
    }
    let late = pod.connects(None, port, IMPATIENCE).await;
    assert_eq!(late, failure(format!("dial tcp 10.1.2.3:{port}: i/o timeout")));
}

#[tokio::test]
async fn the_pods_policy_does_not_hold_for_probes() {
    let nobody = NetworkPolicy { name: "none".into(), ingress: Some(vec![]), egress: Some(vec![]) };
    let mut rules = NetworkRules { policies: vec![nobody], ..NetworkRules::default() };
    let nothing = crate::spec::container_network::parse("connect: []\nbind: ['*']\nresolve: []");
    rules.containers.extend(nothing.map(|network| ("web".to_owned(), network)));
    let policy = Policy::new(PolicyConfig {
        rules: &rules,
        containers: vec!["web"],
        addresses: vec![OWN.into()],
        node: Node::default(),
        kernel_filters: false,
        tell: Tell::default(),
    });
    for memory in [true, false] {
        let planes = PlaneConfig { memory, ..PlaneConfig::default() };
        let loopback: IpAddr = Ipv4Addr::LOCALHOST.into();
        let config =
            StackConfig { addresses: vec![loopback], policy: policy.clone(), planes, ..Default::default() };
        let mut pod = Pod::with(config);
        pod.place.address = loopback;
        let native = pod.serve(Where::Native, answering("HTTP/1.1 200 OK\r\n\r\n")).await;
        assert_eq!(pod.get(native, "/").await, Outcome::Success);
        let (_endpoint, socket) = pod.listening();
        let _acceptor = socket.listen().expect("listen");
        let port = socket.local_address().expect("address").port();
        assert_eq!(pod.connects(Some("localhost"), port, PATIENCE).await, Outcome::Success);
        assert_eq!(pod.place.stack.denied(), []);
    }
}

/// What a container sees of a probe, and what does not belong to it.
#[tokio::test]
async fn a_probe_is_nobodys_socket() {
    let mut pod = Pod::new();
    let handler = handler(|mut accepted: Accepted| async move {
        head(&mut accepted).await;
        std::future::pending().await
    });
    let port = pod.serve(Where::Container, handler).await;
    let place = pod.place.clone();
    let asking = tokio::spawn(async move {
        probe(&with(ProbeHandler::HttpGet(http_get(port, "/")), PATIENCE), &place).await
    });
    let until = Instant::now() + PATIENCE;
    loop {
        let mut walk = pod.place.stack.observe();
        let sockets = walk.next_page(100).unwrap_or_default();
        assert!(sockets.iter().all(|socket| socket.container == "web"), "{sockets:?}");
        assert!(walk.counters().iter().all(|counters| counters.container == "web"));
        if let Some(accepted) = sockets.iter().find(|socket| socket.peer.is_some()) {
            assert_eq!(accepted.peer_container.as_deref(), Some("(kubelet)"));
            break;
        }
        assert!(Instant::now() < until, "it did not come");
        tokio::task::yield_now().await;
    }
    // Its container ends, or the pod: nothing is left of it.
    asking.abort();
    assert!(asking.await.is_err_and(|error| error.is_cancelled()));
    pod.end().await;
}

#[tokio::test]
async fn a_sleeping_hook_sleeps() {
    let place = Pod::new().place;
    let started = Instant::now();
    assert_eq!(hook(&Hook::Sleep(Duration::ZERO), &place).await, Ok(()));
    assert_eq!(hook(&Hook::Sleep(Duration::from_millis(20)), &place).await, Ok(()));
    assert!(started.elapsed() >= Duration::from_millis(20));
}

#[tokio::test]
async fn a_thousand_probes_leave_nothing() {
    let mut pod = Pod::new();
    let handler = handler(|accepted: Accepted| async move {
        super::http_tests::serve_with_hyper(accepted, |_| hyper::Response::new("ok".into())).await;
    });
    let port = pod.serve(Where::Container, handler).await;
    let started = Instant::now();
    for _ in 0..1000 {
        assert_eq!(pod.get(port, "/healthz").await, Outcome::Success);
    }
    println!("{:?} for each of httpGet", started.elapsed() / 1000);
    let started = Instant::now();
    for _ in 0..1000 {
        assert_eq!(pod.connects(None, port, PATIENCE).await, Outcome::Success);
    }
    println!("{:?} for each of tcpSocket", started.elapsed() / 1000);
    pod.end().await;
}

#[tokio::test]
async fn an_address_of_the_other_family_is_tried_too() {
    let mut pod = Pod::new();
    let port = pod.serve(Where::Native, handler(|_| std::future::ready(()))).await;
    let hosts = crate::net::names::Hosts::of_pod(
        &["twofold".into()],
        &[SocketAddr::from(([127, 0, 0, 2], 0)).ip(), Ipv4Addr::LOCALHOST.into()],
        &[],
    );
    let names = crate::net::NamesConfig { hosts, ..Default::default() };
    pod.place.stack = Stack::new(StackConfig { names, ..StackConfig::default() });
    assert_eq!(pod.connects(Some("twofold"), port, PATIENCE).await, Outcome::Success);
}
