//! Images: from a reference in the manifest to machine code.
//!
//! ```text
//! Reference ─► build::prepare ─► file ─► Store::load ─┬─ index knows the file ──────────────┐
//!              (only --build)                         ├─ code cache has its digest ─────────┤
//!                                                     └─ source ─► wrap ─► compile ─► cache ┴─► map ─► Image
//!                                                        what is it?  core modules   in a child
//! ```
//!
//! The second start of an image never compiles, and as a rule does not even read it: the [`index`]
//! knows the digest of a file that has not changed, the [`cache`] has the machine code for the digest,
//! and mapping that reads only what runs. Compiling takes a thread per core and much memory; the
//! zygote must have neither, so it happens in a forked child whenever the process has only one thread.
//!
//! The image of a volume is another thing: a directory of files, from an archive or an OCI image ([`volume`]).

pub mod build;
pub mod cache;
mod compile;
pub mod digest;
mod error;
pub mod index;
mod reference;
pub mod source;
mod store;
pub mod volume;
pub mod wrap;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wasmtime::component::Component;

pub use digest::Digest;
pub use error::{ErrorKind, ImageError};
pub use reference::Reference;
pub use store::Store;

use crate::engine::code::{self, TrustedCode};
use crate::engine::{Engine, World};

/// A component ready to be instantiated. Cheap to clone.
#[derive(Clone)]
pub struct Image {
    /// The engine that it was compiled for.
    pub engine: Engine,
    /// The component, mapped from the cache.
    pub component: Component,
    /// SHA-256 of the file that the image names.
    pub digest: Digest,
    /// What it is for. [`Store::load`] gives out only what a container can run.
    pub world: World,
    /// The file that the image names.
    pub path: PathBuf,
    /// Where the machine code came from.
    pub cache: CacheUse,
}

impl Image {
    /// Maps machine code that the supervisor has handed over: a process that may not compile, and does not see the
    /// cache, gets it from there. `digest`: hexadecimal, of the file at `path`.
    ///
    /// # Errors
    /// It is no machine code of this engine.
    pub fn from_code(engine: &Engine, code: OwnedFd, digest: &str, path: PathBuf) -> Result<Self, String> {
        let digest = digest.parse().map_err(|error: digest::NotADigest| error.to_string())?;
        let component = code::map(engine, &TrustedCode::new(code.into()))?;
        let world = World::of(engine, &component);
        Ok(Self { engine: engine.clone(), component, digest, world, path, cache: CacheUse::Hit })
    }
}

/// Where an image's machine code came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheUse {
    /// From the cache.
    Hit,
    /// Made now.
    Compiled,
}

/// What takes its time while images are prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// `rustup target add` begins.
    InstallingTarget {
        /// The target's name.
        target: &'a str,
    },
    /// A tool that builds guests is fetched and installed.
    InstallingTool {
        /// The tool's name.
        name: &'a str,
        /// Its version.
        version: &'a str,
    },
    /// A build of guest source begins.
    Building {
        /// The directory.
        path: &'a Path,
    },
    /// It has ended well.
    Built {
        /// The directory.
        path: &'a Path,
        /// There was nothing to do.
        fresh: bool,
        /// How long it took.
        duration: Duration,
    },
    /// The compilation to machine code begins.
    Compiling {
        /// The WebAssembly file.
        path: &'a Path,
        /// Its size in bytes.
        size: u64,
    },
    /// It goes on; comes about ten times a second, so that whoever shows progress needs no thread.
    StillCompiling {
        /// Since it began.
        elapsed: Duration,
    },
    /// An image volume is unpacked.
    Unpacking {
        /// The archive, or the OCI layout.
        path: &'a Path,
    },
    /// It goes on; comes about ten times a second.
    StillUnpacking {
        /// Since it began.
        elapsed: Duration,
    },
    /// It has ended well.
    Unpacked {
        /// The archive, or the OCI layout.
        path: &'a Path,
        /// How long it took.
        duration: Duration,
    },
    /// It has ended well.
    Compiled {
        /// The WebAssembly file.
        path: &'a Path,
        /// Its size in bytes.
        size: u64,
        /// How long it took.
        duration: Duration,
    },
}

/// Who is told about [`Event`]s.
pub type Progress<'a> = &'a dyn Fn(Event<'_>);
