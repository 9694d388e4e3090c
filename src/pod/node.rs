//! What a pod is told of the node that it runs on: this machine.

use std::path::Path;

use nix::sys::statvfs::statvfs;

use crate::sandbox::oom::machine_memory;
use crate::spec::environment::Allocatable;

/// `spec.nodeName`: the hostname in lower case (`GetHostname` in `pkg/util/node/node.go`). To be asked for outside of
/// the pod, which has a hostname of its own.
pub fn name() -> String {
    let host = nix::unistd::gethostname();
    host.map_or_else(|_| "localhost".to_owned(), |name| name.to_string_lossy().trim().to_lowercase())
}

/// All that the machine has, with the file system of `state_dir`. What cannot be found out is 0. To be asked for outside
/// of the pod's cgroup.
pub fn allocatable(state_dir: &Path) -> Allocatable {
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    // It is made when the first pod is.
    let storage = state_dir.ancestors().find_map(|dir| statvfs(dir).ok());
    let storage = storage.map(|storage| storage.blocks().saturating_mul(storage.fragment_size()));
    Allocatable {
        cpu_millis: u64::try_from(cpus).unwrap_or_default().saturating_mul(1000),
        memory_bytes: machine_memory().unwrap_or_default(),
        storage_bytes: storage.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_something() {
        let Allocatable { cpu_millis, memory_bytes, storage_bytes } = allocatable(Path::new("/"));
        assert!(cpu_millis >= 1000 && memory_bytes > 1 << 20 && storage_bytes > 0);
        assert_eq!(name(), name().to_lowercase());
    }
}
