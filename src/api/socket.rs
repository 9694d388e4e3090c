//! A pod's control socket in the file system.
//!
//! A unix socket's address holds 107 bytes of path (unix(7)), which a deep PEAPOD_ROOT exceeds. Both sides
//! therefore reach the socket through `/proc/self/fd/<directory>/control.sock`.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

const NAME: &str = "control.sock";

/// How long clients wait for a pod that has a directory to have its socket, too. Its network is made meanwhile.
const BEGINNING: Duration = Duration::from_secs(2);

/// How often they look.
const INTERVAL: Duration = Duration::from_millis(5);

/// Binds the control socket in a pod's directory, which must be for its owner alone.
///
/// # Errors
/// The file system's.
pub fn bind(directory: &Path) -> io::Result<UnixListener> {
    let (_open, path) = short(directory)?;
    // Left by a run under the same uid that was killed; whoever holds the directory's lock is the only owner.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Connects to the control socket in a pod's directory.
///
/// # Errors
/// `NotFound` or `ConnectionRefused` when nobody serves the pod.
pub fn connect(directory: &Path) -> io::Result<UnixStream> {
    let (_open, path) = short(directory)?;
    UnixStream::connect(path)
}

/// [`connect`], but waits for `BEGINNING` where a pod has a directory and no socket yet: it is being made.
///
/// # Errors
/// As [`connect`]'s.
pub fn connect_soon(directory: &Path) -> io::Result<UnixStream> {
    let end = Instant::now() + BEGINNING;
    loop {
        match connect(directory) {
            Err(error)
                if error.kind() == ErrorKind::NotFound && directory.exists() && Instant::now() < end =>
            {
                thread::sleep(INTERVAL);
            }
            connected => return connected,
        }
    }
}

/// A path to the socket that always fits, and what it is valid with.
fn short(directory: &Path) -> io::Result<(File, PathBuf)> {
    let open = File::options().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(directory)?;
    let path = format!("/proc/self/fd/{}/{NAME}", open.as_raw_fd()).into();
    Ok((open, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bound_and_reached_however_deep_it_is_and_for_its_owner_alone() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("x".repeat(200)).join("y".repeat(200));
        fs::create_dir_all(&deep).unwrap();
        assert_eq!(connect(&deep).unwrap_err().kind(), ErrorKind::NotFound);
        let listener = bind(&deep).unwrap();
        assert_eq!(fs::metadata(deep.join(NAME)).unwrap().permissions().mode() & 0o777, 0o600);
        connect(&deep).unwrap();
        drop(listener);
        assert_eq!(connect(&deep).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        bind(&deep).expect("again, after a run that was killed");
        assert_eq!(connect(&root.path().join("no")).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_pod_that_is_being_made_is_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let (gone, late) = (root.path().join("gone"), root.path().to_owned());
        let binder = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            bind(&late).unwrap()
        });
        connect_soon(root.path()).unwrap();
        drop(binder.join().unwrap());
        // Nobody will bind these.
        assert_eq!(connect_soon(root.path()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert_eq!(connect_soon(&gone).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
