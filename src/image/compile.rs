//! From WebAssembly to machine code in a file, away from this process where that matters.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use nix::sys::resource::{Resource, setrlimit};
use serde::{Deserialize, Serialize};

use super::source::Kind;
use super::{Event, ImageError, Progress, wrap};
use crate::engine::{Engine, code};
use crate::sys::fork::{self, ChildError};
use crate::sys::process;

/// What became of a compilation; crosses the process boundary as JSON.
#[derive(Debug, Serialize, Deserialize)]
enum Verdict {
    /// The code is in the file.
    Done,
    /// The WebAssembly is at fault.
    Rejected(String),
    /// The file could not be written.
    Unwritten(String),
}

/// Processor time of one compilation, seconds. Far beyond any honest image: it ends one that was made to keep
/// the compiler busy.
const MAX_CPU_SECONDS: u64 = 1800;

/// Private memory of one compilation, bytes. The same for one that was made to exhaust it.
const MAX_DATA_BYTES: u64 = 16 << 30;

/// Compiles `bytes`, the content of `path`, into `to`.
///
/// In a forked child when this process has one thread: it stays single-threaded and small, and
/// survives a compiler that crashes or runs out of memory. In a process that has several threads a
/// fork is not safe and the first not needed, so there it happens in place.
///
/// # Errors
///
/// Names `path` and what is wrong with it, or with the host.
pub fn compile(
    engine: &Engine,
    path: &Path,
    bytes: &[u8],
    kind: Kind,
    to: &File,
    progress: Progress<'_>,
) -> Result<(), ImageError> {
    let start = Instant::now();
    let size = bytes.len() as u64;
    progress(Event::Compiling { path, size });
    let work = || run(engine, bytes, kind, to);
    let compiler = |reason: String| ImageError::Compiler { path: path.to_owned(), reason };
    let in_child = || {
        // An image may be made to exhaust the compiler's memory: that must not cost another process its life.
        process::volunteer_for_oom();
        // Where a limit cannot be set the compiler runs without it.
        let _ = setrlimit(Resource::RLIMIT_CPU, MAX_CPU_SECONDS, MAX_CPU_SECONDS);
        let _ = setrlimit(Resource::RLIMIT_DATA, MAX_DATA_BYTES, MAX_DATA_BYTES);
        // A verdict is always serialisable; were it not, the empty answer is an error below.
        serde_json::to_vec(&work()).unwrap_or_default()
    };
    let mut waiting = || progress(Event::StillCompiling { elapsed: start.elapsed() });
    let verdict = match fork::run_in_child(in_child, &mut waiting) {
        Ok(answer) => serde_json::from_slice(&answer)
            .map_err(|error| compiler(format!("answered nonsense: {error}")))?,
        Err(ChildError::SeveralThreads) => work(),
        Err(error) => return Err(compiler(error.to_string())),
    };
    match verdict {
        Verdict::Done => {
            progress(Event::Compiled { path, size, duration: start.elapsed() });
            Ok(())
        }
        Verdict::Rejected(reason) => Err(ImageError::rejected(path, reason)),
        Verdict::Unwritten(reason) => Err(compiler(format!("cannot write to the cache: {reason}"))),
    }
}

fn run(engine: &Engine, bytes: &[u8], kind: Kind, mut to: &File) -> Verdict {
    let code = match kind {
        Kind::Component => code::compile(engine, bytes).map_err(|error| {
            format!("is not a valid component ({error}); if it is damaged, build or copy it again")
        }),
        Kind::CoreModule => wrap::wrap(bytes).and_then(|component| {
            code::compile(engine, &component).map_err(|error| format!("is not a valid module: {error}"))
        }),
    };
    match code {
        Ok(code) => {
            to.write_all(&code).map_or_else(|error| Verdict::Unwritten(error.to_string()), |()| Verdict::Done)
        }
        Err(reason) => Verdict::Rejected(reason),
    }
}
