//! A pod's cgroup: found by looking, made with its limits, removed with all that is in it.
//!
//! ```text
//! /proc/self/mountinfo ─► Hierarchy ─► create ─► Entry ─► the pod process enters
//!                            │                            (v2: by clone3, v1: by writing its `tasks`)
//!                            └─► paths ─► the record ─► remove
//! ```
//!
//! | | memory | CPU | CPU weight | tasks | enter | kill |
//! |---|---|---|---|---|---|---|
//! | v2 | `memory.max` | `cpu.max` | `cpu.weight` | `pids.max` | CLONE_INTO_CGROUP | `cgroup.kill` |
//! | v1 | `memory.limit_in_bytes` | `cpu.cfs_quota_us` | `cpu.shares` | `pids.max` | `tasks` | each of `cgroup.procs` |
//!
//! Never by `cgroup.procs`: writing a pid there waits 17 ms and more for an RCU grace period.

mod limits;
mod v1;
mod v2;

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use thiserror::Error;

pub(super) use limits::memory_request;
pub use limits::{Limits, PIDS, RUNTIME_CPU_MILLIS, RUNTIME_MEMORY_BYTES, memory_limit};

use crate::sys::pidfd;

/// The cgroup above all pods', relative to the hierarchy's root.
const PARENT: &str = "peapod";
/// The controllers that limit a pod.
const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];
/// Period of the CPU bandwidth control, microseconds: the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;
/// The smallest quota that the kernel accepts, microseconds.
const CPU_QUOTA_MIN_US: u64 = 1_000;
/// How long killed processes may take to leave a cgroup. One that waits for a dead disk never does.
const EMPTY_TIMEOUT: Duration = Duration::from_secs(5);
/// First and longest pause between two tries to remove a cgroup that still has tasks: v1 has no event for it.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_micros(100), Duration::from_millis(5));
/// How often another pod's end may remove [`PARENT`] under our hands.
const CREATE_TRIES: usize = 16;

/// A cgroup file or directory that cannot be made, written or removed.
#[derive(Debug, Error)]
#[error("cgroup {}: cannot {action}: {source}", path.display())]
pub struct CgroupError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl CgroupError {
    fn new(action: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self { action, path: path.into(), source: source.into() }
    }

    /// Whether more memory is in use than was to be allowed.
    pub fn is_busy(&self) -> bool {
        self.source.raw_os_error() == Some(libc::EBUSY)
    }

    /// Whether this machine (a container, say) lends its cgroups for reading only.
    fn is_refusal(&self) -> bool {
        let errno = self.source.raw_os_error().map(Errno::from_raw);
        matches!(errno, Some(Errno::EROFS | Errno::EACCES | Errno::EPERM))
    }
}

/// Where this machine's cgroups are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hierarchy {
    /// The unified hierarchy.
    V2 {
        /// Its mount point.
        root: PathBuf,
    },
    /// One hierarchy per controller.
    V1 {
        /// Controller and mount point, in the order of the controllers' names in this module's table.
        mounts: Vec<(&'static str, PathBuf)>,
    },
}

impl Hierarchy {
    /// The hierarchy of this machine: v2 where it has the controllers, else v1, else v2 without limits, else
    /// none.
    pub fn find() -> Option<Self> {
        let has_controllers = |root: &Path| {
            fs::read_to_string(root.join("cgroup.controllers"))
                .is_ok_and(|list| v2::missing(&list).is_empty())
        };
        Self::parse(&fs::read_to_string("/proc/self/mountinfo").ok()?, has_controllers)
    }

    /// [`Hierarchy::find`] on the text of proc_pid_mountinfo(5).
    fn parse(mountinfo: &str, has_controllers: impl Fn(&Path) -> bool) -> Option<Self> {
        let mut unified = None;
        let mut found: [Option<PathBuf>; CONTROLLERS.len()] = Default::default();
        for (place, kind, options) in mountinfo.lines().filter_map(mount_of_line) {
            match kind {
                "cgroup2" => unified = unified.or(Some(place)),
                "cgroup" => {
                    for (controller, slot) in CONTROLLERS.iter().zip(&mut found) {
                        if slot.is_none() && options.split(',').any(|option| option == *controller) {
                            *slot = Some(place.clone());
                        }
                    }
                }
                _ => {}
            }
        }
        let mounts: Vec<_> =
            CONTROLLERS.into_iter().zip(found).filter_map(|(name, place)| Some((name, place?))).collect();
        match unified {
            Some(root) if mounts.is_empty() || has_controllers(&root) => Some(Self::V2 { root }),
            _ if !mounts.is_empty() => Some(Self::V1 { mounts }),
            _ => None,
        }
    }

    /// The directories that pod `uid` has in this hierarchy.
    pub fn paths(&self, uid: &str) -> Vec<PathBuf> {
        let below = |root: &Path| root.join(PARENT).join(directory(uid));
        match self {
            Self::V2 { root } => vec![below(root)],
            Self::V1 { mounts } => mounts.iter().map(|(_, root)| below(root)).collect(),
        }
    }
}

/// Mount point, filesystem type and superblock options of a line of mountinfo.
fn mount_of_line(line: &str) -> Option<(PathBuf, &str, &str)> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let place = mount.split(' ').nth(4)?;
    let mut filesystem = filesystem.split(' ');
    Some((unescape(place).into(), filesystem.next()?, filesystem.nth(1)?))
}

/// Undoes mountinfo's `\040` for a space and the like.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(char::from(byte));
                plain.push_str(&part[3..]);
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

/// The name of pod `uid`'s cgroup.
fn directory(uid: &str) -> String {
    format!("pod{uid}")
}

/// Whether `path` can be the cgroup of pod `uid`: a check of what a record claims.
pub(super) fn is_of_pod(path: &Path, uid: &str) -> bool {
    path.is_absolute()
        && path.ends_with(Path::new(PARENT).join(directory(uid)))
        && !path.components().any(|part| part == std::path::Component::ParentDir)
}

/// How the pod process gets into its cgroup.
#[derive(Debug)]
pub enum Entry {
    /// There is none.
    None,
    /// The directory, for CLONE_INTO_CGROUP.
    V2(OwnedFd),
    /// The `tasks` files, open for writing: the single-threaded pod process calls [`Entry::enter`].
    V1(Vec<File>),
}

impl Entry {
    /// In the pod process, before its second thread: enters the cgroups of v1. Nothing to do with v2.
    ///
    /// # Errors
    /// write(2)'s: EAGAIN when the pids limit is 0.
    pub fn enter(&self) -> io::Result<()> {
        if let Self::V1(tasks) = self {
            for mut file in tasks {
                // "0" is the writing thread.
                io::Write::write_all(&mut file, b"0")?;
            }
        }
        Ok(())
    }

    /// What `clone3(2)` takes, and what is left for [`Entry::enter`].
    pub fn split(self) -> (Option<OwnedFd>, Self) {
        match self {
            Self::V2(directory) => (Some(directory), Self::None),
            other => (None, other),
        }
    }
}

/// Makes pod `uid`'s cgroup with its limits. Each line added to `warnings` is something that this machine
/// does not let us have.
///
/// # Errors
/// When a limit cannot be set though the cgroup could be made.
pub fn create(
    hierarchy: &Hierarchy,
    uid: &str,
    limits: &Limits,
    warnings: &mut Vec<String>,
) -> Result<Entry, CgroupError> {
    match hierarchy {
        Hierarchy::V2 { root } => v2::create(root, uid, limits, warnings),
        Hierarchy::V1 { mounts } => v1::create(mounts, uid, limits, warnings),
    }
}

/// Changes the limits of a pod's cgroups, while it runs.
///
/// # Errors
/// When one cannot be set: memory below what is in use, for one ([`CgroupError::is_busy`]). Those before it are set.
pub fn resize(paths: &[PathBuf], limits: &Limits) -> Result<(), CgroupError> {
    for path in paths {
        if path.join("cgroup.controllers").exists() {
            v2::resize(path, limits)?;
        } else {
            v1::resize(path, limits)?;
        }
    }
    Ok(())
}

/// A limit as the kernel reads it, or `none`.
fn text(limit: Option<u64>, none: Option<&str>) -> Option<String> {
    limit.map(|limit| limit.to_string()).or_else(|| none.map(str::to_owned))
}

/// Makes `<root>/peapod/pod<uid>`, though the end of another pod may remove `<root>/peapod` meanwhile.
/// `prepare` is called with the parent when it exists.
fn make_directory(
    root: &Path,
    uid: &str,
    mut prepare: impl FnMut(&Path) -> Result<(), CgroupError>,
) -> Result<PathBuf, CgroupError> {
    let parent = root.join(PARENT);
    let own = parent.join(directory(uid));
    let mut tries = 0;
    loop {
        tries += 1;
        match fs::create_dir(&own) {
            Ok(()) => return Ok(own),
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries < CREATE_TRIES => {}
            Err(error) => return Err(CgroupError::new("make it", own, error)),
        }
        match fs::create_dir(&parent) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(CgroupError::new("make it", parent, error));
            }
            _ => prepare(&parent)?,
        }
    }
}

fn write(directory: &Path, file: &str, value: impl AsRef<str>) -> Result<(), CgroupError> {
    let path = directory.join(file);
    // Without O_CREAT: a file that is not there is a controller that is not there.
    let written = File::options()
        .write(true)
        .custom_flags(libc::O_CLOEXEC)
        .open(&path)
        .and_then(|mut file| io::Write::write_all(&mut file, value.as_ref().as_bytes()));
    written.map_err(|error| CgroupError::new("write it", path, error))
}

/// A file that not every kernel has, such as the accounting of swap.
fn write_if_present(directory: &Path, file: &str, value: impl AsRef<str>) -> Result<(), CgroupError> {
    match write(directory, file, value) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn cpu_quota_us(millis: u64) -> u64 {
    (millis.saturating_mul(CPU_PERIOD_US) / 1000).max(CPU_QUOTA_MIN_US)
}

/// How many processes of a pod the kernel killed for want of memory.
pub fn oom_kills(paths: &[PathBuf]) -> u64 {
    let count = |text: String| {
        text.lines()
            .find_map(|line| line.strip_prefix("oom_kill "))
            .and_then(|count| count.trim().parse().ok())
    };
    let files = ["memory.events", "memory.oom_control"];
    paths
        .iter()
        .flat_map(|path| files.map(|file| path.join(file)))
        .find_map(|file| fs::read_to_string(file).ok().and_then(count))
        .unwrap_or(0)
}

/// A descriptor, which does not block, that becomes readable when [`oom_kills`] may have changed. With v1, when memory
/// has run out. `None`: there is no such cgroup.
pub fn oom_notices(paths: &[PathBuf]) -> Option<OwnedFd> {
    paths.iter().find_map(|path| v2::oom_notices(path).or_else(|| v1::oom_notices(path)))
}

/// Kills every process in the cgroup.
pub fn kill(path: &Path) {
    if write(path, "cgroup.kill", "1").is_ok() {
        return;
    }
    // v1, or before Linux 5.14: one by one. A process that forks meanwhile is met by the caller's next call.
    for pid in fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default().lines() {
        let Ok(pid) = pid.parse() else { continue };
        // 0 is a process of another pid namespace: not ours to kill, and to kill(2) it would mean ourselves.
        if pid > 0
            && let Ok(process) = pidfd::open(pid)
        {
            let _ = pidfd::signal(process, Signal::SIGKILL);
        }
    }
}

/// Kills what is in the cgroup, waits until it is empty and removes it, with the cgroups below it and, when it
/// was the last, the one above all pods. Absent already is success.
///
/// # Errors
/// When it is still not empty after five seconds.
pub fn remove(path: &Path) -> Result<(), CgroupError> {
    let deadline = Instant::now() + EMPTY_TIMEOUT;
    let mut pause = RETRY_PAUSES.0;
    loop {
        match fs::remove_dir(path) {
            Ok(()) => break,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                kill(path);
                for child in fs::read_dir(path).into_iter().flatten().flatten() {
                    if child.file_type().is_ok_and(|kind| kind.is_dir()) {
                        remove(&child.path())?;
                    }
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(RETRY_PAUSES.1);
            }
            Err(error) => return Err(CgroupError::new("remove it", path, error)),
        }
    }
    if let Some(parent) = path.parent().filter(|parent| parent.ends_with(PARENT)) {
        // Refused while another pod is in it.
        let _ = fs::remove_dir(parent);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
35 31 0:32 / /sys/fs/cgroup/my\\040memory rw,relatime shared:9 - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";

    #[test]
    fn the_hierarchy_with_the_controllers_is_chosen() {
        let unified = Hierarchy::V2 { root: "/sys/fs/cgroup/unified".into() };
        assert_eq!(Hierarchy::parse(V1, |_| true), Some(unified.clone()));
        let mounts = vec![
            ("memory", "/sys/fs/cgroup/my memory".into()),
            ("cpu", "/sys/fs/cgroup/cpu,cpuacct".into()),
            ("pids", "/sys/fs/cgroup/pids".into()),
        ];
        assert_eq!(Hierarchy::parse(V1, |_| false), Some(Hierarchy::V1 { mounts }));
        let only_unified = V1.lines().last().unwrap();
        assert_eq!(Hierarchy::parse(only_unified, |_| false), Some(unified));
        assert_eq!(Hierarchy::parse("garbage\n\n1 2 - x", |_| true), None);
    }

    #[test]
    fn only_a_pods_own_directory_is_believed() {
        assert!(is_of_pod(Path::new("/sys/fs/cgroup/peapod/podu1"), "u1"));
        assert!(!is_of_pod(Path::new("/sys/fs/cgroup/peapod/podu2"), "u1"));
        assert!(!is_of_pod(Path::new("/sys/../home/peapod/podu1"), "u1"));
        assert!(!is_of_pod(Path::new("peapod/podu1"), "u1"));
        assert!(!is_of_pod(Path::new("/"), "u1"));
    }

    #[test]
    fn quotas_stay_within_what_the_kernel_takes() {
        assert_eq!(cpu_quota_us(1), CPU_QUOTA_MIN_US);
        assert_eq!(cpu_quota_us(1500), 150_000);
    }
}
