//! One connection: reads a request head, writes one response, closes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};
use std::{io, mem};

use crate::http;
use crate::poll::{self, Interest};
use crate::site::Site;

/// A request and its response have this long; a peer that says nothing is dropped after it.
const DEADLINE: Duration = Duration::from_secs(10);
/// Bytes read at a time.
const READ_SIZE: usize = 2048;

/// A connection, owned by the serving loop.
pub struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    deadline: Instant,
    state: State,
}

enum State {
    /// Collecting the request's head; left when it is complete or too long.
    Reading { head: Vec<u8> },
    /// Sending `bytes[sent..]`; left when all is sent.
    Writing { bytes: Vec<u8>, sent: usize },
}

/// Whether the connection goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It waits for [`Connection::interest`].
    Open,
    /// It has ended and is to be dropped.
    Closed,
}

impl Connection {
    /// Takes an accepted stream.
    pub fn new(stream: TcpStream, peer: SocketAddr, now: Instant) -> io::Result<Connection> {
        stream.set_nonblocking(true)?;
        Ok(Connection { stream, peer, deadline: now + DEADLINE, state: State::Reading { head: Vec::new() } })
    }

    /// What the connection waits for.
    pub fn interest(&self) -> Interest {
        match self.state {
            State::Reading { .. } => poll::readable(self.stream.as_raw_fd()),
            State::Writing { .. } => poll::writable(self.stream.as_raw_fd()),
        }
    }

    /// Whether its time is over.
    pub fn expired(&self, now: Instant) -> bool {
        now >= self.deadline
    }

    /// Does all that can be done without blocking.
    pub fn advance(&mut self, site: &mut Site) -> Progress {
        match self.try_advance(site) {
            Ok(progress) => progress,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Progress::Open,
            // The peer went away: its right.
            Err(_) => Progress::Closed,
        }
    }

    fn try_advance(&mut self, site: &mut Site) -> io::Result<Progress> {
        loop {
            match &mut self.state {
                State::Reading { head } => {
                    let mut chunk = [0; READ_SIZE];
                    let count = self.stream.read(&mut chunk)?;
                    if count == 0 {
                        return Ok(Progress::Closed);
                    }
                    head.extend_from_slice(&chunk[..count]);
                    if let Some(request) = http::parse(head) {
                        let head = mem::take(head);
                        let response = site.respond(&request);
                        println!(
                            "{} {} {} B from {}",
                            http::first_line(&head),
                            response.status,
                            response.body.len(),
                            self.peer
                        );
                        self.state = State::Writing { bytes: response.into_bytes(), sent: 0 };
                    }
                }
                State::Writing { bytes, sent } => {
                    *sent += self.stream.write(&bytes[*sent..])?;
                    if *sent == bytes.len() {
                        self.stream.shutdown(Shutdown::Write)?;
                        return Ok(Progress::Closed);
                    }
                }
            }
        }
    }
}
