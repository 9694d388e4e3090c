//! Claims and their volumes on the command line.
//!
//! ```text
//! peapod run ──► hold: bound and used as long as the run takes, or why not
//! peapod check ► warn: what would keep a run from having them
//! ```
//!
//! `peapod get` and `peapod delete` of them are beside those of pods.

use std::io::Write;

use jiff::Timestamp;

use super::display::Display;
use super::{EXIT_BAD_MANIFEST, EXIT_HOST, Failure};
use crate::paths::Paths;
use crate::spec::Pod;
use crate::volume::claims::{self, Held};

/// Binds the claims of a pod that is about to run.
pub fn hold(paths: &Paths, pod: &Pod, display: &Display) -> Result<Held, Failure> {
    if let Err(error) = claims::sweep(paths) {
        display.warning(format!("claims of pods that were killed are not removed: {error}"));
    }
    claims::bind(paths, pod, Timestamp::now()).map_err(|errors| {
        let is_of_manifest = errors.iter().all(claims::ClaimError::is_of_manifest);
        let code = if is_of_manifest { EXIT_BAD_MANIFEST } else { EXIT_HOST };
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        Failure::new(code, anyhow::anyhow!("{}", errors.join("\n")))
    })
}

/// Says on standard error what would keep a run from having its claims.
pub fn warn(paths: &Paths, pod: &Pod) -> Result<(), Failure> {
    for error in claims::check(paths, pod, Timestamp::now())? {
        writeln!(std::io::stderr(), "warning: {error}")?;
    }
    Ok(())
}
