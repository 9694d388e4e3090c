//! Serves over HTTP what it is configured by, as it is at each request: `show ADDRESS`.
//!
//! ```text
//!  ConfigMap ─┬─ variable GREETING ──── as it was at this container's start ─┐
//!             ├─ file /config/motd ──── as it is now ────────────────────────┤
//!             └─ wasi:config greeting ─ as it is now ────────────────────────┼─► one page of text
//!  Secret ────── file /secret/token ─── as it is now; must come with POST / ─┤
//!  claim ─────── wasi:keyvalue visits ─ one more by each request ────────────┘
//! ```

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use std::{env, fs};

wit_bindgen::generate!({
    path: ["../../../wit/wasi-config", "../../../wit/wasi-keyvalue"],
    inline: "
        package examples:configuration;
        world show {
            import wasi:config/store@0.2.0-rc.1;
            import wasi:keyvalue/store@0.2.0-draft2;
            import wasi:keyvalue/atomics@0.2.0-draft2;
        }
    ",
    world: "examples:configuration/show",
    generate_all,
});

use wasi::config::store as config;
use wasi::keyvalue::{atomics, store};

const MOTD: &str = "/config/motd";
const TOKEN: &str = "/secret/token";
const VISITS: &str = "visits";
/// How long a client may take.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> io::Result<()> {
    let address = env::args().nth(1).ok_or_else(|| io::Error::other("usage: show ADDRESS"))?;
    let listener = TcpListener::bind(&address)?;
    println!("serving on {address}");
    // When the pod stops, accept fails.
    for connection in listener.incoming().map_while(Result::ok) {
        if let Err(error) = answer(connection) {
            eprintln!("not served: {error}");
        }
    }
    Ok(())
}

fn answer(mut connection: TcpStream) -> io::Result<()> {
    connection.set_read_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(&connection).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let mut given = None;
    while let Some(line) = lines.next().transpose()?.filter(|line| !line.is_empty()) {
        given = line.strip_prefix("Authorization: Bearer ").map(str::to_owned).or(given);
    }
    let (status, body) = match request.split(' ').next() {
        Some("GET") => ("200 OK", page()?),
        // Begins to count anew, for who knows the secret.
        Some("POST") if given.is_some() && given == fs::read_to_string(TOKEN).ok() => {
            let bucket = store::open("default").map_err(failed)?;
            bucket.delete(VISITS).map_err(failed)?;
            ("200 OK", "counting from 0\n".to_owned())
        }
        Some("POST") => ("403 Forbidden", "this takes the token\n".to_owned()),
        _ => ("405 Method Not Allowed", String::new()),
    };
    let length = body.len();
    write!(
        connection,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

fn page() -> io::Result<String> {
    let variable = env::var("GREETING").unwrap_or_default();
    let configured = config::get("greeting").map_err(|error| io::Error::other(format!("{error:?}")))?;
    let file = fs::read_to_string(MOTD)?;
    let bucket = store::open("default").map_err(failed)?;
    let visits = atomics::increment(&bucket, VISITS, 1).map_err(failed)?;
    Ok(format!(
        "variable: {variable}\nwasi:config: {}\nfile: {}\nvisits: {visits}\n",
        configured.unwrap_or_default(),
        file.trim_end()
    ))
}

fn failed(error: store::Error) -> io::Error {
    io::Error::other(format!("wasi:keyvalue: {error:?}"))
}
