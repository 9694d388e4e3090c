//! The unified hierarchy (Documentation/admin-guide/cgroup-v2.rst).

use std::fs::{self, File};
use std::path::Path;

use super::{CONTROLLERS, CPU_PERIOD_US, CgroupError, Entry, Limits, cpu_quota_us, make_directory, write};

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
    let has = |controller| !missing.contains(&controller);
    if let Some(bytes) = limits.memory_bytes.filter(|_| has("memory")) {
        write(&directory, "memory.max", bytes.to_string())?;
        super::write_if_present(&directory, "memory.swap.max", "0")?;
    }
    if let Some(millis) = limits.cpu_millis.filter(|_| has("cpu")) {
        write(&directory, "cpu.max", format!("{} {CPU_PERIOD_US}", cpu_quota_us(millis)))?;
    }
    if let Some(tasks) = limits.pids.filter(|_| has("pids")) {
        write(&directory, "pids.max", tasks.to_string())?;
    }
    File::open(&directory)
        .map(|directory| Entry::V2(directory.into()))
        .map_err(|error| CgroupError::new("open it", directory, error))
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
