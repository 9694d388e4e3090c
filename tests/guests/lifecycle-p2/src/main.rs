//! Is asked to end and looks at it through `peapod:pod/lifecycle`.
//!
//! `lifecycle-p2 finish`: works until it is asked to end, says why and how long it has, finishes its work.
//! `lifecycle-p2 watch`: is asked to end and stays; says so whenever the deadline moves.

use std::process::ExitCode;
use std::time::Duration;
use std::{env, thread};

use wasip2::clocks::monotonic_clock;
use wasip2::io::poll::poll;

wit_bindgen::generate!({
    path: "../../../wit/peapod-pod",
    world: "peapod:pod/imports",
    with: { "wasi:io/poll@0.2.12": wasip2::io::poll },
});

use peapod::pod::lifecycle;

/// Between two units of work.
const UNIT: Duration = Duration::from_millis(5);

fn main() -> ExitCode {
    match env::args().nth(1).as_deref() {
        Some("finish") => finish(),
        Some("watch") => watch(),
        other => {
            eprintln!("usage: lifecycle-p2 finish|watch, not {other:?}");
            ExitCode::FAILURE
        }
    }
}

/// Works in units; between two of them waits for the next or the end, whatever comes first.
fn finish() -> ExitCode {
    let stopping = lifecycle::stopping();
    assert!(lifecycle::stop().is_none(), "nobody has asked yet");
    println!("working");
    let mut units = 0;
    loop {
        let next = monotonic_clock::subscribe_duration(UNIT.as_nanos() as u64);
        units += 1;
        if poll(&[&stopping, &next]).contains(&0) {
            break;
        }
    }
    assert!(stopping.ready(), "it stays ready");
    let request = lifecycle::stop().expect("it was asked to end");
    let left = request.deadline.saturating_sub(monotonic_clock::now());
    println!("asked: {:?}, {} s left", request.reason, Duration::from_nanos(left).as_secs_f64().ceil());
    thread::sleep(UNIT);
    println!("finished: {}", units > 0);
    ExitCode::SUCCESS
}

fn watch() -> ExitCode {
    println!("working");
    lifecycle::stopping().block();
    let mut last = u64::MAX;
    loop {
        let request = lifecycle::stop().expect("it does not go away");
        assert!(request.deadline <= last, "{} grew to {}", last, request.deadline);
        if request.deadline < last {
            let left = request.deadline.saturating_sub(monotonic_clock::now());
            println!("left: {} s", Duration::from_nanos(left).as_secs_f64().ceil());
            last = request.deadline;
        }
        thread::sleep(UNIT);
    }
}
