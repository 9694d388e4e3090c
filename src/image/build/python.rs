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
use std::path::Path;
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

/// Builds the program in `directory`.
pub fn build(directory: &Path, tools: &Path, progress: Progress<'_>) -> Result<Built, ImageError> {
    let sources = output::sources(directory, &["py"])?;
    let with = format!("{} {}\n{MAIN}{WIT}", COMPONENTIZE_PY.name, COMPONENTIZE_PY.version);
    output::make(directory, &sources, &with, |work, file| {
        let installed = COMPONENTIZE_PY.ensure(tools, directory, progress)?;
        let write = |name: &str, text: &str| {
            let path = work.join(name);
            fs::write(&path, text)
                .map_err(|error| build_error(directory, format!("cannot write {}: {error}", path.display())))
        };
        write("peapod_main.py", MAIN)?;
        write("program.wit", WIT)?;
        let mut componentize = installed.program("componentize-py", directory);
        // Its own backtrace says nothing about the guest.
        componentize.env("PYTHONDONTWRITEBYTECODE", "1").env("RUST_BACKTRACE", "0");
        componentize.arg("--wit-path").arg(work.join("program.wit")).args(["--world", "program", "--quiet"]);
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
