//! Which pods use a claim: a locked file for each, which the kernel unlocks when the pod is no more.
//!
//! ```text
//! <claim>/users/<pod uid>   "namespace/name", locked with flock(2) by the pod's supervisor and the pod process
//! ```
//!
//! The lock belongs to the open file, which the pod process inherits by its fork: where the supervisor is killed, the
//! claim is in use until the pod process, which dies with it, can write to it no more. No other process gets it, as
//! it closes on exec. All of this happens while the registry is locked, except for a pod's own end.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How often a file may vanish between its making and its locking: once, by the end of a pod of this uid.
const TRIES: usize = 4;

/// The longest name of a pod with its namespace, bytes.
const MAX_NAME_BYTES: u64 = 1024;

/// A pod's use of a claim. It ends when this value does, or this process and the pod process do.
#[derive(Debug)]
pub struct Use {
    path: PathBuf,
    _lock: File,
}

impl Drop for Use {
    fn drop(&mut self) {
        // What stays is not locked, and so counts for nothing.
        let _ = fs::remove_file(&self.path);
    }
}

/// A pod that uses a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The pod's uid.
    pub uid: String,
    /// `namespace/name`.
    pub pod: String,
}

/// Makes a pod a user of the claim in `directory`.
///
/// # Errors
/// The files'; `WouldBlock` when a pod of this uid uses it already.
pub fn enter(directory: &Path, user: &User) -> io::Result<Use> {
    fs::create_dir_all(directory)?;
    let path = directory.join(&user.uid);
    for _ in 0..TRIES {
        let mut file = File::options().create(true).truncate(false).write(true).open(&path)?;
        file.try_lock()?;
        if file.metadata()?.nlink() > 0 {
            file.set_len(0)?;
            file.write_all(user.pod.as_bytes())?;
            return Ok(Use { path, _lock: file });
        }
    }
    Err(io::ErrorKind::WouldBlock.into())
}

/// The pods that use the claim in `directory`; what others have left there is removed.
///
/// # Errors
/// The files'.
pub fn all(directory: &Path) -> io::Result<Vec<User>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut users = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let file = match File::open(&path) {
            // Its pod has just ended.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        match file.try_lock() {
            Ok(()) => fs::remove_file(&path).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })?,
            Err(TryLockError::WouldBlock) => {
                let uid = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let mut pod = String::new();
                file.take(MAX_NAME_BYTES).read_to_string(&mut pod)?;
                users.push(User { uid, pod });
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    users.sort_by(|a, b| a.pod.cmp(&b.pod));
    Ok(users)
}

/// Their names, for a message.
pub fn names(users: &[User]) -> String {
    let names: Vec<_> = users.iter().map(|user| format!("pod {}", user.pod)).collect();
    names.join(", ")
}
