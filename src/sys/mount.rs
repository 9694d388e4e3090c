//! The mounts of a pod, made in its own mount namespace.

use std::io;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{FsType, statfs};

/// The type of the file system of message queues (`MQUEUE_MAGIC`, `ipc/mqueue.c`).
const MQUEUE: FsType = FsType(0x1980_0202);

/// Nothing on it is a program, a device or set-user-ID.
const DATA_ONLY: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

/// Cuts every mount of this namespace off from the host's: what is mounted on either side from now on does
/// not show on the other (mount_namespaces(7)).
///
/// # Errors
/// EINVAL when `/` is not a mount point, as in a plain chroot.
pub fn make_private() -> io::Result<()> {
    Ok(mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?)
}

/// A fresh tmpfs of at most `bytes` on `path`, for all users.
///
/// # Errors
/// ENOENT when there is no such directory.
pub fn tmpfs(path: &str, bytes: u64) -> io::Result<()> {
    let options = format!("size={bytes},mode=1777");
    Ok(mount(Some("tmpfs"), path, Some("tmpfs"), DATA_ONLY, Some(options.as_str()))?)
}

/// A fresh tmpfs on `path` of at most `bytes` and so many files and directories, its root among them, for this
/// user.
///
/// # Errors
/// ENOENT when there is no such directory.
pub fn small_tmpfs(path: &Path, bytes: u64, files: u64) -> io::Result<()> {
    let options = format!("size={bytes},nr_inodes={files},mode=700");
    Ok(mount(Some("tmpfs"), path, Some("tmpfs"), DATA_ONLY, Some(options.as_str()))?)
}

/// A fresh tmpfs on `path` that programs may be run from: at most `bytes`, else half of the machine's memory
/// (tmpfs(5)).
///
/// # Errors
/// ENOENT when there is no such directory.
pub fn volume_tmpfs(path: &Path, bytes: Option<u64>, mode: u32) -> io::Result<()> {
    let size = bytes.map(|bytes| format!(",size={bytes}")).unwrap_or_default();
    let options = format!("mode={mode:o}{size}");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    Ok(mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(options.as_str()))?)
}

/// `source` in the place of `target`, both files or both directories. A symbolic link is followed: what it leads
/// to is covered.
///
/// # Errors
/// ENOENT when one of them is not there.
pub fn bind(source: &Path, target: &Path) -> io::Result<()> {
    Ok(mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
}

/// [`bind`] with what is mounted below a directory.
///
/// # Errors
/// As [`bind`].
pub fn bind_all(source: &Path, target: &Path) -> io::Result<()> {
    Ok(mount(Some(source), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?)
}

/// What is mounted on `source`, with all that is mounted below, comes to `target`.
///
/// # Errors
/// EINVAL when nothing is mounted on `source`, or other namespaces see it come and go.
pub fn move_to(source: &Path, target: &Path) -> io::Result<()> {
    Ok(mount(Some(source), target, None::<&str>, MsFlags::MS_MOVE, None::<&str>)?)
}

/// Takes away what is mounted on `path`, also where it is in use.
///
/// # Errors
/// EINVAL when nothing is.
pub fn detach(path: &Path) -> io::Result<()> {
    Ok(umount2(path, MntFlags::MNT_DETACH)?)
}

/// Whether `path` is in a file system of message queues.
///
/// # Errors
/// ENOENT when it is not there.
pub fn is_mqueue(path: &Path) -> io::Result<bool> {
    Ok(statfs(path)?.filesystem_type() == MQUEUE)
}

/// The message queues of this IPC namespace on `path` (mq_overview(7)).
///
/// # Errors
/// ENOENT when there is no such directory, ENODEV when the kernel has none.
pub fn mqueue(path: &Path) -> io::Result<()> {
    Ok(mount(Some("mqueue"), path, Some("mqueue"), DATA_ONLY, None::<&str>)?)
}

/// The processes of this pid namespace on `/proc`.
///
/// # Errors
/// EPERM in a user namespace whose host's `/proc` is partly covered, as in most containers.
pub fn proc() -> io::Result<()> {
    Ok(mount(Some("proc"), "/proc", Some("proc"), DATA_ONLY, None::<&str>)?)
}
