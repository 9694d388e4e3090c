//! TCP: a connection is one stream in each direction, a listener a stream of connections.

use wasip3::sockets::types::{ErrorCode, IpAddressFamily, IpSocketAddress, TcpSocket};
use wasip3::wit_stream;

use crate::stdio::Stdout;
use crate::{About, Failure, any_address, shown};

/// Bytes read at a time.
const CHUNK: usize = 64 * 1024;

fn socket_for(address: &IpSocketAddress) -> Result<TcpSocket, Failure> {
    let family = match address {
        IpSocketAddress::Ipv4(_) => IpAddressFamily::Ipv4,
        IpSocketAddress::Ipv6(_) => IpAddressFamily::Ipv6,
    };
    TcpSocket::create(family).about("create")
}

/// Echoes one connection after the other; ends after so many, or when the host closes the listener.
pub async fn serve(port: u16, connections: u64, out: &mut Stdout) -> Result<(), Failure> {
    let address = any_address(port);
    let listener = socket_for(&address)?;
    listener.bind(address).about("bind")?;
    let mut accepted = listener.listen().about("listen")?;
    out.line(&format!("listening on {}", shown(listener.get_local_address().about("own address")?))).await;
    for count in 0..connections {
        let Some(socket) = accepted.next().await else {
            out.line(&format!("accept ended after {count} connections")).await;
            break;
        };
        match echo(&socket).await {
            Ok(bytes) => out.line(&format!("echoed {bytes} bytes")).await,
            Err(error) => out.line(&format!("lost a connection: {error:?}")).await,
        }
    }
    Ok(())
}

async fn echo(socket: &TcpSocket) -> Result<usize, ErrorCode> {
    let (mut input, received) = socket.receive();
    let (mut output, reader) = wit_stream::new();
    let sent = socket.send(reader);
    let mut total = 0;
    loop {
        let (_, bytes) = input.read(Vec::with_capacity(CHUNK)).await;
        if bytes.is_empty() {
            break;
        }
        total += bytes.len();
        if !output.write_all(bytes).await.is_empty() {
            break;
        }
    }
    drop(output);
    sent.await?;
    received.await?;
    Ok(total)
}

/// Sends the text, half-closes, prints the reply.
pub async fn connect(address: IpSocketAddress, text: &str, out: &mut Stdout) -> Result<(), Failure> {
    let socket = socket_for(&address)?;
    socket.connect(address).await.about("connect")?;
    let (input, received) = socket.receive();
    let (mut output, reader) = wit_stream::new();
    let sent = socket.send(reader);
    output.write_all(text.as_bytes().to_vec()).await;
    drop(output);
    sent.await.about("send")?;
    let reply = input.collect().await;
    received.await.about("receive")?;
    out.line(&String::from_utf8_lossy(&reply)).await;
    Ok(())
}

/// Connects to an echo server and exits with code 0 before it has read all that comes back. Its streams are never
/// dropped: they end with the container.
pub async fn leave(address: IpSocketAddress) -> Result<(), Failure> {
    let socket = socket_for(&address)?;
    socket.connect(address).await.about("connect")?;
    let (mut input, _received) = socket.receive();
    let (mut output, reader) = wit_stream::new();
    let _sent = socket.send(reader);
    output.write_all(b"an answer, please".to_vec()).await;
    input.read(Vec::with_capacity(1)).await;
    wasip3::cli::exit::exit(Ok(()));
    Ok(())
}

/// Binds and listens; prints `ok ADDRESS` or `error CODE`.
pub async fn bind(address: IpSocketAddress, out: &mut Stdout) -> Result<(), Failure> {
    let socket = socket_for(&address)?;
    // The stream of connections is held until the line is out: dropping it would end the listening.
    match socket.bind(address).and_then(|()| socket.listen()) {
        Ok(_accepted) => {
            out.line(&format!("ok {}", shown(socket.get_local_address().about("own address")?))).await
        }
        Err(error) => out.line(&format!("error {error:?}")).await,
    }
    Ok(())
}
