//! Timers.

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use crate::{Outcome, number};

/// `sleep MS`: sleeps, then says so.
pub fn sleep(args: &[String]) -> Outcome {
    let pause = Duration::from_millis(number(args, 0, "MS")?);
    println!("sleeping");
    thread::sleep(pause);
    println!("awake");
    Ok(ExitCode::SUCCESS)
}

/// `tick MS COUNT`: sleeps again and again, and prints how long each sleep really took, milliseconds.
pub fn tick(args: &[String]) -> Outcome {
    let pause = Duration::from_millis(number(args, 0, "MS")?);
    for index in 1..=number::<u64>(args, 1, "COUNT")? {
        let started = Instant::now();
        thread::sleep(pause);
        println!("tick {index} after {} ms", started.elapsed().as_millis());
    }
    Ok(ExitCode::SUCCESS)
}
