//! Measures TCP from inside a guest of WASI 0.3. The commands and what they print are those of `netbench`, beside
//! which this is measured: see there.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::time::Instant;

use wasip3::cli::{environment, stderr, stdout};
use wasip3::clocks::monotonic_clock;
use wasip3::sockets::types::{IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, TcpSocket};
use wasip3::wit_bindgen::{StreamReader, StreamWriter};
use wasip3::wit_stream;

wasip3::cli::command::export!(Guest);

struct Guest;

impl wasip3::exports::cli::run::Guest for Guest {
    async fn run() -> Result<(), ()> {
        match command(&environment::get_arguments()[1..]).await {
            Ok(()) => Ok(()),
            Err(error) => {
                let (mut bytes, reader) = wit_stream::new();
                let done = stderr::write_via_stream(reader);
                bytes.write_all(format!("netbench-p3: {error}\n").into_bytes()).await;
                drop(bytes);
                let _ = done.await;
                Err(())
            }
        }
    }
}

/// What a bulk transfer writes and reads at a time, bytes.
const CHUNK: usize = 64 * 1024;
/// Round trips that are not counted: the first ones meet cold caches.
const WARM_UP: u32 = 1000;

type Result<T, E = String> = std::result::Result<T, E>;

async fn command(args: &[String]) -> Result<()> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match *words {
        ["echo", port] => echo(listen(port).await?).await,
        ["sink", port] => sink(listen(port).await?).await,
        ["accept", port, count] => accept(listen(port).await?, number(count)?).await,
        ["round-trip", address, count] => round_trip(address, number(count)?).await,
        ["bulk", address, mebibytes] => bulk(address, number(mebibytes)?).await,
        ["connect", address, count] => connect(address, number(count)?).await,
        _ => Err(format!("unknown command {words:?}")),
    }
}

fn number(text: &str) -> Result<u32> {
    text.parse().map_err(|_| format!("{text:?} is not a number"))
}

fn failed<T, E: Debug>(result: Result<T, E>) -> Result<T> {
    result.map_err(|error| format!("{error:?}"))
}

async fn say(what: &str) {
    let (mut bytes, reader) = wit_stream::new();
    let done = stdout::write_via_stream(reader);
    bytes.write_all(format!("{what}\n").into_bytes()).await;
    drop(bytes);
    let _ = done.await;
}

async fn report(what: &str, start: Instant, count: u32) {
    say(&format!("{what} {}", start.elapsed().as_nanos() / u128::from(count))).await;
}

fn v4(address: SocketAddr) -> Result<IpSocketAddress> {
    let SocketAddr::V4(address) = address else { return Err("only IPv4 is measured".into()) };
    let ip = address.ip().octets().into();
    Ok(IpSocketAddress::Ipv4(Ipv4SocketAddress { port: address.port(), address: ip }))
}

/// The listening socket, and the stream of connections.
async fn listen(port: &str) -> Result<(TcpSocket, StreamReader<TcpSocket>)> {
    let socket = failed(TcpSocket::create(IpAddressFamily::Ipv4))?;
    failed(socket.bind(v4(SocketAddr::from(([127, 0, 0, 1], number(port)? as u16)))?))?;
    let connections = failed(socket.listen())?;
    say("listening").await;
    Ok((socket, connections))
}

/// One connection: the socket and its two streams.
struct Connection {
    _socket: TcpSocket,
    input: StreamReader<u8>,
    output: StreamWriter<u8>,
}

impl Connection {
    fn of(socket: TcpSocket) -> Self {
        let (input, _) = socket.receive();
        let (output, reader) = wit_stream::new();
        let _ = socket.send(reader);
        Self { _socket: socket, input, output }
    }

    async fn accept((_, connections): &mut (TcpSocket, StreamReader<TcpSocket>)) -> Result<Self> {
        connections.next().await.map(Self::of).ok_or_else(|| "nobody came".into())
    }

    async fn connect(address: &str) -> Result<Self> {
        let address = v4(address.parse().map_err(|_| format!("{address:?} is no address"))?)?;
        let socket = failed(TcpSocket::create(IpAddressFamily::Ipv4))?;
        failed(socket.connect(address).await)?;
        Ok(Self::of(socket))
    }

    /// Connects to a server that may not listen yet.
    async fn first(address: &str) -> Result<Self> {
        let mut connected = Self::connect(address).await;
        while connected.as_ref().is_err_and(|error| error.contains("Refused")) {
            monotonic_clock::wait_for(1_000_000).await;
            connected = Self::connect(address).await;
        }
        connected
    }

    /// Reads what there is into the buffer; `None` is the end.
    async fn read(&mut self, mut buffer: Vec<u8>) -> Option<Vec<u8>> {
        buffer.clear();
        let (_, buffer) = self.input.read(buffer).await;
        (!buffer.is_empty()).then_some(buffer)
    }
}

async fn echo(mut listener: (TcpSocket, StreamReader<TcpSocket>)) -> Result<()> {
    let mut connection = Connection::accept(&mut listener).await?;
    let mut buffer = Vec::with_capacity(1);
    while let Some(bytes) = connection.read(buffer).await {
        let (_, rest) = connection.output.write(bytes).await;
        buffer = rest.into_vec();
        buffer.reserve(1);
    }
    Ok(())
}

async fn round_trip(address: &str, count: u32) -> Result<()> {
    let mut connection = Connection::first(address).await?;
    let mut buffer = vec![7];
    let mut start = Instant::now();
    for round in 0..WARM_UP + count {
        if round == WARM_UP {
            start = Instant::now();
        }
        connection.output.write(buffer).await;
        buffer = connection.read(Vec::with_capacity(1)).await.ok_or("the server has ended")?;
    }
    report("round-trip", start, count).await;
    Ok(())
}

async fn sink(mut listener: (TcpSocket, StreamReader<TcpSocket>)) -> Result<()> {
    let mut connection = Connection::accept(&mut listener).await?;
    let mut buffer = Vec::with_capacity(CHUNK);
    while let Some(bytes) = connection.read(buffer).await {
        buffer = bytes;
    }
    connection.output.write(vec![1]).await;
    Ok(())
}

async fn bulk(address: &str, mebibytes: u32) -> Result<()> {
    let Connection { _socket, mut input, mut output } = Connection::first(address).await?;
    let mut data = vec![7; CHUNK];
    let start = Instant::now();
    for _ in 0..mebibytes * (1 << 20) / CHUNK as u32 {
        let (_, mut rest) = output.write(data).await;
        while rest.remaining() > 0 {
            (_, rest) = output.write_buf(rest).await;
        }
        data = rest.into_vec();
        // SAFETY: it has not grown or shrunk since it was made, with all of its bytes written.
        unsafe { data.set_len(CHUNK) };
    }
    drop(output);
    input.read(Vec::with_capacity(1)).await;
    report("bulk", start, mebibytes).await;
    Ok(())
}

async fn accept(mut listener: (TcpSocket, StreamReader<TcpSocket>), count: u32) -> Result<()> {
    for _ in 0..=count {
        listener.1.next().await.ok_or("nobody came")?;
    }
    Ok(())
}

async fn connect(address: &str, count: u32) -> Result<()> {
    drop(Connection::first(address).await?);
    let start = Instant::now();
    for _ in 0..count {
        Connection::connect(address).await?.read(Vec::with_capacity(1)).await;
    }
    report("connect", start, count).await;
    Ok(())
}
