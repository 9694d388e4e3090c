//! C guests: all `*.c` of a directory, compiled and linked to a component for WASI 0.2.
//!
//! ```text
//! *.c ─► zig cc (clang) ─► objects ─┐
//! libc.a, crt1 of Rust's target ────┴─► wasm-component-ld ─► component
//! ```
//!
//! The C library is wasi-libc as it comes with Rust's target `wasm32-wasip2`, the linker is Rust's too; so
//! a C guest needs nothing that a Rust guest does not need but a compiler, and that is fetched.
//!
//! Objects (`*.o`) in the directory are linked too: `wit-bindgen c` makes one beside its C, which tells the linker what
//! the program imports besides WASI.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::super::{ImageError, Progress};
use super::command::{failure, on_terminal, run, tool};
use super::tools::{Installed, ZIG};
use super::{Built, build_error, cargo, output, toolchain_error};

const TARGET: &str = "wasm32-wasip2";

/// What the compiler is told.
const COMPILE: &[&str] = &[
    // clang's name for it; which of WASI's versions is the library's and the linker's matter...
    "-target",
    "wasm32-wasi",
    // ...and that of the headers.
    "-D__wasilibc_use_wasip2",
    "-D_GNU_SOURCE",
    "-std=gnu17",
    "-O2",
    "-g1",
    "-Wall",
];

/// What the linker is told: Rust's own choice for this target. An overflowing stack runs into a trap, not
/// into the data.
const LINK: &[&str] = &["-z", "stack-size=1048576", "--stack-first"];

/// Whether there is C in `directory`.
pub fn found_in(directory: &Path) -> bool {
    directory.read_dir().is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.path().extension().is_some_and(|extension| extension == "c"))
    })
}

/// Builds the program in `directory`.
pub fn build(directory: &Path, tools: &Path, progress: Progress<'_>) -> Result<Built, ImageError> {
    let rust = Rust::find(directory, progress)?;
    let sources = output::sources(directory, &["c", "h", "o"])?;
    let with =
        format!("{} {} {} {} {}", ZIG.name, ZIG.version, rust.version, COMPILE.join(" "), LINK.join(" "));
    output::make(directory, &sources, &with, |work, file| {
        let zig = ZIG.ensure(tools, directory, progress)?;
        let mut objects = Vec::new();
        for (number, source) in
            sources.iter().filter(|path| path.extension() == Some("c".as_ref())).enumerate()
        {
            let object = work.join(format!("{number}.o"));
            compile(&zig, directory, source, &object)?;
            objects.push(object);
        }
        objects.extend(sources.iter().filter(|path| path.extension() == Some("o".as_ref())).cloned());
        rust.link(directory, &objects, file)
    })
}

fn compile(zig: &Installed, directory: &Path, source: &Path, object: &Path) -> Result<(), ImageError> {
    // Diagnostics name the file as the user would in this directory.
    let source = source.strip_prefix(directory).unwrap_or(source);
    let mut cc = zig.program("python", directory);
    cc.env("ZIG_GLOBAL_CACHE_DIR", &zig.cache).env("ZIG_LOCAL_CACHE_DIR", &zig.cache);
    cc.args(["-m", "ziglang", "cc"]).args(COMPILE).arg("-I.").arg("-c").arg(source).arg("-o").arg(object);
    finish(cc, directory, "cc")
}

/// What a Rust toolchain has for this.
struct Rust {
    /// `rustc --version`: the C library's version, as it were.
    version: String,
    /// The target's libraries.
    libraries: PathBuf,
    /// The linker, and the linker that it calls.
    linker: PathBuf,
    wasm_ld: PathBuf,
}

impl Rust {
    fn find(directory: &Path, progress: Progress<'_>) -> Result<Self, ImageError> {
        let libraries = cargo::ensure_target(directory, TARGET, progress)?;
        let host = cargo::rustc(directory, &["--print", "host-tuple"])?;
        let version = cargo::rustc(directory, &["--version"])?;
        // <sysroot>/lib/rustlib/wasm32-wasip2/lib
        let rustlib = libraries.ancestors().nth(2).unwrap_or(&libraries);
        let programs = rustlib.join(host).join("bin");
        let (linker, wasm_ld) = (programs.join("wasm-component-ld"), programs.join("gcc-ld/wasm-ld"));
        for program in [&linker, &wasm_ld] {
            if !program.is_file() {
                let reason = format!(
                    "to link C, --build needs {}, which this Rust does not have; get Rust from https://rustup.rs",
                    program.display()
                );
                return Err(toolchain_error(directory, reason));
            }
        }
        Ok(Self { version, libraries, linker, wasm_ld })
    }

    fn link(&self, directory: &Path, objects: &[PathBuf], file: &Path) -> Result<(), ImageError> {
        let own = self.libraries.join("self-contained");
        let mut ld = tool(&self.linker, directory);
        ld.arg("--wasm-ld-path").arg(&self.wasm_ld).args(LINK);
        ld.arg(own.join("crt1-command.o")).args(objects).arg(own.join("libc.a"));
        // long double and the like: clang calls functions that Rust has among its own built-ins.
        ld.arg(self.compiler_builtins(directory)?).arg("-o").arg(file);
        finish(ld, directory, "wasm-component-ld")
    }

    fn compiler_builtins(&self, directory: &Path) -> Result<OsString, ImageError> {
        let is_it = |name: &str| name.starts_with("libcompiler_builtins-") && name.ends_with(".rlib");
        let entries = self.libraries.read_dir().into_iter().flatten().flatten();
        let mut found = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_it));
        found.next().map(|entry| entry.path().into_os_string()).ok_or_else(|| {
            toolchain_error(
                directory,
                format!(
                    "{}: no libcompiler_builtins there; install Rust's target {TARGET} again",
                    self.libraries.display()
                ),
            )
        })
    }
}

/// Runs a step of the build.
fn finish(mut command: Command, directory: &Path, what: &str) -> Result<(), ImageError> {
    let shown = on_terminal();
    command.stderr(if shown { Stdio::inherit() } else { Stdio::piped() });
    let output = run(command, directory, || format!("{what} is not where it was installed"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(build_error(directory, failure(what, &output, shown)))
}
