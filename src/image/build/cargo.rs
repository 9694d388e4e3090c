//! Rust guests: `cargo build --release` for a WASI target.
//!
//! The crate's own `Cargo.toml` may choose another target than `wasm32-wasip2`:
//!
//! ```toml
//! [package.metadata.peapod]
//! target = "wasm32-wasip1"
//! ```

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde::Deserialize;

use super::super::{Event, ImageError, Progress};
use super::command::{failure, on_terminal, tool};
use super::{Built, build_error, toolchain_error};

/// The target where the crate does not say.
const DEFAULT_TARGET: &str = "wasm32-wasip2";

/// Targets that make something peapod can run.
const TARGETS: &[&str] = &["wasm32-wasip1", "wasm32-wasip2"];

/// Builds the crate in `directory`.
pub fn build(directory: &Path, progress: Progress<'_>) -> Result<Built, ImageError> {
    let metadata = metadata(directory)?;
    let package = metadata.package_in(directory)?;
    let target = package.wasm_target(directory)?;
    let artifact = package.artifact(directory)?;
    ensure_target(directory, target, progress)?;

    let mut cargo = tool("cargo", directory);
    cargo.args(["build", "--release", "--message-format=json-render-diagnostics", "--target", target]);
    cargo.args(["--package", &package.id]);
    match &artifact {
        Artifact::Bin(name) => cargo.args(["--bin", name]),
        Artifact::Library(_) => cargo.arg("--lib"),
    };
    // On a terminal cargo shows its own progress; in a pipe its words matter only if it fails.
    let shown = on_terminal();
    cargo.stderr(if shown { Stdio::inherit() } else { Stdio::piped() });
    let output = run(cargo, "cargo", directory)?;
    if !output.status.success() {
        return Err(build_error(directory, failure("cargo build", &output, shown)));
    }
    artifact.find(&package.id, &output.stdout).ok_or_else(|| {
        build_error(
            directory,
            format!("cargo built it but made no .wasm file of {artifact}; see {target}'s documentation"),
        )
    })
}

/// What `cargo metadata` says (<https://doc.rust-lang.org/cargo/commands/cargo-metadata.html>).
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    id: String,
    manifest_path: PathBuf,
    default_run: Option<String>,
    targets: Vec<Target>,
    metadata: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Target {
    kind: Vec<String>,
    name: String,
}

/// One line of `cargo build --message-format=json`
/// (<https://doc.rust-lang.org/cargo/reference/external-tools.html#json-messages>).
#[derive(Debug, Deserialize)]
struct Message {
    reason: String,
    package_id: Option<String>,
    target: Option<Target>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
    #[serde(default)]
    fresh: bool,
}

/// Which of a crate's targets is the image.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Artifact {
    Bin(String),
    Library(String),
}

fn metadata(directory: &Path) -> Result<Metadata, ImageError> {
    let mut cargo = tool("cargo", directory);
    cargo.args(["metadata", "--no-deps", "--format-version", "1"]).stderr(Stdio::piped());
    let output = run(cargo, "cargo", directory)?;
    if !output.status.success() {
        return Err(build_error(directory, failure("cargo metadata", &output, false)));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| build_error(directory, format!("cargo metadata says something unexpected: {error}")))
}

impl Metadata {
    fn package_in(&self, directory: &Path) -> Result<&Package, ImageError> {
        let manifest = directory.join("Cargo.toml");
        let manifest = manifest.canonicalize().unwrap_or(manifest);
        let same =
            |package: &&Package| package.manifest_path.canonicalize().is_ok_and(|path| path == manifest);
        self.packages.iter().find(same).ok_or_else(|| {
            let members: Vec<_> =
                self.packages.iter().map(|p| p.manifest_path.parent().unwrap_or(Path::new("/"))).collect();
            let members: Vec<_> = members.iter().map(|path| path.display().to_string()).collect();
            build_error(
                directory,
                format!("is a workspace, not a crate; name one of its crates: {}", members.join(", ")),
            )
        })
    }
}

impl Package {
    /// `package.metadata.peapod.target`, or the default.
    fn wasm_target(&self, directory: &Path) -> Result<&'static str, ImageError> {
        let Some(chosen) = self.metadata.as_ref().and_then(|m| m.pointer("/peapod/target")) else {
            return Ok(DEFAULT_TARGET);
        };
        let known = chosen.as_str().and_then(|chosen| TARGETS.iter().find(|target| **target == chosen));
        known.copied().ok_or_else(|| {
            let targets = TARGETS.join(" or ");
            build_error(
                directory,
                format!("Cargo.toml: package.metadata.peapod.target: {chosen} must be {targets}"),
            )
        })
    }

    /// `default-run`, else the only binary, else the library if it is a `cdylib`.
    fn artifact(&self, directory: &Path) -> Result<Artifact, ImageError> {
        let of_kind = |kind: &str| {
            let has = move |target: &&Target| target.kind.iter().any(|k| k == kind);
            self.targets.iter().filter(has).map(|target| target.name.clone()).collect::<Vec<_>>()
        };
        let mut bins = of_kind("bin");
        match (&self.default_run, bins.len()) {
            (Some(name), _) => Ok(Artifact::Bin(name.clone())),
            (None, 1) => Ok(Artifact::Bin(bins.remove(0))),
            (None, 0) => of_kind("cdylib").pop().map(Artifact::Library).ok_or_else(|| {
                build_error(directory, "has nothing to run: neither a binary (src/main.rs) nor a cdylib")
            }),
            (None, _) => Err(build_error(
                directory,
                format!(
                    "has several binaries ({}); say which one with `default-run` in its Cargo.toml",
                    bins.join(", ")
                ),
            )),
        }
    }
}

impl Artifact {
    /// The artifact among cargo's messages.
    fn find(&self, package: &str, messages: &[u8]) -> Option<Built> {
        let (kind, name) = match self {
            Self::Bin(name) => ("bin", name),
            Self::Library(name) => ("cdylib", name),
        };
        let lines = messages.split(|byte| *byte == b'\n');
        lines.filter_map(|line| serde_json::from_slice::<Message>(line).ok()).find_map(|message| {
            let target = message.target?;
            let ours = message.reason == "compiler-artifact"
                && message.package_id.as_deref() == Some(package)
                && target.name == *name
                && target.kind.iter().any(|k| k == kind);
            let is_wasm = |path: &PathBuf| path.extension() == Some(OsStr::new("wasm"));
            let file = message.filenames.into_iter().find(is_wasm).filter(|_| ours)?;
            Some(Built { file, fresh: message.fresh })
        })
    }
}

impl std::fmt::Display for Artifact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bin(name) => write!(f, "the binary {name}"),
            Self::Library(name) => write!(f, "the library {name}"),
        }
    }
}

/// Where the standard library of `target` is. Installs it where it is missing and rustup can.
pub(super) fn ensure_target(
    directory: &Path,
    target: &str,
    progress: Progress<'_>,
) -> Result<PathBuf, ImageError> {
    let mut rustc = tool("rustc", directory);
    rustc.args(["--print", "target-libdir", "--target", target]).stderr(Stdio::piped());
    let output = run(rustc, "rustc", directory)?;
    let libraries = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end());
    if output.status.success() && libraries.is_dir() {
        return Ok(libraries);
    }
    progress(Event::InstallingTarget { target });
    let mut rustup = tool("rustup", directory);
    rustup.args(["target", "add", target]).stderr(Stdio::piped());
    match rustup.output() {
        Ok(output) if output.status.success() => Ok(libraries),
        Ok(output) => {
            let reason = format!(
                "Rust's target {target} is missing and {}",
                failure("rustup target add", &output, false)
            );
            Err(toolchain_error(directory, reason))
        }
        Err(_) => Err(toolchain_error(
            directory,
            format!(
                "Rust's target {target} is missing, and there is no rustup to install it; get Rust from \
                 https://rustup.rs, or the target from where your Rust comes from"
            ),
        )),
    }
}

/// What rustc says when asked so, without the line's end.
pub(super) fn rustc(directory: &Path, question: &[&str]) -> Result<String, ImageError> {
    let mut rustc = tool("rustc", directory);
    rustc.args(question).stderr(Stdio::piped());
    let output = run(rustc, "rustc", directory)?;
    if !output.status.success() {
        return Err(toolchain_error(directory, failure("rustc", &output, false)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

fn run(command: std::process::Command, name: &str, directory: &Path) -> Result<Output, ImageError> {
    super::command::run(command, directory, || {
        format!("--build needs {name}, which is not installed; get Rust from https://rustup.rs")
    })
}
