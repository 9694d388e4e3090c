//! Serves one page over HTTP: `serve ADDRESS FILE`. Another container writes the page; a semaphore sees to it that it is
//! never read half-written. What there is to log goes to a queue.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use std::{env, fs, io};

use peapod_ipc::{Queue, Semaphore, SharedMemory};

/// Held by whoever reads or writes the page.
const PAGE: &str = "/page";
/// What there is to log; the priority is the severity.
const LOG: &str = "/log";
/// How often the page was served, at offset 0, and written, at offset 8.
const COUNTERS: &str = "/counters";
/// As syslog has it the other way round: the queue delivers the higher ones first.
const INFO: u32 = 1;
const ERROR: u32 = 4;
/// How long a client may take.
const PATIENCE: Duration = Duration::from_secs(5);

struct Site {
    file: String,
    page: Semaphore,
    log: Queue,
    counters: SharedMemory,
}

fn main() -> io::Result<()> {
    let args: Vec<String> = env::args().collect();
    let [_, address, file] = &args[..] else {
        return Err(io::Error::other("usage: serve ADDRESS FILE"));
    };
    let site = Site {
        file: file.clone(),
        page: Semaphore::create(PAGE, 1)?,
        log: Queue::create(LOG, 64, 256)?,
        counters: SharedMemory::create(COUNTERS, 16)?,
    };
    let listener = TcpListener::bind(address)?;
    println!("serving {file} on {address}");
    // When the pod stops, accept fails.
    for connection in listener.incoming().map_while(Result::ok) {
        let (text, severity) = match site.answer(connection) {
            Ok(served) => (format!("served {served}"), INFO),
            Err(error) => (format!("not served: {error}"), ERROR),
        };
        // A log that is full is no reason to let a client wait.
        let _ = site.log.try_send(text.as_bytes(), severity);
    }
    Ok(())
}

impl Site {
    /// Answers one request; how many that makes.
    fn answer(&self, mut connection: TcpStream) -> io::Result<u64> {
        connection.set_read_timeout(Some(PATIENCE))?;
        let mut lines = BufReader::new(&connection).lines();
        while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        let page = {
            let _held = self.page.acquire_timeout(PATIENCE)?;
            fs::read(&self.file)
        };
        let (status, body) = match page {
            Ok(page) => ("200 OK", page),
            Err(_) => ("503 Service Unavailable", b"not written yet\n".to_vec()),
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        connection.write_all(&[head.as_bytes(), &body].concat())?;
        Ok(self.counters.u64_at(0).fetch_add(1)? + 1)
    }
}
