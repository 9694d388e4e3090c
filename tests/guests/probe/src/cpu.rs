//! Misbehaviour with the processor and the memory.

use std::hint::black_box;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::{About, Failure, Outcome, number_or};

const MIB: usize = 1024 * 1024;
/// What [`alloc`] takes at a time, MiB.
const STEP_MIB: usize = 4;
/// The page size of linear memory's host, bytes: one write each makes a page real.
const PAGE: usize = 4096;

/// `trap [unreachable|panic|oob|stack]`: ends by a trap, below functions whose names a backtrace shows.
pub fn trap(args: &[String]) -> Outcome {
    let how = args.first().map_or("unreachable", String::as_str);
    println!("about to trap: {how}");
    trap_outer(how)
}

#[inline(never)]
fn trap_outer(how: &str) -> Outcome {
    black_box(trap_inner(black_box(how)))
}

#[inline(never)]
fn trap_inner(how: &str) -> Outcome {
    match how {
        "unreachable" => unreachable_instruction(),
        "panic" => panic!("a guest that panics"),
        "oob" => Ok(ExitCode::from(read_out_of_bounds())),
        "stack" => Ok(ExitCode::from(recurse_without_end(1) as u8)),
        _ => Err(Failure(format!("unknown way to trap {how:?}"))),
    }
}

#[cfg(target_family = "wasm")]
fn unreachable_instruction() -> Outcome {
    core::arch::wasm32::unreachable()
}

#[cfg(not(target_family = "wasm"))]
fn unreachable_instruction() -> Outcome {
    std::process::abort()
}

#[inline(never)]
fn read_out_of_bounds() -> u8 {
    let end_of_32_bit_memory = black_box(u32::MAX as usize - 16);
    // SAFETY: deliberately none; the address lies beyond linear memory and the load must trap.
    unsafe { std::ptr::with_exposed_provenance::<u8>(end_of_32_bit_memory).read_volatile() }
}

#[inline(never)]
#[expect(unconditional_recursion, reason = "exhausting the stack is the point")]
fn recurse_without_end(depth: u64) -> u64 {
    let mut frame = [depth; 64];
    black_box(&mut frame);
    recurse_without_end(black_box(depth + 1)) + frame[0]
}

/// `spin`: computes without end and without ever calling the host.
pub fn spin(_: &[String]) -> Outcome {
    println!("spinning");
    let mut count = 0_u64;
    loop {
        count = black_box(count.wrapping_add(1));
    }
}

/// How often [`work`] says how far it is.
const TOLD: Duration = Duration::from_millis(250);
/// Rounds of [`work`] between two looks at the clock: some 100 µs.
const UNIT: u64 = 100_000;

/// `work [calls]`: computes without end and says every 250 ms how much has been done, and when:
/// `worked UNITS at MICROSECONDS`. With `calls`, it calls the host a hundred times as often as it has to.
pub fn work(args: &[String]) -> Outcome {
    let calls = if args.is_empty() { 1 } else { 100 };
    let begun = Instant::now();
    let (mut units, mut told) = (0_u64, begun);
    loop {
        let mut now = begun;
        for _ in 0..calls {
            let mut count = 0_u64;
            while count < UNIT / calls {
                count = black_box(count + 1);
            }
            now = Instant::now();
        }
        units += 1;
        if now - told >= TOLD {
            println!("worked {units} at {}", (now - begun).as_micros());
            told = now;
        }
    }
}

/// `alloc [MIB]`: takes and touches memory, without end or up to a bound, and prints every 4 MiB.
pub fn alloc(args: &[String]) -> Outcome {
    let bound = number_or::<usize>(args, 0, "MIB", usize::MAX)?;
    let mut held: Vec<Vec<u8>> = Vec::new();
    while held.len() * STEP_MIB < bound {
        let mut block = vec![0_u8; STEP_MIB * MIB];
        block.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
        held.push(black_box(block));
        println!("{} MiB", held.len() * STEP_MIB);
        io::stdout().flush().about("stdout")?;
    }
    Ok(ExitCode::SUCCESS)
}
