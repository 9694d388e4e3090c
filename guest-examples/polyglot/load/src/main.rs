//! Talks to the three servers for so many seconds: `load SECONDS`. Every answer is compared; the first
//! wrong one, and the first that does not come, is the end.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How long a server may take to listen.
const START: Duration = Duration::from_secs(30);
/// Conversations with Python are slower: so many with each of the others for one with it.
const OTHERS: u64 = 20;
/// Bytes of one echo.
const ECHO: usize = 16 * 1024;

fn main() -> Result<()> {
    let seconds = std::env::args().nth(1).and_then(|word| word.parse().ok()).unwrap_or(60);
    let mut axum = BufReader::new(connect("127.0.0.1:8080")?);
    let mut echo = connect("127.0.0.1:7000")?;
    drop(connect("127.0.0.1:8081")?);
    let (start, mut said) = (Instant::now(), Instant::now());
    let (mut to_axum, mut to_python, mut to_c) = (0_u64, 0_u64, 0_u64);
    while start.elapsed() < Duration::from_secs(seconds) {
        for _ in 0..OTHERS {
            expect(&get(&mut axum, "/", true)?, "hello from axum")?;
            echo_once(&mut echo, to_c as u8)?;
            (to_axum, to_c) = (to_axum + 1, to_c + 1);
        }
        let mut python = BufReader::new(connect("127.0.0.1:8081")?);
        expect(&get(&mut python, "/", false)?, "hello from Python")?;
        to_python += 1;
        if said.elapsed() >= Duration::from_secs(5) {
            println!("{to_axum} answers of axum, {to_python} of Python, {to_c} echoes of C");
            said = Instant::now();
        }
    }
    println!("done: {to_axum} answers of axum, {to_python} of Python, {to_c} echoes of C");
    Ok(())
}

/// Connects, waiting for the server to listen.
fn connect(address: &str) -> Result<TcpStream> {
    let start = Instant::now();
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => return Ok(stream),
            Err(error) if start.elapsed() > START => return Err(format!("{address}: {error}").into()),
            Err(_) => sleep(Duration::from_millis(20)),
        }
    }
}

/// The body of a successful answer.
fn get(stream: &mut BufReader<TcpStream>, path: &str, again: bool) -> Result<String> {
    let connection = if again { "keep-alive" } else { "close" };
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n");
    stream.get_mut().write_all(request.as_bytes())?;
    let mut line = String::new();
    stream.read_line(&mut line)?;
    if !line.starts_with("HTTP/1.1 200") {
        return Err(format!("GET {path}: {line:?}").into());
    }
    let mut length = 0;
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(String::from_utf8(body)?)
}

fn expect(answer: &str, start: &str) -> Result<()> {
    if answer.starts_with(start) { Ok(()) } else { Err(format!("{answer:?} is not {start:?}…").into()) }
}

fn echo_once(stream: &mut TcpStream, seed: u8) -> Result<()> {
    let sent: Vec<u8> = (0..ECHO).map(|index| (index as u8).wrapping_mul(31) ^ seed).collect();
    let mut received = vec![0; ECHO];
    stream.write_all(&sent)?;
    stream.read_exact(&mut received)?;
    if sent == received { Ok(()) } else { Err("the echo differs".into()) }
}
