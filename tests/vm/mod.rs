//! A virtual machine for tests that need a kernel other than this machine's: real cgroup v2 controllers.
//!
//! ```text
//! files + script ─► initramfs ─► qemu (TCG) boots Debian's cloud kernel ─► init.sh ─► /test.sh
//!                                                      serial port 2: output and exit code ◄──┘
//! ```
//!
//! Emulation, never `/dev/kvm`: it is the same everywhere, and some machines' KVM hangs. Expect code to run
//! some twenty times slower than outside. The machine has two processors, 1 GiB of memory, no disk and no
//! network card; everything is gone when it powers off.

// Each test crate that includes this module uses a part of it.
#![allow(dead_code)]

mod initramfs;
mod kernel;

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use initramfs::Initramfs;
use kernel::{Debian, output};

use super::support::debian;

/// Memory of the machine, MiB.
const MEMORY_MIB: u32 = 1024;

/// What a run printed and how it ended.
#[derive(Debug)]
pub struct VmOutput {
    /// What the script printed, stdout and stderr in one.
    pub stdout: String,
    /// The script's exit code; `None` when the machine died or ran out of time before it ended.
    pub exit_code: Option<i32>,
    /// Whether the script ended with code 0.
    pub ok: bool,
    /// From the kernel's first moment to the script's start.
    pub boot: Option<Duration>,
    /// The kernel's messages, for when something went wrong.
    pub console: String,
}

/// A file of this machine and the absolute path it gets in the virtual one. It is executable there when it
/// is here.
pub type Placed = (PathBuf, String);

/// Boots a machine with `files`, runs `script` in its shell (busybox ash, as root) and powers it off. After
/// `timeout` it is killed.
pub fn run(files: &[Placed], script: &str, timeout: Duration) -> VmOutput {
    debian::require("the VM test", &TOOLS);
    let debian = Debian::cached();
    let scratch = tempfile::tempdir().expect("temporary folder");
    let image = scratch.path().join("initramfs.cpio");
    write_image(&image, &debian, files, script).unwrap_or_else(|error| panic!("initramfs: {error}"));
    let console = scratch.path().join("console");

    // coreutils' timeout, because it kills the machine in time even when this process is killed first.
    let mut qemu = Command::new("timeout");
    qemu.args(["--signal=KILL", &format!("{}", timeout.as_secs_f64()), "qemu-system-x86_64"])
        .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
        .args(["-machine", "pc,accel=tcg", "-cpu", "max", "-smp", "2", "-m", &MEMORY_MIB.to_string()])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .args(["-serial", "stdio"])
        .arg("-kernel")
        .arg(debian.kernel())
        .arg("-initrd")
        .arg(&image)
        .args(["-append", "console=ttyS0 loglevel=4 panic=-1 mitigations=off random.trust_cpu=on"])
        .stdin(std::process::Stdio::null());
    let result = qemu.output().unwrap_or_else(|error| panic!("{qemu:?}: {error}"));
    let mut console = String::from_utf8_lossy(&fs::read(&console).unwrap_or_default()).into_owned();
    console.push_str(&String::from_utf8_lossy(&result.stderr));
    read_result(&String::from_utf8_lossy(&result.stdout), console)
}

/// A program with the shared libraries it needs, without its symbols. The copy lies in `scratch`.
pub fn program(binary: &Path, guest_path: &str, scratch: &Path) -> Vec<Placed> {
    let stripped = scratch.join(binary.file_name().unwrap_or_default());
    output(Command::new("strip").arg("-o").arg(&stripped).arg(binary));
    let mut files = vec![(stripped, guest_path.to_owned())];
    // A static program is not ldd's business: it says so by its exit code.
    let libraries = Command::new("ldd").arg(binary).output().expect("ldd");
    for line in String::from_utf8_lossy(&libraries.stdout).lines() {
        // `libc.so.6 => /lib/libc.so.6 (0x…)`, or the loader's path alone.
        let path = line.split("=>").last().unwrap_or_default().split('(').next().unwrap_or_default().trim();
        assert!(path != "not found", "{}: {}", binary.display(), line.trim());
        if path.starts_with('/') {
            files.push((path.into(), path.into()));
        }
    }
    files
}

fn write_image(image: &Path, debian: &Debian, files: &[Placed], script: &str) -> io::Result<()> {
    let mut archive = Initramfs::new(BufWriter::new(File::create(image)?))?;
    archive.file("/init", true, include_bytes!("init.sh"))?;
    archive.file("/bin/busybox", true, &fs::read(debian.busybox())?)?;
    let modules = debian.modules();
    let order: String = modules.iter().map(|module| format!("{}\n", module.file)).collect();
    archive.file("/modules/order", false, order.as_bytes())?;
    for module in modules {
        archive.file(&format!("/modules/{}", module.file), false, &module.content)?;
    }
    for (host, guest) in files {
        let about = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", host.display()));
        let executable = fs::metadata(host).map_err(about)?.permissions().mode() & 0o111 != 0;
        archive.file(guest, executable, &fs::read(host).map_err(about)?)?;
    }
    archive.file("/test.sh", true, script.as_bytes())?;
    archive.finish()
}

/// Takes the script's output out of what the second serial port said: between `[vm: begin UPTIME]` and
/// `[vm: end CODE]`, as init.sh prints them.
fn read_result(serial: &str, console: String) -> VmOutput {
    let (before, end) = match serial.rsplit_once("[vm: end ") {
        Some((before, rest)) => (before, rest.split(']').next()),
        None => (serial, None),
    };
    let (boot, stdout) = match before.split_once("[vm: begin ").and_then(|(_, rest)| rest.split_once("]\n")) {
        Some((uptime, stdout)) => (uptime.parse().ok().map(Duration::from_secs_f64), stdout),
        None => (None, before),
    };
    let exit_code = end.and_then(|code| code.parse().ok());
    VmOutput { stdout: stdout.to_owned(), exit_code, ok: exit_code == Some(0), boot, console }
}

/// What makes and runs the machine.
const TOOLS: [(&str, &str); 4] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("dpkg-deb", "dpkg"),
    ("strip", "binutils"),
    ("xz", "xz-utils"),
];
