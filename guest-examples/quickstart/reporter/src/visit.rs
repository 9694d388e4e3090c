//! One visit: a whole HTTP exchange with the web server, timed.

use std::io::{self, Error, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Bytes of a response that are read.
const MAX_RESPONSE: u64 = 256 * 1024;

/// What a visit found.
pub struct Visit {
    /// From connect to the response's last byte.
    pub round_trip: Duration,
    /// Requests the server says it has answered.
    pub requests: u64,
    /// For how long the server says it runs.
    pub uptime: Duration,
}

/// Fetches `/` from `server` (`address:port`).
pub fn visit(server: &str) -> io::Result<Visit> {
    let started = Instant::now();
    let mut stream = TcpStream::connect(server)?;
    write!(stream, "GET / HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n\r\n")?;
    let mut response = Vec::new();
    stream.take(MAX_RESPONSE).read_to_end(&mut response)?;
    let round_trip = started.elapsed();
    if response.is_empty() {
        return Err(Error::new(ErrorKind::UnexpectedEof, "closed without an answer"));
    }

    let response = String::from_utf8_lossy(&response);
    let (head, _) = response.split_once("\r\n\r\n").ok_or_else(|| malformed("no end of the head"))?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(malformed(head.lines().next().unwrap_or_default()));
    }
    Ok(Visit {
        round_trip,
        requests: header(head, "x-requests")?,
        uptime: Duration::from_millis(header(head, "x-uptime-ms")?),
    })
}

fn header(head: &str, name: &str) -> io::Result<u64> {
    head.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.parse().ok())
        .ok_or_else(|| malformed(&format!("no header {name}")))
}

fn malformed(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("unexpected response: {what}"))
}
