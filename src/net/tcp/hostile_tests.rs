//! Containers that do what no honest one does: memory stays bounded, the others do not notice, and everything
//! is given back.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::state::{Connecting, State};
use crate::descriptors::Descriptors;
use crate::net::listener::MAX_UNACCEPTED;
use crate::net::{Acceptor, Endpoint, Error, Family, MAX_SOCKETS, Result, Stack, StackConfig, TcpSocket};

fn pod() -> Arc<Stack> {
    Stack::new(StackConfig::default())
}

fn now() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn listen(endpoint: &Endpoint, backlog: u64) -> (Acceptor, SocketAddr) {
    let socket = endpoint.tcp_socket(Family::V4).expect("socket");
    socket.set_backlog(backlog).expect("backlog");
    socket.bind("127.0.0.1:0".parse().expect("address")).expect("bind");
    let acceptor = socket.listen().expect("listen");
    (acceptor, socket.local_address().expect("address"))
}

fn connect(endpoint: &Endpoint, remote: SocketAddr) -> TcpSocket {
    let socket = endpoint.tcp_socket(Family::V4).expect("socket");
    socket.start_connect(remote).expect("start");
    socket
}

fn connected(socket: &TcpSocket) -> Poll<Result<()>> {
    socket.poll_connect(&mut now())
}

fn accept(acceptor: &mut Acceptor) -> Option<TcpSocket> {
    match acceptor.poll_accept(&mut now()) {
        Poll::Ready(accepted) => Some(accepted.expect("accept")),
        Poll::Pending => None,
    }
}

#[tokio::test]
async fn clients_that_connect_and_close_without_end() {
    let pod = pod();
    let (victim, hostile, honest) = (pod.attach("victim"), pod.attach("hostile"), pod.attach("honest"));
    let (mut acceptor, local) = listen(&victim, 4);
    for _ in 0..100_000 {
        drop(connect(&hostile, local));
    }
    assert_eq!(hostile.socket_count(), 0);
    let client = connect(&honest, local);
    assert!(connected(&client).is_pending(), "behind what is in the backlog");
    let mut accepted = 0;
    let server = loop {
        let server = accept(&mut acceptor).expect("more");
        if server.remote_address() == client.local_address() {
            break server;
        }
        // The client has closed: the end of the stream, and nothing else.
        let half = server.take_receive_half().expect("half");
        assert_eq!(half.poll_read(&mut now(), &mut [0]), Poll::Ready(Ok(0)));
        accepted += 1;
    };
    assert_eq!(accepted, 5, "one more than the backlog; those that waited have gone");
    assert_eq!(connected(&client), Poll::Ready(Ok(())));
    drop((client, server, acceptor));
    assert!(pod.is_idle());
}

#[tokio::test]
async fn the_backlogs_of_a_container_are_bounded_together() {
    let pod = pod();
    let (hostile, client) = (pod.attach("hostile"), pod.attach("client"));
    let mut listeners: Vec<_> = (0..9).map(|_| listen(&hostile, 4096)).collect();
    let mut admitted = 0;
    for (_, local) in &listeners {
        // Until it must wait.
        while connected(&connect(&client, *local)).is_ready() {
            admitted += 1;
        }
    }
    assert!((MAX_UNACCEPTED..MAX_UNACCEPTED + listeners.len()).contains(&admitted), "{admitted}");
    let waiting = connect(&client, listeners[0].1);
    assert!(connected(&waiting).is_pending());
    // Another container's listener is not concerned.
    let (_other, local) = listen(&client, 1);
    assert!(connected(&connect(&client, local)).is_ready());
    // Accepting makes room: every listener may have had one more.
    for _ in 0..=listeners.len() {
        drop(accept(&mut listeners[0].0).expect("accept"));
    }
    assert!(connected(&waiting).is_ready());
    hostile.close();
    drop((waiting, listeners, _other));
    assert!(pod.is_idle());
}

#[tokio::test]
async fn a_reader_that_never_reads() {
    let pod = pod();
    let (hostile, victim) = (pod.attach("hostile"), pod.attach("victim"));
    let (mut acceptor, local) = listen(&hostile, 4096);
    let pairs: Vec<_> = (0..600)
        .map(|_| {
            let client = connect(&victim, local);
            assert!(connected(&client).is_ready());
            let server = accept(&mut acceptor).expect("accept");
            (
                client.take_send_half().expect("half"),
                server.take_receive_half().expect("half"),
                client,
                server,
            )
        })
        .collect();
    let data = vec![7; 1 << 20];
    for (send, ..) in &pairs {
        while send.poll_write(&mut now(), &data).is_ready() {}
    }
    // 16 MiB at full size, and the rest by the page.
    let held = pod.budget.held();
    assert!(held <= (16 << 20) + (256 << 10) + pairs.len() * 4096, "{held}");
    // The others do not notice.
    let (other, another) = (pod.attach("other"), pod.attach("another"));
    let (mut acceptor, local) = listen(&other, 1);
    let client = connect(&another, local);
    let server = accept(&mut acceptor).expect("accept");
    assert!(connected(&client).is_ready());
    let send = client.take_send_half().expect("half");
    assert!(matches!(send.poll_write(&mut now(), &data), Poll::Ready(Ok(0x40000))));
    drop((client, send, server));
    // Another transfer of the one who has so much waiting goes on, slower.
    let (mut acceptor, local) = listen(&victim, 1);
    let client = connect(&victim, local);
    let server = accept(&mut acceptor).expect("accept");
    assert!(connected(&client).is_ready());
    let (send, receive) = (client.take_send_half().expect("half"), server.take_receive_half().expect("half"));
    let mut got = 0;
    for _ in 0..100 {
        assert!(matches!(send.poll_write(&mut now(), &data), Poll::Ready(Ok(256..))));
        let mut out = vec![0; 1 << 20];
        let Poll::Ready(Ok(n)) = receive.poll_read(&mut now(), &mut out) else { panic!("no data") };
        got += n;
    }
    assert!(got >= 25_600);
    hostile.close();
    assert_eq!(pod.budget.held(), 0, "at once");
}

#[tokio::test]
async fn a_container_that_ends_in_the_middle_of_a_transfer() {
    let pod = pod();
    let (hostile, victim) = (pod.attach("hostile"), pod.attach("victim"));
    let (mut acceptor, local) = listen(&victim, 16);
    let client = connect(&hostile, local);
    assert!(connected(&client).is_ready());
    let server = accept(&mut acceptor).expect("accept");
    let half = client.take_send_half().expect("half");
    let data = vec![7; 4 << 20];
    while half.poll_write(&mut now(), &data).is_ready() {}
    let send = server.take_send_half().expect("half");
    while send.poll_write(&mut now(), &data).is_ready() {}
    let blocked = tokio::spawn(async move { poll_fn(|cx| send.poll_write(cx, b"more")).await });
    tokio::task::yield_now().await;
    drop(hostile);
    assert_eq!(blocked.await.expect("join"), Err(Error::ConnectionReset), "it had not read all");
    let receive = server.take_receive_half().expect("half");
    let mut out = vec![0; 1 << 20];
    assert!(matches!(receive.poll_read(&mut now(), &mut out), Poll::Ready(Ok(1..))), "what had arrived");
    // Its sockets are still held by someone, and hold nothing.
    assert_eq!(client.local_address(), Err(Error::ConnectionAborted));
    drop((server, receive, acceptor));
    assert!(pod.is_idle());
    assert_eq!(pod.budget.held(), 0);
}

#[tokio::test]
async fn a_client_does_not_wait_for_ever() {
    let pod = pod();
    let (a, b) = (pod.attach("a"), pod.attach("b"));
    let (_acceptor, local) = listen(&a, 1);
    let _queue = [connect(&b, local), connect(&b, local)];
    let client = connect(&b, local);
    assert!(connected(&client).is_pending());
    assert!(client.local_address().is_ok(), "connecting is bound, as the WIT says");
    {
        let mut core = client.inner.lock();
        let State::Connecting(Connecting::Memory { waiting: Some(waiting), .. }) = &mut core.state else {
            panic!("not waiting")
        };
        waiting.timeout = Some(Box::pin(tokio::time::sleep(Duration::ZERO)));
    }
    assert_eq!(poll_fn(|cx| client.poll_connect(cx)).await, Err(Error::Timeout));
    assert_eq!(client.local_address(), Err(Error::Timeout));
}

/// As EMFILE of accept(2): the connections stay where they are.
#[tokio::test]
async fn a_server_with_too_many_sockets_loses_no_connection() {
    let pod = pod();
    let (a, b) = (pod.attach("a"), pod.attach("b"));
    let (mut acceptor, local) = listen(&a, 16);
    let mut others: Vec<_> = (1..MAX_SOCKETS).map(|_| a.tcp_socket(Family::V4).expect("socket")).collect();
    assert!(acceptor.poll_ready(&mut now()).is_pending(), "no connection, so nothing to be told");
    let client = connect(&b, local);
    let native = tokio::net::TcpStream::connect(local).await.expect("connect");
    for _ in 0..3 {
        poll_fn(|cx| acceptor.poll_ready(cx)).await;
        let accepted = acceptor.poll_accept(&mut now()).map_ok(drop);
        assert_eq!(accepted, Poll::Ready(Err(Error::TooManySockets)));
    }
    others.truncate(others.len() - 2);
    let mut remotes = Vec::new();
    for _ in 0..2 {
        let server = poll_fn(|cx| acceptor.poll_accept(cx)).await.expect("accept");
        remotes.push(server.remote_address().expect("address"));
        others.push(server);
    }
    remotes.sort();
    let mut expected = [client.local_address().expect("address"), native.local_addr().expect("address")];
    expected.sort();
    assert_eq!(remotes, expected);
}

/// The same where only the kernel sockets have run out: what was seen by waiting is not lost either, connections in
/// memory need none, and without a connection there is nothing to tell.
#[tokio::test]
async fn a_server_with_too_many_kernel_sockets_loses_no_connection() {
    let mut pod = pod();
    Arc::get_mut(&mut pod).expect("nobody else's").descriptors = Descriptors::guaranteed(2);
    let (a, b) = (pod.attach("a"), pod.attach("b"));
    let (mut acceptor, local) = listen(&a, 16);
    let native = tokio::net::TcpStream::connect(local).await.expect("connect");
    poll_fn(|cx| acceptor.poll_ready(cx)).await;
    let other = a.udp_socket(Family::V4).expect("the last");
    let mut refused = || acceptor.poll_accept(&mut now()).map_ok(drop);
    assert_eq!(refused(), Poll::Ready(Err(Error::TooManySockets)));
    for _ in 0..3 {
        let client = connect(&b, local);
        let server = accept(&mut acceptor).expect("in memory");
        assert_eq!(server.remote_address(), client.local_address());
    }
    let refused = acceptor.poll_accept(&mut now()).map_ok(drop);
    assert_eq!(refused, Poll::Ready(Err(Error::TooManySockets)));
    drop(other);
    let server = accept(&mut acceptor).expect("the one that waited");
    assert_eq!(server.remote_address(), Ok(native.local_addr().expect("address")));
    assert!(acceptor.poll_ready(&mut now()).is_pending() && accept(&mut acceptor).is_none());
}

/// A buffer that was another when the connection was made.
#[tokio::test]
async fn no_change_of_buffers_stops_a_connection() {
    let pod = pod();
    let (a, b) = (pod.attach("a"), pod.attach("b"));
    let listening = a.tcp_socket(Family::V4).expect("socket");
    listening.set_receive_buffer_size(1).expect("small");
    let mut acceptor = listening.listen().expect("listen");
    let port = listening.local_address().expect("address").port();
    let client = b.tcp_socket(Family::V4).expect("socket");
    client.set_send_buffer_size(1).expect("small");
    client.start_connect(([127, 0, 0, 1], port).into()).expect("connect");
    assert!(connected(&client).is_ready());
    listening.set_receive_buffer_size(u64::MAX).expect("large");
    let server = accept(&mut acceptor).expect("accept");
    server.set_receive_buffer_size(1).expect("small");
    let half = client.take_send_half().expect("half");
    assert!(matches!(half.poll_write(&mut now(), b"data"), Poll::Ready(Ok(4))));
}

/// What writers may part with before anybody has taken it is the pod's memory too.
#[tokio::test]
async fn promises_to_many_writers_are_bounded_together() {
    const WRITE: usize = 64 * 1024;
    let pod = pod();
    let (a, b) = (pod.attach("a"), pod.attach("b"));
    let (mut acceptor, local) = listen(&a, 4096);
    let mut halves = Vec::new();
    for _ in 0..2000 {
        let client = connect(&b, local);
        assert!(connected(&client).is_ready());
        halves.push((client.take_send_half().expect("half"), accept(&mut acceptor)));
    }
    let promised: usize = halves
        .iter_mut()
        .map(|(half, _)| match half.poll_room(&mut now(), WRITE) {
            Poll::Ready(Ok(room @ 1..=WRITE)) => room,
            other => panic!("{other:?}"),
        })
        .sum();
    assert!((16 << 20..24 << 20).contains(&promised), "{promised}");
    assert_eq!(pod.budget.held(), promised);
    // A promise is kept, or given back.
    let (half, _) = &mut halves[0];
    half.promise(0);
    assert_eq!((half.promised(), pod.budget.held()), (0, promised - WRITE));
    drop(halves);
    assert_eq!(pod.budget.held(), 0);
}

/// A container that is started again and again, while others keep their ends of its connections, and somebody all
/// that it had.
#[tokio::test]
async fn a_thousand_runs_leave_nothing() {
    let pod = pod();
    let other = pod.attach("other");
    let (mut theirs, there) = listen(&other, 4096);
    let mut port = 0;
    for run in 0..1000 {
        let endpoint = pod.attach("again");
        let listening = endpoint.tcp_socket(Family::V4).expect("socket");
        // The first run's port is free again for every other.
        listening.bind(([127, 0, 0, 1], port).into()).expect("bind");
        let mut acceptor = listening.listen().expect("listen");
        let local = listening.local_address().expect("address");
        port = local.port();
        let datagrams = endpoint.udp_socket(Family::V4).expect("socket");
        datagrams.bind(local).expect("bind");
        let out = connect(&endpoint, there);
        assert!(connected(&out).is_ready());
        let inward = [connect(&other, local), connect(&other, local)];
        assert!(inward.iter().all(|client| connected(client).is_ready()));
        let server = accept(&mut acceptor).expect("accept");
        let served = accept(&mut theirs).expect("accept");
        let (send, receive) =
            (out.take_send_half().expect("half"), server.take_receive_half().expect("half"));
        assert!(send.poll_write(&mut now(), &[7; 5000]).is_ready());
        let writes = inward[0].take_send_half().expect("half");
        assert!(writes.poll_write(&mut now(), &[7; 5000]).is_ready());
        let waiting = endpoint.tcp_socket(Family::V4).expect("socket");
        if run % 2 == 0 {
            endpoint.close();
        }
        drop(endpoint);
        assert_eq!(writes.poll_write(&mut now(), b"x"), Poll::Ready(Err(Error::ConnectionReset)));
        drop((served, inward, writes));
        assert_eq!(pod.budget.held(), 0, "though all of its own handles are still there");
        drop((listening, acceptor, datagrams, out, server, send, receive, waiting));
    }
    assert_eq!(other.socket_count(), 1);
    drop((theirs, other));
    assert!(pod.is_idle());
    assert_eq!(Arc::strong_count(&pod), 1, "nothing holds the network that nobody holds");
}

/// What a connection costs beside its data: both sockets, what connects them, and their entries in tables.
/// The adapters of 0.2 add about 600 bytes for each end.
#[test]
fn an_idle_connection_is_small() {
    // Reference counts, and what the allocator adds to an allocation.
    const ALLOCATION: usize = 16 + 16;
    // A hash table is between 7/16 and 7/8 full.
    let registry = size_of::<(u64, std::sync::Weak<dyn crate::net::endpoint::Member>)>() * 16 / 7;
    let socket = size_of::<super::Inner>() + ALLOCATION + registry;
    let backlog = size_of::<crate::net::memory::Stream>();
    let connection = crate::net::memory::CONNECTION_BYTES + ALLOCATION + backlog;
    let both = 2 * socket + connection;
    eprintln!("{both} bytes: {socket} a socket, {connection} between them");
    assert!(both < 1536, "{both} bytes: {socket} a socket, {connection} between them");
}

/// Every connection of a container that has as many as it may to one address gets a port of its own.
#[tokio::test]
async fn thousands_of_connections_to_one_listener() {
    let pod = pod();
    let (a, b) = (pod.attach("a"), pod.attach("b"));
    let (mut acceptor, local) = listen(&a, 4096);
    // The host's own range of ephemeral ports leaves the memory plane about 4,500 ports here.
    let count = 4_000;
    let mut pairs = Vec::new();
    for _ in 0..count {
        let client = connect(&b, local);
        assert!(connected(&client).is_ready());
        pairs.push((client, accept(&mut acceptor).expect("accept")));
    }
    let ports: std::collections::HashSet<_> =
        pairs.iter().map(|(c, _)| c.local_address().expect("address")).collect();
    assert_eq!(ports.len(), count);
    drop((pairs, acceptor));
    assert!(pod.is_idle());
}

/// Where the memory plane has no ports beside the kernel's, or no more, the kernel's are held.
#[tokio::test]
async fn without_ports_of_its_own_the_memory_plane_takes_the_kernels() {
    #[expect(clippy::reversed_empty_ranges, reason = "an inclusive range has no other way to be empty")]
    for ports in [1..=0, 65535..=65535] {
        let planes = crate::net::PlaneConfig { ephemeral_ports: ports, ..Default::default() };
        let pod = Stack::new(StackConfig { planes, ..StackConfig::default() });
        let (a, b) = (pod.attach("a"), pod.attach("b"));
        let (mut acceptor, local) = listen(&a, 16);
        let clients = [connect(&b, local), connect(&b, local)];
        for client in &clients {
            assert!(connected(client).is_ready() && client.is_memory());
            let server = accept(&mut acceptor).expect("accept");
            assert_eq!(server.remote_address(), client.local_address());
        }
        let held = clients[1].local_address().expect("address");
        let taken = |addr: SocketAddr| {
            let native =
                rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None);
            rustix::net::bind(native.expect("socket"), &addr)
        };
        assert_eq!(taken(held), Err(rustix::io::Errno::ADDRINUSE));
        drop(clients);
        assert_eq!(taken(held), Ok(()));
        drop(acceptor);
        assert!(pod.is_idle());
    }
}
