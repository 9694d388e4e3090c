//! An HTTP/1.1 file server on the standard library, for a container without threads.
//!
//! `web [LISTEN] [SITE]`, for example `web 0.0.0.0:8080 /site`.
//!
//! ```text
//! poll ─► accept ─► Connection: Reading ──head complete──► Writing ──all sent──► closed
//!   ▲                            └── deadline, error, end ─────────┴──► closed
//!   └────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! One loop serves all connections: it sleeps in `poll` until the listener or a connection is ready.
//! When the pod stops, the host makes `accept` fail; the loop ends and the exit code is 0.

mod connection;
mod http;
mod poll;
mod site;

use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, path::PathBuf};

use connection::{Connection, Progress};
use site::Site;

/// Connections served at a time; more wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 64;
/// Failed accepts in a row that mean the listener itself is gone rather than a peer.
const MAX_ABORTED_ACCEPTS: usize = 8;
/// How long `poll` sleeps at most, so that deadlines are seen.
const TICK: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let address = args.next().unwrap_or("0.0.0.0:8080".into());
    let root = PathBuf::from(args.next().unwrap_or("/site".into()));

    let listener = match listen(&address) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("web: cannot listen on {address}: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("serving {} on http://{address}", root.display());
    let mut site = Site::new(root);
    let why = serve(&listener, &mut site);
    println!("no more connections ({why}); served {} requests", site.requests());
    ExitCode::SUCCESS
}

fn listen(address: &str) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves until the listener fails, and says how it failed.
fn serve(listener: &TcpListener, site: &mut Site) -> io::Error {
    let mut connections: Vec<Connection> = Vec::new();
    loop {
        let mut interests: Vec<_> = connections.iter().map(Connection::interest).collect();
        if connections.len() < MAX_CONNECTIONS {
            interests.push(poll::readable(listener.as_raw_fd()));
        }
        if let Err(error) = poll::wait(&mut interests, TICK) {
            return error;
        }
        let now = Instant::now();
        let mut ready = interests.iter().map(|interest| interest.is_ready());
        connections.retain_mut(|connection| {
            let ready = ready.next().unwrap_or(false);
            !connection.expired(now) && (!ready || connection.advance(site) == Progress::Open)
        });
        if ready.next().unwrap_or(false)
            && let Err(error) = accept_all(listener, &mut connections, now)
        {
            return error;
        }
    }
}

/// Accepts what is waiting. An error is the listener's end.
fn accept_all(listener: &TcpListener, connections: &mut Vec<Connection>, now: Instant) -> io::Result<()> {
    let mut aborted = 0;
    while connections.len() < MAX_CONNECTIONS {
        match listener.accept() {
            Ok((stream, peer)) => {
                if let Ok(connection) = Connection::new(stream, peer, now) {
                    connections.push(connection);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::ConnectionAborted && aborted < MAX_ABORTED_ACCEPTS => {
                aborted += 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
