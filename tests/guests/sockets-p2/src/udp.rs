//! UDP.

use tap::{is, ok, same, topic};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress};
use wasip2::sockets::udp::{
    IncomingDatagram, IncomingDatagramStream, OutgoingDatagram, OutgoingDatagramStream, UdpSocket,
};
use wasip2::sockets::udp_create_socket::create_udp_socket;

use crate::address::{foreign, loopback, port, unusable, wildcard};
use crate::{finish, in_time};

pub fn checks(family: IpAddressFamily) {
    println!("# udp {family:?}");
    bind(family);
    streams(family);
    datagrams(family);
    flood(family);
    options(family);
}

fn socket(family: IpAddressFamily) -> UdpSocket {
    create_udp_socket(family).expect("create a socket")
}

fn bind_to(socket: &UdpSocket, address: IpSocketAddress) -> Result<(), ErrorCode> {
    socket.start_bind(&instance_network(), address)?;
    finish(&socket.subscribe(), || socket.finish_bind())
}

fn bound(family: IpAddressFamily) -> (UdpSocket, IpSocketAddress) {
    let socket = socket(family);
    bind_to(&socket, loopback(family, 0)).expect("bind");
    let address = socket.local_address().expect("own address");
    (socket, address)
}

fn datagram(data: &[u8], remote_address: Option<IpSocketAddress>) -> OutgoingDatagram {
    OutgoingDatagram { data: data.to_vec(), remote_address }
}

fn send(stream: &OutgoingDatagramStream, data: &[u8], to: Option<IpSocketAddress>) -> Result<u64, ErrorCode> {
    in_time(&stream.subscribe());
    stream.check_send()?;
    stream.send(&[datagram(data, to)])
}

fn receive(stream: &IncomingDatagramStream) -> Result<Vec<IncomingDatagram>, ErrorCode> {
    if !in_time(&stream.subscribe()) {
        return Err(ErrorCode::Timeout);
    }
    stream.receive(1)
}

fn bind(family: IpAddressFamily) {
    topic("bind");
    let one = socket(family);
    is!(one.local_address(), Err(ErrorCode::InvalidState));
    is!(one.finish_bind(), Err(ErrorCode::NotInProgress));
    is!(one.stream(None).map(drop), Err(ErrorCode::InvalidState));
    is!(bind_to(&one, wildcard(family, 0)), Ok(()));
    let address = one.local_address().expect("own address");
    ok!(port(&address) != 0);
    is!(bind_to(&one, address), Err(ErrorCode::InvalidState));
    is!(bind_to(&socket(family), address), Err(ErrorCode::AddressInUse));
    is!(bind_to(&socket(family), loopback(family, port(&address))), Err(ErrorCode::AddressInUse));
    drop(one);
    is!(bind_to(&socket(family), address), Ok(()));
    is!(bind_to(&socket(family), foreign(family)), Err(ErrorCode::AddressNotBindable));
    is!(bind_to(&socket(family), unusable(family, 0)[0]), Err(ErrorCode::InvalidArgument));
}

fn streams(family: IpAddressFamily) {
    topic("streams");
    let (one, _) = bound(family);
    let (other, peer) = bound(family);
    is!(one.remote_address(), Err(ErrorCode::InvalidState));
    {
        let streams = one.stream(Some(peer));
        is!(streams.as_ref().map(drop), Ok(()));
        same!(one.remote_address().ok(), Some(peer));
    }
    is!(one.stream(None).map(drop), Ok(()));
    is!(one.remote_address(), Err(ErrorCode::InvalidState));
    is!(one.stream(Some(wildcard(family, 7))).map(drop), Err(ErrorCode::InvalidArgument));
    is!(one.stream(Some(loopback(family, 0))).map(drop), Err(ErrorCode::InvalidArgument));
    is!(one.stream(Some(unusable(family, 7)[0])).map(drop), Err(ErrorCode::InvalidArgument));

    // A connected socket hears its peer only, and tells nobody else.
    let (stranger, _) = bound(family);
    let own = one.local_address().expect("own address");
    let (incoming, outgoing) = one.stream(Some(peer)).expect("connect");
    let (_, from_stranger) = stranger.stream(None).expect("stream");
    let (_, from_peer) = other.stream(None).expect("stream");
    is!(send(&from_stranger, b"stranger", Some(own)), Ok(1));
    is!(send(&from_peer, b"peer", Some(own)), Ok(1));
    let got = receive(&incoming).expect("receive");
    same!(got[0].data, b"peer");
    same!(got[0].remote_address, peer);
    is!(send(&outgoing, b"x", Some(loopback(family, 9))), Err(ErrorCode::InvalidArgument));
    is!(send(&outgoing, b"x", Some(peer)), Ok(1));
    drop((incoming, outgoing));

    // Nobody there: the next call says so, once.
    let (gone, nowhere) = bound(family);
    drop(gone);
    let (incoming, outgoing) = one.stream(Some(nowhere)).expect("connect");
    is!(send(&outgoing, b"x", None), Ok(1));
    is!(receive(&incoming).map(|datagrams| datagrams.len()), Err(ErrorCode::ConnectionRefused));
    is!(incoming.receive(1).map(|datagrams| datagrams.len()), Ok(0));
}

fn datagrams(family: IpAddressFamily) {
    topic("datagrams");
    let (one, to) = bound(family);
    let (other, from) = bound(family);
    let (incoming, _) = one.stream(None).expect("stream");
    let (_, outgoing) = other.stream(None).expect("stream");
    let readable = incoming.subscribe();
    ok!(!readable.ready());
    is!(incoming.receive(1).map(|datagrams| datagrams.len()), Ok(0));
    is!(send(&outgoing, b"x", None), Err(ErrorCode::InvalidArgument));
    is!(send(&outgoing, b"x", Some(wildcard(family, 7))), Err(ErrorCode::InvalidArgument));
    is!(send(&outgoing, b"x", Some(unusable(family, 7)[0])), Err(ErrorCode::InvalidArgument));

    // Boundaries and order are kept, empty ones too; several at once.
    is!(outgoing.check_send(), Ok(3..));
    let sent = [datagram(b"first", Some(to)), datagram(b"", Some(to)), datagram(b"third", Some(to))];
    is!(outgoing.send(&sent), Ok(3));
    for expected in ["first", "", "third"] {
        let got = receive(&incoming).expect("receive");
        same!(String::from_utf8_lossy(&got[0].data), expected);
        same!(got[0].remote_address, from);
    }
    ok!(!readable.ready());

    // The largest there is, and one byte more (RFC 768).
    let largest = if family == IpAddressFamily::Ipv4 { 65_507 } else { 65_527 };
    is!(send(&outgoing, &vec![7; largest], Some(to)), Ok(1));
    same!(receive(&incoming).expect("receive")[0].data.len(), largest);
    is!(send(&outgoing, &vec![7; largest + 1], Some(to)), Err(ErrorCode::DatagramTooLarge));
}

fn flood(family: IpAddressFamily) {
    topic("flood");
    const COUNT: u32 = 20_000;
    let (one, to) = bound(family);
    let (other, _) = bound(family);
    let (incoming, _) = one.stream(None).expect("stream");
    let (_, outgoing) = other.stream(None).expect("stream");
    let all = (0..COUNT).all(|_| matches!(send(&outgoing, &[7; 1000], Some(to)), Ok(1)));
    ok!(all);
    let mut kept = 0;
    while let Ok(datagrams @ [_, ..]) = incoming.receive(16).as_deref() {
        kept += datagrams.len();
    }
    println!("# {kept} kept");
    ok!(kept > 0 && kept < COUNT as usize);
    is!(send(&outgoing, b"after", Some(to)), Ok(1));
    same!(receive(&incoming).expect("receive")[0].data, b"after");
}

fn options(family: IpAddressFamily) {
    topic("options");
    let one = socket(family);
    same!(one.address_family(), family);
    is!(one.set_unicast_hop_limit(0), Err(ErrorCode::InvalidArgument));
    is!(one.set_unicast_hop_limit(17), Ok(()));
    is!(one.unicast_hop_limit(), Ok(17));
    is!(one.set_receive_buffer_size(0), Err(ErrorCode::InvalidArgument));
    is!(one.set_receive_buffer_size(65_536), Ok(()));
    is!(one.receive_buffer_size(), Ok(65_536));
    is!(one.set_send_buffer_size(0), Err(ErrorCode::InvalidArgument));
    is!(one.set_send_buffer_size(65_536), Ok(()));
    is!(one.send_buffer_size(), Ok(65_536));
    is!(one.set_send_buffer_size(u64::MAX), Ok(()));
}
