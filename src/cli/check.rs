//! `peapod check FILE`: validate, run nothing.
//!
//! ```text
//! load ─► claims: there, or could be bound ─► images: there, compiled (into the cache, as for a run), linked
//!      ─► what was found
//! ```

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use super::display::Display;
use super::images::Images;
use super::{Failure, claims, counted, load};
use crate::engine::Engines;
use crate::paths::Paths;

/// Validate a manifest and its images, and report every mistake at once; run nothing.
///
/// Exit code 0: peapod would run it; 2: the manifest is wrong; 126: an image cannot run; 127: an image is
/// missing. Directories of source are not built. Warnings name what peapod accepts but ignores.
#[derive(clap::Args)]
pub struct Args {
    /// A Pod manifest in YAML or JSON; - reads standard input.
    file: PathBuf,
}

pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let converted = load::manifest(&args.file, load::Overrides::default())?;
    let mut err = std::io::stderr();
    for warning in &converted.warnings {
        writeln!(err, "warning: {warning}")?;
    }
    let pod = &converted.pod;
    let paths = Paths::from_env();
    claims::warn(&paths, pod)?;
    let display = Display::new(0);
    let mut images = Images::new(&Engines::default(), &paths, false, &display)?;
    for container in images.check(pod)? {
        writeln!(
            err,
            "note: container {}: {} is a directory of source, built by run --build",
            container.name, container.image_name
        )?;
    }
    images.volumes(pod)?;
    writeln!(
        std::io::stdout(),
        "{}: pod {}/{} is valid: {}, {}, {}",
        args.file.display(),
        pod.namespace,
        pod.name,
        counted(pod.containers.len(), "container"),
        counted(pod.init_containers.len(), "init container"),
        counted(pod.volumes.len(), "volume")
    )?;
    Ok(ExitCode::SUCCESS)
}
