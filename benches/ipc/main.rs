//! `peapod:ipc` against what native processes have, and against the memory plane: one run, one machine.
//!
//! ```text
//! cargo bench --bench ipc [-- --rounds N]
//! ```
//!
//! | what | measured | baseline |
//! |---|---|---|
//! | message of 64 B and back | two containers, channels | two native processes, a Unix socket |
//! | message of 64 B and back | two containers, message queues | two native processes, message queues |
//! | fetch-add, host side | [`peapod::ipc`] alone | 200 ns |
//! | bulk, messages of 64 KiB | two containers, a channel | the same two, TCP on the memory plane |
//! | bulk, `stream<u8>` | two containers of WASI 0.3, a channel | the same two, TCP on the memory plane |
//!
//! The rounds alternate, so that a busy machine slows all down alike; medians are compared. Two containers run on one
//! event loop, as in a pod; two native processes wherever the kernel puts them, and on one CPU.

mod native;
mod pod;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sched::{CloneFlags, unshare};
use peapod::ipc::{Access, Ipc, Name, Open};
use pod::{Guest, Programs};

/// Round trips of a round.
const ROUND_TRIPS: &str = "20000";
/// Mebibytes of a round.
const MEBIBYTES: &str = "512";
/// Operations of a round.
const OPERATIONS: u32 = 1_000_000;

fn main() -> anyhow::Result<()> {
    if native::is_peer()? {
        return Ok(());
    }
    let rounds = rounds()?;
    // Queues of nobody else.
    unshare(CloneFlags::CLONE_NEWIPC).context("an IPC namespace: run this benchmark as root")?;
    // For tasks and threads.
    let programs: &'static Programs = Box::leak(Box::new(Programs::build()?));
    let pair = |guest, server: &[&str], client: &[&str]| pod::run(programs, guest, server, client);

    println!("message of 64 B and back");
    let [channel, queue, socket, socket_pinned, native_queue, native_pinned] = medians(
        rounds,
        [
            &|| pair(Guest::Ipc, &["channel-echo"], &["channel-round-trip", ROUND_TRIPS]),
            &|| pair(Guest::Ipc, &["queue-echo"], &["queue-round-trip", ROUND_TRIPS]),
            &|| native::socket(),
            &|| native::pinned(native::socket),
            &|| native::queue(),
            &|| native::pinned(native::queue),
        ],
    )?;
    show("channel", channel);
    show("Unix socket, two processes", socket);
    show("Unix socket, on one CPU", socket_pinned);
    show("message queue", queue);
    show("message queue, two processes", native_queue);
    show("message queue, on one CPU", native_pinned);
    compare("channel", channel, "Unix socket", socket, "at most 0.33");
    compare("channel", channel, "Unix socket, on one CPU", socket_pinned, "-");
    compare("message queue", queue, "two processes", native_queue, "at most 1.5");
    compare("message queue", queue, "two processes, on one CPU", native_pinned, "-");

    println!("\nfetch-add");
    let [host, guest] = medians(
        rounds,
        [&|| fetch_add(), &|| pod::run_alone(programs, Guest::Ipc, &["fetch-add", "1000000"])],
    )?;
    println!("  host side                    {:>8} ns (aim: at most 200 ns)", host.as_nanos());
    println!("  as the guest sees it         {:>8} ns", guest.as_nanos());

    println!("\nbulk, a mebibyte");
    let [channel, tcp, stream, tcp_stream] = medians(
        rounds,
        [
            &|| pair(Guest::Ipc, &["channel-sink"], &["channel-bulk", MEBIBYTES]),
            &|| pod::run_tcp(programs, Guest::Netbench, MEBIBYTES),
            &|| pair(Guest::IpcP3, &["receive", "/bulk"], &["send", "/bulk", MEBIBYTES]),
            &|| pod::run_tcp(programs, Guest::NetbenchP3, MEBIBYTES),
        ],
    )?;
    show("channel, 64 KiB messages", channel);
    show("TCP in memory", tcp);
    show("channel, stream<u8>", stream);
    show("TCP in memory, stream<u8>", tcp_stream);
    println!("  channel moves {:.2} × TCP (aim: at least 0.7)", tcp.as_secs_f64() / channel.as_secs_f64());
    let ratio = tcp_stream.as_secs_f64() / stream.as_secs_f64();
    println!("  stream<u8> moves {ratio:.2} × TCP (aim: at least 0.7)");
    Ok(())
}

fn show(what: &str, took: Duration) {
    println!("  {what:28} {:>8.2} µs", took.as_nanos() as f64 / 1000.0);
}

fn compare(what: &str, took: Duration, baseline: &str, of: Duration, aim: &str) {
    println!("  {what} takes {:.2} of {baseline} (aim: {aim})", took.as_secs_f64() / of.as_secs_f64());
}

/// The medians of so many rounds of each.
fn medians<const N: usize>(
    rounds: usize,
    measure: [&dyn Fn() -> anyhow::Result<Duration>; N],
) -> anyhow::Result<[Duration; N]> {
    let mut took = [const { Vec::new() }; N];
    for _ in 0..rounds {
        for (took, measure) in took.iter_mut().zip(measure) {
            took.push(measure()?);
        }
    }
    Ok(took.map(|mut took| {
        took.sort_unstable();
        took[took.len() / 2]
    }))
}

/// What the host does for one fetch-add.
fn fetch_add() -> anyhow::Result<Duration> {
    let directory = tempfile::tempdir_in("/dev/shm")?;
    let ipc: Arc<Ipc> = Ipc::new(Default::default(), directory.path().into());
    let name = Name::new("/counter")?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let handle = ipc.attach("bench");
    let segment = runtime.block_on(handle.open_segment(&name, Access::Both, Open::Create, Some(4096)))?;
    let start = Instant::now();
    for _ in 0..OPERATIONS {
        segment.fetch_add_u64(std::hint::black_box(0), 1)?;
    }
    Ok(start.elapsed() / OPERATIONS)
}

fn rounds() -> anyhow::Result<usize> {
    let mut arguments = std::env::args().skip(1);
    let mut rounds = 7;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--rounds" => {
                let number = arguments.next().and_then(|text| text.parse().ok());
                rounds = number.filter(|rounds| *rounds > 0).context("--rounds takes a number")?;
            }
            // cargo's own.
            "--bench" => {}
            _ => anyhow::bail!("unknown argument {argument:?}; there is --rounds N"),
        }
    }
    Ok(rounds)
}
