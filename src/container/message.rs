//! A container's last words: `terminationMessagePath` and `terminationMessagePolicy`.
//!
//! ```text
//!  once for each pod   tmpfs ─► Messages
//!                                 │ for_run: a directory of the run's own, an empty file in it
//!                                 ▼
//!  the guest ─ write ─► /dev/termination-log ─┐
//!            ─ output ► log ─► its tail ──────┴─► LastWords ─► Exit::message
//! ```
//!
//! The kubelet mounts a file at the path (`makeMounts` in `pkg/kubelet/kuberuntime/kuberuntime_container.go`).
//! A component can be given directories only, so the container gets the file's directory: by default a `/dev`
//! with nothing else in it. It is on a tmpfs of the pod's own, as `/dev` of any container is, which bounds it in
//! bytes and in files; its pages count to the pod's memory. The containers of a pod share those bounds: one
//! that fills them keeps the others from leaving a message, and from nothing else.
//!
//! A path in one of the container's mounts is a file of that volume. It is removed before the run and read
//! through the mount's handle after it; a symbolic link there is not followed.
//!
//! There is no file where the path is not absolute, its directory is the pod's `/etc` or lies in a mount that is
//! read-only.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};

use super::log::LogTail;
use super::state::{Exit, ExitReason, MAX_MESSAGE_BYTES};
use crate::spec::Container;
use crate::sys::mount;
use crate::volume::{ETC, Preopen};

/// Bytes of all messages of a pod together (`MaxPodTerminationMessageLogLength` in
/// `pkg/kubelet/container/runtime.go`), of which each container may have the same part
/// (`normalizeStatus` in `pkg/kubelet/status/status_manager.go`).
const POD_MESSAGE_BYTES: usize = 12 * 1024;

/// Bytes of the log that stand for a message (`MaxContainerTerminationMessageLogLength`, there).
pub const LOG_BYTES: usize = 2048;

/// Lines of the log that stand for a message (`MaxContainerTerminationMessageLogLines`, there).
pub const LOG_LINES: usize = 80;

/// Bytes on the tmpfs for each container: the largest page that Linux has anywhere. A message needs one page.
const BYTES_PER_CONTAINER: u64 = 64 * 1024;

/// Files and directories on the tmpfs for each container: two are peapod's, and a guest may put its
/// message into another file first and rename it.
const FILES_PER_CONTAINER: u64 = 16;

/// Where the containers of one pod leave their messages.
#[derive(Debug)]
pub struct Messages {
    root: Arc<Dir>,
    /// Most bytes of one container's message.
    max_bytes: usize,
}

/// Where one run of a container leaves its message.
#[derive(Debug)]
pub struct LastWords {
    file: Option<(Dir, PathBuf)>,
    /// The run's own directory on the tmpfs, to be removed.
    own: Option<(Arc<Dir>, String)>,
    log: Option<LogTail>,
    max_bytes: usize,
}

impl Messages {
    /// Makes the place, on a tmpfs at `path`, for so many containers. To be called in the pod's own mount
    /// namespace, with its mounts private: the tmpfs goes with the namespace.
    ///
    /// # Errors
    /// The directory cannot be made, or nothing mounted on it.
    pub fn mount(path: &Path, containers: usize) -> io::Result<Self> {
        std::fs::create_dir(path)?;
        let count = containers as u64;
        // The tmpfs's own root is one file, too.
        mount::small_tmpfs(path, count * BYTES_PER_CONTAINER, 1 + count * FILES_PER_CONTAINER)?;
        Self::open(path, containers)
    }

    /// For a directory that is there.
    fn open(path: &Path, containers: usize) -> io::Result<Self> {
        let max_bytes = (POD_MESSAGE_BYTES / containers.max(1)).min(MAX_MESSAGE_BYTES);
        Ok(Self { root: Arc::new(Dir::open_ambient_dir(path, ambient_authority())?), max_bytes })
    }

    /// Makes place for the message of the next run of `container`, and adds what the guest needs to reach it to
    /// the directories it is given. `log` is the tail of the run's log, for one that falls back to it.
    ///
    /// # Errors
    /// There is no room on the tmpfs. What cannot be removed from a volume is no error: it is the guest's to deal
    /// with.
    pub fn for_run(
        &self,
        container: &Container,
        log: Option<LogTail>,
        preopens: &mut Vec<Preopen>,
    ) -> io::Result<LastWords> {
        let mut words = LastWords { file: None, own: None, log, max_bytes: self.max_bytes };
        let path = Path::new(&container.termination_message.path);
        let (Some(parent), Some(name)) = (path.parent().and_then(Path::to_str), path.file_name()) else {
            return Ok(words);
        };
        if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
            return Ok(words);
        }
        // A mount of everything is one of all that has no place of its own; `/dev` has one.
        let mounted = container.mount_of(&container.termination_message.path);
        if let Some((mount, file)) = mounted.filter(|(mount, _)| mount.path != "/" || parent == "/") {
            let given = preopens.iter().find(|preopen| preopen.guest_path == mount.path);
            if let Some(preopen) = given.filter(|preopen| !preopen.read_only) {
                let dir = preopen.try_clone_dir()?;
                // A message of the run before is none of this one's.
                let _ = dir.remove_file(file);
                words.file = Some((dir, file.to_owned()));
            }
            return Ok(words);
        }
        if parent == ETC {
            return Ok(words);
        }
        let own = self.own_directory(&container.name, name.as_ref())?;
        words.own = Some((Arc::clone(&self.root), container.name.clone()));
        preopens.push(Preopen::new(parent.to_owned(), own.try_clone()?));
        words.file = Some((own, name.into()));
        Ok(words)
    }

    /// A fresh directory with an empty file in it.
    fn own_directory(&self, container: &str, file: &Path) -> io::Result<Dir> {
        match self.root.create_dir(container) {
            // The run before was not cleaned up.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.root.remove_dir_all(container)?;
                self.root.create_dir(container)?;
            }
            made => made?,
        }
        let own = self.root.open_dir(container)?;
        own.create(file)?;
        Ok(own)
    }
}

impl LastWords {
    /// The end of a run with the message that the container left.
    ///
    /// What it left itself comes first (`getTerminationMessage` in
    /// `pkg/kubelet/kuberuntime/kuberuntime_container.go`), then, when it failed and its policy says so, the end
    /// of its log. Where there is neither, what peapod has to say of the end stays: a trap's cause, for
    /// example, which Kubernetes has no word for.
    pub fn complete(self, mut exit: Exit) -> Exit {
        let left = self.file.as_ref().and_then(|(dir, file)| read(dir, file).ok()).unwrap_or_default();
        let mut message = String::from_utf8_lossy(&left).into_owned();
        // What could not be started has said nothing.
        let ran = !matches!(exit.reason, ExitReason::FailedToStart(_));
        if message.is_empty()
            && ran
            && exit.code != 0
            && let Some(log) = &self.log
        {
            message = log.text();
        }
        if !message.is_empty() {
            exit.message = Some(message);
        }
        if let Some(message) = &mut exit.message {
            message.truncate(message.floor_char_boundary(self.max_bytes));
        }
        exit
    }
}

impl Drop for LastWords {
    fn drop(&mut self) {
        if let Some((root, name)) = self.own.take() {
            // What stays is in nobody's way: the next run removes it, and the tmpfs goes with the pod.
            let _ = root.remove_dir_all(name);
        }
    }
}

/// The last bytes of a file, no more than a message may have (`ReadAtMost` in `pkg/util/tail/tail.go`). Nothing of
/// what is no file.
fn read(dir: &Dir, file: &Path) -> io::Result<Vec<u8>> {
    let mut options = OpenOptions::new();
    // Opening a pipe that nobody writes would wait.
    options.read(true).follow(FollowSymlinks::No).custom_flags(libc::O_NONBLOCK);
    let mut file = dir.open_with(file, &options)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(Vec::new());
    }
    let start = metadata.len().saturating_sub(MAX_MESSAGE_BYTES as u64);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(MAX_MESSAGE_BYTES as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}
