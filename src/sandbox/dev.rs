//! `/dev/mqueue` in a pod on a machine whose `/dev` has no such directory, as many without systemd.
//!
//! ```text
//! /dev/mqueue is there ─► mounted when the pod begins (`process`)
//!             is not ──► the first native command ─► a tmpfs: all that /dev has, bound, and mqueue
//!                                                           └─► in the place of /dev
//! ```
//!
//! No Wasm container looks at it, and a mount for each of a machine's devices takes a millisecond: a pod without native
//! commands does not pay for them. A device that appears later is not in that pod's `/dev`.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::sys::mount;

/// Where the message queues of a pod are for its native processes (mq_overview(7)).
pub const MQUEUE: &str = "/dev/mqueue";

const DEV: &str = "/dev";
/// Files and links of the new `/dev`, bytes: what is in them is elsewhere.
const SIZE: u64 = 1 << 20;

/// Sees to it that the pod whose namespaces this process is in has [`MQUEUE`]. `work`: a directory that can be
/// written, and is this process's alone.
///
/// # Errors
/// What keeps it from being there.
pub fn ensure_mqueue(work: &Path) -> io::Result<()> {
    match mount::is_mqueue(MQUEUE.as_ref()) {
        Ok(true) => return Ok(()),
        // It was in the way of the pod's begin already, and told.
        Ok(false) => return mount::mqueue(MQUEUE.as_ref()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let new = work.join(format!("dev-{}", std::process::id()));
    fs::create_dir(&new)?;
    let made = mount::volume_tmpfs(&new, Some(SIZE), 0o755).and_then(|()| {
        let made = fill(&new).and_then(|()| mount::move_to(&new, DEV.as_ref()));
        if made.is_err() {
            let _ = mount::detach(&new);
        }
        made
    });
    // Nothing is mounted there in any other namespace; what stays goes with the pod.
    let _ = fs::remove_dir(&new);
    match made {
        // Another native command was faster, and what this one has looked at had them already.
        Err(_) if mount::is_mqueue(MQUEUE.as_ref()).unwrap_or(false) => Ok(()),
        made => made,
    }
}

/// All that `/dev` has, and the message queues.
fn fill(new: &Path) -> io::Result<()> {
    for entry in fs::read_dir(DEV)? {
        let entry = entry?;
        let (source, target) = (entry.path(), new.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
            continue;
        }
        if kind.is_dir() {
            fs::create_dir(&target)?;
        } else {
            File::create(&target)?;
        }
        match mount::bind_tree(&source, &target) {
            // A device that has just gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
    }
    let mqueue = new.join("mqueue");
    fs::create_dir(&mqueue)?;
    mount::mqueue(&mqueue)
}
