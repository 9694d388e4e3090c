//! An HTTP server for probes and hooks.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use crate::health::Health;
use crate::tcp::listen;
use crate::{Outcome, described};

/// `http-serve PORT|ADDRESS [HEALTH]`: one request after the other, each printed as `asked TARGET by USER-AGENT`,
/// until its listener ends.
///
/// | path | answer |
/// |---|---|
/// | `/healthz` | 200 when it is well, 500 when not: see [`Health`] |
/// | `/status/CODE` | that code |
/// | `/redirect?LOCATION` | 302 to there |
/// | `/slow/MS` | 200, that much later |
/// | others | 200 |
pub fn serve(args: &[String]) -> Outcome {
    let health = Health::from(args)?;
    let listener = listen(args)?;
    while let Ok((stream, _)) = listener.accept() {
        if let Err(error) = answer(stream, &health) {
            println!("lost a client: {}", described(&error));
        }
    }
    println!("no more requests");
    Ok(ExitCode::SUCCESS)
}

fn answer(stream: TcpStream, health: &Health) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut first, mut agent) = (String::new(), String::new());
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("user-agent") => agent = value.to_owned(),
            Some(_) => {}
            None => break,
        }
    }
    let target = first.split(' ').nth(1).unwrap_or_default();
    println!("asked {target} by {agent}");
    let (code, location) = judge(target, health);
    let location = location.map(|location| format!("Location: {location}\r\n")).unwrap_or_default();
    let body = format!("{code}\n");
    write!(
        reader.get_mut(),
        "HTTP/1.1 {code} Status\r\n{location}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// The status, and where to go.
fn judge<'a>(target: &'a str, health: &Health) -> (u16, Option<&'a str>) {
    if let Some(location) = target.strip_prefix("/redirect?") {
        return (302, Some(location));
    }
    if let Some(code) = target.strip_prefix("/status/") {
        return (code.parse().unwrap_or(404), None);
    }
    if let Some(millis) = target.strip_prefix("/slow/") {
        thread::sleep(Duration::from_millis(millis.parse().unwrap_or(0)));
    }
    (if target == "/healthz" && !health.is_well() { 500 } else { 200 }, None)
}
