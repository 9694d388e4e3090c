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
//! A path beside a mount of a single file is a file of the directory that was made for that
//! ([`Preopen::is_of_files`]).
//!
//! There is no file where the path is not absolute, its directory is the pod's `/etc` or lies in a mount that is
//! read-only.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt, Permissions, PermissionsExt};
use nix::sys::stat::{Mode, SFlag, mknodat};

use super::log::LogTail;
use super::state::{Exit, ExitReason, MAX_MESSAGE_BYTES};
use crate::spec::{Container, User};
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
    file: Option<(Arc<Dir>, PathBuf)>,
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
                words.file = Some((Arc::new(dir), file.to_owned()));
            }
            return Ok(words);
        }
        if let Some(preopen) = preopens.iter().find(|own| own.is_of_files() && own.guest_path == parent) {
            // Its file is as new as the run.
            words.file = Some((Arc::new(preopen.try_clone_dir()?), name.into()));
            return Ok(words);
        }
        if parent == ETC {
            return Ok(words);
        }
        let file = Path::new(&container.name).join(name);
        let own = self.own_directory(&container.name, &file)?;
        if container.user != User::default() {
            // As the kubelet has it, for a user that is not root (`makeMounts` in
            // `pkg/kubelet/kuberuntime/kuberuntime_container.go`).
            self.root.set_permissions(&file, Permissions::from_mode(0o666))?;
        }
        preopens.push(Preopen::new(parent.to_owned(), own));
        words.own = Some((Arc::clone(&self.root), container.name.clone()));
        words.file = Some((Arc::clone(&self.root), file));
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
        // With one system call where an open needs a close, too: every start of a container passes here.
        mknodat(&*self.root, file, SFlag::S_IFREG, Mode::S_IRUSR | Mode::S_IWUSR, 0)?;
        self.root.open_dir(container)
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::spec::{Mount, Role, TerminationMessage};
    use crate::testing::spec as testing;

    /// The messages of a pod of so many containers, and a volume.
    struct World {
        dir: tempfile::TempDir,
        messages: Messages,
    }

    impl World {
        fn new(containers: usize) -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("messages")).unwrap();
            fs::create_dir(dir.path().join("volume")).unwrap();
            let messages = Messages::open(&dir.path().join("messages"), containers).unwrap();
            Self { dir, messages }
        }

        fn volume(&self) -> PathBuf {
            self.dir.path().join("volume")
        }

        /// A run of a container that has the volume at `/data`.
        fn run(&self, path: &str, read_only: bool, log: Option<LogTail>) -> (LastWords, Vec<Preopen>) {
            let mount = Mount {
                volume: "data".into(),
                path: "/data".into(),
                sub_path: None,
                sub_path_expr: None,
                read_only,
            };
            let container = Container {
                mounts: vec![mount],
                termination_message: TerminationMessage {
                    path: path.to_owned(),
                    falls_back_to_logs: log.is_some(),
                },
                ..testing::container("web", Role::Main)
            };
            let volume = Dir::open_ambient_dir(self.volume(), ambient_authority()).unwrap();
            let mut data = Preopen::new("/data".into(), volume);
            data.read_only = read_only;
            let mut preopens = vec![data];
            let words = self.messages.for_run(&container, log, &mut preopens).unwrap();
            (words, preopens)
        }

        /// Where the guest finds its file.
        fn own(&self) -> PathBuf {
            self.dir.path().join("messages/web/termination-log")
        }
    }

    const DEFAULT: &str = "/dev/termination-log";

    fn message(words: LastWords, exit: Exit) -> Option<String> {
        words.complete(exit).message
    }

    #[test]
    fn every_run_has_an_empty_file_of_its_own_which_goes_with_it() {
        let world = World::new(1);
        for text in ["one", "two"] {
            let (words, preopens) = world.run(DEFAULT, false, None);
            let paths: Vec<_> = preopens.iter().map(|preopen| preopen.guest_path.as_str()).collect();
            assert_eq!(paths, ["/data", "/dev"]);
            assert_eq!(fs::read(world.own()).unwrap(), b"");
            fs::write(world.own(), text).unwrap();
            fs::create_dir_all(world.own().with_file_name("a/b")).unwrap();
            assert_eq!(message(words, Exit::with_code(0)).as_deref(), Some(text));
            assert!(!world.own().parent().unwrap().exists());
        }
        // One that peapod did not get to clean up.
        fs::create_dir(world.own().parent().unwrap()).unwrap();
        fs::write(world.own(), "old").unwrap();
        let (words, _preopens) = world.run(DEFAULT, false, None);
        assert_eq!(message(words, Exit::with_code(0)), None);
    }

    #[test]
    fn the_end_of_a_long_file_is_cut_to_the_containers_part() {
        for (containers, bytes) in [(1, 4096), (3, 4096), (4, 3072), (100, 122)] {
            let world = World::new(containers);
            let (words, _preopens) = world.run(DEFAULT, false, None);
            fs::write(world.own(), format!("{}{}", "a".repeat(100), "b".repeat(4096))).unwrap();
            assert_eq!(message(words, Exit::with_code(0)), Some("b".repeat(bytes)), "{containers}");
        }
        let world = World::new(1);
        let (words, _preopens) = world.run(DEFAULT, false, None);
        fs::write(world.own(), b"\xff!").unwrap();
        assert_eq!(message(words, Exit::with_code(0)).as_deref(), Some("\u{fffd}!"));
    }

    #[test]
    fn the_log_speaks_for_a_container_that_ran_and_failed_and_left_nothing() {
        let world = World::new(1);
        let log = || {
            let tail = LogTail::default();
            tail.push(b"last line\n");
            Some(tail)
        };
        let trapped = || Exit::trapped("unreachable".into());
        for (left, log, exit, expected) in [
            ("", log(), Exit::with_code(3), Some("last line\n")),
            ("", log(), trapped(), Some("last line\n")),
            ("", log(), Exit::with_code(0), None),
            ("words", log(), Exit::with_code(3), Some("words")),
            ("words", None, trapped(), Some("words")),
            ("", None, Exit::with_code(3), None),
            ("", None, trapped(), Some("unreachable")),
            ("", Some(LogTail::default()), trapped(), Some("unreachable")),
            ("", log(), Exit::start_error("no memory".into()), Some("no memory")),
        ] {
            let (words, _preopens) = world.run(DEFAULT, false, log);
            fs::write(world.own(), left).unwrap();
            assert_eq!(message(words, exit.clone()).as_deref(), expected, "{left:?} {exit:?}");
        }
    }

    #[test]
    fn a_file_of_a_volume_is_removed_before_and_read_after() {
        let world = World::new(1);
        let file = world.volume().join("words");
        fs::write(&file, "old").unwrap();
        let (words, preopens) = world.run("/data/words", false, None);
        assert_eq!(preopens.len(), 1);
        assert!(!file.exists());
        fs::write(&file, "new").unwrap();
        assert_eq!(message(words, Exit::with_code(0)).as_deref(), Some("new"));
        assert!(file.exists(), "it is the volume's");

        // What cannot be this run's.
        let (words, _preopens) = world.run("/data/words", true, None);
        assert_eq!(message(words, Exit::with_code(0)), None);
    }

    #[test]
    fn what_is_no_file_is_no_message() {
        let world = World::new(1);
        let file = world.volume().join("words");
        let made: [&dyn Fn(); 4] = [
            &|| {},
            &|| std::os::unix::fs::symlink("/etc/hostname", &file).unwrap(),
            &|| nix::unistd::mkfifo(&file, Mode::S_IRWXU).unwrap(),
            &|| fs::create_dir(&file).unwrap(),
        ];
        for make in made {
            let (words, _preopens) = world.run("/data/words", false, None);
            make();
            assert_eq!(message(words, Exit::with_code(0)), None);
        }
    }

    #[test]
    fn a_place_that_cannot_be_given_has_no_message() {
        let world = World::new(1);
        for path in ["", "/", "words", "/etc/words", "/dev/../words"] {
            let (words, preopens) = world.run(path, false, None);
            assert_eq!(preopens.len(), 1, "{path}");
            assert_eq!(message(words, Exit::with_code(1)), None, "{path}");
        }
        let (_words, preopens) = world.run("/var/run/words", false, None);
        assert_eq!(preopens[1].guest_path, "/var/run");
    }
}
