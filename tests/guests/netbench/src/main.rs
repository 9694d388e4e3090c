//! Measures TCP from inside a guest, with nothing but the standard library: `benches/network.rs` runs one as the
//! server and one as the client.
//!
//! | server | client | the client prints, nanoseconds |
//! |---|---|---|
//! | `echo PORT` | `round-trip ADDRESS COUNT` | one byte there and back |
//! | `sink PORT` | `bulk ADDRESS MEBIBYTES` | one mebibyte, in writes of 64 KiB |
//! | `accept PORT COUNT` | `connect ADDRESS COUNT` | connect, be accepted, close |
//! | `hold PORT COUNT` | `open ADDRESS COUNT` | connect, of the first and of the last tenth; then both wait for ever |
//!
//! `calls COUNT` prints what one call of the host costs. A server prints `listening` first.

use std::hint::black_box;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// What a bulk transfer writes and reads at a time, bytes.
const CHUNK: usize = 64 * 1024;
/// Round trips that are not counted: the first ones meet cold caches.
const WARM_UP: u32 = 1000;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match *words {
        ["echo", port] => echo(listen(port)?),
        ["sink", port] => sink(listen(port)?),
        ["accept", port, count] => accept(listen(port)?, number(count)?),
        ["hold", port, count] => hold(listen(port)?, number(count)?),
        ["round-trip", address, count] => round_trip(address, number(count)?),
        ["bulk", address, mebibytes] => bulk(address, number(mebibytes)?),
        ["connect", address, count] => connect(address, number(count)?),
        ["open", address, count] => open(address, number(count)?),
        ["calls", count] => {
            let count = number(count)?;
            report("call", count, || {
                black_box(Instant::now());
                Ok(())
            })
        }
        _ => Err(Error::new(ErrorKind::InvalidInput, format!("unknown command {words:?}"))),
    }
}

fn number(text: &str) -> Result<u32> {
    text.parse().map_err(|_| Error::new(ErrorKind::InvalidInput, format!("{text:?} is not a number")))
}

fn listen(port: &str) -> Result<TcpListener> {
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))?;
    println!("listening");
    Ok(listener)
}

/// Does something so often and prints how long one took.
fn report(what: &str, count: u32, mut each: impl FnMut() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    for _ in 0..count {
        each()?;
    }
    println!("{what} {}", start.elapsed().as_nanos() / u128::from(count));
    Ok(())
}

fn echo(listener: TcpListener) -> Result<()> {
    let (mut stream, _) = listener.accept()?;
    let mut byte = [0];
    while stream.read(&mut byte)? > 0 {
        stream.write_all(&byte)?;
    }
    Ok(())
}

/// Connects to a server that may not listen yet.
fn first(address: &str) -> Result<TcpStream> {
    loop {
        match TcpStream::connect(address) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                std::thread::sleep(Duration::from_millis(1));
            }
            result => return result,
        }
    }
}

fn round_trip(address: &str, count: u32) -> Result<()> {
    let mut stream = first(address)?;
    let mut byte = [7];
    let mut once = || {
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)
    };
    for _ in 0..WARM_UP {
        once()?;
    }
    report("round-trip", count, once)
}

fn sink(listener: TcpListener) -> Result<()> {
    let (mut stream, _) = listener.accept()?;
    let mut buffer = vec![0; CHUNK];
    while stream.read(&mut buffer)? > 0 {}
    stream.write_all(&[1])
}

fn bulk(address: &str, mebibytes: u32) -> Result<()> {
    let mut stream = first(address)?;
    let data = vec![7; CHUNK];
    let start = Instant::now();
    for _ in 0..mebibytes * (1 << 20) / CHUNK as u32 {
        stream.write_all(&data)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.read_exact(&mut [0])?;
    println!("bulk {}", start.elapsed().as_nanos() / u128::from(mebibytes));
    Ok(())
}

fn accept(listener: TcpListener, count: u32) -> Result<()> {
    for _ in 0..=count {
        listener.accept()?;
    }
    Ok(())
}

fn connect(address: &str, count: u32) -> Result<()> {
    drop(first(address)?);
    // Until the server has accepted and closed it: otherwise the backlog overflows, and retransmission is measured.
    report("connect", count, || TcpStream::connect(address)?.read(&mut [0]).map(drop))
}

fn hold(listener: TcpListener, count: u32) -> Result<()> {
    let mut held = Vec::with_capacity(count as usize + 1);
    for _ in 0..=count {
        held.push(listener.accept()?);
    }
    wait_for_ever(&mut held[0].0)
}

fn open(address: &str, count: u32) -> Result<()> {
    let mut held = Vec::with_capacity(count as usize + 1);
    held.push(first(address)?);
    let tenth = count / 10;
    report("open-first", tenth, || Ok(held.push(TcpStream::connect(address)?)))?;
    for _ in tenth..count - tenth {
        held.push(TcpStream::connect(address)?);
    }
    report("open-last", tenth, || Ok(held.push(TcpStream::connect(address)?)))?;
    println!("held {count}");
    wait_for_ever(&mut held[0])
}

fn wait_for_ever(stream: &mut TcpStream) -> Result<()> {
    stream.read_exact(&mut [0])
}
