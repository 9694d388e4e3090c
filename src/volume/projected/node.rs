//! What the node has for pods.

use std::thread::available_parallelism;

use cap_std::fs::Dir;
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{SysconfVar, sysconf};

use crate::spec::environment::Allocatable;

/// All of this machine, which reserves nothing; the disk is that of `dir`.
pub(super) fn allocatable(dir: &Dir) -> Allocatable {
    let number = |variable| sysconf(variable).ok().flatten().and_then(|number| u64::try_from(number).ok());
    let pages = number(SysconfVar::_PHYS_PAGES).unwrap_or_default();
    let page = number(SysconfVar::PAGE_SIZE).unwrap_or_default();
    let disk = fstatvfs(dir).map(|disk| disk.blocks().saturating_mul(disk.fragment_size()));
    Allocatable {
        cpu_millis: available_parallelism().map_or(1, usize::from) as u64 * 1000,
        memory_bytes: pages.saturating_mul(page),
        storage_bytes: disk.unwrap_or_default(),
    }
}
