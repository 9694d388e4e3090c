//! Sockets of several containers on both planes, on this host's loopback.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

fn pod() -> Arc<Stack> {
    Stack::new(StackConfig::default())
}

fn named(hostname: &str) -> NamesConfig {
    NamesConfig { hosts: names::Hosts::of_pod(&[hostname.into()], &[], &[]), ..NamesConfig::default() }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

fn now() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// A listener on a free port of 127.0.0.1, or of another address.
fn listen_on(endpoint: &Endpoint, local: &str) -> (TcpSocket, Acceptor, SocketAddr) {
    let local = addr(local);
    let socket = endpoint.tcp_socket(Family::of(local.ip())).expect("socket");
    socket.bind(local).expect("bind");
    let acceptor = socket.listen().expect("listen");
    let local = socket.local_address().expect("address");
    (socket, acceptor, local)
}

fn listen(endpoint: &Endpoint) -> (TcpSocket, Acceptor, SocketAddr) {
    listen_on(endpoint, "127.0.0.1:0")
}

async fn connect(endpoint: &Endpoint, remote: SocketAddr) -> Result<TcpSocket> {
    let socket = endpoint.tcp_socket(Family::of(remote.ip()))?;
    socket.start_connect(remote)?;
    poll_fn(|cx| socket.poll_connect(cx)).await?;
    Ok(socket)
}

async fn accept(acceptor: &mut Acceptor) -> Result<TcpSocket> {
    poll_fn(|cx| acceptor.poll_accept(cx)).await
}

async fn write_all(half: &SendHalf, mut data: &[u8]) -> Result<()> {
    while !data.is_empty() {
        let n = poll_fn(|cx| half.poll_write(cx, data)).await?;
        data = &data[n..];
    }
    Ok(())
}

async fn read_to_end(half: &ReceiveHalf) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let bytes = poll_fn(|cx| half.poll_read_bytes(cx, 10_000)).await?;
        if bytes.is_empty() {
            return Ok(all);
        }
        all.extend_from_slice(&bytes);
    }
}

fn halves(socket: &TcpSocket) -> (ReceiveHalf, SendHalf) {
    (socket.take_receive_half().expect("receive"), socket.take_send_half().expect("send"))
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 / 7) as u8).collect()
}

/// Sends a megabyte each way at once and half-closes.
async fn exchange(a: &TcpSocket, b: &TcpSocket) {
    let data = pattern(1 << 20);
    let ((a_rx, a_tx), (b_rx, b_tx)) = (halves(a), halves(b));
    let send = |half: SendHalf| {
        let data = data.clone();
        async move { write_all(&half, &data).await.expect("write") }
    };
    let ((), (), at_a, at_b) = tokio::join!(send(a_tx), send(b_tx), read_to_end(&a_rx), read_to_end(&b_rx));
    assert!(at_a.expect("read") == data && at_b.expect("read") == data);
}

#[tokio::test]
async fn containers_talk_in_memory() {
    let pod = pod();
    let (a, b) = (pod.attach("a"), pod.attach("b"));
    let (_socket, mut acceptor, local) = listen(&a);
    let client = connect(&b, local).await.expect("connect");
    let server = accept(&mut acceptor).await.expect("accept");
    assert!(client.is_memory() && server.is_memory());
    assert_eq!(client.remote_address(), Ok(local));
    assert_eq!(server.local_address(), Ok(local));
    assert_eq!(client.local_address(), server.remote_address());
    assert!(ports::EPHEMERAL_PORTS.contains(&client.local_address().expect("address").port()));
    exchange(&client, &server).await;
}

#[tokio::test]
async fn native_processes_reach_containers_and_the_other_way() {
    let pod = pod();
    let a = pod.attach("a");
    let (_socket, mut acceptor, local) = listen(&a);
    let mut native = tokio::net::TcpStream::connect(local).await.expect("connect");
    let server = accept(&mut acceptor).await.expect("accept");
    assert!(!server.is_memory());
    let (rx, tx) = halves(&server);
    native.write_all(b"ping").await.expect("write");
    native.shutdown().await.expect("shutdown");
    assert_eq!(read_to_end(&rx).await.expect("read"), b"ping");
    write_all(&tx, b"pong").await.expect("write");
    drop(tx);
    let mut got = Vec::new();
    native.read_to_end(&mut got).await.expect("read");
    assert_eq!(got, b"pong");

    let native = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let remote = native.local_addr().expect("address");
    let (client, accepted) = tokio::join!(connect(&a, remote), native.accept());
    let (client, (accepted, _)) = (client.expect("connect"), accepted.expect("accept"));
    assert!(!client.is_memory());
    drop(accepted);
    assert_eq!(read_to_end(&client.take_receive_half().expect("half")).await, Ok(Vec::new()));
}

#[tokio::test]
async fn the_kernel_plane_carries_bulk_both_ways() {
    let pod = Stack::new(StackConfig {
        planes: PlaneConfig { memory: false, ..PlaneConfig::default() },
        ..StackConfig::default()
    });
    let (a, b) = (pod.attach("a"), pod.attach("b"));
    let (_socket, mut acceptor, local) = listen(&a);
    let client = connect(&b, local).await.expect("connect");
    let server = accept(&mut acceptor).await.expect("accept");
    assert!(!client.is_memory() && !server.is_memory());
    exchange(&client, &server).await;
}

#[tokio::test]
async fn one_port_space() {
    let pod = pod();
    let (a, b) = (pod.attach("a"), pod.attach("b"));
    let (_socket, _acceptor, local) = listen(&a);

    let taken = |local: SocketAddr| {
        let socket = b.tcp_socket(Family::V4).expect("socket");
        socket.bind(local).and_then(|()| socket.listen().map(drop))
    };
    assert_eq!(taken(local), Err(Error::AddressInUse), "another container");
    assert_eq!(taken(addr(&format!("0.0.0.0:{}", local.port()))), Err(Error::AddressInUse), "the wildcard");
    let native = std::net::TcpListener::bind(local).map_err(|e| e.kind());
    assert!(matches!(native, Err(std::io::ErrorKind::AddrInUse)), "a native process");

    let native = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    assert_eq!(
        taken(native.local_addr().expect("address")),
        Err(Error::AddressInUse),
        "from a native process"
    );
    assert_eq!(taken(addr("192.0.2.1:0")), Err(Error::AddressNotBindable));
}

#[tokio::test]
async fn nobody_listens() {
    let pod = pod();
    let a = pod.attach("a");
    let (socket, acceptor, local) = listen(&a);
    drop((socket, acceptor));
    let socket = a.tcp_socket(Family::V4).expect("socket");
    socket.start_connect(local).expect("start");
    for _ in 0..2 {
        assert_eq!(poll_fn(|cx| socket.poll_connect(cx)).await, Err(Error::ConnectionRefused));
    }
    assert_eq!(socket.start_connect(local), Err(Error::InvalidState), "a failed socket is closed");
    assert!(pod.is_idle());
}

#[tokio::test]
async fn graceful_stop_ends_accepting_and_leaves_connections() {
    let pod = pod();
    let (a, b) = (pod.attach("a"), pod.attach("b"));
    let (_socket, mut acceptor, local) = listen(&a);
    let client = connect(&b, local).await.expect("connect");
    let server = accept(&mut acceptor).await.expect("accept");

    let waiting = tokio::spawn(async move { (accept(&mut acceptor).await.map(drop), acceptor) });
    tokio::task::yield_now().await;
    a.stop_listening();
    let (result, mut acceptor) = waiting.await.expect("join");
    assert_eq!(result, Err(Error::InvalidArgument), "the waiting accept fails");
    assert_eq!(acceptor.poll_ready(&mut now()), Poll::Ready(()), "and the listener is ready for ever");
    assert_eq!(accept(&mut acceptor).await.map(drop), Err(Error::InvalidArgument));

    assert_eq!(connect(&b, local).await.map(drop), Err(Error::ConnectionRefused));
    assert!(tokio::net::TcpStream::connect(local).await.is_err(), "natives too");
    let again = a.tcp_socket(Family::V4).expect("socket");
    assert_eq!(again.listen().map(drop), Err(Error::InvalidArgument));
    let (_socket, _acceptor, _) = listen_on(&pod.attach("a"), &local.to_string());
    exchange(&client, &server).await;
}

#[tokio::test]
async fn the_end_of_a_container_gives_everything_back() {
    let pod = pod();
    let (a, b) = (pod.attach("a"), pod.attach("b"));
    let (socket, mut acceptor, local) = listen(&a);
    let clean = connect(&b, local).await.expect("connect");
    let clean_server = accept(&mut acceptor).await.expect("accept");
    let unread = connect(&b, local).await.expect("connect");
    let unread_server = accept(&mut acceptor).await.expect("accept");
    let queued = connect(&b, local).await.expect("connect");
    write_all(&unread.take_send_half().expect("half"), b"never read").await.expect("write");

    let rx = clean.take_receive_half().expect("half");
    let blocked = tokio::spawn(async move { read_to_end(&rx).await });
    tokio::task::yield_now().await;
    drop(a);
    assert_eq!(blocked.await.expect("join"), Ok(Vec::new()), "all was read: the end");
    let reset = Err(Error::ConnectionReset);
    assert_eq!(read_to_end(&unread.take_receive_half().expect("half")).await, reset);
    assert_eq!(read_to_end(&queued.take_receive_half().expect("half")).await, reset);
    assert_eq!(clean_server.local_address(), Err(Error::ConnectionAborted));

    // The container's sockets still exist, and hold nothing.
    std::net::TcpListener::bind(local).expect("the port is free");
    drop((b, clean, unread, queued, socket, acceptor, clean_server, unread_server));
    assert!(pod.is_idle());
}

#[tokio::test]
async fn a_full_backlog_makes_clients_wait() {
    let pod = pod();
    let (a, b) = (pod.attach("a"), pod.attach("b"));
    let socket = a.tcp_socket(Family::V4).expect("socket");
    socket.set_backlog(1).expect("backlog");
    socket.bind(addr("127.0.0.1:0")).expect("bind");
    let mut acceptor = socket.listen().expect("listen");
    let local = socket.local_address().expect("address");
    let clients: Vec<_> = (0..5)
        .map(|_| {
            let client = b.tcp_socket(Family::V4).expect("socket");
            client.start_connect(local).expect("start");
            client
        })
        .collect();
    let connected = |i: usize| clients[i].poll_connect(&mut now());
    // Linux: one more than the backlog.
    assert!(connected(0).is_ready() && connected(1).is_ready());
    assert!(connected(2).is_pending() && connected(3).is_pending() && connected(4).is_pending());
    clients[2].close();
    let first = accept(&mut acceptor).await.expect("accept");
    assert_eq!(first.remote_address(), clients[0].local_address());
    assert_eq!(connected(3), Poll::Ready(Ok(())), "the one that gave up is passed over");
    assert!(connected(4).is_pending());
    drop((acceptor, socket));
    assert_eq!(connected(4), Poll::Ready(Err(Error::ConnectionRefused)));
}

#[tokio::test]
async fn both_planes_have_their_turn() {
    let pod = pod();
    let (a, b) = (pod.attach("a"), pod.attach("b"));
    let (_socket, mut acceptor, local) = listen(&a);
    let mut natives = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..3 {
        natives.push(tokio::net::TcpStream::connect(local).await.expect("connect"));
        clients.push(connect(&b, local).await.expect("connect"));
    }
    let mut planes = Vec::new();
    for _ in 0..6 {
        planes.push(accept(&mut acceptor).await.expect("accept").is_memory());
    }
    assert_eq!(planes.iter().filter(|m| **m).count(), 3);
    assert!(planes.windows(3).all(|w| w != [true; 3] && w != [false; 3]), "{planes:?}");
}

#[tokio::test]
async fn wildcard_and_other_loopback_addresses() {
    let pod = pod();
    let (a, b) = (pod.attach("a"), pod.attach("b"));
    let (_socket, mut acceptor, local) = listen_on(&a, "0.0.0.0:0");
    let client = connect(&b, addr(&format!("127.0.0.9:{}", local.port()))).await.expect("connect");
    let server = accept(&mut acceptor).await.expect("accept");
    assert!(client.is_memory());
    assert_eq!(server.local_address(), client.remote_address());
    assert_eq!(client.local_address().expect("address").ip(), addr("127.0.0.1:0").ip(), "as Linux routes");
}

#[tokio::test]
async fn ipv6_is_a_family_of_its_own() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: this host has no IPv6 loopback");
        return;
    }
    let pod = pod();
    let (a, b) = (pod.attach("a"), pod.attach("b"));
    let (_socket, mut acceptor, local) = listen_on(&a, "[::]:0");
    let client = connect(&b, addr(&format!("[::1]:{}", local.port()))).await.expect("connect");
    let server = accept(&mut acceptor).await.expect("accept");
    assert!(client.is_memory());
    assert_eq!(server.local_address(), client.remote_address());
    let v4 = addr(&format!("127.0.0.1:{}", local.port()));
    assert_eq!(connect(&b, v4).await.map(drop), Err(Error::ConnectionRefused));
    let (_socket, _acceptor, _) = listen_on(&b, &v4.to_string());
}

#[tokio::test]
async fn a_bound_client_keeps_its_port_and_holds_it() {
    let pod = pod();
    let (a, b) = (pod.attach("a"), pod.attach("b"));
    let (_socket, mut acceptor, local) = listen(&a);
    let client = b.tcp_socket(Family::V4).expect("socket");
    client.bind(addr("127.0.0.1:0")).expect("bind");
    let bound = client.local_address().expect("address");
    client.start_connect(local).expect("start");
    poll_fn(|cx| client.poll_connect(cx)).await.expect("connect");
    assert!(client.is_memory());
    assert_eq!(client.local_address(), Ok(bound));
    assert_eq!(accept(&mut acceptor).await.expect("accept").remote_address(), Ok(bound));
    let native = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None);
    let native = native.expect("socket");
    assert_eq!(rustix::net::bind(&native, &bound), Err(rustix::io::Errno::ADDRINUSE));
    drop(client);
    rustix::net::bind(&native, &bound).expect("free again");
}

#[tokio::test]
async fn accepted_sockets_inherit_options_on_both_planes() {
    let pod = pod();
    let (a, b) = (pod.attach("a"), pod.attach("b"));
    let (socket, mut acceptor, local) = listen(&a);
    socket.set_hop_limit(42).expect("set");
    socket.set_keep_alive_enabled(true).expect("set");
    socket.set_receive_buffer_size(0x10000).expect("set");
    let _client = connect(&b, local).await.expect("connect");
    let _native = tokio::net::TcpStream::connect(local).await.expect("connect");
    for _ in 0..2 {
        let server = accept(&mut acceptor).await.expect("accept");
        assert_eq!(server.hop_limit(), Ok(42));
        assert_eq!(server.keep_alive_enabled(), Ok(true));
        assert_eq!(server.receive_buffer_size(), Ok(0x10000));
    }
}

#[tokio::test]
async fn states_are_checked() {
    let pod = pod();
    let a = pod.attach("a");
    let socket = a.tcp_socket(Family::V4).expect("socket");
    assert_eq!(socket.local_address(), Err(Error::InvalidState));
    assert_eq!(socket.bind(addr("[::1]:0")), Err(Error::InvalidArgument));
    assert_eq!(socket.start_connect(addr("0.0.0.0:80")), Err(Error::InvalidArgument));
    assert_eq!(socket.poll_connect(&mut now()), Poll::Ready(Err(Error::InvalidState)));
    assert_eq!(socket.take_send_half().map(drop), Err(Error::InvalidState));
    socket.bind(addr("127.0.0.1:0")).expect("bind");
    assert_eq!(socket.bind(addr("127.0.0.1:0")), Err(Error::InvalidState));
    assert_eq!(socket.set_backlog(0), Err(Error::InvalidArgument));
    let _acceptor = socket.listen().expect("listen");
    assert_eq!(socket.listen().map(drop), Err(Error::InvalidState));
    assert_eq!(socket.start_connect(addr("127.0.0.1:80")), Err(Error::InvalidState));
    assert!(socket.is_listening());
}

#[tokio::test]
async fn sockets_are_bounded() {
    let pod = pod();
    let a = pod.attach("a");
    let sockets: Vec<_> = (0..MAX_SOCKETS).map(|_| a.tcp_socket(Family::V4).expect("socket")).collect();
    assert_eq!(a.tcp_socket(Family::V4).map(drop), Err(Error::TooManySockets));
    assert!(pod.attach("b").tcp_socket(Family::V4).is_ok());
    drop(sockets);
    assert_eq!(a.socket_count(), 0);
    a.close();
    assert_eq!(a.tcp_socket(Family::V4).map(drop), Err(Error::InvalidState));
}

async fn receive(socket: &UdpSocket) -> Result<(Vec<u8>, SocketAddr)> {
    poll_fn(|cx| socket.poll_receive(cx)).await
}

async fn send(socket: &UdpSocket, data: &[u8], remote: Option<SocketAddr>) -> Result<()> {
    let mut data = data.to_vec();
    poll_fn(|cx| socket.poll_send(cx, &mut data, remote)).await
}

#[tokio::test]
async fn udp_connected_and_not() {
    let pod = pod();
    let (a, b) = (pod.attach("a"), pod.attach("b"));
    let (server, client) =
        (a.udp_socket(Family::V4).expect("socket"), b.udp_socket(Family::V4).expect("socket"));
    assert_eq!(receive(&server).await.map(drop), Err(Error::InvalidState));
    server.bind(addr("127.0.0.1:0")).expect("bind");
    assert_eq!(server.bind(addr("127.0.0.1:0")), Err(Error::InvalidState));
    let local = server.local_address().expect("address");

    // A new socket can be written to at once: no waiting for the runtime's loop.
    assert_eq!(client.poll_send(&mut now(), &mut b"one".to_vec(), Some(local)), Poll::Ready(Ok(())));
    let (data, from) = receive(&server).await.expect("receive");
    assert_eq!(data, b"one");
    assert_eq!(client.local_address().expect("address").port(), from.port());

    client.connect(local).expect("connect");
    assert_eq!(client.remote_address(), Ok(local));
    assert_eq!(send(&client, b"x", Some(addr("127.0.0.1:9"))).await, Err(Error::InvalidArgument));
    send(&client, b"", None).await.expect("an empty datagram is one");
    send(&client, b"two", Some(local)).await.expect("send");
    assert_eq!(receive(&server).await.expect("receive").0, b"");
    assert_eq!(receive(&server).await.expect("receive").0, b"two");
    let stranger = std::net::UdpSocket::bind("127.0.0.1:0").expect("bind");
    stranger.send_to(b"not from the peer", client.local_address().expect("address")).expect("send");
    let from = client.local_address().expect("address");
    send(&server, b"reply", Some(from)).await.expect("send");
    assert_eq!(receive(&client).await.expect("receive"), (b"reply".to_vec(), local));

    assert_eq!(send(&client, &vec![0; MAX_DATAGRAM + 1], None).await, Err(Error::DatagramTooLarge));
    assert_eq!(send(&client, &vec![0; MAX_DATAGRAM], None).await, Err(Error::DatagramTooLarge));
    drop(server);
    send(&client, b"nobody", None).await.expect("send");
    assert_eq!(receive(&client).await.map(drop), Err(Error::ConnectionRefused));
    client.disconnect().expect("disconnect");
    assert_eq!(client.disconnect(), Err(Error::InvalidState));
    assert_eq!(send(&client, b"x", None).await, Err(Error::InvalidArgument));
    b.close();
    assert_eq!(client.local_address(), Err(Error::InvalidState));
}

#[tokio::test]
async fn names_of_the_pod() {
    let a = Stack::new(StackConfig { names: named("web"), ..StackConfig::default() }).attach("a");
    assert!(a.resolve("localhost".into()).await.expect("own").contains(&addr("127.0.0.1:0").ip()));
    assert!(!a.resolve("web".into()).await.expect("own").is_empty());
    assert_eq!(a.resolve("not a name".into()).await, Err(Error::InvalidArgument));
}

/// One end of a connection, as a script of calls whose outcomes are written down.
struct End {
    socket: TcpSocket,
    receive: Option<ReceiveHalf>,
    send: Option<SendHalf>,
}

impl End {
    fn new(socket: TcpSocket) -> Self {
        let (receive, send) = halves(&socket);
        Self { socket, receive: Some(receive), send: Some(send) }
    }

    async fn run(&mut self, call: &str) -> String {
        match call {
            "read" => {
                let half = self.receive.as_ref().expect("open");
                format!("{:?}", poll_fn(|cx| half.poll_read_bytes(cx, 100)).await)
            }
            "write" => {
                let half = self.send.as_ref().expect("open");
                format!("{:?}", poll_fn(|cx| half.poll_write(cx, b"data")).await)
            }
            "shut-read" => format!("{:?}", self.receive.take().map(drop)),
            "shut-write" => format!("{:?}", self.send.take().map(drop)),
            "close" => format!("{:?}", self.socket.close()),
            _ => unreachable!("{call}"),
        }
    }
}

/// What both ends of a connection see is the same on both planes: the kernel is the reference.
#[tokio::test]
async fn the_planes_end_connections_alike() {
    const SCRIPTS: [&str; 14] = [
        "c.write s.close c.read c.read c.write c.write c.read",
        "s.close c.read c.write c.write c.write c.read",
        "s.write s.close c.read c.read c.write c.write",
        "c.write c.shut-write s.read s.read s.write s.close c.read c.read",
        "c.write s.shut-read s.close c.read c.write c.read",
        "s.write c.write s.close c.read c.read c.read c.write",
        "s.shut-read c.write s.write c.read s.close c.read c.write",
        "s.shut-read s.shut-write c.write c.write c.write c.read",
        "c.shut-write c.close s.read s.write s.write s.read",
        "c.write s.shut-write s.close c.read c.write c.read",
        "c.shut-write s.write c.close s.read s.write s.write",
        "c.shut-write s.shut-write c.read s.read c.close s.close",
        "c.shut-write s.read s.write c.close s.write s.read",
        "s.write c.read c.shut-read s.write s.shut-write c.write s.read c.close s.read",
    ];
    for script in SCRIPTS {
        let mut seen = Vec::new();
        for memory in [true, false] {
            let planes = PlaneConfig { memory, ..PlaneConfig::default() };
            let pod = Stack::new(StackConfig { planes, ..StackConfig::default() });
            let (a, b) = (pod.attach("a"), pod.attach("b"));
            let (_socket, mut acceptor, local) = listen(&a);
            let mut client = End::new(connect(&b, local).await.expect("connect"));
            let mut server = End::new(accept(&mut acceptor).await.expect("accept"));
            let mut outcomes = Vec::new();
            for call in script.split(' ') {
                let (end, call) = call.split_once('.').expect("end.call");
                let end = if end == "c" { &mut client } else { &mut server };
                outcomes.push(format!("{call} {}", end.run(call).await));
            }
            seen.push(outcomes);
        }
        assert_eq!(seen[0], seen[1], "memory and kernel differ: {script}");
    }
}

/// A reader of `wasi:io` that is given more than it asked for is a bug of the host's.
#[tokio::test]
async fn a_read_is_never_longer_than_asked_for() {
    for memory in [true, false] {
        let planes = PlaneConfig { memory, ..PlaneConfig::default() };
        let pod = Stack::new(StackConfig { planes, ..StackConfig::default() });
        let (a, b) = (pod.attach("a"), pod.attach("b"));
        let (_socket, mut acceptor, local) = listen(&a);
        let client = connect(&b, local).await.expect("connect");
        let server = accept(&mut acceptor).await.expect("accept");
        let data = pattern(100);
        write_all(&client.take_send_half().expect("half"), &data).await.expect("write");
        let (half, mut read) = (server.take_receive_half().expect("half"), Vec::new());
        for max in (1..).take_while(|max| max * (max + 1) / 2 <= data.len()) {
            let mut left = max;
            while left > 0 {
                let bytes = poll_fn(|cx| half.poll_read_bytes(cx, left)).await.expect("read");
                assert!((1..=left).contains(&bytes.len()), "{} of {left}, memory: {memory}", bytes.len());
                left -= bytes.len();
                read.extend_from_slice(&bytes);
            }
        }
        assert_eq!(read, data[..read.len()]);
    }
}

/// The kubelet's way in: the listener's container sees the connection, nobody owns the other end.
#[tokio::test]
async fn the_host_connects_on_nobodys_account() {
    for memory in [true, false] {
        let planes = PlaneConfig { memory, ..PlaneConfig::default() };
        let pod = Stack::new(StackConfig { planes, ..StackConfig::default() });
        let (a, host) = (pod.attach("a"), pod.attach_host());
        let (_socket, mut acceptor, local) = listen(&a);
        let client = connect(&host, local).await.expect("connect");
        let server = accept(&mut acceptor).await.expect("accept");
        assert_eq!(client.is_memory(), memory);
        exchange(&client, &server).await;
        let mut walk = pod.observe();
        let sockets = walk.next_page(10).expect("sockets");
        assert!(sockets.len() == 2 && sockets.iter().all(|socket| socket.container == "a"), "{sockets:?}");
        assert_eq!(walk.counters().len(), 1);
        drop((client, host));
        drop((server, acceptor, a));
    }
}

#[tokio::test]
async fn the_host_holds_no_containers_memory() {
    let pod = pod();
    let a = pod.attach("a");
    let (_socket, mut acceptor, local) = listen(&a);
    let mut servers = Vec::new();
    for _ in 0..3 {
        let host = pod.attach_host();
        let client = connect(&host, local).await.expect("connect");
        let server = accept(&mut acceptor).await.expect("accept");
        write_all(&server.take_send_half().expect("half"), &pattern(100_000)).await.expect("write");
        assert!(pod.budget.held() >= 100_000);
        // Like every handle, it takes its sockets along, though somebody holds them.
        drop(host);
        assert_eq!(pod.budget.held(), 0);
        servers.push((client, server));
    }
    drop((servers, acceptor, _socket, a));
    assert!(pod.is_idle());
}
