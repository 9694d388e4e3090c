//! Opens what is there for reading: the common case, in one system call that neither waits nor leaves the mount.
//!
//! ```text
//! openat2, O_NONBLOCK ─┬─ a file, a directory ─► opened
//!                      ├─ nothing ─► no entry
//!                      └─ anything else, or a failure ─► looked at (`look`), opened or refused by wasmtime-wasi
//! ```
//!
//! What is opened is what was asked for its type: no FIFO can come between.

use std::fs::File;
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;
use wasmtime_wasi::filesystem::{Descriptor, Dir};
use wasmtime_wasi::{FsPerms, OpenMode};

use crate::container::user::FileUser;

/// What came of it.
pub(super) enum Opened {
    Done(Descriptor),
    /// There is nothing of that name.
    NoEntry,
    /// To be opened otherwise, or not at all.
    Otherwise,
}

/// A file or a directory below another, to be read.
pub(super) struct Existing {
    directory: Arc<File>,
    perms: FsPerms,
    path: String,
    flags: OFlags,
}

impl Existing {
    pub(super) fn new(directory: &Dir, path: &str, follow: bool, is_directory: bool) -> Self {
        let mut flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        flags.set(OFlags::NOFOLLOW, !follow);
        flags.set(OFlags::DIRECTORY, is_directory);
        Self { directory: Arc::clone(&directory.dir), perms: directory.perms, path: path.to_owned(), flags }
    }

    /// Opens it as the user.
    pub(super) async fn open(self, user: &FileUser) -> Opened {
        let opened = user.run(async { tokio::task::spawn_blocking(move || self.open_now()).await }).await;
        opened.unwrap_or(Opened::Otherwise)
    }

    fn open_now(&self) -> Opened {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let file = match openat2(&*self.directory, &*self.path, self.flags, Mode::empty(), resolve) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Opened::NoEntry,
            Err(_) => return Opened::Otherwise,
        };
        // On these, O_NONBLOCK means nothing (open(2)).
        match fstat(&file).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Ok(FileType::Directory) => {
                Opened::Done(Descriptor::Dir(Dir::new(file, self.perms, OpenMode::READ, false)))
            }
            Ok(FileType::RegularFile) => Opened::Done(Descriptor::File(
                wasmtime_wasi::filesystem::File::new(file, self.perms, OpenMode::READ, false),
            )),
            _ => Opened::Otherwise,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn opens_files_and_directories_below_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let mount = dir.path().join("mount");
        std::fs::create_dir_all(mount.join("sub")).unwrap();
        std::fs::write(mount.join("file"), "").unwrap();
        std::fs::write(dir.path().join("secret"), "").unwrap();
        nix::unistd::mkfifo(&mount.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for (target, name) in
            [("file", "link"), ("../secret", "out"), ("/proc/self/root", "magic"), ("fifo", "to-fifo")]
        {
            symlink(target, mount.join(name)).unwrap();
        }
        let root = Dir::new(File::open(&mount).unwrap(), FsPerms::ReadOnly, OpenMode::READ, false);
        let open = |path: &str, follow, directory| Existing::new(&root, path, follow, directory).open_now();
        for path in ["file", "sub/../file", "link"] {
            assert!(matches!(open(path, true, false), Opened::Done(Descriptor::File(_))), "{path}");
        }
        for path in ["sub", ".", "sub/"] {
            assert!(matches!(open(path, true, true), Opened::Done(Descriptor::Dir(_))), "{path}");
        }
        for path in ["none", "none/file", ""] {
            assert!(matches!(open(path, true, false), Opened::NoEntry), "{path}");
        }
        for path in
            ["fifo", "to-fifo", "out", "magic", "magic/etc", "..", "../secret", "/etc", "file/", "a\0b"]
        {
            assert!(matches!(open(path, true, false), Opened::Otherwise), "{path}");
        }
        assert!(matches!(open("link", false, false), Opened::Otherwise));
        assert!(matches!(open("file", true, true), Opened::Otherwise));
    }
}
