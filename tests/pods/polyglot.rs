//! The example `guest-examples/polyglot` under load from inside and outside: no error, and no growth.
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::support::{PATIENCE, Running, needs_root};

/// Native clients of each server at the same time.
const CLIENTS: usize = 4;

/// KiB that the pod may have more at the end: the allocator's whims, not a leak. A leaked connection per
/// request would be some hundred MiB in a minute.
const GROWTH: u64 = 16 << 10;

/// Descriptors that the pod may have more at the end.
const MORE_DESCRIPTORS: usize = 4;

/// The example's manifest, with another duration.
fn manifest(seconds: u64) -> String {
    let example: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest-examples/polyglot");
    let text = fs::read_to_string(example.join("pod.yaml")).unwrap();
    assert!(text.contains("[\"60\"]") && text.contains("image: ./"), "{text}");
    text.replace("[\"60\"]", &format!("[\"{seconds}\"]"))
        .replace("image: ./", &format!("image: {}/", example.display()))
}

/// What a pod has: KiB of memory, open descriptors.
fn size(pod: &Running) -> (u64, usize) {
    (pod.resident(), fs::read_dir(format!("/proc/{}/fd", pod.pod_pid())).unwrap().count())
}

fn connect(address: SocketAddr) -> TcpStream {
    let end = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                return stream;
            }
            Err(error) => assert!(Instant::now() < end, "{address}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// One request, and the body of the answer.
fn get(stream: &mut BufReader<TcpStream>) -> String {
    stream.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: pod\r\n\r\n").unwrap();
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let start = head.len();
        assert_ne!(stream.read_line(&mut head).unwrap(), 0, "cut off after {head:?}");
        if let Some(value) = head[start..].to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
    }
    assert!(head.starts_with("HTTP/1.1 200"), "{head:?}");
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}

fn load_axum(address: SocketAddr, until: Instant) {
    let mut stream = BufReader::new(connect(address));
    while Instant::now() < until {
        assert!(get(&mut stream).starts_with("hello from axum"));
    }
}

fn load_python(address: SocketAddr, until: Instant) {
    while Instant::now() < until {
        assert!(get(&mut BufReader::new(connect(address))).starts_with("hello from Python"));
    }
}

fn load_c(address: SocketAddr, until: Instant) {
    let sent: Vec<u8> = (0..50_000_u32).map(|index| ((index * 7) >> 3) as u8).collect();
    let mut received = vec![0; sent.len()];
    while Instant::now() < until {
        let mut stream = connect(address);
        for _ in 0..10 {
            stream.write_all(&sent).unwrap();
            stream.read_exact(&mut received).unwrap();
            assert!(sent == received);
        }
    }
}

/// A client that loads the server at the address until then.
type Load = fn(SocketAddr, Instant);

/// Loads all servers for so long from outside, while the example's own client does from inside.
fn loaded(seconds: u64) {
    if !needs_root() {
        return;
    }
    let mut pod = Running::start(&manifest(seconds), &["--build"]);
    let ip = pod.address_within(Duration::from_secs(600));
    let warm = Instant::now() + Duration::from_secs(seconds) / 4;
    let until = warm + Duration::from_secs(seconds) * 3 / 4;
    let loads = [(8080, load_axum as Load), (8081, load_python), (7000, load_c)];
    let clients: Vec<_> = loads
        .iter()
        .flat_map(|&(port, load)| {
            (0..CLIENTS).map(move |_| std::thread::spawn(move || load((ip, port).into(), until)))
        })
        .collect();
    std::thread::sleep(warm.saturating_duration_since(Instant::now()));
    let before = size(&pod);
    for client in clients {
        client.join().unwrap_or_else(|_| panic!("a client failed:\n{}", pod.output()));
    }
    pod.wait_for("load Completed");
    let after = size(&pod);
    assert!(after.0 <= before.0 + GROWTH, "memory {} KiB, then {} KiB", before.0, after.0);
    assert!(after.1 <= before.1 + MORE_DESCRIPTORS, "descriptors {}, then {}", before.1, after.1);
    pod.signal(nix::sys::signal::Signal::SIGINT);
    // Every server ended by itself when the pod stopped.
    assert_eq!(pod.wait(), 0, "{}", pod.output());
}

#[test]
fn three_languages_serve_together() {
    loaded(4);
}

#[test]
#[ignore = "takes a minute; cargo test --test pods -- --ignored for_a_minute"]
fn three_languages_serve_together_for_a_minute() {
    loaded(60);
}
