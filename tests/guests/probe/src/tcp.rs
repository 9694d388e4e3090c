//! TCP servers and clients.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Instant;

use crate::net::{announce, listen_address, patience, retry};
use crate::{About, Failure, Outcome, arg, described, number, number_or};

const MIB: usize = 1024 * 1024;
/// Bytes written or read at a time by the bulk commands.
const CHUNK: usize = 64 * 1024;

/// Listens on the first argument, and says so.
pub fn listen(args: &[String]) -> Result<TcpListener, Failure> {
    let address = listen_address(args)?;
    let listener = TcpListener::bind(&address).about(&address)?;
    announce(listener.local_addr())?;
    Ok(listener)
}

fn dial(args: &[String]) -> Result<TcpStream, Failure> {
    let address = arg(args, 0, "ADDRESS")?;
    retry(patience(args)?, || TcpStream::connect(address)).about(address)
}

/// `serve PORT|ADDRESS [CONNECTIONS]`: echoes one connection after the other, without end or so many.
pub fn serve(args: &[String]) -> Outcome {
    let listener = listen(args)?;
    for _ in 0..number_or(args, 1, "CONNECTIONS", u64::MAX)? {
        let (mut stream, peer) = listener.accept().about("accept")?;
        match echo(&mut stream) {
            Ok(bytes) => println!("echoed {bytes} bytes to {peer}"),
            Err(error) => println!("lost {peer}: {}", described(&error)),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn echo(stream: &mut TcpStream) -> io::Result<usize> {
    let mut chunk = [0; CHUNK];
    let mut total = 0;
    loop {
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            stream.shutdown(Shutdown::Write)?;
            return Ok(total);
        }
        stream.write_all(&chunk[..count])?;
        total += count;
    }
}

/// `accept-until-error PORT|ADDRESS`: accepts and drops connections until accepting fails, says why and
/// ends with code 0.
pub fn accept_until_error(args: &[String]) -> Outcome {
    let listener = listen(args)?;
    let mut count = 0;
    loop {
        match listener.accept() {
            Ok(_) => count += 1,
            Err(error) => {
                println!("accept ended after {count} connections: {}", described(&error));
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

/// `bind ADDRESS`: binds and listens; prints `ok ADDRESS` or `error KIND (ERRNO): TEXT`. Code 0 both ways.
pub fn bind(args: &[String]) -> Outcome {
    match TcpListener::bind(arg(args, 0, "ADDRESS")?) {
        Ok(listener) => println!("ok {}", listener.local_addr().about("own address")?),
        Err(error) => println!("error {}", described(&error)),
    }
    Ok(ExitCode::SUCCESS)
}

/// `connect ADDRESS TEXT [--retry MS]`: sends the text, half-closes, prints the reply.
pub fn connect(args: &[String]) -> Outcome {
    let text = arg(args, 1, "TEXT")?;
    let mut stream = dial(args)?;
    stream.write_all(text.as_bytes()).about("send")?;
    stream.shutdown(Shutdown::Write).about("half-close")?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).about("receive")?;
    println!("{reply}");
    Ok(ExitCode::SUCCESS)
}

/// `http-get ADDRESS PATH [--retry MS]`: prints the status line, an empty line and the body.
pub fn http_get(args: &[String]) -> Outcome {
    let (address, path) = (arg(args, 0, "ADDRESS")?, arg(args, 1, "PATH")?);
    let mut stream = dial(args)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").about("send")?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response).about("receive")?;
    let response = String::from_utf8_lossy(&response);
    let Some((head, body)) = response.split_once("\r\n\r\n") else {
        return Err(Failure(format!("no end of the head in {} bytes", response.len())));
    };
    println!("{}\n\n{body}", head.lines().next().unwrap_or_default());
    Ok(ExitCode::SUCCESS)
}

/// `pingpong ADDRESS COUNT [--retry MS]`: 1-byte round trips against an echo server; prints the median
/// and the 99th percentile, microseconds.
pub fn pingpong(args: &[String]) -> Outcome {
    let count = number::<usize>(args, 1, "COUNT")?.max(1);
    let mut stream = dial(args)?;
    stream.set_nodelay(true).about("TCP_NODELAY")?;
    let mut nanos = Vec::with_capacity(count);
    let mut byte = [0];
    for index in 0..count {
        let sent = [index as u8];
        let started = Instant::now();
        stream.write_all(&sent).about("send")?;
        stream.read_exact(&mut byte).about("receive")?;
        nanos.push(started.elapsed().as_nanos());
        if byte != sent {
            return Err(Failure(format!("sent {sent:?}, received {byte:?}")));
        }
    }
    nanos.sort_unstable();
    let micros = |percent: usize| nanos[(count - 1) * percent / 100] as f64 / 1e3;
    println!("round trips {count} p50 {:.2} us p99 {:.2} us", micros(50), micros(99));
    Ok(ExitCode::SUCCESS)
}

/// `bulk-recv PORT|ADDRESS`: takes one connection, reads to its end, replies with the checksum.
pub fn bulk_recv(args: &[String]) -> Outcome {
    let (mut stream, _) = listen(args)?.accept().about("accept")?;
    let mut sum = Checksum::default();
    let mut chunk = vec![0; CHUNK];
    loop {
        match stream.read(&mut chunk).about("receive")? {
            0 => break,
            count => sum.add(&chunk[..count]),
        }
    }
    println!("received {sum}");
    write!(stream, "{sum}").about("reply")?;
    Ok(ExitCode::SUCCESS)
}

/// `bulk-send ADDRESS MIB [--retry MS]`: sends pseudo-random bytes and compares checksums with the
/// receiver. Prints the checksum and the rate.
pub fn bulk_send(args: &[String]) -> Outcome {
    let chunks = number::<usize>(args, 1, "MIB")? * MIB / CHUNK;
    let mut stream = dial(args)?;
    let mut sum = Checksum::default();
    let mut random = Random::default();
    let mut chunk = vec![0; CHUNK];
    let started = Instant::now();
    for _ in 0..chunks {
        random.fill(&mut chunk);
        sum.add(&chunk);
        stream.write_all(&chunk).about("send")?;
    }
    stream.shutdown(Shutdown::Write).about("half-close")?;
    let mut theirs = String::new();
    stream.read_to_string(&mut theirs).about("receive the checksum")?;
    if theirs != sum.to_string() {
        return Err(Failure(format!("sent {sum}, the receiver says {theirs:?}")));
    }
    let rate = (chunks * CHUNK) as f64 / MIB as f64 / started.elapsed().as_secs_f64();
    println!("sent {sum}, {rate:.0} MiB/s");
    Ok(ExitCode::SUCCESS)
}

/// FNV-1a, 64 bits, over eight bytes at a time, and the count: order and content matter, not how the
/// stream was cut.
#[derive(Default)]
struct Checksum {
    hash: u64,
    bytes: u64,
    pending: u64,
}

impl Checksum {
    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.pending = self.pending << 8 | u64::from(byte);
            self.bytes += 1;
            if self.bytes.is_multiple_of(8) {
                self.hash = (self.hash ^ self.pending).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
}

impl std::fmt::Display for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes, checksum {:016x}", self.bytes, self.hash ^ self.pending)
    }
}

/// xorshift64: quick, and no two chunks alike.
struct Random(u64);

impl Default for Random {
    fn default() -> Random {
        Random(0x9e37_79b9_7f4a_7c15)
    }
}

impl Random {
    fn fill(&mut self, bytes: &mut [u8]) {
        for word in bytes.chunks_exact_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            word.copy_from_slice(&self.0.to_le_bytes());
        }
    }
}
