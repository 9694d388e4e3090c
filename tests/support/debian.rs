//! What the tests need of the machine beside Rust: Debian's packages, installed when they are missing and this user
//! may install them.

// Each test crate that includes this module uses a part of it.
#![allow(dead_code)]

use std::path::Path;
use std::process::Command;

/// Installs the packages whose file is missing, and says which where that is not possible. A file without a slash is a
/// program.
pub fn require(what: &str, files: &[(&str, &str)]) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |file: &str| match file.contains('/') {
        true => Path::new(file).exists(),
        false => std::env::split_paths(&path).any(|folder| folder.join(file).is_file()),
    };
    let missing: Vec<&str> =
        files.iter().filter(|(file, _)| !is_there(file)).map(|(_, package)| *package).collect();
    if !missing.is_empty() {
        install(what, &missing);
    }
}

/// Installs Debian's packages.
pub fn install(what: &str, packages: &[&str]) {
    let hint = format!("{what} needs {0}: apt-get install {0}", packages.join(" "));
    // A fresh container has no package lists; without them, or offline, the packages may still be cached.
    let _ = Command::new("apt-get").args(["--quiet", "update"]).output();
    let install = Command::new("apt-get")
        .args(["--quiet", "--yes", "--no-install-recommends", "install"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output();
    match install {
        Ok(install) if install.status.success() => {}
        Ok(install) => panic!("{hint} ({})", String::from_utf8_lossy(&install.stderr).trim()),
        Err(error) => panic!("{hint} (apt-get: {error})"),
    }
}

/// A Python that can make virtual environments, for guests in C and Python.
pub fn require_python() {
    let works = |program: &str| {
        Command::new("python3").args(["-c", program]).output().is_ok_and(|output| output.status.success())
    };
    if !works("import ensurepip, venv") {
        install("a guest in C or Python", &["python3", "python3-venv"]);
    }
}
