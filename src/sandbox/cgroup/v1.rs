//! One hierarchy per controller (Documentation/admin-guide/cgroup-v1).

use std::fs::File;
use std::path::{Path, PathBuf};

use super::{
    CONTROLLERS, CPU_PERIOD_US, CgroupError, Entry, Limits, cpu_quota_us, make_directory, write,
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
        limit(controller, &directory, limits)?;
        let path = directory.join("tasks");
        let file = File::options().write(true).open(&path);
        tasks.push(file.map_err(|error| CgroupError::new("open it", path, error))?);
    }
    Ok(if tasks.is_empty() { Entry::None } else { Entry::V1(tasks) })
}

fn limit(controller: &str, directory: &Path, limits: &Limits) -> Result<(), CgroupError> {
    match controller {
        "memory" => {
            if let Some(bytes) = limits.memory_bytes {
                write(directory, "memory.limit_in_bytes", bytes.to_string())?;
                // Memory and swap together; the kernel wants it at least as large as the limit before.
                write_if_present(directory, "memory.memsw.limit_in_bytes", bytes.to_string())?;
            }
        }
        "cpu" => {
            if let Some(millis) = limits.cpu_millis {
                write(directory, "cpu.cfs_period_us", CPU_PERIOD_US.to_string())?;
                write(directory, "cpu.cfs_quota_us", cpu_quota_us(millis).to_string())?;
            }
        }
        "pids" => {
            if let Some(tasks) = limits.pids {
                write(directory, "pids.max", tasks.to_string())?;
            }
        }
        _ => {}
    }
    Ok(())
}
