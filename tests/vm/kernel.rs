//! Debian's cloud kernel and busybox, unpacked into `target/vm` and never installed.
//!
//! ```text
//! apt-cache depends ─► apt-get download ─► dpkg-deb -x ─► target/vm/debian (renamed when complete)
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The package that depends on the newest cloud kernel.
const KERNEL_META_PACKAGE: &str = "linux-image-cloud-amd64";
/// The static shell and tools of the machine.
const BUSYBOX_PACKAGE: &str = "busybox-static";
/// What pods need and the cloud kernel does not have built in.
const MODULES: [&str; 7] = ["veth", "nf_tables", "nft_chain_nat", "nft_masq", "nft_nat", "nft_ct", "dummy"];

/// The unpacked packages.
pub struct Debian {
    root: PathBuf,
}

/// A kernel module: its file name and content, not compressed.
pub struct Module {
    /// `veth.ko`.
    pub file: String,
    /// The ELF object.
    pub content: Vec<u8>,
}

impl Debian {
    /// Finds the packages in the cache, or downloads them from the distribution's archive.
    pub fn cached() -> Debian {
        let cache = cache_directory();
        fs::create_dir_all(&cache).unwrap_or_else(|error| panic!("{}: {error}", cache.display()));
        let lock = File::create(cache.join("lock")).expect("lock file of the kernel cache");
        lock.lock().expect("lock of the kernel cache");
        let root = cache.join("debian");
        if !root.is_dir() {
            download(&cache, &root);
        }
        Debian { root }
    }

    /// The kernel image.
    pub fn kernel(&self) -> PathBuf {
        let boot = self.root.join("boot");
        files_below(&boot)
            .into_iter()
            .find(|path| file_name(path).starts_with("vmlinuz-"))
            .unwrap_or_else(|| panic!("no vmlinuz in {}; remove that folder and try again", boot.display()))
    }

    /// The static busybox.
    pub fn busybox(&self) -> PathBuf {
        // Not the package's initramfs hook, which has the same name.
        files_below(&self.root).into_iter().find(|path| path.ends_with("bin/busybox")).unwrap_or_else(|| {
            panic!("no busybox in {}; remove that folder and try again", self.root.display())
        })
    }

    /// [`MODULES`] and what they depend on, each after its dependencies. One that the kernel has built in
    /// has no file and is left out.
    pub fn modules(&self) -> Vec<Module> {
        let files: BTreeMap<String, PathBuf> = files_below(&self.root)
            .into_iter()
            .filter_map(|path| Some((module_name(file_name(&path).split_once(".ko")?.0), path)))
            .collect();
        let mut order = Vec::new();
        for name in MODULES {
            add_module(name, &files, &mut order);
        }
        order.into_iter().map(|(_, module)| module).collect()
    }
}

fn add_module(name: &str, files: &BTreeMap<String, PathBuf>, order: &mut Vec<(String, Module)>) {
    let name = module_name(name);
    if order.iter().any(|(known, _)| *known == name) {
        return;
    }
    let Some(path) = files.get(&name) else { return };
    let content = decompressed(path);
    for dependency in dependencies(&content) {
        add_module(&dependency, files, order);
    }
    order.push((name.clone(), Module { file: format!("{name}.ko"), content }));
}

/// The kernel takes `-` and `_` in a module's name for the same.
fn module_name(name: &str) -> String {
    name.replace('-', "_")
}

/// The `depends=` entry of a module's `.modinfo` section: NUL-terminated `key=value` strings.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = module.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let value = module[start + KEY.len()..].split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(value).split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn decompressed(path: &Path) -> Vec<u8> {
    if path.extension().is_some_and(|extension| extension == "xz") {
        return output(Command::new("xz").args(["--decompress", "--stdout"]).arg(path));
    }
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn cache_directory() -> PathBuf {
    // target/tmp, which cargo creates for integration tests.
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("vm")
}

fn download(cache: &Path, root: &Path) {
    assert_eq!(
        std::env::consts::ARCH,
        "x86_64",
        "the test machine is an amd64 one and runs this machine's programs"
    );
    let kernel_package = kernel_package().or_else(|| {
        // A fresh container has no package lists.
        output(Command::new("apt-get").args(["--quiet", "update"]));
        kernel_package()
    });
    let kernel_package = kernel_package.unwrap_or_else(|| {
        panic!("apt knows no {KERNEL_META_PACKAGE}: the VM test needs Debian's package lists")
    });

    let staging = tempfile::tempdir_in(cache).expect("temporary folder in the kernel cache");
    output(
        Command::new("apt-get")
            // Without it apt warns, as root, that its own user cannot write here.
            .args([
                "--quiet",
                "--option",
                "APT::Sandbox::User=root",
                "download",
                &kernel_package,
                BUSYBOX_PACKAGE,
            ])
            .current_dir(staging.path()),
    );
    let tree = staging.path().join("tree");
    for package in files_below(staging.path()) {
        output(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&tree));
    }
    fs::rename(&tree, root).unwrap_or_else(|error| panic!("{}: {error}", root.display()));
}

/// The versioned package behind the meta package: `linux-image-6.1.0-56-cloud-amd64`.
fn kernel_package() -> Option<String> {
    let output = Command::new("apt-cache").args(["depends", KERNEL_META_PACKAGE]).output();
    let output = output.unwrap_or_else(|error| panic!("apt-cache, to find Debian's kernel: {error}"));
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .find_map(|line| {
            line.trim().strip_prefix("Depends: ").filter(|name| name.starts_with("linux-image-"))
        })
        .map(str::to_owned)
}

/// Every regular file below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// Runs a command to its success and returns what it printed.
pub fn output(command: &mut Command) -> Vec<u8> {
    match command.output() {
        Ok(output) if output.status.success() => output.stdout,
        Ok(output) => panic!("{command:?} ({}): {}", output.status, String::from_utf8_lossy(&output.stderr)),
        Err(error) => panic!("{command:?}: {error}"),
    }
}
