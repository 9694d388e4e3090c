//! UDP sockets of several containers and native ones, on this host's loopback.

use std::future::poll_fn;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Wake;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};

use super::*;
use crate::net::policy::PolicyConfig;
use crate::net::{Endpoint, PlaneConfig, Policy, Stack, StackConfig, Tell};
use crate::spec::NetworkRules;
use crate::sys::netlink::CREATE;
use crate::testing::network::{add_address, execute, in_a_network, link_up};

fn addr(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

fn pod() -> Arc<Stack> {
    Stack::new(StackConfig::default())
}

fn bound(endpoint: &Endpoint, local: &str) -> (UdpSocket, SocketAddr) {
    let local = addr(local);
    let socket = endpoint.udp_socket(Family::of(local.ip())).expect("socket");
    socket.bind(local).expect("bind");
    let local = socket.local_address().expect("address");
    (socket, local)
}

async fn send(socket: &UdpSocket, data: &[u8], remote: impl Into<Option<SocketAddr>>) -> Result<()> {
    let (mut data, remote) = (data.to_vec(), remote.into());
    poll_fn(|cx| socket.poll_send(cx, &mut data, remote)).await
}

async fn receive(socket: &UdpSocket) -> Result<(Vec<u8>, SocketAddr)> {
    poll_fn(|cx| socket.poll_receive(cx)).await
}

/// What waits in memory.
fn queued(socket: &UdpSocket) -> usize {
    socket.inner.inbox.len()
}

#[derive(Default)]
struct Count(AtomicU32);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Count {
    fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn containers_exchange_datagrams_in_memory() {
    let pod = pod();
    let (a, b) = (pod.attach("a"), pod.attach("b"));
    let (server, at) = bound(&a, "0.0.0.0:0");
    let client = b.udp_socket(Family::V4).expect("socket");
    for data in [&b"one"[..], b"", b"three"] {
        send(&client, data, SocketAddr::new(addr("127.0.0.9:0").ip(), at.port())).await.expect("send");
    }
    assert_eq!(queued(&server), 3);
    let local = client.local_address().expect("bound by sending");
    assert_eq!(local.ip(), addr("0.0.0.0:0").ip());
    let from = SocketAddr::new(addr("127.0.0.1:0").ip(), local.port());
    for data in [&b"one"[..], b"", b"three"] {
        assert_eq!(receive(&server).await, Ok((data.to_vec(), from)));
    }
    send(&server, b"back", from).await.expect("send");
    assert_eq!(queued(&client), 1);
    assert_eq!(receive(&client).await.expect("receive").0, b"back");
    send(&server, b"to itself", at_loopback(at)).await.expect("send");
    assert_eq!(receive(&server).await.expect("receive").0, b"to itself");
    drop((server, client));
    assert!(pod.is_idle());
}

fn at_loopback(local: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr("127.0.0.1:0").ip(), local.port())
}

#[tokio::test]
async fn the_port_is_taken_for_everybody_and_free_when_the_container_ends() {
    let pod = pod();
    let (a, b) = (pod.attach("a"), pod.attach("b"));
    let (server, at) = bound(&a, "127.0.0.1:0");
    let other = b.udp_socket(Family::V4).expect("socket");
    assert_eq!(other.bind(at), Err(Error::AddressInUse));
    assert_eq!(other.bind(SocketAddr::new(addr("0.0.0.0:0").ip(), at.port())), Err(Error::AddressInUse));
    assert!(std::net::UdpSocket::bind(at).is_err());
    let (client, _) = bound(&b, "127.0.0.1:0");
    send(&client, b"never read", at).await.expect("send");
    assert!(pod.budget.held() > 0);
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { receive(&client).await }
    });
    tokio::task::yield_now().await;
    a.close();
    assert_eq!(pod.budget.held(), 0);
    drop(std::net::UdpSocket::bind(at).expect("free at once"));
    assert_eq!(receive(&server).await, Err(Error::InvalidState));
    b.close();
    assert_eq!(waiting.await.expect("woken"), Err(Error::InvalidState));
    assert!(pod.is_idle());
}

#[tokio::test]
async fn both_planes_are_received_in_turns_and_wake() {
    let pod = pod();
    let (a, b) = (pod.attach("a"), pod.attach("b"));
    let (server, at) = bound(&a, "127.0.0.1:0");
    let (client, _) = bound(&b, "127.0.0.1:0");
    let native = std::net::UdpSocket::bind("127.0.0.1:0").expect("bind");
    for native_first in [true, false] {
        let task = tokio::spawn({
            let server = server.clone();
            async move { receive(&server).await }
        });
        tokio::task::yield_now().await;
        if native_first {
            native.send_to(b"native", at).expect("send");
        } else {
            send(&client, b"client", at).await.expect("send");
        }
        task.await.expect("woken").expect("receive");
    }
    for _ in 0..4 {
        native.send_to(b"native", at).expect("send");
        send(&client, b"client", at).await.expect("send");
    }
    poll_fn(|cx| server.inner.lock_open(|open| open.kernel.poll_receive_ready(cx))).await.expect("ready");
    let mut turns = Vec::new();
    for _ in 0..8 {
        turns.push(receive(&server).await.expect("receive").0);
    }
    assert!(turns.windows(2).all(|two| two[0] != two[1]), "{turns:?}");
}

impl Inner {
    fn lock_open<T>(&self, f: impl FnOnce(&mut Open) -> T) -> T {
        self.with(|open| Ok(f(open))).expect("open")
    }
}

#[tokio::test]
async fn a_refusal_wakes_who_waits_to_receive() {
    let pod = pod();
    let a = pod.attach("a");
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").expect("bind").local_addr().expect("address");
    let client = a.udp_socket(Family::V4).expect("socket");
    client.connect(nobody).expect("connect");
    // Nothing is there to receive: tokio knows that the socket is not ready.
    let mut cx = Context::from_waker(Waker::noop());
    assert!(client.poll_receive(&mut cx).is_pending());
    send(&client, b"x", None).await.expect("send");
    assert_eq!(receive(&client).await, Err(Error::ConnectionRefused));
    assert!(client.poll_receive(&mut cx).is_pending());
    // A container that takes the port is heard of in memory, and the refusal of before is not forgotten.
    send(&client, b"x", None).await.expect("send");
    let (server, _) = bound(&a, &nobody.to_string());
    assert_eq!(send(&client, b"x", None).await, Err(Error::ConnectionRefused));
    send(&client, b"now", None).await.expect("send");
    assert_eq!(queued(&server), 1);
    drop(server);
    send(&client, b"gone", None).await.expect("send");
    assert_eq!(receive(&client).await, Err(Error::ConnectionRefused));
}

#[tokio::test]
async fn while_connected_only_the_peer_is_heard() {
    let pod = pod();
    let (a, b) = (pod.attach("a"), pod.attach("b"));
    let (socket, at) = bound(&a, "0.0.0.0:0");
    let at = at_loopback(at);
    let (peer, peer_at) = bound(&b, "127.0.0.1:0");
    let (stranger, stranger_at) = bound(&b, "127.0.0.1:0");
    send(&stranger, b"before", at).await.expect("send");
    socket.connect(peer_at).expect("connect");
    assert_eq!(socket.local_address(), Ok(at), "connect narrows the wildcard");
    send(&stranger, b"refused", at).await.expect("send");
    send(&peer, b"peer", at).await.expect("send");
    assert_eq!(receive(&socket).await, Ok((b"peer".to_vec(), peer_at)));
    // To another peer and back: the port stays.
    socket.connect(stranger_at).expect("connect");
    assert_eq!(socket.local_address(), Ok(at));
    send(&stranger, b"stranger", at).await.expect("send");
    assert_eq!(queued(&socket), 1);
    assert_eq!(receive(&socket).await.expect("receive").0, b"stranger");
    socket.disconnect().expect("disconnect");
    let local = socket.local_address().expect("still bound");
    assert_eq!((local.ip().is_unspecified(), local.port()), (true, at.port()));
    // From now on the kernel judges on this port.
    send(&peer, b"widened", at).await.expect("send");
    assert_eq!(queued(&socket), 0);
    assert_eq!(receive(&socket).await.expect("receive").0, b"widened");
}

/// Floods fill a bounded queue; the other sockets of the victim and everybody else go on.
#[tokio::test]
async fn floods_are_dropped() {
    let pod = pod();
    let (flooder, victim, other) = (pod.attach("flooder"), pod.attach("victim"), pod.attach("other"));
    let mut never_read = Vec::new();
    for _ in 0..100 {
        never_read.push(bound(&victim, "127.0.0.1:0"));
    }
    let attacker = flooder.udp_socket(Family::V4).expect("socket");
    for round in 0..40 {
        for (_, at) in &never_read {
            send(&attacker, &[round; 9000], *at).await.expect("dropped in silence");
        }
    }
    assert!(never_read.iter().all(|(socket, _)| socket.inner.inbox.dropped() > 0));
    let held = pod.budget.held();
    assert!(held <= 8 << 20, "{held}");
    for (receiver, sender) in [(&victim, &other), (&other, &victim), (&other, &flooder)] {
        let (receiver, at) = bound(receiver, "127.0.0.1:0");
        let (sender, _) = bound(sender, "127.0.0.1:0");
        for _ in 0..1000 {
            send(&sender, &[1; 1000], at).await.expect("send");
            assert_eq!(receive(&receiver).await.expect("receive").0.len(), 1000);
        }
    }
    victim.close();
    assert_eq!(pod.budget.held(), 0);
}

#[tokio::test]
async fn the_receive_buffer_bounds_the_queue() {
    let pod = pod();
    let a = pod.attach("a");
    let ((socket, at), (sender, _)) = (bound(&a, "127.0.0.1:0"), bound(&a, "127.0.0.1:0"));
    let mut fitting = Vec::new();
    for bytes in [10_000, 100_000] {
        socket.set_receive_buffer_size(bytes).expect("set");
        assert_eq!(socket.receive_buffer_size(), Ok(bytes));
        for _ in 0..200 {
            send(&sender, &[0; 1000], at).await.expect("send");
        }
        fitting.push(queued(&socket));
        for _ in 0..queued(&socket) {
            receive(&socket).await.expect("receive");
        }
    }
    assert_eq!(fitting, [7, 79], "payload and overhead within the buffer");
}

#[tokio::test]
async fn without_the_memory_plane_the_kernel_carries_all() {
    let planes = PlaneConfig { memory: false, ..PlaneConfig::default() };
    let pod = Stack::new(StackConfig { planes, ..StackConfig::default() });
    let (a, b) = (pod.attach("a"), pod.attach("b"));
    let ((server, at), (client, from)) = (bound(&a, "127.0.0.1:0"), bound(&b, "127.0.0.1:0"));
    send(&client, b"kernel", at).await.expect("send");
    assert_eq!(queued(&server), 0);
    assert_eq!(receive(&server).await, Ok((b"kernel".to_vec(), from)));
}

/// A full buffer waits and is woken, and is no busy loop, even after an error: a link whose neighbour does not
/// answer keeps the packets.
#[test]
fn a_full_kernel_buffer_waits() {
    in_a_network(&[], |runtime| {
        let mut pair = LinkMessage::default();
        let peer = LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(LinkMessage::default())));
        pair.header.index = 10;
        pair.attributes = vec![LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth), peer])];
        execute("make a link", &RouteNetlinkMessage::NewLink(pair), CREATE);
        nix::net::if_::if_nameindex().expect("interfaces").iter().for_each(|link| link_up(link.index()));
        add_address(10, Ipv4Addr::new(10, 8, 0, 1).into(), 24);

        runtime.block_on(async {
            let a = pod().attach("a");
            let sender = a.udp_socket(Family::V4).expect("socket");
            sender.set_send_buffer_size(1).expect("set");
            sender.connect(addr("127.0.0.1:9")).expect("connect");
            send(&sender, b"refused", None).await.expect("send");
            assert_eq!(receive(&sender).await, Err(Error::ConnectionRefused));
            send(&sender, b"refused", None).await.expect("send");
            tokio::task::yield_now().await;
            sender.disconnect().expect("disconnect");
            let _ = send(&sender, b"takes the error", addr("127.0.0.1:9")).await;

            let receiving = Arc::new(Count::default());
            let waker = Waker::from(receiving.clone());
            assert!(sender.poll_receive(&mut Context::from_waker(&waker)).is_pending());
            let sending = Arc::new(Count::default());
            let waker = Waker::from(sending.clone());
            let mut cx = Context::from_waker(&waker);
            let full = (0..1000).any(|_| {
                let to = Some(addr("10.8.0.2:9"));
                sender.poll_send(&mut cx, &mut vec![0; 1000], to).is_pending()
            });
            assert!(full, "the buffer holds little");
            for _ in 0..20 {
                tokio::task::yield_now().await;
                if let Poll::Ready(()) = sender.poll_send_ready(&mut cx) {
                    panic!("the buffer is full");
                }
            }
            assert_eq!(sending.get(), 0);

            let mut neighbour = NeighbourMessage::default();
            neighbour.header.family = netlink_packet_route::AddressFamily::Inet;
            neighbour.header.ifindex = 10;
            neighbour.header.state = NeighbourState::Permanent;
            neighbour.attributes = vec![
                NeighbourAttribute::Destination(Ipv4Addr::new(10, 8, 0, 2).into()),
                NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, 2]),
            ];
            let flags = CREATE | 0x100;
            execute("name the neighbour", &RouteNetlinkMessage::NewNeighbour(neighbour), flags);
            poll_fn(|cx| sender.poll_send_ready(cx)).await;
            send(&sender, b"x", addr("10.8.0.2:9")).await.expect("send");

            // The registration that the receiver waited on is gone.
            assert!(receiving.get() > 0);
        });
    });
}

/// Who floods a socket with what it may not receive holds nobody up.
#[tokio::test]
async fn what_may_not_be_received_is_thrown_away_a_few_at_a_time() {
    let none = crate::spec::container_network::parse("bind: none; connect: none").expect("none");
    let policy = Policy::new(PolicyConfig {
        rules: &NetworkRules { policies: vec![], containers: [("narrow".to_owned(), none)].into() },
        containers: vec!["narrow"],
        addresses: vec![],
        node: Default::default(),
        kernel_filters: false,
        tell: Tell::new(drop),
    });
    let pod = Stack::new(StackConfig { policy, ..StackConfig::default() });
    let (narrow, hostile) = (pod.attach("narrow"), pod.attach("hostile"));
    let (socket, local) = bound(&narrow, "127.0.0.1:0");
    let (flood, _) = bound(&hostile, "127.0.0.1:0");
    for _ in 0..150 {
        send(&flood, b"x", local).await.expect("send");
    }
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    let mut cx = Context::from_waker(&waker);
    for left in [86, 22, 0] {
        assert!(socket.poll_receive(&mut cx).is_pending());
        assert_eq!(queued(&socket), left);
    }
    assert_eq!(count.get(), 2, "not when there is nothing left");
    assert_eq!(pod.denied()[0].count, 150);
}

/// WASI 0.3 lets a guest wait several times at once.
#[tokio::test]
async fn everyone_who_waits_to_receive_is_woken() {
    let pod = pod();
    let (a, b) = (pod.attach("a"), pod.attach("b"));
    let (socket, local) = bound(&a, "127.0.0.1:0");
    let (sender, _) = bound(&b, "127.0.0.1:0");
    let wait = |socket: &UdpSocket| {
        let socket = socket.clone();
        tokio::spawn(async move { socket.receive().await.map(|(data, _)| data) })
    };
    let (first, second) = (wait(&socket), wait(&socket));
    tokio::task::yield_now().await;
    sender.send(b"1".to_vec(), Some(local)).await.expect("send");
    assert_eq!(first.await.expect("join"), Ok(b"1".to_vec()));
    sender.send(b"2".to_vec(), Some(local)).await.expect("send");
    assert_eq!(second.await.expect("join"), Ok(b"2".to_vec()));
}

/// What an IPv6 socket's kernel socket had when it was replaced, a failed connect included.
#[tokio::test]
async fn who_waits_hears_of_what_a_disconnect_found() {
    for fails in [false, true] {
        let pod = pod();
        let a = pod.attach("a");
        let (socket, local) = bound(&a, "[::1]:0");
        let native = std::net::UdpSocket::bind("[::1]:0").expect("native");
        socket.connect(native.local_addr().expect("address")).expect("connect");
        let mut waiting = tokio::spawn({
            let socket = socket.clone();
            async move { socket.receive().await }
        });
        tokio::task::yield_now().await;
        // The event loop has not looked yet when the socket is replaced.
        native.send_to(b"x", local).expect("send");
        match fails {
            false => socket.disconnect().expect("disconnect"),
            true => assert!(socket.connect(addr("[fe80::1]:9")).is_err(), "it needs a scope"),
        }
        let woken = tokio::time::timeout(std::time::Duration::from_secs(30), &mut waiting);
        assert_eq!(woken.await.expect("woken").expect("join").map(|(data, _)| data), Ok(b"x".to_vec()));
    }
}

/// Whoever waits for something and receives then does not wait there.
#[tokio::test]
async fn nothing_is_left_after_the_only_datagram() {
    let pod = pod();
    let a = pod.attach("a");
    let (socket, local) = bound(&a, "127.0.0.1:0");
    let native = std::net::UdpSocket::bind("127.0.0.1:0").expect("native");
    let mut cx = Context::from_waker(Waker::noop());
    for data in [&b""[..], b"x"] {
        native.send_to(data, local).expect("send");
        poll_fn(|cx| socket.poll_receive_ready(cx)).await;
        assert!(matches!(socket.poll_receive(&mut cx), Poll::Ready(Ok((got, _))) if got == data));
        assert!(socket.poll_receive_ready(&mut cx).is_pending());
    }
}

/// What the next receive says, without waiting.
fn received_now(socket: &UdpSocket) -> Poll<Result<Vec<u8>>> {
    let received = socket.poll_receive(&mut Context::from_waker(Waker::noop()));
    received.map_ok(|(data, _)| data)
}

/// A socket on a port of its choice, as a server's is.
fn server(endpoint: &Endpoint) -> (UdpSocket, SocketAddr) {
    let free = std::net::UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    bound(endpoint, &free.expect("a free port").to_string())
}

#[tokio::test]
async fn a_server_that_is_asked_to_end_fails_one_receive_after_all_it_was_sent() {
    let endpoint = pod().attach("web");
    let (server, at) = server(&endpoint);
    let (client, _) = bound(&endpoint, "127.0.0.1:0");
    let (connected, _) = bound(&endpoint, "127.0.0.1:0");
    connected.connect(at).expect("connect");
    send(&client, b"one", at).await.expect("send");
    endpoint.stop_listening();

    assert!(matches!(received_now(&server), Poll::Ready(Ok(data)) if data == b"one"));
    poll_fn(|cx| server.poll_receive_ready(cx)).await;
    assert!(matches!(received_now(&server), Poll::Ready(Err(Error::ConnectionAborted))));
    // It works on, as do those that serve nobody.
    send(&client, b"two", at).await.expect("send");
    assert!(matches!(received_now(&server), Poll::Ready(Ok(data)) if data == b"two"));
    for socket in [&server, &client, &connected] {
        assert!(received_now(socket).is_pending());
    }
}

#[tokio::test]
async fn a_receive_that_waits_hears_of_the_stop() {
    let endpoint = pod().attach("web");
    let (server, _) = server(&endpoint);
    let waiting = tokio::spawn(async move { receive(&server).await });
    tokio::task::yield_now().await;
    endpoint.stop_listening();
    assert!(matches!(waiting.await.expect("join"), Err(Error::ConnectionAborted)));
}
