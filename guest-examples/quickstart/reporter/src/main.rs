//! Sidecar: visits the web server through the pod's localhost and writes what it saw as the next page.
//!
//! `reporter [SERVER] [PAGE]`, for example `reporter 127.0.0.1:8080 /site/index.html`.
//!
//! ```text
//! every 2 s: GET / ─► round trip ─► histogram ─► page.tmp ─► rename over the page
//! ```
//!
//! When the server is gone the reporter has nothing to report and ends with code 0.

mod histogram;
mod page;
mod visit;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use histogram::Histogram;
use page::Page;
use visit::{Visit, visit};

/// Between two visits.
const BEAT: Duration = Duration::from_secs(2);
/// How long the server may take to come up; the pod starts both at once.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two attempts while it comes up.
const RETRY: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let server = args.next().unwrap_or("127.0.0.1:8080".into());
    let path = PathBuf::from(args.next().unwrap_or("/site/index.html".into()));
    match report(&server, &path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reporter: {error}");
            ExitCode::FAILURE
        }
    }
}

fn report(server: &str, path: &Path) -> io::Result<()> {
    let mut seen = first_visit(server)?;
    let mut histogram = Histogram::default();
    for beat in 1.. {
        histogram.record(seen.round_trip);
        let page = Page { beat, histogram: &histogram, visit: &seen };
        replace(path, &page.to_string())?;
        println!(
            "#{beat}: GET / took {:.1} µs in memory (p50 {:.1}, max {:.1}), {} requests served",
            micros(seen.round_trip),
            micros(histogram.percentile(50)),
            micros(histogram.percentile(100)),
            seen.requests,
        );
        thread::sleep(BEAT);
        seen = match visit(server) {
            Ok(seen) => seen,
            Err(error) if is_gone(&error) => {
                println!("the server is gone ({error}); nothing left to report");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
    }
    Ok(())
}

/// Visits until the server answers.
fn first_visit(server: &str) -> io::Result<Visit> {
    let started = Instant::now();
    loop {
        match visit(server) {
            Err(error) if is_gone(&error) && started.elapsed() < PATIENCE => thread::sleep(RETRY),
            result => return result,
        }
    }
}

/// Whether nobody listens, or the server ended while it was being visited.
fn is_gone(error: &io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, UnexpectedEof};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionRefused | ConnectionReset | UnexpectedEof
    )
}

/// Replaces a file so that a reader sees the old or the new one, never half of it.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let fresh = path.with_extension("tmp");
    fs::write(&fresh, text)?;
    fs::rename(&fresh, path)
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
