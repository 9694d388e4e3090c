//! `--build`: from a directory of guest source to a WebAssembly file.
//!
//! ```text
//! Reference ─► a file ───────────────────────────────────────────────► the file
//!          └─► a directory ─► Recipe::of ─► its tool, if anything is older ─► the file it names
//! ```
//!
//! What is fresh and what is not is the tool's to decide: `cargo build` compiles what is missing or
//! older than its source.

mod cargo;

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{Event, ImageError, Progress, Reference};

/// How a directory of source is built. One variant for each kind of source that peapod knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recipe {
    /// A `Cargo.toml`: Rust.
    Cargo,
}

impl Recipe {
    /// Each recipe with the file that tells it.
    const KNOWN: &'static [(&'static str, Recipe)] = &[("Cargo.toml", Recipe::Cargo)];

    fn of(directory: &Path) -> Result<Self, ImageError> {
        let found = Self::KNOWN.iter().find(|(file, _)| directory.join(file).is_file());
        found.map(|(_, recipe)| *recipe).ok_or_else(|| {
            let files: Vec<&str> = Self::KNOWN.iter().map(|(file, _)| *file).collect();
            build_error(
                directory,
                format!(
                    "a directory that peapod cannot build: it has no {}; name the .wasm file",
                    files.join(" or ")
                ),
            )
        })
    }
}

/// What a build has come to.
struct Built {
    /// The WebAssembly file.
    file: PathBuf,
    /// It was there and up to date.
    fresh: bool,
}

/// The WebAssembly file for `reference`: the file itself, or what its directory is built to when
/// `build` says so. Whether the file exists and what it holds is for [`super::Store::load`] to say.
///
/// # Errors
///
/// When it is a directory and `build` is false; when the build fails, with the compiler's words.
pub fn prepare(reference: &Reference, build: bool, progress: Progress<'_>) -> Result<PathBuf, ImageError> {
    let path = reference.path();
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    if !build {
        return Err(ImageError::NeedsBuild(path.to_owned()));
    }
    let recipe = Recipe::of(path)?;
    let start = Instant::now();
    progress(Event::Building { path });
    let Built { file, fresh } = match recipe {
        Recipe::Cargo => cargo::build(path, progress),
    }?;
    progress(Event::Built { path, fresh, duration: start.elapsed() });
    Ok(file)
}

fn build_error(directory: &Path, reason: impl Into<String>) -> ImageError {
    ImageError::Build { path: directory.to_owned(), reason: reason.into() }
}

fn toolchain_error(directory: &Path, reason: impl Into<String>) -> ImageError {
    ImageError::Toolchain { path: directory.to_owned(), reason: reason.into() }
}

#[cfg(test)]
mod tests;
