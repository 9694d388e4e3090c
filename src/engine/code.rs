//! Machine code: made from a component's bytes, and mapped from a file.

use std::fs::File;
use std::os::fd::AsRawFd;

use wasmtime::component::Component;

use super::Engine;

/// Compiles a component to machine code. Uses a thread per core: never call it in the zygote itself.
///
/// # Errors
///
/// What is wrong with `component`, for a reader who built it.
pub fn compile(engine: &Engine, component: &[u8]) -> Result<Vec<u8>, String> {
    engine.wasmtime().precompile_component(component).map_err(|error| format!("{error:#}"))
}

/// A file with machine code that may be mapped: made by [`compile`] and never changed since.
///
/// The type is a promise of whoever makes one, see `TrustedCode::new`.
#[derive(Debug)]
pub struct TrustedCode(File);

impl TrustedCode {
    /// Vouches for `file`: it was opened without following a symbolic link, in a directory that only
    /// this user can write; it is a regular file that this user owns and nobody else can write; and
    /// peapod put it there under its final name, complete, and never writes to it again.
    /// [`crate::image::cache`] checks all of that; [`crate::image::Image::from_code`] has it from the supervisor,
    /// which had it from there.
    pub(crate) fn new(file: File) -> Self {
        Self(file)
    }
}

/// Maps machine code: pages are read when they are first run, and shared between processes.
///
/// # Errors
///
/// When the file is not machine code of this engine, for example because it was cut off.
#[expect(unsafe_code, reason = "the one exception that the crate's first invariant names")]
pub fn map(engine: &Engine, code: &TrustedCode) -> Result<Component, String> {
    // The checks were made on this descriptor, so this very file must be mapped and not whatever its
    // name stands for by now.
    let path = format!("/proc/self/fd/{}", code.0.as_raw_fd());
    // SAFETY: the file must be the output of `precompile_component` and must not change while it is
    // mapped. `TrustedCode` stands for that: peapod wrote it, in one piece, and nobody but this user
    // can change it or what is in its directory. A code file of another engine is told apart by the
    // header that wasmtime checks.
    let component = unsafe { Component::deserialize_file(engine.wasmtime(), path) };
    component.map_err(|error| format!("{error:#}"))
}
