//! Python guests: a directory with an `app.py` that has a function `main`.
//!
//! ```text
//! app.py, its modules ─┐
//! main.py (ours) ──────┼─► componentize-py: runs the imports, takes a snapshot ─► component
//! program.wit (ours) ──┘
//! ```
//!
//! All modules are imported while the component is built, and what is imported then is all there is: a
//! container has no interpreter that could read source. What the program does belongs into `main`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::super::{ImageError, Progress};
use super::command::{failure, on_terminal, run};
use super::tools::COMPONENTIZE_PY;
use super::{Built, build_error, output};

/// What tells a Python guest.
pub const PROGRAM: &str = "app.py";

/// Ours, around the program.
const MAIN: &str = include_str!("python/main.py");

/// The world of such a program; Python's own imports come with Python.
const WIT: &str = include_str!("python/program.wit");

/// The same for a program that uses `peapod:ipc`, whose packages are [`IPC`].
const WIT_WITH_IPC: &str = include_str!("python/program-ipc.wit");

/// `peapod:ipc` as far as WASI 0.2 goes, by the files' places below the world's.
const IPC: [(&str, &str); 6] = [
    ("deps/io/io.wit", include_str!("../../../wit/peapod-ipc/deps/io.wit")),
    ("deps/ipc/types.wit", include_str!("../../../wit/peapod-ipc/types.wit")),
    ("deps/ipc/message-queue.wit", include_str!("../../../wit/peapod-ipc/message-queue.wit")),
    ("deps/ipc/shared-memory.wit", include_str!("../../../wit/peapod-ipc/shared-memory.wit")),
    ("deps/ipc/semaphore.wit", include_str!("../../../wit/peapod-ipc/semaphore.wit")),
    ("deps/ipc/channel.wit", include_str!("../../../wit/peapod-ipc/channel.wit")),
];

/// What componentize-py calls the interfaces of [`IPC`].
const IPC_MODULES: [&str; 4] = ["message_queue", "shared_memory", "semaphore", "channel"];

/// Builds the program in `directory`.
pub fn build(directory: &Path, tools: &Path, progress: Progress<'_>) -> Result<Built, ImageError> {
    let sources = output::sources(directory, &["py"])?;
    let world = world(&sources);
    let with = format!("{} {}\n{MAIN}{}", COMPONENTIZE_PY.name, COMPONENTIZE_PY.version, world.concat());
    output::make(directory, &sources, &with, |work, file| {
        let installed = COMPONENTIZE_PY.ensure(tools, directory, progress)?;
        let write = |name: &str, text: &str| {
            let path = work.join(name);
            let above = path.parent().unwrap_or(work);
            fs::create_dir_all(above)
                .and_then(|()| fs::write(&path, text))
                .map_err(|error| build_error(directory, format!("cannot write {}: {error}", path.display())))
        };
        write("peapod_main.py", MAIN)?;
        write("wit/program.wit", world[0])?;
        // The world of a program that uses nothing of it does not name it.
        if world.len() > 1 {
            IPC.iter().try_for_each(|(name, text)| write(&format!("wit/{name}"), text))?;
        }
        let mut componentize = installed.program("componentize-py", directory);
        // Its own backtrace says nothing about the guest.
        componentize.env("PYTHONDONTWRITEBYTECODE", "1").env("RUST_BACKTRACE", "0");
        componentize.arg("--wit-path").arg(work.join("wit")).args(["--world", "program", "--quiet"]);
        componentize.args(["componentize", "peapod_main", "--python-path"]).arg(directory);
        componentize.arg("--python-path").arg(work).arg("--output").arg(file);
        let shown = on_terminal();
        componentize.stderr(if shown { Stdio::inherit() } else { Stdio::piped() });
        let output = run(componentize, directory, || "componentize-py is not where pip puts it".into())?;
        if output.status.success() {
            return Ok(());
        }
        Err(build_error(directory, failure("componentize-py", &output, shown)))
    })
}

/// The WIT of a program: the world first, and what it needs besides if the program imports one of [`IPC_MODULES`].
fn world(sources: &[PathBuf]) -> Vec<&'static str> {
    let imports_ipc = |line: &str| {
        line.trim_start().starts_with("from wit_world.imports")
            && IPC_MODULES.iter().any(|module| line.contains(module))
    };
    let uses_ipc = sources
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .any(|text| text.lines().any(imports_ipc));
    if !uses_ipc {
        return vec![WIT];
    }
    std::iter::once(WIT_WITH_IPC).chain(IPC.iter().map(|(_, text)| *text)).collect()
}
