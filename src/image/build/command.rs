//! The tools of a build as processes: cargo, the C compiler, pip, componentize-py.
//!
//! ```text
//! tool ─► the caller's arguments ─► run ─► Output ─► failure, where it failed
//! ```
//!
//! On a terminal a tool shows its own progress there; in a pipe its words matter only if it fails.

use std::ffi::OsStr;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::super::ImageError;
use super::toolchain_error;
use crate::sys::guard::guard;

/// Whether tools show their own progress.
pub(super) fn on_terminal() -> bool {
    io::stderr().is_terminal()
}

/// A tool as a user would call it in `directory`: without what an outer `cargo
/// run` or `cargo test` left in the environment for *its* crate. A build does not outlive this process.
pub(super) fn tool(name: impl AsRef<OsStr>, directory: &Path) -> Command {
    let mut command = Command::new(name);
    command.current_dir(directory).stdin(Stdio::null()).stdout(Stdio::piped());
    for (variable, _) in std::env::vars_os() {
        if variable.to_str().is_some_and(is_of_outer_cargo) {
            command.env_remove(&variable);
        }
    }
    guard(&mut command);
    command
}

/// Whether an environment variable is about the crate that an outer cargo is running, rather than about
/// the user's own wishes (such as `CARGO_HOME`, `CARGO_NET_OFFLINE`, `RUSTUP_TOOLCHAIN`).
fn is_of_outer_cargo(variable: &str) -> bool {
    // https://doc.rust-lang.org/cargo/reference/environment-variables.html; the flags and directories
    // are the user's, but for the host: two guests with one name would overwrite each other in a
    // shared directory, and flags for the host's linker break the guest's.
    const EXACT: &[&str] = &[
        "CARGO",
        "CARGO_BIN_NAME",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_BUILD_TARGET_DIR",
        "CARGO_CRATE_NAME",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_MAKEFLAGS",
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_LINKS",
        "CARGO_MANIFEST_PATH",
        "CARGO_PRIMARY_PACKAGE",
        "CARGO_TARGET_DIR",
        "CARGO_TARGET_TMPDIR",
        "MAKEFLAGS",
        "MFLAGS",
        "OUT_DIR",
        "RUSTFLAGS",
    ];
    const PREFIXES: &[&str] = &["CARGO_BIN_EXE_", "CARGO_CFG_", "CARGO_FEATURE_", "CARGO_PKG_"];
    EXACT.contains(&variable) || PREFIXES.iter().any(|prefix| variable.starts_with(prefix))
}

/// Runs a command to its end; `missing` says what to do where there is no such program.
pub(super) fn run(
    mut command: Command,
    directory: &Path,
    missing: impl FnOnce() -> String,
) -> Result<Output, ImageError> {
    // `output` reads both pipes without a thread: the caller may be the zygote.
    command.output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => toolchain_error(directory, missing()),
        _ => toolchain_error(directory, format!("cannot run {}: {error}", command.get_program().display())),
    })
}

/// How a tool failed, with its own words unless they were `shown` already.
pub(super) fn failure(what: &str, output: &Output, shown: bool) -> String {
    /// Bytes of a tool's words that are repeated: the end, where the reason is.
    const MAX_WORDS: usize = 16 << 10;
    let mut message = format!("{what} failed ({})", output.status);
    if !shown {
        let words = &output.stderr[output.stderr.len().saturating_sub(MAX_WORDS)..];
        message.push_str(":\n");
        message.push_str(String::from_utf8_lossy(words).trim_end());
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_outer_cargo_left_is_taken_away() {
        for variable in [
            "CARGO",
            "CARGO_MANIFEST_DIR",
            "CARGO_PKG_NAME",
            "CARGO_TARGET_DIR",
            "RUSTFLAGS",
            "CARGO_BIN_EXE_peapod",
        ] {
            assert!(is_of_outer_cargo(variable), "{variable}");
        }
        for variable in [
            "PATH",
            "CARGO_HOME",
            "CARGO_NET_OFFLINE",
            "CARGO_REGISTRIES_X_INDEX",
            "RUSTUP_TOOLCHAIN",
            "RUSTUP_HOME",
        ] {
            assert!(!is_of_outer_cargo(variable), "{variable}");
        }
    }
}
