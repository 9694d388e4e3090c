//! What a process does to the namespaces that it has just been cloned into.

use std::fs;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;

/// Where the parameters of the network namespace are that looks.
const NETWORK_PARAMETERS: &str = "/proc/sys/net";

/// Where the limits on the message queues of the IPC namespace are that looks.
const MESSAGE_QUEUE_PARAMETERS: &str = "/proc/sys/fs/mqueue";

/// Asks the kernel to kill this process when its parent's thread ends. A parent that ended before the call
/// is not noticed: the caller needs a second sign of life, such as a socket's end of file.
///
/// # Errors
/// prctl(2)'s.
pub fn die_with_parent() -> io::Result<()> {
    Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?)
}

/// Moves this process into a new network namespace, with nothing in it but a loopback that is down.
///
/// # Errors
/// unshare(2)'s.
pub fn new_network() -> io::Result<()> {
    Ok(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?)
}

/// Keeps the network namespace of process `pid` at `path`, a file that is made: it lives on when its last process has
/// ended (network_namespaces(7)).
///
/// # Errors
/// open(2)'s, mount(2)'s.
pub fn keep_network(pid: i32, path: &Path) -> io::Result<()> {
    fs::File::create(path)?;
    let namespace = format!("/proc/{pid}/ns/net");
    Ok(mount(Some(namespace.as_str()), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
}

/// Lets go of what [`keep_network`] keeps, and removes its file. Nothing there is success.
///
/// # Errors
/// umount(2)'s, unlink(2)'s.
pub fn release_network(path: &Path) -> io::Result<()> {
    match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(Errno::ENOENT | Errno::EINVAL) => {}
        Err(errno) => return Err(errno.into()),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Sets the hostname of this UTS namespace.
///
/// # Errors
/// sethostname(2)'s: EINVAL beyond 64 bytes.
pub fn set_hostname(name: &str) -> io::Result<()> {
    Ok(nix::unistd::sethostname(name)?)
}

/// Maps the user and group that made this user namespace to themselves. Files made inside belong to the
/// user, and the capabilities inside last until the process executes another program
/// (user_namespaces(7)).
///
/// # Errors
/// EPERM where the kernel forbids it.
pub fn map_own_user(uid: u32, gid: u32) -> io::Result<()> {
    // An unprivileged gid_map is allowed only once setgroups(2) is given up.
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
}

/// Writes a parameter of this network namespace, such as `ipv4/ip_forward` (ip-sysctl in the kernel's
/// documentation).
///
/// # Errors
/// The file's.
pub fn set_network_parameter(name: &str, value: &str) -> io::Result<()> {
    fs::write(format!("{NETWORK_PARAMETERS}/{name}"), value)
}

/// Reads a parameter of this network namespace, without its end of line.
///
/// # Errors
/// The file's: not found where this kernel has no such parameter.
pub fn network_parameter(name: &str) -> io::Result<String> {
    fs::read_to_string(format!("{NETWORK_PARAMETERS}/{name}")).map(|value| value.trim_end().to_owned())
}

/// Reads a limit on the message queues of this IPC namespace, such as `msg_max` (mq_overview(7)).
///
/// # Errors
/// The file's.
pub fn message_queue_parameter(name: &str) -> io::Result<u64> {
    let text = fs::read_to_string(format!("{MESSAGE_QUEUE_PARAMETERS}/{name}"))?;
    text.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Sets a limit on the message queues of this IPC namespace.
///
/// # Errors
/// The file's: EACCES without root, EINVAL beyond the kernel's maximum.
pub fn set_message_queue_parameter(name: &str, limit: u64) -> io::Result<()> {
    fs::write(format!("{MESSAGE_QUEUE_PARAMETERS}/{name}"), limit.to_string())
}

/// The links that have parameters below `directory`, such as `ipv6/conf`; with `all` and `default`.
///
/// # Errors
/// The directory's.
pub fn links_with_parameters(directory: &str) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(format!("{NETWORK_PARAMETERS}/{directory}"))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// Whether an error means that the kernel refuses privileges rather than that something is wrong.
pub fn is_refusal(error: &io::Error) -> bool {
    error
        .raw_os_error()
        .map(Errno::from_raw)
        .is_some_and(|errno| matches!(errno, Errno::EPERM | Errno::EACCES))
}
