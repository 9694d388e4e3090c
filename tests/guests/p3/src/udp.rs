//! UDP.

use wasip3::sockets::types::{IpAddressFamily, IpSocketAddress, UdpSocket};

use crate::stdio::Stdout;
use crate::{About, Failure, any_address, shown};

/// Sends every datagram back.
pub async fn echo(port: u16, datagrams: u64, out: &mut Stdout) -> Result<(), Failure> {
    let socket = UdpSocket::create(IpAddressFamily::Ipv4).about("create")?;
    socket.bind(any_address(port)).about("bind")?;
    out.line(&format!("listening on {}", shown(socket.get_local_address().about("own address")?))).await;
    for _ in 0..datagrams {
        let (bytes, peer) = socket.receive().await.about("receive")?;
        let line = format!("echoed {} bytes to {}", bytes.len(), shown(peer));
        socket.send(bytes, Some(peer)).await.about("send")?;
        out.line(&line).await;
    }
    Ok(())
}

/// Sends one datagram and prints the answer.
pub async fn send(address: IpSocketAddress, text: &str, out: &mut Stdout) -> Result<(), Failure> {
    let family = match address {
        IpSocketAddress::Ipv4(_) => IpAddressFamily::Ipv4,
        IpSocketAddress::Ipv6(_) => IpAddressFamily::Ipv6,
    };
    let socket = UdpSocket::create(family).about("create")?;
    socket.connect(address).about("connect")?;
    socket.send(text.as_bytes().to_vec(), None).await.about("send")?;
    let (bytes, _) = socket.receive().await.about("receive")?;
    out.line(&String::from_utf8_lossy(&bytes)).await;
    Ok(())
}
