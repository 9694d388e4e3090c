//! One hierarchy per controller (Documentation/admin-guide/cgroup-v1).

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{
    CONTROLLERS, CPU_PERIOD_US, CgroupError, Entry, Limits, cpu_quota_us, make_directory, text, write,
    write_if_present,
};

pub(super) fn create(
    mounts: &[(&'static str, PathBuf)],
    uid: &str,
    limits: &Limits,
    warnings: &mut Vec<String>,
) -> Result<Entry, CgroupError> {
    for controller in CONTROLLERS {
        if !mounts.iter().any(|(name, _)| *name == controller) {
            warnings.push(format!(
                "no {controller} limit for the pod: this machine has no such cgroup controller"
            ));
        }
    }
    let mut tasks = Vec::with_capacity(mounts.len());
    for (controller, root) in mounts {
        let directory = match make_directory(root, uid, |_| Ok(())) {
            Ok(directory) => directory,
            Err(error) if error.is_refusal() => {
                warnings.push(format!("no {controller} limit for the pod: {error}"));
                continue;
            }
            Err(error) => return Err(error),
        };
        limit(controller, &directory, limits, None)?;
        let path = directory.join("tasks");
        let file = File::options().write(true).open(&path);
        tasks.push(file.map_err(|error| CgroupError::new("open it", path, error))?);
    }
    Ok(if tasks.is_empty() { Entry::None } else { Entry::V1(tasks) })
}

/// "No limit", to the kernel.
const NONE: &str = "-1";

/// Changes the limits of a cgroup that is in use, for the controllers that it has.
pub(super) fn resize(directory: &Path, limits: &Limits) -> Result<(), CgroupError> {
    let files = [("memory", "memory.limit_in_bytes"), ("cpu", "cpu.cfs_quota_us"), ("pids", "pids.max")];
    for (controller, file) in files {
        if directory.join(file).exists() {
            limit(controller, directory, limits, Some(NONE))?;
        }
    }
    Ok(())
}

/// Sets the limits of one controller; `none` is written where there is no limit.
fn limit(controller: &str, directory: &Path, limits: &Limits, none: Option<&str>) -> Result<(), CgroupError> {
    match controller {
        "memory" => {
            let Some(bytes) = text(limits.memory_bytes, none) else { return Ok(()) };
            // Memory and swap together: never less than memory alone, at no time.
            if grows(directory, limits.memory_bytes) {
                write_if_present(directory, "memory.memsw.limit_in_bytes", &bytes)?;
                write(directory, "memory.limit_in_bytes", &bytes)?;
            } else {
                write(directory, "memory.limit_in_bytes", &bytes)?;
                write_if_present(directory, "memory.memsw.limit_in_bytes", &bytes)?;
            }
        }
        "cpu" => {
            if let Some(quota) = text(limits.cpu_millis.map(cpu_quota_us), none) {
                write(directory, "cpu.cfs_period_us", CPU_PERIOD_US.to_string())?;
                write(directory, "cpu.cfs_quota_us", quota)?;
            }
            if let Some(shares) = limits.cpu_shares {
                write(directory, "cpu.shares", shares.to_string())?;
            }
        }
        "pids" => {
            // This one file says it as v2 does.
            if let Some(tasks) = text(limits.pids, none.map(|_| "max")) {
                write(directory, "pids.max", tasks)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Whether a memory limit is more than the present one.
fn grows(directory: &Path, limit: Option<u64>) -> bool {
    let present = fs::read_to_string(directory.join("memory.limit_in_bytes")).unwrap_or_default();
    let present: u64 = present.trim().parse().unwrap_or(u64::MAX);
    limit.is_none_or(|limit| limit > present)
}

/// cgroup-v1/memory.rst, 10: an eventfd registered with `cgroup.event_control`.
pub(super) fn oom_notices(directory: &Path) -> Option<OwnedFd> {
    let control = File::open(directory.join("memory.oom_control")).ok()?;
    let notices = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC).ok()?;
    let order = format!("{} {}", notices.as_raw_fd(), control.as_raw_fd());
    write(directory, "cgroup.event_control", order).ok()?;
    notices.as_fd().try_clone_to_owned().ok()
}
