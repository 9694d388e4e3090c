//! TCP.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use futures::join;
use tap::{is, ok, same, topic};
use wasip3::sockets::types::{ErrorCode, IpAddressFamily, IpSocketAddress, TcpSocket};
use wasip3::wit_bindgen::{FutureReader, StreamReader, StreamResult, StreamWriter};
use wasip3::wit_stream;

use crate::address::{foreign, loopback, port, unusable, wildcard};
use crate::in_time;

pub async fn checks(family: IpAddressFamily) {
    println!("# tcp {family:?}");
    bind(family);
    listen(family).await;
    connect(family).await;
    half_close(family).await;
    once(family).await;
    broken(family).await;
    back_pressure(family).await;
    cancellation(family).await;
}

fn socket(family: IpAddressFamily) -> TcpSocket {
    TcpSocket::create(family).expect("create a socket")
}

/// A listener, its address and its connections.
fn listener(family: IpAddressFamily) -> (TcpSocket, IpSocketAddress, StreamReader<TcpSocket>) {
    let socket = socket(family);
    socket.bind(loopback(family, 0)).expect("bind");
    let accepted = socket.listen().expect("listen");
    let address = socket.get_local_address().expect("own address");
    (socket, address, accepted)
}

/// One end of a connection with its streams in use.
struct Connection {
    socket: TcpSocket,
    output: StreamWriter<u8>,
    sent: FutureReader<Result<(), ErrorCode>>,
    input: StreamReader<u8>,
    received: FutureReader<Result<(), ErrorCode>>,
}

impl From<TcpSocket> for Connection {
    fn from(socket: TcpSocket) -> Self {
        let (output, reader) = wit_stream::new();
        let sent = socket.send(reader);
        let (input, received) = socket.receive();
        Self { socket, output, sent, input, received }
    }
}

/// Client and server.
async fn sockets(family: IpAddressFamily) -> (TcpSocket, TcpSocket) {
    let (_listener, address, mut accepted) = listener(family);
    let client = socket(family);
    let (connected, server) = join!(client.connect(address), accepted.next());
    connected.expect("connect");
    (client, server.expect("accept"))
}

/// Client and server with their streams.
async fn pair(family: IpAddressFamily) -> (Connection, Connection) {
    let (client, server) = sockets(family).await;
    (client.into(), server.into())
}

fn bind(family: IpAddressFamily) {
    topic("bind");
    for address in [loopback(family, 0), wildcard(family, 0)] {
        let one = socket(family);
        is!(one.get_local_address(), Err(ErrorCode::InvalidState));
        is!(one.bind(address), Ok(()));
        let bound = one.get_local_address().expect("own address");
        ok!(port(&bound) != 0);
        is!(one.bind(address), Err(ErrorCode::InvalidState));
        let listening = one.listen();
        is!(listening.as_ref().map(drop), Ok(()));
        is!(socket(family).bind(bound), Err(ErrorCode::AddressInUse));
        is!(socket(family).bind(wildcard(family, port(&bound))), Err(ErrorCode::AddressInUse));
        drop((listening, one));
        is!(socket(family).bind(bound), Ok(()));
    }
    is!(socket(family).bind(foreign(family)), Err(ErrorCode::AddressNotBindable));
    for address in unusable(family, 0) {
        is!(socket(family).bind(address), Err(ErrorCode::InvalidArgument));
    }
}

async fn listen(family: IpAddressFamily) {
    topic("listen");
    // Unlike 0.2, without a bind: any address, a port of the host's choice.
    let one = socket(family);
    is!(one.listen().map(drop), Ok(()));
    is!(one.get_local_address(), Ok(_));
    let (one, address, mut accepted) = listener(family);
    ok!(one.get_is_listening());
    is!(one.listen().map(drop), Err(ErrorCode::InvalidState));
    is!(one.connect(address).await, Err(ErrorCode::InvalidState));
    is!(one.get_remote_address(), Err(ErrorCode::InvalidState));
    // Several wait to be accepted; they come in order.
    let clients = [socket(family), socket(family), socket(family)];
    for client in &clients {
        is!(client.connect(address).await, Ok(()));
    }
    for client in &clients {
        let server = in_time(accepted.next()).await.flatten().expect("accept");
        same!(server.get_remote_address(), client.get_local_address());
        same!(server.get_local_address().ok(), Some(address));
    }
}

async fn connect(family: IpAddressFamily) {
    topic("connect");
    let (listener, address, accepted) = listener(family);
    let one = socket(family);
    is!(one.connect(address).await, Ok(()));
    is!(one.connect(address).await, Err(ErrorCode::InvalidState));
    is!(one.bind(address), Err(ErrorCode::InvalidState));
    is!(one.listen().map(drop), Err(ErrorCode::InvalidState));
    same!(one.get_remote_address().ok(), Some(address));
    drop((accepted, listener));
    is!(socket(family).connect(address).await, Err(ErrorCode::ConnectionRefused));
    is!(socket(family).connect(wildcard(family, 7)).await, Err(ErrorCode::InvalidArgument));
    is!(socket(family).connect(loopback(family, 0)).await, Err(ErrorCode::InvalidArgument));
    for address in unusable(family, 7) {
        is!(socket(family).connect(address).await, Err(ErrorCode::InvalidArgument));
    }
    // Streams of a socket that is not connected.
    let (mut input, received) = socket(family).receive();
    is!(input.next().await, None);
    is!(received.await, Err(ErrorCode::InvalidState));
}

async fn half_close(family: IpAddressFamily) {
    topic("half-close");
    let (client, mut server) = pair(family).await;
    let Connection { socket, mut output, sent, input, received } = client;
    ok!(output.write_all(b"question".to_vec()).await.is_empty());
    drop(output);
    is!(sent.await, Ok(()));
    same!(server.input.collect().await, b"question");
    is!(server.received.await, Ok(()));
    // The socket may go: its streams stay.
    drop(socket);
    ok!(server.output.write_all(b"answer".to_vec()).await.is_empty());
    drop(server.output);
    is!(server.sent.await, Ok(()));
    same!(input.collect().await, b"answer");
    is!(received.await, Ok(()));
}

async fn once(family: IpAddressFamily) {
    topic("send and receive once");
    let (client, _server) = pair(family).await;
    let (mut input, received) = client.socket.receive();
    is!(input.next().await, None);
    is!(received.await, Err(ErrorCode::InvalidState));
    let (mut output, reader) = wit_stream::new();
    let sent = client.socket.send(reader);
    same!(output.write_all(b"nothing".to_vec()).await, b"nothing");
    is!(sent.await, Err(ErrorCode::InvalidState));
}

async fn broken(family: IpAddressFamily) {
    topic("broken connections");
    // The peer is gone: its side ends, and soon sending fails.
    let (mut client, server) = pair(family).await;
    drop(server);
    is!(in_time(client.input.next()).await, Some(None));
    is!(client.received.await, Ok(()));
    let mut failed = false;
    for _ in 0..1000 {
        failed = failed || !client.output.write_all(b"x".to_vec()).await.is_empty();
    }
    ok!(failed);
    is!(client.sent.await, Err(_));

    // It goes with data that it has not read: a reset, not an end.
    let (client, server) = sockets(family).await;
    let mut client = Connection::from(client);
    ok!(client.output.write_all(b"unread".to_vec()).await.is_empty());
    drop(server);
    is!(in_time(client.input.next()).await, Some(None));
    is!(client.received.await, Err(ErrorCode::ConnectionReset | ErrorCode::ConnectionBroken));
}

async fn back_pressure(family: IpAddressFamily) {
    topic("back-pressure");
    const CHUNK: usize = 64 << 10;
    const LIMIT: usize = 64 << 20;
    let (mut client, mut server) = pair(family).await;
    let mut sent = 0;
    // A write that does not complete at once, and not in a while: the buffers are full.
    let mut rest = loop {
        let chunk: Vec<u8> = (sent..sent + CHUNK).map(|index| ((index * 7) >> 3) as u8).collect();
        let wait = wasip3::clocks::monotonic_clock::wait_for(200_000_000);
        let mut write = Box::pin(client.output.write_all(chunk));
        match futures::future::select(write.as_mut(), pin!(wait)).await {
            futures::future::Either::Left(_) => sent += CHUNK,
            futures::future::Either::Right(_) => break write,
        }
        if sent >= LIMIT {
            ok!(sent < LIMIT);
            return;
        }
    };
    ok!(sent > 0);
    // Reading makes room for it.
    let total = sent + CHUNK;
    let mut received = Vec::new();
    let read = async {
        while received.len() < total {
            let (_, bytes) = server.input.read(Vec::with_capacity(CHUNK)).await;
            if bytes.is_empty() {
                break;
            }
            received.extend(bytes);
        }
    };
    let (left, ()) = join!(rest.as_mut(), read);
    ok!(left.is_empty());
    ok!(received.len() == total);
    ok!(received.iter().enumerate().all(|(index, byte)| *byte == ((index * 7) >> 3) as u8));
}

async fn cancellation(family: IpAddressFamily) {
    topic("cancellation");
    let (mut client, mut server) = pair(family).await;
    // Nothing there: a read that is cancelled takes nothing.
    {
        let mut read = pin!(server.input.read(Vec::with_capacity(16)));
        ok!(read.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let (result, bytes) = read.as_mut().cancel();
        same!(result, StreamResult::Cancelled);
        ok!(bytes.is_empty());
    }
    // Reads that are cancelled now and then lose nothing and repeat nothing.
    const TOTAL: usize = 256 << 10;
    let write = async {
        for start in (0..TOTAL).step_by(1000) {
            let chunk = (start..TOTAL.min(start + 1000)).map(|index| (index % 251) as u8).collect();
            assert!(client.output.write_all(chunk).await.is_empty(), "the connection broke");
        }
        drop(client.output);
    };
    let mut received = Vec::new();
    let read = async {
        loop {
            let (result, bytes) = {
                let mut read = pin!(server.input.read(Vec::with_capacity(700)));
                match read.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(done) => done,
                    Poll::Pending => read.as_mut().cancel(),
                }
            };
            received.extend(bytes);
            match result {
                StreamResult::Dropped => break,
                // Waits until there is something, and takes nothing.
                StreamResult::Cancelled => drop(server.input.read(Vec::new()).await),
                StreamResult::Complete(_) => {}
            }
        }
    };
    join!(write, read);
    ok!(received.len() == TOTAL);
    ok!(received.iter().enumerate().all(|(index, byte)| *byte == (index % 251) as u8));
    is!(server.received.await, Ok(()));
}
