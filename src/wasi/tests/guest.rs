//! The guest of the tests beside this file: an ordinary program on `std::net`, compiled by them for
//! `wasm32-wasip2`. Not part of the crate.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};

const BULK: usize = 1 << 20;

fn pattern() -> Vec<u8> {
    (0..BULK).map(|i| (i * 31 / 7) as u8).collect()
}

fn main() -> std::io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        // Echoes what it reads to the end, for ever.
        ["serve", address] => {
            let listener = TcpListener::bind(address)?;
            println!("listening {}", listener.local_addr()?);
            for stream in listener.incoming() {
                let mut stream = match stream {
                    Ok(stream) => stream,
                    Err(e) => {
                        println!("stopped: {:?}", e.raw_os_error());
                        return Ok(());
                    }
                };
                let mut data = Vec::new();
                stream.read_to_end(&mut data)?;
                stream.write_all(&data)?;
            }
        }
        ["client", address] => {
            let mut stream = TcpStream::connect(address)?;
            println!("local {} remote {}", stream.local_addr()?, stream.peer_addr()?);
            let data = pattern();
            stream.write_all(&data)?;
            stream.shutdown(Shutdown::Write)?;
            let mut echo = Vec::new();
            stream.read_to_end(&mut echo)?;
            println!("{}", if echo == data { "same" } else { "different" });
        }
        // A byte to and fro.
        ["pong", address] => {
            let listener = TcpListener::bind(address)?;
            println!("listening {}", listener.local_addr()?);
            let (mut stream, _) = listener.accept()?;
            let mut byte = [0];
            while stream.read(&mut byte)? == 1 {
                stream.write_all(&byte)?;
            }
        }
        ["ping", address] => {
            let mut stream = TcpStream::connect(address)?;
            for i in 0..1000u32 {
                stream.write_all(&[i as u8])?;
                let mut byte = [0];
                stream.read_exact(&mut byte)?;
                assert_eq!(byte[0], i as u8);
            }
            println!("done");
        }
        ["bind", address] => match TcpListener::bind(address) {
            Ok(_) => println!("bound"),
            Err(e) => println!("{:?}", e.kind()),
        },
        ["connect", address] => match TcpStream::connect(address) {
            Ok(_) => println!("connected"),
            Err(e) => println!("{:?}", e.kind()),
        },
        // Connects, waits for a byte, then traps with the connection open.
        ["trap", address] => {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(b"x")?;
            std::process::abort();
        }
        ["udp-serve", address] => {
            let socket = UdpSocket::bind(address)?;
            println!("listening {}", socket.local_addr()?);
            let mut buffer = [0; 2000];
            let (n, from) = socket.recv_from(&mut buffer)?;
            socket.send_to(&buffer[..n], from)?;
        }
        ["udp-client", address] => {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.connect(address)?;
            socket.send(b"datagram")?;
            let mut buffer = [0; 2000];
            let n = socket.recv(&mut buffer)?;
            println!("{}", String::from_utf8_lossy(&buffer[..n]));
        }
        ["resolve", name] => match (name, 1).to_socket_addrs() {
            Ok(found) => println!("{:?}", found.map(|a| a.ip().to_string()).collect::<Vec<_>>()),
            Err(e) => println!("error: {e}"),
        },
        _ => panic!("unknown arguments: {args:?}"),
    }
    Ok(())
}
