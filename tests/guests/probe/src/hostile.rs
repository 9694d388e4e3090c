//! What a bad container does to the network of its pod, and those who have to live with it.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use crate::net::{announce, listen_address, patience, retry};
use crate::{About, Outcome, arg, cpu, described};

/// Bytes written at a time.
const CHUNK: usize = 64 * 1024;
/// Bytes that no buffer of a connection may hold.
const TOO_MUCH: usize = 256 * 1024 * 1024;
/// Between two looks at a socket that must not be waited for.
const PAUSE: Duration = Duration::from_millis(1);

fn for_ever() -> ! {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

/// `open-connections`: connects to itself until it may not, says how often, and keeps both ends for ever.
pub fn open_connections(_: &[String]) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").about("listen")?;
    let address = listener.local_addr().about("own address")?;
    let mut kept = Vec::new();
    let refusal = loop {
        let pair = TcpStream::connect(address).and_then(|client| Ok((client, listener.accept()?)));
        match pair {
            Ok(pair) => kept.push(pair),
            Err(error) => break error,
        }
    };
    println!("opened {} connections, then {}", kept.len(), described(&refusal));
    for_ever()
}

/// `open-listeners`: listens on one port after the other until it may not, and keeps them for ever.
pub fn open_listeners(_: &[String]) -> Outcome {
    let mut kept = Vec::new();
    let refusal = loop {
        match TcpListener::bind("127.0.0.1:0") {
            Ok(listener) => kept.push(listener),
            Err(error) => break error,
        }
    };
    println!("opened {} listeners, then {}", kept.len(), described(&refusal));
    for_ever()
}

/// `udp-flood ADDRESS`: sends without end.
pub fn udp_flood(args: &[String]) -> Outcome {
    let target = arg(args, 0, "ADDRESS")?;
    let socket = UdpSocket::bind("127.0.0.1:0").about("bind")?;
    println!("flooding {target}");
    loop {
        // A full buffer and an answer that nobody listens are no reason to stop.
        let _ = socket.send_to(&[0; 1400], target);
    }
}

/// `udp-deaf PORT|ADDRESS`: binds and never receives.
pub fn udp_deaf(args: &[String]) -> Outcome {
    let address = listen_address(args)?;
    let socket = UdpSocket::bind(&address).about(&address)?;
    announce(socket.local_addr())?;
    for_ever()
}

/// `never-read ADDRESS [--retry MS]`: connects and never reads.
pub fn never_read(args: &[String]) -> Outcome {
    let address = arg(args, 0, "ADDRESS")?;
    let _stream = retry(patience(args)?, || TcpStream::connect(address)).about(address)?;
    println!("connected");
    for_ever()
}

/// `press PORT|ADDRESS`: accepts one connection and writes until it may not: `back-pressure after BYTES`.
/// Writes on until the peer is gone: `peer gone: KIND (ERRNO): TEXT`.
pub fn press(args: &[String]) -> Outcome {
    let address = listen_address(args)?;
    let listener = TcpListener::bind(&address).about(&address)?;
    announce(listener.local_addr())?;
    let (mut stream, _) = listener.accept().about("accept")?;
    stream.set_nonblocking(true).about("non-blocking")?;
    let (mut written, mut said) = (0, false);
    while written < TOO_MUCH {
        match stream.write(&[0; CHUNK]) {
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if !std::mem::replace(&mut said, true) {
                    println!("back-pressure after {written} bytes");
                }
                thread::sleep(PAUSE);
            }
            Err(error) => {
                println!("peer gone: {}", described(&error));
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
    println!("no back-pressure after {written} bytes");
    Ok(ExitCode::FAILURE)
}

/// `die-midway ADDRESS trap|exit|oom [--retry MS]`: connects, sends a part, waits until the peer has sent
/// something, leaves it unread and dies. Listens on a port of its own meanwhile, PORT 7999.
pub fn die_midway(args: &[String]) -> Outcome {
    let address = arg(args, 0, "ADDRESS")?;
    let _listener = TcpListener::bind("127.0.0.1:7999").about("listen")?;
    let mut stream = retry(patience(args)?, || TcpStream::connect(address)).about(address)?;
    stream.write_all(&[1; 1000]).about("send")?;
    // One byte is read, so that there are others; they stay.
    stream.read_exact(&mut [0]).about("receive")?;
    println!("dying");
    match arg(args, 1, "trap|exit|oom")? {
        "trap" => cpu::trap(&[]),
        "oom" => cpu::alloc(&[]),
        _ => Ok(ExitCode::FAILURE),
    }
}

/// `bereaved PORT|ADDRESS`: accepts one connection, answers what comes, and says how reading ends, `after BYTES
/// end` or `after BYTES KIND (ERRNO): TEXT`, and that writing does. Then takes over the dead one's port.
pub fn bereaved(args: &[String]) -> Outcome {
    let address = listen_address(args)?;
    let listener = TcpListener::bind(&address).about(&address)?;
    announce(listener.local_addr())?;
    let (mut stream, _) = listener.accept().about("accept")?;
    let mut chunk = [0; CHUNK];
    let mut total = stream.read(&mut chunk).about("read")?;
    stream.write_all(&chunk[..1000]).about("answer")?;
    let how = loop {
        match stream.read(&mut chunk) {
            Ok(0) => break "end".to_owned(),
            Ok(count) => total += count,
            Err(error) => break described(&error),
        }
    };
    println!("after {total} bytes {how}");
    let error = loop {
        if let Err(error) = stream.write_all(&chunk) {
            break error;
        }
    };
    println!("write: {}", described(&error));
    retry(Duration::from_secs(20), || TcpListener::bind("127.0.0.1:7999")).about("the dead one's port")?;
    println!("its port is free");
    Ok(ExitCode::SUCCESS)
}
