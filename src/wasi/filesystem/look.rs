//! A look at what a path names before it is opened, without waiting for a disk.

use std::fs::File;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::filesystem::Descriptor;

/// What can be told at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// A FIFO or a socket.
    Unfit,
    /// Anything else, also nothing.
    Fit,
    /// The disk would have to be asked, or the kernel (before Linux 5.12) cannot tell without.
    Unknown,
}

/// Looks at `path` below the directory `fd` of `table`, which is resolved as when it is opened, as far as the kernel
/// remembers it (`RESOLVE_CACHED`, openat2(2)): a file that is used is remembered. Nothing is opened: `O_PATH`.
pub(super) fn look(table: &ResourceTable, fd: &Resource<Descriptor>, path: &str, follow: bool) -> Look {
    let Ok(Descriptor::Dir(directory)) = table.get(fd) else { return Look::Fit };
    look_beneath(&directory.dir, path, follow)
}

fn look_beneath(directory: &File, path: &str, follow: bool) -> Look {
    let mut flags = OFlags::PATH | OFlags::CLOEXEC;
    flags.set(OFlags::NOFOLLOW, !follow);
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::CACHED;
    let file = match openat2(directory, path, flags, Mode::empty(), resolve) {
        Ok(file) => file,
        Err(Errno::AGAIN | Errno::INVAL | Errno::NOSYS | Errno::PERM) => return Look::Unknown,
        // To open it will fail likewise, or make it.
        Err(_) => return Look::Fit,
    };
    match fstat(file).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
        Ok(FileType::Fifo | FileType::Socket) => Look::Unfit,
        Ok(_) => Look::Fit,
        Err(_) => Look::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_fifo_is_known_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        symlink("fifo", dir.path().join("link")).unwrap();
        symlink("/proc/self/root", dir.path().join("out")).unwrap();
        let directory = File::open(dir.path()).unwrap();
        let looked = |path, follow| look_beneath(&directory, path, follow);
        for path in ["fifo", "./fifo"] {
            assert_eq!(looked(path, true), Look::Unfit, "{path}");
        }
        // Not known where the link's time of access has to be written, as of a link that is new.
        assert_ne!(looked("link", true), Look::Fit);
        assert_eq!(looked("link", false), Look::Fit, "the link itself");
        for path in ["file", "none", "out", "out/etc", ".", "file/"] {
            assert_ne!(looked(path, true), Look::Unfit, "{path}");
        }
    }
}
