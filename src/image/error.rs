//! What can go wrong between a reference and machine code.

use std::io;
use std::path::{Path, PathBuf};

use super::cache::CacheError;
use crate::engine::{EngineError, WorldError};

/// Why an image cannot be had. Every message names the file.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// There is no such file.
    #[error("{}: no such file; check the path{}", .path.display(), .hint)]
    NotFound {
        /// The file.
        path: PathBuf,
        /// Further advice, or nothing.
        hint: &'static str,
    },
    /// A file could not be read.
    #[error("{}: cannot {operation}: {error}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// A directory of source, without `--build`.
    #[error("{}: a directory of source; add --build to compile it, or name the .wasm file", .0.display())]
    NeedsBuild(PathBuf),
    /// Not something that can be run: not WebAssembly, damaged, or of the wrong kind.
    #[error("{}: {reason}", .path.display())]
    Rejected {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and how to mend it.
        reason: String,
    },
    /// A component that is not a program.
    #[error("{}: {error}", .path.display())]
    World {
        /// The file.
        path: PathBuf,
        /// What it is.
        error: WorldError,
    },
    /// The build of a directory of source failed.
    #[error("{}: {reason}", .path.display())]
    Build {
        /// The directory.
        path: PathBuf,
        /// What went wrong, with the compiler's own words where they were not shown already.
        reason: String,
    },
    /// A tool that the build needs is not there.
    #[error("{}: {reason}", .path.display())]
    Toolchain {
        /// The directory to be built.
        path: PathBuf,
        /// What is missing and where to get it.
        reason: String,
    },
    /// The compiler itself failed: crashed, out of memory.
    #[error("{}: the compiler {reason}", .path.display())]
    Compiler {
        /// The file.
        path: PathBuf,
        /// How it ended.
        reason: String,
    },
    /// The cache of compiled code cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The engine that it is for cannot be made.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Whose fault an [`ImageError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no such image.
    NotFound,
    /// There is one, but it cannot be run.
    CannotRun,
    /// The host is at fault: the cache, the toolchain, memory.
    Host,
}

impl ImageError {
    /// Whose fault it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::NeedsBuild(_) | Self::Rejected { .. } | Self::World { .. } | Self::Build { .. } => {
                ErrorKind::CannotRun
            }
            Self::Read { error, .. } if error.kind() == io::ErrorKind::PermissionDenied => {
                ErrorKind::CannotRun
            }
            Self::Read { .. }
            | Self::Toolchain { .. }
            | Self::Compiler { .. }
            | Self::Cache(_)
            | Self::Engine(_) => ErrorKind::Host,
        }
    }

    /// The exit code of a program that could do nothing because of it, as shells and container
    /// engines have them: 127 not found, 126 cannot be run, 125 the engine's own trouble.
    pub fn exit_code(&self) -> u8 {
        match self.kind() {
            ErrorKind::NotFound => 127,
            ErrorKind::CannotRun => 126,
            ErrorKind::Host => 125,
        }
    }

    /// `operation` on `path` failed.
    pub(super) fn read(path: &Path, operation: &'static str, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                Self::NotFound { path: path.to_owned(), hint: "" }
            }
            _ => Self::Read { path: path.to_owned(), operation, error },
        }
    }

    /// `path` is not something that can be run.
    pub(super) fn rejected(path: &Path, reason: impl Into<String>) -> Self {
        Self::Rejected { path: path.to_owned(), reason: reason.into() }
    }
}
