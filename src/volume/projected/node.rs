//! What the node has for pods.

use std::path::Path;
use std::thread::available_parallelism;

use nix::sys::statvfs::statvfs;
use nix::unistd::{SysconfVar, sysconf};

use crate::spec::environment::Allocatable;

/// All of this machine, which reserves nothing; the disk is that of `dir`.
pub fn allocatable(dir: &Path) -> Allocatable {
    let number = |variable| sysconf(variable).ok().flatten().and_then(|number| u64::try_from(number).ok());
    let pages = number(SysconfVar::_PHYS_PAGES).unwrap_or_default();
    let page = number(SysconfVar::PAGE_SIZE).unwrap_or_default();
    let disk = statvfs(dir).map(|disk| disk.blocks().saturating_mul(disk.fragment_size()));
    Allocatable {
        cpu_millis: available_parallelism().map_or(1, usize::from) as u64 * 1000,
        memory_bytes: pages.saturating_mul(page),
        storage_bytes: disk.unwrap_or_default(),
    }
}
