//! Addresses, names and the patience of clients.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use crate::{About, Failure, Outcome, arg, number};

/// Between two attempts of a client with `--retry`.
const RETRY: Duration = Duration::from_millis(5);

/// A server's address: `HOST:PORT`, or a port alone for all IPv4 addresses.
pub fn listen_address(args: &[String]) -> Result<String, Failure> {
    let text = arg(args, 0, "ADDRESS")?;
    Ok(if text.contains(':') { text.into() } else { format!("0.0.0.0:{text}") })
}

/// How long a client tries, from `--retry MS` among its arguments; not at all without it.
pub fn patience(args: &[String]) -> Result<Duration, Failure> {
    match args.iter().position(|arg| arg == "--retry") {
        Some(index) => Ok(Duration::from_millis(number(args, index + 1, "--retry")?)),
        None => Ok(Duration::ZERO),
    }
}

/// Repeats `attempt` until it succeeds or `patience` is over.
pub fn retry<T>(patience: Duration, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let started = Instant::now();
    loop {
        match attempt() {
            Err(_) if started.elapsed() < patience => thread::sleep(RETRY),
            result => return result,
        }
    }
}

/// `resolve NAME`: the addresses, sorted.
pub fn resolve(args: &[String]) -> Outcome {
    let name = arg(args, 0, "NAME")?;
    let mut addresses: Vec<_> =
        (name, 0).to_socket_addrs().about(name)?.map(|address| address.ip()).collect();
    addresses.sort_unstable();
    addresses.iter().for_each(|address| println!("{address}"));
    Ok(ExitCode::SUCCESS)
}

/// The first line of a server, which a test may wait for.
pub fn announce(address: io::Result<SocketAddr>) -> Result<(), Failure> {
    println!("listening on {}", address.about("own address")?);
    Ok(())
}
