//! What share of a core a container with a CPU limit gets, whatever runs beside it in its pod.
//!
//! All containers of a pod run on one thread. Its CPU time, as the kernel counts it, is divided among containers
//! that do the same work by how much of it each has done, so that what else the machine does is no part of the
//! measurement. A real pod, run by the real binary.
//!
//! A limit is no promise: where containers want more than the one thread has, each gets an equal turn, and a large
//! limit is not reached.
//!
//! ```console
//! # cargo bench --bench cpu_share -- [--seconds N]
//! ```

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use support::Running;

/// A container's name, its limit in thousandths of a core, and what the guest `probe` does in it.
type Worker = (&'static str, Option<u32>, &'static str);

const SCENES: [(&str, &[Worker]); 4] = [
    ("100m alone", &[("small", Some(100), "[work]")]),
    ("100m beside one without a limit", &[("small", Some(100), "[work]"), ("greedy", None, "[work]")]),
    (
        "100m, 250m and 500m beside one without a limit",
        &[
            ("small", Some(100), "[work]"),
            ("middle", Some(250), "[work]"),
            ("large", Some(500), "[work]"),
            ("greedy", None, "[work]"),
        ],
    ),
    ("100m alone, calling the host all the time", &[("caller", Some(100), "[work, calls]")]),
];

fn main() {
    let mut seconds = 4;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--seconds" {
            let number = arguments.next().and_then(|text| text.parse().ok());
            seconds = number.expect("--seconds takes a number");
        }
    }
    println!("share of a core over {seconds} s, measured / limit");
    for (name, workers) in SCENES {
        println!("{name}");
        for ((container, limit, _), share) in
            workers.iter().zip(measure(workers, Duration::from_secs(seconds)))
        {
            let ratio =
                limit.map_or("     ".to_owned(), |limit| format!("{:.3}", share * 1000.0 / f64::from(limit)));
            let limit = limit.map_or("none".to_owned(), |limit| format!("{limit}m"));
            println!("  {container:<8} limit {limit:>5}  measured {:>6.1}m  ratio {ratio}", share * 1000.0);
        }
    }
}

/// The share of a core that each gets.
fn measure(workers: &[Worker], time: Duration) -> Vec<f64> {
    let containers: String = workers
        .iter()
        .map(|(name, limit, args)| {
            let limits = limit.map_or(String::new(), |millis| format!("limits: {{cpu: {millis}m}}"));
            format!("  - {{name: {name}, image: {{probe}}, args: {args}, resources: {{{limits}}}}}\n")
        })
        .collect();
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: cpu-share}}\n\
         spec:\n  terminationGracePeriodSeconds: 0\n  containers:\n{containers}"
    );
    let mut pod = Running::start(&text, &["--network", "none"]);
    for (name, ..) in workers {
        pod.wait_for(&format!("[{name}] worked"));
    }
    let (begun, before) = (Instant::now(), pod.thread_cpu_time());
    std::thread::sleep(time);
    let thread = (pod.thread_cpu_time() - before).as_secs_f64() / begun.elapsed().as_secs_f64();
    let rates: Vec<f64> = workers.iter().map(|(name, ..)| pod.work_rates([name])[0]).collect();
    pod.signal(Signal::SIGTERM);
    pod.wait();
    let all: f64 = rates.iter().sum();
    rates.iter().map(|rate| thread * rate / all).collect()
}
