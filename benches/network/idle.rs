//! Ten thousand connections in one pod that nobody uses: what each costs, and whether the last are as quick as the first.

use std::io::{BufRead, BufReader};

use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::contenders::Pod;
use super::programs::{Programs, Version};

const CONNECTIONS: usize = 10_000;

pub fn measure(programs: &'static Programs) -> anyhow::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let before = resident_bytes()?;
    for connections in [100, CONNECTIONS] {
        let port = super::free_port()?;
        let pod = Pod::new(true)?;
        let mut lines = BufReader::new(pod.reader()?).lines();
        let runtime = super::contenders::runtime()?;
        let result = runtime.block_on(async {
            let hold = ["hold".into(), port.to_string(), connections.to_string()].into();
            let open = ["open".into(), format!("127.0.0.1:{port}"), connections.to_string()].into();
            let server = pod.container(programs, Version::P2, "server", hold);
            let client = pod.container(programs, Version::P2, "client", open);
            let held = tokio::task::spawn_blocking(move || {
                let mut said = Vec::new();
                for line in lines.by_ref() {
                    let line = line?;
                    let line = line.trim_start_matches("[client] ").to_owned();
                    let done = line.starts_with("held");
                    said.push(line);
                    if done {
                        break;
                    }
                }
                std::io::Result::Ok(said)
            });
            tokio::select! {
                ended = server => ended.context("the server ended")?,
                ended = client => ended.context("the client ended")?,
                said = held => {
                    let said = said??;
                    for line in said.iter().filter(|line| line.starts_with("open-")) {
                        let (what, nanos) = line.split_once(' ').context("a number")?;
                        println!("  {connections:6} connections, {what:10} tenth: {:.2} µs each", nanos.parse::<f64>()? / 1000.0);
                    }
                    let used = resident_bytes()?.saturating_sub(before);
                    println!(
                        "  {connections:6} connections: {:.1} KiB of memory each, both ends, their guests included",
                        used as f64 / connections as f64 / 1024.0
                    );
                }
            }
            anyhow::Ok(())
        });
        // The reader of a failed container's output would be waited for.
        runtime.shutdown_background();
        result?;
    }
    Ok(())
}

/// Of this process (proc_pid_status(5)).
fn resident_bytes() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024)
}
