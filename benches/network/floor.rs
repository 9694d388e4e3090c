//! What no host of components gets below: the copies that the canonical ABI makes of bytes that one guest hands to
//! another, and calls from a guest to its host.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::contenders::Contender;
use super::programs::{Programs, Version};

/// What a bulk transfer moves at a time, bytes.
const CHUNK: usize = 64 * 1024;
/// Long enough that the clock does not matter.
const CHUNKS: u32 = 20_000;
/// Host calls of a round trip of two guests on wasi-libc: each writes by check-write and write, and reads by a read
/// that finds nothing, subscribe, block, the pollable's drop and the read that finds a byte.
const CALLS: u32 = 14;

pub fn measure(programs: &'static Programs) -> anyhow::Result<()> {
    let copies = two_copies();
    println!("  two copies of 64 KiB, out of one guest and into another: {:.2} GB/s", CHUNK as f64 / copies);
    let server = ["calls".to_owned(), "1".to_owned()].into();
    let client = ["calls".to_owned(), "1000000".to_owned()].into();
    let output = Contender::Memory.run(programs, Version::P2, server, client)?;
    let call = super::number(&output, "call")?;
    let calls = call * CALLS;
    println!("  a host call of WASI 0.2: {call:?}; the {CALLS} of a round trip: {calls:?}");
    Ok(())
}

/// Nanoseconds.
fn two_copies() -> f64 {
    let (from, mut to) = (vec![7u8; CHUNK], vec![0u8; CHUNK]);
    let start = Instant::now();
    for _ in 0..CHUNKS {
        let between = black_box(&from).to_vec();
        to.copy_from_slice(black_box(&between));
        black_box(&mut to);
    }
    let took: Duration = start.elapsed() / CHUNKS;
    took.as_nanos() as f64
}
