//! What Linux says where wasmtime-wasi says "not permitted" (EPERM) only: a mount is read-only, which it checks before
//! anything else.

use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::filesystem::Descriptor;

/// Why a change is refused whatever is at its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// EROFS.
    ReadOnly,
    /// EXDEV: one of the two directories is of a mount that can be written to, and the other is not; `mv` and its like
    /// copy then.
    CrossDevice,
}

/// Looks at what a change was refused of: one descriptor or, of links and renames, two. `None`: not for its mount.
pub(super) fn refused(table: &ResourceTable, descriptors: &[u32]) -> Option<Refused> {
    let is_read_only = |descriptor: &u32| {
        let perms = match table.get(&Resource::<Descriptor>::new_borrow(*descriptor)) {
            Ok(Descriptor::File(file)) => file.perms,
            Ok(Descriptor::Dir(directory)) => directory.perms,
            Err(_) => return false,
        };
        perms.write_not_permitted()
    };
    match descriptors.iter().filter(|descriptor| is_read_only(descriptor)).count() {
        0 => None,
        count if count == descriptors.len() => Some(Refused::ReadOnly),
        _ => Some(Refused::CrossDevice),
    }
}
