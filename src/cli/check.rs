//! `peapod check FILE`: validate, run nothing.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use super::Failure;
use super::load;

/// Validate a manifest and report every mistake at once; run nothing.
///
/// Exit code 0: peapod would run it; 2: it would not. Warnings name what peapod accepts but ignores.
#[derive(clap::Args)]
pub struct Args {
    /// A Pod manifest in YAML or JSON; - reads standard input.
    file: PathBuf,
}

pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let converted = load::manifest(&args.file, load::Overrides::default())?;
    let mut err = std::io::stderr().lock();
    for warning in &converted.warnings {
        writeln!(err, "warning: {warning}")?;
    }
    let pod = &converted.pod;
    writeln!(
        std::io::stdout(),
        "{}: pod {}/{} is valid: {} container(s), {} init container(s), {} volume(s)",
        args.file.display(),
        pod.namespace,
        pod.name,
        pod.containers.len(),
        pod.init_containers.len(),
        pod.volumes.len()
    )?;
    Ok(ExitCode::SUCCESS)
}
