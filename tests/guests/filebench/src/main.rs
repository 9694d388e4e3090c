//! Measures files from inside: `filebench COMMAND DIRECTORY COUNT`.
//!
//! Prints `COMMAND NANOSECONDS`: the time of one. What is read was written before the clock starts.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// The large buffer, bytes.
const LARGE: usize = 1 << 20;
/// The small one, bytes.
const SMALL: usize = 4 << 10;

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, command, directory, count] = &args[..] else { panic!("filebench COMMAND DIRECTORY COUNT") };
    let (directory, count) = (Path::new(directory), count.parse().expect("a number"));
    let took = match command.as_str() {
        "write-1m" => write(&directory.join("written"), LARGE, count)?,
        "read-1m" => read(&directory.join("read"), LARGE, count)?,
        "write-4k" => write(&directory.join("written"), SMALL, count)?,
        "read-4k" => read(&directory.join("read"), SMALL, count)?,
        "open-read" => open_read(&directory.join("small"), count)?,
        "stat" => stat(&directory.join("small"), count)?,
        other => panic!("unknown command {other}"),
    };
    println!("{command} {}", took.as_nanos() / u128::from(count));
    Ok(())
}

fn write(path: &Path, size: usize, count: u32) -> io::Result<Duration> {
    let buffer = vec![7; size];
    let mut file = File::create(path)?;
    let begun = Instant::now();
    for _ in 0..count {
        file.write_all(&buffer)?;
    }
    Ok(begun.elapsed())
}

fn read(path: &Path, size: usize, count: u32) -> io::Result<Duration> {
    write(path, size, count)?;
    let mut buffer = vec![0; size];
    let mut file = File::open(path)?;
    let begun = Instant::now();
    for _ in 0..count {
        file.read_exact(&mut buffer)?;
    }
    Ok(begun.elapsed())
}

fn open_read(path: &Path, count: u32) -> io::Result<Duration> {
    fs::write(path, [7; 100])?;
    let mut buffer = [0; 100];
    let begun = Instant::now();
    for _ in 0..count {
        File::open(path)?.read_exact(&mut buffer)?;
    }
    Ok(begun.elapsed())
}

fn stat(path: &Path, count: u32) -> io::Result<Duration> {
    fs::write(path, [7; 100])?;
    let begun = Instant::now();
    for _ in 0..count {
        fs::metadata(path)?;
    }
    Ok(begun.elapsed())
}
