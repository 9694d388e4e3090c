//! The test guests of `tests/guests`, built once per test process.
//!
//! ```text
//! guests() ─► cargo build for wasm32-wasip2 and -wasip1 ─► paths
//! assemble("library") ─► tests/guests/wat/library.wat ─► bytes
//! ```

// Each test crate that includes this module uses a part of it.
#![allow(dead_code)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where each guest's Wasm file is.
pub struct Guests {
    /// The multi-call component for WASI 0.2, `tests/guests/probe`.
    pub probe: PathBuf,
    /// The component for WASI 0.3, `tests/guests/p3`.
    pub p3: PathBuf,
    /// Checks of `wasi:sockets` 0.2, `tests/guests/sockets-p2`.
    pub sockets_p2: PathBuf,
    /// Checks of `wasi:sockets` 0.3, `tests/guests/sockets-p3`.
    pub sockets_p3: PathBuf,
    /// `peapod:ipc`, for WASI 0.2, `tests/guests/ipc`.
    pub ipc: PathBuf,
    /// `peapod:ipc`, for WASI 0.3, `tests/guests/ipc-p3`.
    pub ipc_p3: PathBuf,
    /// Is asked to end, by `peapod:pod/lifecycle`, `tests/guests/lifecycle-p2`.
    pub lifecycle_p2: PathBuf,
    /// The same for WASI 0.3, `tests/guests/lifecycle-p3`.
    pub lifecycle_p3: PathBuf,
    /// `wasi:config`, `wasi:keyvalue` and `peapod:pod/identity`, `tests/guests/state`.
    pub state: PathBuf,
    /// The core module for WASI preview 1, `tests/guests/core-p1`.
    pub core_p1: PathBuf,
}

/// Builds the guests, or finds them built. Concurrent processes wait for each other by cargo's own lock.
pub fn guests() -> &'static Guests {
    static GUESTS: OnceLock<Guests> = OnceLock::new();
    GUESTS.get_or_init(|| {
        let packages = ["probe", "p3", "sockets-p2", "sockets-p3", "lifecycle-p2", "lifecycle-p3", "state"];
        let p2 = build("wasm32-wasip2", &packages);
        // By itself: its features of the helper crate are not those of the others.
        build("wasm32-wasip2", &["ipc"]);
        build("wasm32-wasip2", &["ipc-p3"]);
        let p1 = build("wasm32-wasip1", &["core-p1"]);
        Guests {
            probe: p2.join("probe.wasm"),
            p3: p2.join("p3.wasm"),
            sockets_p2: p2.join("sockets-p2.wasm"),
            sockets_p3: p2.join("sockets_p3.wasm"),
            ipc: p2.join("ipc.wasm"),
            ipc_p3: p2.join("ipc_p3.wasm"),
            lifecycle_p2: p2.join("lifecycle-p2.wasm"),
            lifecycle_p3: p2.join("lifecycle_p3.wasm"),
            state: p2.join("state.wasm"),
            core_p1: p1.join("core-p1.wasm"),
        }
    })
}

/// The binary form of `tests/guests/wat/<name>.wat`.
pub fn assemble(name: &str) -> Vec<u8> {
    let path = workspace().join(format!("wat/{name}.wat"));
    wat::parse_file(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests")
}

/// Builds `packages` and returns the directory that holds them.
pub fn build(target: &str, packages: &[&str]) -> PathBuf {
    require_target(target);
    let target_dir = workspace().join("target");
    let mut command = cargo();
    command.args(["build", "--locked", "--release", "--target", target, "--target-dir"]).arg(&target_dir);
    for package in packages {
        command.args(["--package", package]);
    }
    run(&mut command, &format!("the test guests do not build for {target}"));
    target_dir.join(target).join("release")
}

/// A cargo that knows nothing of the cargo that runs this test: its flags and directories are for the host.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.current_dir(workspace());
    for (name, _) in std::env::vars_os() {
        if concerns_the_host_build(&name) {
            command.env_remove(name);
        }
    }
    command
}

fn concerns_the_host_build(name: &OsString) -> bool {
    /// What says where crates come from stays.
    const KEPT: [&str; 4] = ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR"];
    const DROPPED: [&str; 4] = ["CARGO", "RUSTFLAGS", "RUSTC", "RUSTDOC"];
    let Some(name) = name.to_str() else { return false };
    DROPPED.iter().any(|prefix| name.starts_with(prefix))
        && !KEPT.iter().any(|prefix| name.starts_with(prefix))
}

/// Installs the target's standard library where it is missing.
fn require_target(target: &str) {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output();
    let sysroot =
        sysroot.unwrap_or_else(|error| panic!("rustc, which builds the test guests: {error}")).stdout;
    let sysroot = String::from_utf8_lossy(&sysroot);
    if Path::new(sysroot.trim()).join("lib/rustlib").join(target).join("lib").is_dir() {
        return;
    }
    run(
        Command::new("rustup").args(["target", "add", target]),
        &format!("Rust's target {target} is missing; install it with: rustup target add {target}"),
    );
}

fn run(command: &mut Command, what: &str) {
    match command.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!("{what} ({}):\n{}", output.status, String::from_utf8_lossy(&output.stderr)),
        Err(error) => panic!("{what}: {}: {error}", command.get_program().display()),
    }
}

/// A manifest's text with `{probe}`, `{p3}` and `{core}` replaced by the guests' files, and
/// `{unknown-import}` and the like by the assembled files of `wat/`.
pub fn fill_in(text: &str) -> String {
    let built = guests();
    let mut text = text
        .replace("{probe}", &built.probe.to_string_lossy())
        .replace("{p3}", &built.p3.to_string_lossy())
        .replace("{sockets-p2}", &built.sockets_p2.to_string_lossy())
        .replace("{sockets-p3}", &built.sockets_p3.to_string_lossy())
        .replace("{ipc}", &built.ipc.to_string_lossy())
        .replace("{ipc-p3}", &built.ipc_p3.to_string_lossy())
        .replace("{state}", &built.state.to_string_lossy())
        .replace("{lifecycle-p2}", &built.lifecycle_p2.to_string_lossy())
        .replace("{lifecycle-p3}", &built.lifecycle_p3.to_string_lossy())
        .replace("{core}", &built.core_p1.to_string_lossy());
    for name in [
        "unknown-import",
        "http-handler-0.3",
        "http-handler",
        "library",
        "reactor-module",
        "exports",
        "random-0.3",
    ] {
        let placeholder = format!("{{{name}}}");
        if text.contains(&placeholder) {
            let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.wasm"));
            std::fs::write(&file, assemble(name)).expect("write an assembled guest");
            text = text.replace(&placeholder, &file.to_string_lossy());
        }
    }
    text
}

/// The files of the built guests.
pub fn all() -> [PathBuf; 3] {
    let built = guests();
    [built.probe.clone(), built.p3.clone(), built.core_p1.clone()]
}
