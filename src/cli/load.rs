//! From the FILE argument to a validated pod.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::{EXIT_BAD_MANIFEST, Failure};
use crate::manifest::MAX_MANIFEST_BYTES;
use crate::spec::NetworkMode;
use crate::spec::convert::{self, Converted};

/// What the command line says about the pod in place of its manifest.
#[derive(Default)]
pub struct Overrides {
    pub name: Option<String>,
    pub network: Option<NetworkMode>,
}

/// Reads and validates a manifest.
pub fn manifest(file: &Path, overrides: Overrides) -> Result<Converted, Failure> {
    let source = if file == Path::new("-") { "standard input".into() } else { file.display().to_string() };
    let bad = |error: anyhow::Error| Failure::new(EXIT_BAD_MANIFEST, error);
    let text = read(file).with_context(|| format!("cannot read {source}")).map_err(bad)?;
    let directory = directory_of(file)?;
    let options =
        convert::Options { manifest_dir: directory, name: overrides.name, network: overrides.network };
    convert::load(&text, &options).map_err(|invalid| {
        let warnings: String =
            invalid.warnings.iter().map(|warning| format!("\nwarning: {warning}")).collect();
        bad(anyhow::anyhow!("{source} is not a pod that peapod can run\n{invalid}{warnings}"))
    })
}

/// The text of a manifest, as far as a manifest may be long; `-` is standard input.
///
/// # Errors
/// The file's.
pub fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    let reader: Box<dyn Read> = if file == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(file)?)
    };
    let mut text = Vec::new();
    // One byte over the limit is enough for the parser to refuse it.
    reader.take(MAX_MANIFEST_BYTES as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// The directory that relative image paths start from: the manifest's, or the current one.
pub fn directory_of(file: &Path) -> anyhow::Result<PathBuf> {
    let current = std::env::current_dir().context("cannot tell the current directory")?;
    if file == Path::new("-") {
        return Ok(current);
    }
    Ok(current.join(file).parent().map_or(current, Path::to_path_buf))
}
