//! The unified hierarchy (Documentation/admin-guide/cgroup-v2.rst).

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::limits::cpu_weight;
use super::{
    CONTROLLERS, CPU_PERIOD_US, CgroupError, Entry, Limits, cpu_quota_us, make_directory, text, write,
};

/// The controllers that a list as in `cgroup.controllers` lacks.
pub(super) fn missing(list: &str) -> Vec<&'static str> {
    CONTROLLERS.into_iter().filter(|name| !list.split_ascii_whitespace().any(|word| word == *name)).collect()
}

pub(super) fn create(
    root: &Path,
    uid: &str,
    limits: &Limits,
    warnings: &mut Vec<String>,
) -> Result<Entry, CgroupError> {
    let made = enable(root).and_then(|()| make_directory(root, uid, enable));
    let made = match made {
        // Processes in this machine's root cgroup, which is another's leaf (the "no internal processes" rule),
        // or real-time processes: no controllers below it. Such a cgroup still counts and kills.
        Err(error)
            if matches!(error.source.raw_os_error(), Some(libc::EBUSY | libc::EINVAL | libc::EOPNOTSUPP)) =>
        {
            make_directory(root, uid, |_| Ok(()))
        }
        made => made,
    };
    let directory = match made {
        Ok(directory) => directory,
        Err(error) if error.is_refusal() => {
            warnings.push(format!("no cgroup and no limits for the pod: {error}"));
            return Ok(Entry::None);
        }
        Err(error) => return Err(error),
    };
    let available = fs::read_to_string(directory.join("cgroup.controllers")).unwrap_or_default();
    let missing = missing(&available);
    if !missing.is_empty() {
        warnings.push(format!(
            "no {} limit for the pod: this cgroup hierarchy does not lend it",
            missing.join(", ")
        ));
    }
    limit(&directory, limits, &missing, None)?;
    File::open(&directory)
        .map(|directory| Entry::V2(directory.into()))
        .map_err(|error| CgroupError::new("open it", directory, error))
}

/// "No limit", to the kernel.
const NONE: &str = "max";

/// Changes the limits of a cgroup that is in use, for the controllers that it has.
pub(super) fn resize(directory: &Path, limits: &Limits) -> Result<(), CgroupError> {
    let available = fs::read_to_string(directory.join("cgroup.controllers")).unwrap_or_default();
    // The kernel would end processes until the rest fits; v1 refuses.
    if let Some((limit, used)) = limits.memory_bytes.zip(memory_in_use(directory))
        && limit < used
    {
        return Err(CgroupError::new(
            "lower its memory limit below what is in use",
            directory.join("memory.max"),
            Errno::EBUSY,
        ));
    }
    limit(directory, limits, &missing(&available), Some(NONE))
}

/// Sets the limits of the controllers that are not `missing`; `none` is written where there is no limit.
fn limit(directory: &Path, limits: &Limits, missing: &[&str], none: Option<&str>) -> Result<(), CgroupError> {
    let has = |controller| !missing.contains(&controller);
    if let Some(bytes) = text(limits.memory_bytes, none).filter(|_| has("memory")) {
        write(directory, "memory.max", bytes)?;
        let swap = if limits.memory_bytes.is_some() { "0" } else { NONE };
        super::write_if_present(directory, "memory.swap.max", swap)?;
    }
    if let Some(quota) = text(limits.cpu_millis.map(cpu_quota_us), none).filter(|_| has("cpu")) {
        write(directory, "cpu.max", format!("{quota} {CPU_PERIOD_US}"))?;
    }
    if let Some(shares) = limits.cpu_shares.filter(|_| has("cpu")) {
        write(directory, "cpu.weight", cpu_weight(shares).to_string())?;
    }
    if let Some(tasks) = text(limits.pids, none).filter(|_| has("pids")) {
        write(directory, "pids.max", tasks)?;
    }
    Ok(())
}

/// Bytes that cannot be given back: all but the cache of files on disks.
fn memory_in_use(directory: &Path) -> Option<u64> {
    let current: u64 = fs::read_to_string(directory.join("memory.current")).ok()?.trim().parse().ok()?;
    let stat = fs::read_to_string(directory.join("memory.stat")).ok()?;
    let field = |name: &str| -> Option<u64> {
        stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    };
    let cache = field("file")?.saturating_sub(field("shmem")?);
    Some(current.saturating_sub(cache))
}

/// cgroup-v2.rst: a value that changes in `memory.events` is a modification of the file.
pub(super) fn oom_notices(directory: &Path) -> Option<OwnedFd> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok()?;
    inotify.add_watch(&directory.join("memory.events"), AddWatchFlags::IN_MODIFY).ok()?;
    inotify.as_fd().try_clone_to_owned().ok()
}

/// Lends the controllers that `directory` has to the cgroups below it.
fn enable(directory: &Path) -> Result<(), CgroupError> {
    let enabled = fs::read_to_string(directory.join("cgroup.subtree_control")).unwrap_or_default();
    let available = fs::read_to_string(directory.join("cgroup.controllers")).unwrap_or_default();
    let unavailable = missing(&available);
    let wanted: Vec<_> = missing(&enabled)
        .into_iter()
        .filter(|controller| !unavailable.contains(controller))
        .map(|controller| format!("+{controller}"))
        .collect();
    if wanted.is_empty() { Ok(()) } else { write(directory, "cgroup.subtree_control", wanted.join(" ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_matched_whole() {
        assert_eq!(missing("cpuset cpu io memory pids\n"), [""; 0]);
        assert_eq!(missing("cpuset hugetlb"), CONTROLLERS);
    }
}
