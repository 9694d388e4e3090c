//! The health service of gRPC, as much of HTTP/2 as it takes (RFC 9113): whoever asks on a connection is taken to
//! call `grpc.health.v1.Health/Check`, whose headers nobody needs to read.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;

use crate::health::Health;
use crate::tcp::listen;
use crate::{Outcome, described};

/// Types of frames (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The client's preface (section 3.4).
const PREFACE: usize = 24;

/// A client sends no larger frame unless it is allowed to (SETTINGS_MAX_FRAME_SIZE).
const MAX_FRAME: usize = 16_384;

/// `grpc-health PORT|ADDRESS [HEALTH]`: says how it is to who asks for the service of no name or for `probe`, until
/// its listener ends. Each question is printed as `asked for "SERVICE"`.
pub fn health(args: &[String]) -> Outcome {
    let health = Health::from(args)?;
    let listener = listen(args)?;
    while let Ok((stream, _)) = listener.accept() {
        if let Err(error) = answer(stream, &health) {
            println!("lost a client: {}", described(&error));
        }
    }
    println!("no more questions");
    Ok(ExitCode::SUCCESS)
}

/// Serves a connection to its end.
fn answer(mut stream: TcpStream, health: &Health) -> io::Result<()> {
    stream.read_exact(&mut [0; PREFACE])?;
    send(&mut stream, SETTINGS, 0, 0, &[])?;
    let mut message = Vec::new();
    loop {
        let mut head = [0; 9];
        match stream.read_exact(&mut head) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        let [a, b, c, kind, flags, id @ ..] = head;
        let (length, id) = (u32::from_be_bytes([0, a, b, c]) as usize, u32::from_be_bytes(id));
        if length > MAX_FRAME {
            return Err(io::Error::other("a frame that is too large"));
        }
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload)?;
        match kind {
            SETTINGS | PING if flags & ACK == 0 => send(&mut stream, kind, ACK, 0, &payload)?,
            GOAWAY => return Ok(()),
            DATA => message.extend_from_slice(&payload),
            _ => {}
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            reply(&mut stream, id, &std::mem::take(&mut message), health)?;
        }
    }
}

fn send(stream: &mut TcpStream, kind: u8, flags: u8, id: u32, payload: &[u8]) -> io::Result<()> {
    // An acknowledgement of settings has no payload, one of a ping has the ping's.
    let payload = if kind == SETTINGS { &[] } else { payload };
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    let mut frame = vec![a, b, c, kind, flags];
    frame.extend_from_slice(&id.to_be_bytes());
    frame.extend_from_slice(payload);
    stream.write_all(&frame)
}

fn reply(stream: &mut TcpStream, id: u32, message: &[u8], health: &Health) -> io::Result<()> {
    // Behind gRPC's prefix of 5 bytes, `HealthCheckRequest`: field 1, of a length, is the name.
    let service = match message.get(5..) {
        Some([0x0a, length, name @ ..]) => name.get(..usize::from(*length)).unwrap_or_default(),
        _ => &[],
    };
    println!("asked for {:?}", String::from_utf8_lossy(service));
    // HPACK (RFC 7541): `:status: 200` is entry 8 of the static table, `content-type` the name of entry 31.
    let mut headers = vec![0x88, 0x0f, 0x10];
    put_string(&mut headers, "application/grpc");
    send(stream, HEADERS, END_HEADERS, id, &headers)?;
    let known = matches!(service, b"" | b"probe");
    if known {
        // `HealthCheckResponse`: field 1, a number. 1 is SERVING, 2 is NOT_SERVING.
        let status = if health.is_well() { 1 } else { 2 };
        send(stream, DATA, 0, id, &[0, 0, 0, 0, 2, 0x08, status])?;
    }
    // A literal with a name of its own. 5 is NOT_FOUND.
    let mut trailers = vec![0x00];
    put_string(&mut trailers, "grpc-status");
    put_string(&mut trailers, if known { "0" } else { "5" });
    send(stream, HEADERS, END_HEADERS | END_STREAM, id, &trailers)
}

fn put_string(block: &mut Vec<u8>, text: &str) {
    block.push(text.len() as u8);
    block.extend_from_slice(text.as_bytes());
}
