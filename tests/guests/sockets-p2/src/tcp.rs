//! TCP.

use tap::{is, ok, same, topic};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress};
use wasip2::sockets::tcp::{ShutdownType, TcpSocket};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;

use crate::address::{foreign, loopback, port, unusable, wildcard};
use crate::{finish, in_time};

const SECOND: u64 = 1_000_000_000;

pub fn checks(family: IpAddressFamily) {
    println!("# tcp {family:?}");
    bind(family);
    listen(family);
    connect(family);
    backlog(family);
    options(family);
    half_close(family);
    broken(family);
    back_pressure(family);
}

fn socket(family: IpAddressFamily) -> TcpSocket {
    create_tcp_socket(family).expect("create a socket")
}

fn bind_to(socket: &TcpSocket, address: IpSocketAddress) -> Result<(), ErrorCode> {
    socket.start_bind(&instance_network(), address)?;
    finish(&socket.subscribe(), || socket.finish_bind())
}

fn listen_on(socket: &TcpSocket) -> Result<(), ErrorCode> {
    socket.start_listen()?;
    finish(&socket.subscribe(), || socket.finish_listen())
}

fn connect_to(
    socket: &TcpSocket,
    address: IpSocketAddress,
) -> Result<(InputStream, OutputStream), ErrorCode> {
    socket.start_connect(&instance_network(), address)?;
    finish(&socket.subscribe(), || socket.finish_connect())
}

fn accept(socket: &TcpSocket) -> Result<Connection, ErrorCode> {
    let (socket, input, output) = finish(&socket.subscribe(), || socket.accept())?;
    Ok(Connection { input, output, socket })
}

/// The order of the fields is the order in which they are dropped: streams are their socket's children.
#[derive(Debug)]
struct Connection {
    input: InputStream,
    output: OutputStream,
    socket: TcpSocket,
}

fn listener(family: IpAddressFamily) -> (TcpSocket, IpSocketAddress) {
    let socket = socket(family);
    bind_to(&socket, loopback(family, 0)).expect("bind");
    listen_on(&socket).expect("listen");
    let address = socket.local_address().expect("own address");
    (socket, address)
}

fn client(family: IpAddressFamily, address: IpSocketAddress) -> Connection {
    let socket = socket(family);
    let (input, output) = connect_to(&socket, address).expect("connect");
    Connection { input, output, socket }
}

/// Client and server.
fn pair(family: IpAddressFamily) -> (Connection, Connection) {
    let (listener, address) = listener(family);
    let client = client(family, address);
    (client, accept(&listener).expect("accept"))
}

fn read_to_end(input: &InputStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Ok(chunk) = input.blocking_read(1 << 16) {
        bytes.extend(chunk);
    }
    bytes
}

fn bind(family: IpAddressFamily) {
    topic("bind");
    for address in [loopback(family, 0), wildcard(family, 0)] {
        let one = socket(family);
        is!(one.local_address(), Err(ErrorCode::InvalidState));
        is!(one.finish_bind(), Err(ErrorCode::NotInProgress));
        is!(bind_to(&one, address), Ok(()));
        let bound = one.local_address().expect("own address");
        ok!(port(&bound) != 0);
        is!(bind_to(&one, address), Err(ErrorCode::InvalidState));
        is!(listen_on(&one), Ok(()));
        is!(bind_to(&socket(family), bound), Err(ErrorCode::AddressInUse));
        is!(bind_to(&socket(family), wildcard(family, port(&bound))), Err(ErrorCode::AddressInUse));
        drop(one);
        is!(bind_to(&socket(family), bound), Ok(()));
    }
    is!(bind_to(&socket(family), foreign(family)), Err(ErrorCode::AddressNotBindable));
    for address in unusable(family, 0) {
        is!(bind_to(&socket(family), address), Err(ErrorCode::InvalidArgument));
    }
    // A bind that was started must be finished before anything else.
    let started = socket(family);
    is!(started.start_bind(&instance_network(), loopback(family, 0)), Ok(()));
    is!(
        started.start_bind(&instance_network(), loopback(family, 0)),
        Err(ErrorCode::ConcurrencyConflict | ErrorCode::InvalidState)
    );
    is!(finish(&started.subscribe(), || started.finish_bind()), Ok(()));
}

fn listen(family: IpAddressFamily) {
    topic("listen");
    is!(socket(family).start_listen(), Err(ErrorCode::InvalidState));
    let (one, address) = listener(family);
    ok!(one.is_listening());
    is!(one.start_listen(), Err(ErrorCode::InvalidState));
    is!(one.start_connect(&instance_network(), address), Err(ErrorCode::InvalidState));
    is!(one.remote_address(), Err(ErrorCode::InvalidState));
    is!(one.shutdown(ShutdownType::Both), Err(ErrorCode::InvalidState));
    is!(one.accept().map(drop), Err(ErrorCode::WouldBlock));
    let pollable = one.subscribe();
    ok!(!pollable.ready());
    let first = client(family, address);
    ok!(in_time(&pollable));
    let accepted = accept(&one).expect("accept");
    ok!(!pollable.ready());
    same!(accepted.socket.remote_address(), first.socket.local_address());
    same!(accepted.socket.local_address(), first.socket.remote_address());
    ok!(!accepted.socket.is_listening());
    is!(accepted.socket.start_listen(), Err(ErrorCode::InvalidState));
}

fn connect(family: IpAddressFamily) {
    topic("connect");
    let (listener, address) = listener(family);
    let one = socket(family);
    is!(one.finish_connect().map(drop), Err(ErrorCode::NotInProgress));
    is!(one.accept().map(drop), Err(ErrorCode::InvalidState));
    let streams = connect_to(&one, address);
    is!(streams.as_ref().map(drop), Ok(()));
    is!(one.start_connect(&instance_network(), address), Err(ErrorCode::InvalidState));
    is!(one.start_bind(&instance_network(), address), Err(ErrorCode::InvalidState));
    is!(one.finish_connect().map(drop), Err(ErrorCode::NotInProgress));
    same!(one.remote_address().ok(), Some(address));
    same!(one.address_family(), family);
    drop(accept(&listener));

    // Bound before: the server sees that port.
    let bound = socket(family);
    bind_to(&bound, loopback(family, 0)).expect("bind");
    let own = bound.local_address().expect("own address");
    let _streams = connect_to(&bound, address).expect("connect");
    let accepted = accept(&listener).expect("accept");
    same!(accepted.socket.remote_address().ok(), Some(own));

    drop(listener);
    is!(connect_to(&socket(family), address).map(drop), Err(ErrorCode::ConnectionRefused));
    is!(connect_to(&socket(family), wildcard(family, 7)).map(drop), Err(ErrorCode::InvalidArgument));
    is!(connect_to(&socket(family), loopback(family, 0)).map(drop), Err(ErrorCode::InvalidArgument));
    for address in unusable(family, 7) {
        is!(connect_to(&socket(family), address).map(drop), Err(ErrorCode::InvalidArgument));
    }
}

fn backlog(family: IpAddressFamily) {
    topic("backlog");
    let one = socket(family);
    is!(one.set_listen_backlog_size(0), Err(ErrorCode::InvalidArgument));
    is!(one.set_listen_backlog_size(u64::MAX), Ok(()));
    is!(one.set_listen_backlog_size(8), Ok(()));
    bind_to(&one, loopback(family, 0)).expect("bind");
    listen_on(&one).expect("listen");
    let address = one.local_address().expect("own address");
    let clients: Vec<_> = (0..8_u8)
        .map(|number| {
            let client = client(family, address);
            client.output.blocking_write_and_flush(&[number]).expect("write before accept");
            client
        })
        .collect();
    let order: Vec<_> = clients
        .iter()
        .map(|_| accept(&one).expect("accept").input.blocking_read(1).expect("read")[0])
        .collect();
    same!(order, (0..8_u8).collect::<Vec<_>>());
    // Closed with connections that nobody accepted: they end.
    let waiting = client(family, address);
    drop(one);
    ok!(in_time(&waiting.input.subscribe()));
    is!(waiting.input.read(1), Err(_));
}

fn options(family: IpAddressFamily) {
    topic("options");
    let set = |socket: &TcpSocket, number: u8| {
        let time = u64::from(number) * SECOND;
        is!(socket.set_keep_alive_enabled(number % 2 == 0), Ok(()));
        is!(socket.set_keep_alive_idle_time(time), Ok(()));
        is!(socket.set_keep_alive_interval(time), Ok(()));
        is!(socket.set_keep_alive_count(number.into()), Ok(()));
        is!(socket.set_hop_limit(number), Ok(()));
        is!(socket.set_receive_buffer_size(u64::from(number) * 4096), Ok(()));
        is!(socket.set_send_buffer_size(u64::from(number) * 4096), Ok(()));
    };
    let verify = |socket: &TcpSocket, number: u8| {
        let time = u64::from(number) * SECOND;
        same!(socket.keep_alive_enabled().ok(), Some(number % 2 == 0));
        same!(socket.keep_alive_idle_time().ok(), Some(time));
        same!(socket.keep_alive_interval().ok(), Some(time));
        same!(socket.keep_alive_count().ok(), Some(u32::from(number)));
        same!(socket.hop_limit().ok(), Some(number));
        same!(socket.receive_buffer_size().ok(), Some(u64::from(number) * 4096));
        same!(socket.send_buffer_size().ok(), Some(u64::from(number) * 4096));
    };
    let (one, address) = listener(family);
    set(&one, 16);
    verify(&one, 16);
    // Taken over by what is accepted, from then on its own.
    let _client = client(family, address);
    let accepted = accept(&one).expect("accept").socket;
    verify(&accepted, 16);
    set(&one, 17);
    verify(&accepted, 16);
    set(&accepted, 18);
    verify(&one, 17);

    let one = socket(family);
    is!(one.set_keep_alive_idle_time(0), Err(ErrorCode::InvalidArgument));
    is!(one.set_keep_alive_interval(0), Err(ErrorCode::InvalidArgument));
    is!(one.set_keep_alive_count(0), Err(ErrorCode::InvalidArgument));
    is!(one.set_hop_limit(0), Err(ErrorCode::InvalidArgument));
    is!(one.set_receive_buffer_size(0), Err(ErrorCode::InvalidArgument));
    is!(one.set_send_buffer_size(0), Err(ErrorCode::InvalidArgument));
    // What is too small or too large is brought into range.
    is!(one.set_keep_alive_idle_time(1), Ok(()));
    is!(one.keep_alive_idle_time(), Ok(1..=SECOND));
    is!(one.set_keep_alive_idle_time(u64::MAX), Ok(()));
    is!(one.set_keep_alive_count(u32::MAX), Ok(()));
    is!(one.set_receive_buffer_size(u64::MAX), Ok(()));
    is!(one.set_send_buffer_size(1), Ok(()));
    is!(one.send_buffer_size(), Ok(1..));
}

fn half_close(family: IpAddressFamily) {
    topic("half-close");
    let (client, server) = pair(family);
    ok!(client.output.subscribe().ready());
    is!(client.input.read(1).map(|bytes| bytes.len()), Ok(0));
    client.output.blocking_write_and_flush(b"question").expect("write");
    is!(client.socket.shutdown(ShutdownType::Send), Ok(()));
    is!(client.output.check_write(), Err(StreamError::Closed));
    is!(client.output.flush(), Err(StreamError::Closed));
    same!(read_to_end(&server.input), b"question");
    is!(server.input.read(0), Err(StreamError::Closed));
    server.output.blocking_write_and_flush(b"answer").expect("write");
    ok!(in_time(&client.input.subscribe()));
    same!(client.input.read(100).ok(), Some(b"answer"));

    // What has come but is not read does not count after shutting down for it.
    let (client, server) = pair(family);
    server.output.blocking_write_and_flush(b"unread").expect("write");
    ok!(in_time(&client.input.subscribe()));
    is!(client.socket.shutdown(ShutdownType::Receive), Ok(()));
    is!(client.input.read(1), Err(StreamError::Closed));

    // The last words arrive though socket and streams are gone.
    let (client, server) = pair(family);
    let permit = client.output.check_write().expect("check");
    let words = vec![7; permit as usize];
    client.output.write(&words).expect("write");
    client.socket.shutdown(ShutdownType::Send).expect("shutdown");
    drop(client);
    same!(read_to_end(&server.input).len(), words.len());
}

fn broken(family: IpAddressFamily) {
    topic("broken connections");
    let (client, server) = pair(family);
    drop(server);
    ok!(in_time(&client.input.subscribe()));
    is!(client.input.read(1), Err(StreamError::Closed));
    // Soon writing fails too, and stays so.
    let failed = (0..1000).any(|_| client.output.blocking_write_and_flush(b"x").is_err());
    ok!(failed);
    is!(client.output.check_write(), Err(StreamError::Closed));
}

fn back_pressure(family: IpAddressFamily) {
    topic("back-pressure");
    const LIMIT: usize = 64 << 20;
    let (client, server) = pair(family);
    let mut sent = 0;
    // A permit of 0 means full only if nothing changes that.
    while sent < LIMIT {
        let permit = client.output.check_write().expect("check") as usize;
        if permit == 0 {
            break;
        }
        let bytes: Vec<u8> = (sent..sent + permit).map(|index| ((index * 7) >> 3) as u8).collect();
        client.output.write(&bytes).expect("write");
        sent += permit;
    }
    ok!(sent < LIMIT);
    ok!(!client.output.subscribe().ready());
    let mut received = Vec::new();
    while received.len() < sent {
        received.extend(server.input.blocking_read(1 << 16).expect("read"));
    }
    same!(received.len(), sent);
    ok!(received.iter().enumerate().all(|(index, byte)| *byte == ((index * 7) >> 3) as u8));
    ok!(in_time(&client.output.subscribe()));
    is!(client.output.check_write(), Ok(1..));
}
