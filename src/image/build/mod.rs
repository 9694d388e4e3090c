//! `--build`: from a directory of guest source to a WebAssembly file.
//!
//! ```text
//! Reference ─► a file ───────────────────────────────────────────────► the file
//!          └─► a directory ─► Recipe::of ─► its tool, if anything is older ─► the file it names
//! ```
//!
//! | directory with | recipe | tool | fresh or not is known by |
//! |---|---|---|---|
//! | `Cargo.toml` | `cargo` | the user's own cargo | cargo |
//! | `app.py` | `python` | componentize-py, fetched | `output`: digests of all that goes in |
//! | `app.js` | `javascript` | node and componentize-qjs, fetched | `output` |
//! | `*.c` | `c` | clang, fetched; Rust's libc and linker | `output` |
//!
//! What is fetched comes from PyPI and npm in exactly one version each, see `tools` and `javascript`.

mod c;
mod cargo;
mod command;
mod javascript;
mod output;
mod python;
mod tools;

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{Event, ImageError, Progress, Reference};

/// How a directory of source is built. One variant for each kind of source that peapod knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recipe {
    /// A `Cargo.toml`: Rust.
    Cargo,
    /// An `app.py`: Python.
    Python,
    /// An `app.js`: JavaScript.
    JavaScript,
    /// Files `*.c`: C.
    C,
}

impl Recipe {
    fn of(directory: &Path) -> Result<Self, ImageError> {
        if directory.join("Cargo.toml").is_file() {
            Ok(Self::Cargo)
        } else if directory.join(python::PROGRAM).is_file() {
            Ok(Self::Python)
        } else if directory.join(javascript::PROGRAM).is_file() {
            Ok(Self::JavaScript)
        } else if c::found_in(directory) {
            Ok(Self::C)
        } else {
            Err(build_error(
                directory,
                format!(
                    "a directory that peapod cannot build: it has no Cargo.toml (Rust), no {} (Python), no {} \
                     (JavaScript) and no *.c (C); name the .wasm file",
                    python::PROGRAM,
                    javascript::PROGRAM
                ),
            ))
        }
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
/// `build` says so. Tools that peapod fetches for that are kept below the directory `tools`. Whether the
/// file exists and what it holds is for [`super::Store::load`] to say.
///
/// # Errors
///
/// When it is a directory and `build` is false; when the build fails, with the compiler's words.
pub fn prepare(
    reference: &Reference,
    build: bool,
    tools: &Path,
    progress: Progress<'_>,
) -> Result<PathBuf, ImageError> {
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
        Recipe::Python => python::build(path, tools, progress),
        Recipe::JavaScript => javascript::build(path, tools, progress),
        Recipe::C => c::build(path, tools, progress),
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
