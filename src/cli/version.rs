//! `peapod version`.

use std::io::Write;
use std::process::ExitCode;

use super::Failure;
use crate::engine;

/// Print the versions of peapod, of wasmtime and of the interfaces it offers.
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_: &Args) -> Result<ExitCode, Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "peapod      {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "wasmtime    {}", engine::WASMTIME_VERSION)?;
    writeln!(out, "kubernetes  v1.37 (Pod, ConfigMap, Secret, PersistentVolumeClaim)")?;
    writeln!(out, "wasi        0.2 and 0.3 (wasi:cli/run); wasm32-wasip1 modules are wrapped")?;
    Ok(ExitCode::SUCCESS)
}
