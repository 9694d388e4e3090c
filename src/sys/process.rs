//! What `/proc` says about a process, and is told.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// CAP_NET_ADMIN, capability(7).
const CAP_NET_ADMIN: u32 = 12;
/// CAP_SYS_ADMIN, capability(7).
const CAP_SYS_ADMIN: u32 = 21;

/// How many threads this process has.
///
/// # Errors
/// When `/proc` is not mounted.
pub fn threads() -> io::Result<u64> {
    // A directory's link count is 2 + its subdirectories: one stat instead of a directory listing.
    Ok(fs::metadata("/proc/self/task")?.nlink().saturating_sub(2))
}

/// When `pid` started, in clock ticks since boot; `None` when there is no such process. With the pid it
/// names a process for good: pids are used again.
pub fn start_time(pid: i32) -> Option<u64> {
    start_time_in(Path::new("/proc"), pid)
}

/// [`start_time`] as the process list mounted at `proc` has it: pids differ between pid namespaces.
pub fn start_time_in(proc: &Path, pid: i32) -> Option<u64> {
    parse_start_time(&fs::read_to_string(proc.join(format!("{pid}/stat"))).ok()?)
}

/// Field 22 of proc_pid_stat(5). The command name in field 2 may hold spaces and parentheses.
fn parse_start_time(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Whether this process may make namespaces, mounts and links without a user namespace of its own.
pub fn is_privileged() -> bool {
    fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| effective_capabilities(&status))
        .is_some_and(|capabilities| {
            [CAP_NET_ADMIN, CAP_SYS_ADMIN].iter().all(|cap| capabilities & (1 << cap) != 0)
        })
}

/// When the machine runs out of memory, this process is what the kernel ends first (proc_pid_oom_score_adj(5)).
/// Best effort: where `/proc` is missing the kernel chooses by size, as always.
pub fn volunteer_for_oom() {
    let _ = set_oom_score_adj(1000);
}

/// How early the kernel ends this process when memory runs out, -1000 (never) to 1000 (first).
///
/// # Errors
/// EACCES: less than it was takes CAP_SYS_RESOURCE. ENOENT where `/proc` is missing.
pub fn set_oom_score_adj(score: i32) -> io::Result<()> {
    fs::write("/proc/self/oom_score_adj", score.to_string())
}

/// What [`set_oom_score_adj`] has set for a process; `None` when there is none.
pub fn oom_score_adj(pid: i32) -> Option<i32> {
    fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).ok()?.trim().parse().ok()
}

/// `CapEff` of proc_pid_status(5).
fn effective_capabilities(status: &str) -> Option<u64> {
    let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(hex.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_is_found_behind_a_hostile_command_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 0 0 18446744073709551615";
        assert_eq!(parse_start_time(stat), Some(4242));
        assert_eq!(parse_start_time("garbage"), None);
        assert!(start_time(std::process::id() as i32).is_some());
    }

    #[test]
    fn capabilities_are_hexadecimal() {
        assert_eq!(effective_capabilities("Name:\tx\nCapEff:\t00000000000000ff\n"), Some(0xff));
        assert_eq!(effective_capabilities("Name:\tx\n"), None);
    }
}
