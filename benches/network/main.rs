//! The pod's network against raw wasmtime-wasi over the kernel's loopback: the same components, one run, one machine.
//!
//! ```text
//! cargo bench --bench network [-- --rounds N] [--only WORDS] [--contender NAME]
//! ```
//!
//! Two containers talk: one serves, one measures (`tests/guests/netbench` for WASI 0.2, `netbench-p3` for 0.3).
//!
//! | contender | containers | network |
//! |---|---|---|
//! | memory | one event loop, as in a pod | peapod's memory plane |
//! | kernel | one event loop, as in a pod | peapod's kernel plane |
//! | wasmtime | one event loop | wasmtime-wasi's sockets on the kernel's loopback |
//! | wasmtime, pinned | a thread each, both on one CPU | the same |
//! | wasmtime, threads | a thread each, as two processes of the wasmtime CLI | the same |
//!
//! The rounds alternate, so that a busy machine slows all down alike; medians are compared. The floor is
//! measured too: the copies and calls that the canonical ABI makes.

mod contenders;
mod floor;
mod idle;
mod namespace;
mod programs;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use contenders::Contender;
use programs::{Programs, Version};

/// What is measured: the commands of server and client, and the promise.
struct Scenario {
    name: &'static str,
    server: &'static [&'static str],
    client: &'static [&'static str],
    /// What the client's number means.
    unit: Unit,
    /// (baseline, at most this part of it): what `README.md` promises for the memory plane.
    aims: &'static [(Contender, f64)],
}

#[derive(Clone, Copy)]
enum Unit {
    /// The time of one.
    Each,
    /// The time of one mebibyte, shown as bytes per second.
    PerMebibyte,
}

impl Unit {
    fn show(self, took: Duration) -> String {
        let nanos = took.as_nanos() as f64;
        match self {
            Self::Each => format!("{:.2} µs", nanos / 1000.0),
            Self::PerMebibyte => format!("{:.2} GB/s", f64::from(1 << 20) / nanos),
        }
    }
}

const SCENARIOS: [Scenario; 3] = [
    Scenario {
        name: "round trip, 1 byte",
        server: &["echo", "PORT"],
        client: &["round-trip", "ADDRESS", "20000"],
        unit: Unit::Each,
        aims: &[(Contender::WasmtimeThreads, 1.0 / 8.0), (Contender::WasmtimePinned, 1.0 / 3.0)],
    },
    Scenario {
        name: "connect and accept",
        server: &["accept", "PORT", "5000"],
        client: &["connect", "ADDRESS", "5000"],
        unit: Unit::Each,
        aims: &[(Contender::WasmtimeThreads, 1.0 / 4.0), (Contender::WasmtimePinned, 1.0 / 4.0)],
    },
    Scenario {
        name: "bulk, writes of 64 KiB",
        server: &["sink", "PORT"],
        client: &["bulk", "ADDRESS", "512"],
        unit: Unit::PerMebibyte,
        aims: &[(Contender::WasmtimeThreads, 1.0 / 4.0), (Contender::WasmtimePinned, 1.0 / 4.0)],
    },
];

fn main() -> anyhow::Result<()> {
    let options = Options::from_arguments()?;
    namespace::enter()?;
    // For tasks and threads.
    let programs: &'static Programs = Box::leak(Box::new(Programs::build()?));
    if options.wants(Version::P2, "floor") {
        println!("the floor");
        floor::measure(programs)?;
    }
    for version in [Version::P2, Version::P3] {
        for scenario in SCENARIOS.iter().filter(|scenario| options.wants(version, scenario.name)) {
            println!("\n{} ({version})", scenario.name);
            measure(scenario, version, programs, &options)?;
        }
    }
    if options.wants(Version::P2, "idle") {
        println!("\n10,000 connections in one pod (WASI 0.2)");
        idle::measure(programs)?;
    }
    Ok(())
}

fn measure(
    scenario: &Scenario,
    version: Version,
    programs: &'static Programs,
    options: &Options,
) -> anyhow::Result<()> {
    let mut took: BTreeMap<Contender, Vec<Duration>> = BTreeMap::new();
    for _ in 0..options.rounds {
        for contender in Contender::ALL.into_iter().filter(|contender| options.meets(*contender)) {
            let port = free_port()?;
            let fill = |words: &[&str]| -> Vec<String> {
                let address = format!("127.0.0.1:{port}");
                let fill = |word: &&str| word.replace("PORT", &port.to_string()).replace("ADDRESS", &address);
                words.iter().map(fill).collect()
            };
            let output = contender.run(programs, version, fill(scenario.server), fill(scenario.client));
            let output = output.with_context(|| contender.name())?;
            took.entry(contender).or_default().push(number(&output, scenario.client[0])?);
        }
    }
    let median = |contender: Contender| {
        let mut took = took.get(&contender)?.clone();
        took.sort_unstable();
        Some(took[took.len() / 2])
    };
    let ratio =
        |one: Contender, other: Contender| Some(median(one)?.as_secs_f64() / median(other)?.as_secs_f64());
    for contender in took.keys() {
        let shown = median(*contender).map(|median| scenario.unit.show(median)).unwrap_or_default();
        println!("  {:18} {shown:>12}", contender.name());
    }
    for (baseline, aim) in scenario.aims {
        if let Some(ratio) = ratio(Contender::Memory, *baseline) {
            println!("  memory takes 1/{:.1} of {} (aim: 1/{:.0})", 1.0 / ratio, baseline.name(), 1.0 / aim);
        }
    }
    if let Some(ratio) = ratio(Contender::Kernel, Contender::Wasmtime) {
        println!("  kernel takes {ratio:.2} of {} (aim: 1.05)", Contender::Wasmtime.name());
    }
    Ok(())
}

/// The number that the client printed behind the word.
fn number(output: &str, word: &str) -> anyhow::Result<Duration> {
    let value = output.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
    let nanos = value.and_then(|value| value.trim().parse().ok());
    Ok(Duration::from_nanos(
        nanos.with_context(|| format!("the client did not say {word:?}, but: {output}"))?,
    ))
}

/// A port of the loopback that nobody listens on.
fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

struct Options {
    rounds: usize,
    only: Option<String>,
    contender: Option<String>,
}

impl Options {
    fn from_arguments() -> anyhow::Result<Self> {
        let mut options = Self { rounds: 7, only: None, contender: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--rounds" => {
                    let number = arguments.next().and_then(|text| text.parse().ok());
                    options.rounds =
                        number.filter(|rounds| *rounds > 0).context("--rounds takes a number")?;
                }
                "--only" => {
                    options.only = Some(arguments.next().context("--only takes a word, such as round")?)
                }
                "--contender" => {
                    options.contender =
                        Some(arguments.next().context("--contender takes a name, such as memory")?);
                }
                // What cargo bench adds.
                "--bench" => {}
                other => bail!("unknown argument {other}"),
            }
        }
        Ok(options)
    }

    fn meets(&self, contender: Contender) -> bool {
        self.contender.as_ref().is_none_or(|name| contender.name() == name)
    }

    fn wants(&self, version: Version, name: &str) -> bool {
        self.only.as_ref().is_none_or(|word| format!("{name} {version}").contains(word.as_str()))
    }
}
