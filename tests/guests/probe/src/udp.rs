//! UDP.

use std::net::{SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use crate::net::{announce, listen_address, patience, retry};
use crate::{About, Failure, Outcome, arg, described, number_or};

/// The largest UDP payload over IPv4, bytes.
const MAX_DATAGRAM: usize = 65_507;
/// How long a sender waits for its echo before it gives up or sends again.
const ECHO_WAIT: Duration = Duration::from_secs(1);

/// `udp-echo PORT|ADDRESS [DATAGRAMS]`: sends every datagram back, without end or so many.
pub fn echo(args: &[String]) -> Outcome {
    let address = listen_address(args)?;
    let socket = UdpSocket::bind(&address).about(&address)?;
    announce(socket.local_addr())?;
    let mut datagram = vec![0; MAX_DATAGRAM];
    for _ in 0..number_or(args, 1, "DATAGRAMS", u64::MAX)? {
        let (count, peer) = socket.recv_from(&mut datagram).about("receive")?;
        socket.send_to(&datagram[..count], peer).about(peer)?;
        println!("echoed {count} bytes to {peer}");
    }
    Ok(ExitCode::SUCCESS)
}

/// `udp-until-error PORT|ADDRESS`: receives datagrams until that fails, says why and ends with code 0.
pub fn until_error(args: &[String]) -> Outcome {
    let address = listen_address(args)?;
    let socket = UdpSocket::bind(&address).about(&address)?;
    announce(socket.local_addr())?;
    let mut datagram = vec![0; MAX_DATAGRAM];
    let mut count = 0;
    loop {
        match socket.recv_from(&mut datagram) {
            Ok(_) => count += 1,
            Err(error) => {
                println!("receive ended after {count} datagrams: {}", described(&error));
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

/// `udp-send ADDRESS TEXT [--retry MS]`: sends one datagram, with `--retry` again until an answer
/// comes, and prints the answer.
pub fn send(args: &[String]) -> Outcome {
    let (address, text) = (arg(args, 0, "ADDRESS")?, arg(args, 1, "TEXT")?);
    let target: SocketAddr =
        address.parse().map_err(|_| Failure(format!("{address:?} is not an IP address and a port")))?;
    let socket = UdpSocket::bind(if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).about("bind")?;
    // wasi-libc has no receive timeout.
    socket.set_nonblocking(true).about("non-blocking")?;
    let mut datagram = vec![0; MAX_DATAGRAM];
    let count = retry(patience(args)?, || {
        socket.send_to(text.as_bytes(), target)?;
        retry(ECHO_WAIT, || socket.recv_from(&mut datagram)).map(|(count, _)| count)
    })
    .about(address)?;
    println!("{}", String::from_utf8_lossy(&datagram[..count]));
    Ok(ExitCode::SUCCESS)
}

/// `open-sockets`: opens sockets until it may not, says how many, and keeps them for ever.
pub fn open_sockets(_: &[String]) -> Outcome {
    let mut sockets = Vec::new();
    let refusal = loop {
        match UdpSocket::bind("127.0.0.1:0") {
            Ok(socket) => sockets.push(socket),
            Err(error) => break error,
        }
    };
    println!("opened {} sockets, then {}", sockets.len(), described(&refusal));
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}
