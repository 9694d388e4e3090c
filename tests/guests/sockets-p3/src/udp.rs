//! UDP.

use futures::join;
use tap::{is, ok, same, topic};
use wasip3::sockets::types::{ErrorCode, IpAddressFamily, IpSocketAddress, UdpSocket};

use crate::address::{foreign, loopback, port, unusable, wildcard};
use crate::in_time;

pub async fn checks(family: IpAddressFamily) {
    println!("# udp {family:?}");
    states(family).await;
    connected(family).await;
    datagrams(family).await;
    flood(family).await;
}

fn socket(family: IpAddressFamily) -> UdpSocket {
    UdpSocket::create(family).expect("create a socket")
}

fn bound(family: IpAddressFamily) -> (UdpSocket, IpSocketAddress) {
    let socket = socket(family);
    socket.bind(loopback(family, 0)).expect("bind");
    let address = socket.get_local_address().expect("own address");
    (socket, address)
}

async fn receive(socket: &UdpSocket) -> Result<(Vec<u8>, IpSocketAddress), ErrorCode> {
    in_time(socket.receive()).await.unwrap_or(Err(ErrorCode::Timeout))
}

async fn states(family: IpAddressFamily) {
    topic("states");
    let one = socket(family);
    is!(one.get_local_address(), Err(ErrorCode::InvalidState));
    is!(one.receive().await, Err(ErrorCode::InvalidState));
    is!(one.disconnect(), Err(ErrorCode::InvalidState));
    is!(one.send(b"x".to_vec(), None).await, Err(ErrorCode::InvalidArgument));
    // Sending binds.
    let (peer, to) = bound(family);
    is!(one.send(b"x".to_vec(), Some(to)).await, Ok(()));
    let own = one.get_local_address().expect("own address");
    let (_, from) = receive(&peer).await.expect("receive");
    same!(port(&from), port(&own));
    is!(one.bind(loopback(family, 0)), Err(ErrorCode::InvalidState));
    is!(socket(family).bind(to), Err(ErrorCode::AddressInUse));
    is!(socket(family).bind(foreign(family)), Err(ErrorCode::AddressNotBindable));
    is!(socket(family).bind(unusable(family, 0)[0]), Err(ErrorCode::InvalidArgument));
    drop(peer);
    is!(socket(family).bind(to), Ok(()));
}

async fn connected(family: IpAddressFamily) {
    topic("connected");
    let (one, own) = bound(family);
    let (peer, to) = bound(family);
    let (stranger, _) = bound(family);
    is!(one.connect(to), Ok(()));
    same!(one.get_remote_address().ok(), Some(to));
    is!(stranger.send(b"stranger".to_vec(), Some(own)).await, Ok(()));
    is!(peer.send(b"peer".to_vec(), Some(own)).await, Ok(()));
    same!(receive(&one).await.ok(), Some((b"peer".to_vec(), to)));
    is!(one.send(b"x".to_vec(), Some(loopback(family, 9))).await, Err(ErrorCode::InvalidArgument));
    is!(one.send(b"x".to_vec(), None).await, Ok(()));
    is!(one.disconnect(), Ok(()));
    is!(one.get_remote_address(), Err(ErrorCode::InvalidState));
    is!(one.connect(wildcard(family, 7)), Err(ErrorCode::InvalidArgument));
    is!(one.connect(loopback(family, 0)), Err(ErrorCode::InvalidArgument));
    // Nobody there: the next call says so.
    drop(peer);
    is!(one.connect(to), Ok(()));
    is!(one.send(b"x".to_vec(), None).await, Ok(()));
    is!(receive(&one).await, Err(ErrorCode::ConnectionRefused));
}

async fn datagrams(family: IpAddressFamily) {
    topic("datagrams");
    let (one, to) = bound(family);
    let (other, from) = bound(family);
    for data in [&b"first"[..], b"", b"third"] {
        is!(other.send(data.to_vec(), Some(to)).await, Ok(()));
    }
    for data in [&b"first"[..], b"", b"third"] {
        same!(receive(&one).await.ok(), Some((data.to_vec(), from)));
    }
    // A receiver that waits is woken.
    let (received, sent) = join!(receive(&one), other.send(b"later".to_vec(), Some(to)));
    is!(sent, Ok(()));
    same!(received.map(|(data, _)| data).ok(), Some(b"later"));
    let largest = if family == IpAddressFamily::Ipv4 { 65_507 } else { 65_527 };
    is!(other.send(vec![7; largest], Some(to)).await, Ok(()));
    same!(receive(&one).await.map(|(data, _)| data.len()).ok(), Some(largest));
    is!(other.send(vec![7; largest + 1], Some(to)).await, Err(ErrorCode::DatagramTooLarge));
    is!(other.send(vec![7], Some(wildcard(family, 7))).await, Err(ErrorCode::InvalidArgument));
    is!(other.send(vec![7], Some(unusable(family, 7)[0])).await, Err(ErrorCode::InvalidArgument));
}

async fn flood(family: IpAddressFamily) {
    topic("flood");
    let (one, to) = bound(family);
    let (other, _) = bound(family);
    let mut all = true;
    for _ in 0..20_000 {
        all &= other.send(vec![7; 1000], Some(to)).await.is_ok();
    }
    ok!(all);
    let (mut kept, mut last) = (0, Vec::new());
    // What was kept, then what is sent now that there is room again.
    is!(receive(&one).await.map(|(data, _)| data.len()), Ok(1000));
    is!(other.send(b"after".to_vec(), Some(to)).await, Ok(()));
    while last != b"after" && kept < 20_000 {
        last = receive(&one).await.map(|(data, _)| data).unwrap_or_else(|_| b"after".to_vec());
        kept += 1;
    }
    println!("# {kept} kept");
    ok!(kept < 20_000);
}
