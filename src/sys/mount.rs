//! The mounts of a pod, made in its own mount namespace.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
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

/// What is mounted on `source`, with all that is mounted below, comes to `target`.
///
/// # Errors
/// EINVAL when nothing is mounted on `source`, or other namespaces see it come and go.
pub fn move_to(source: &Path, target: &Path) -> io::Result<()> {
    Ok(mount(Some(source), target, None::<&str>, MsFlags::MS_MOVE, None::<&str>)?)
}

/// Whether `path` is in a file system of message queues.
///
/// # Errors
/// ENOENT when it is not there.
pub fn is_mqueue(path: &Path) -> io::Result<bool> {
    Ok(statfs(path)?.filesystem_type() == MQUEUE)
}

/// [`bind`] of a directory with all that is mounted below it.
///
/// # Errors
/// ENOENT when one of them is not there.
pub fn bind_tree(source: &Path, target: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    Ok(mount(Some(source), target, None::<&str>, flags, None::<&str>)?)
}

/// What [`restrict`] takes from a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restriction {
    /// Nothing on it can be written to.
    ReadOnly,
    /// The same for all that is mounted below it.
    ReadOnlyTree,
    /// Devices on it cannot be opened.
    NoDevices,
}

/// Takes something from the mount at `path`, and leaves it all else that it was given or is locked to
/// (mount_setattr(2)).
///
/// # Errors
/// EINVAL when it is no mount point, ENOSYS before Linux 5.12.
pub fn restrict(path: &Path, restriction: Restriction) -> io::Result<()> {
    let (set, flags) = match restriction {
        Restriction::ReadOnly => (libc::MOUNT_ATTR_RDONLY, 0),
        Restriction::ReadOnlyTree => (libc::MOUNT_ATTR_RDONLY, libc::AT_RECURSIVE),
        Restriction::NoDevices => (libc::MOUNT_ATTR_NODEV, 0),
    };
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the kernel reads the path, which ends in NUL, and as many bytes of attributes as it is told there
    // are; both live until it returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    Ok(Errno::result(result).map(drop)?)
}

/// Takes away what is mounted on `path`, with all below it; who has something of it open keeps that. Nothing is
/// mounted there: nothing is done.
///
/// # Errors
/// EPERM in another's mount namespace.
pub fn detach(path: &Path) -> io::Result<()> {
    match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(Errno::EINVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
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
