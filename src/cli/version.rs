//! `peapod version`.

use std::io::Write;
use std::process::ExitCode;

use super::Failure;

/// Print the versions of peapod, of wasmtime and of the interfaces it offers.
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_: &Args) -> Result<ExitCode, Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "peapod      {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "wasmtime    {}", wasmtime_version())?;
    writeln!(out, "kubernetes  v1.37 (Pod, ConfigMap, Secret, PersistentVolumeClaim)")?;
    writeln!(out, "wasi        0.2 and 0.3 (wasi:cli/run); wasm32-wasip1 modules are wrapped")?;
    Ok(ExitCode::SUCCESS)
}

/// The wasmtime that this binary was built with: the one that the lock file pins.
fn wasmtime_version() -> &'static str {
    const LOCK: &str = include_str!("../../Cargo.lock");
    let package = LOCK.split("[[package]]").find(|package| package.contains("name = \"wasmtime\"\n"));
    let version = package.and_then(|package| package.split("version = \"").nth(1));
    version.and_then(|version| version.split('"').next()).unwrap_or("48")
}
