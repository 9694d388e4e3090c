//! The log file of one container: appended to in whole entries and rotated as the kubelet rotates.
//!
//! ```text
//! <dir>/<container>/<restart>.log                   being written
//! <dir>/<container>/<restart>.log.20060102-150405   older ones, at most `max_files - 1`
//! ```
//!
//! As with the kubelet, a container that is restarted keeps the log of the run before (`kubectl logs
//! --previous`) and no older ones: one that crashes for ever must not fill the disk.
//!
//! The file is opened at the first append and again at each one while that fails, so that a full or
//! missing disk that comes back is used again.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use thiserror::Error;

/// Permissions of a log file, as containerd gives.
const FILE_MODE: u32 = 0o640;

/// Runs of a container whose logs are kept, the present one included.
const RUNS_KEPT: u32 = 2;

/// When a log file is put aside and how many are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// A file is put aside before it would grow beyond this many bytes.
    pub max_bytes: u64,
    /// How many files are kept, the one being written included. At least 1.
    pub max_files: usize,
}

impl Rotation {
    /// The kubelet's `containerLogMaxSize` (10 Mi) and `containerLogMaxFiles` (5).
    pub const KUBELET: Self = Self { max_bytes: 10 * 1024 * 1024, max_files: 5 };
}

impl Default for Rotation {
    fn default() -> Self {
        Self::KUBELET
    }
}

/// What went wrong with a log file, and what was lost by it.
#[derive(Debug, Error)]
#[error("{operation} {}: {source}", path.display())]
pub struct LogFileError {
    /// What was tried: `create`, `write` or `rotate`.
    pub operation: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// How many entries of this append are not in the file. 0 when only the rotation failed.
    pub lost_entries: u64,
    /// The system's answer.
    pub source: io::Error,
}

/// The log file of one run of a container.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    rotation: Rotation,
    /// The run whose files go when this one's is created.
    outdated: Option<u32>,
    open: Option<OpenFile>,
    /// Files put aside, the oldest first.
    rotated: VecDeque<PathBuf>,
    /// The second in the name of the newest of them: names are unique and sort by age.
    last_rotation: i64,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    bytes: u64,
}

impl LogFile {
    /// The file `<dir>/<container>/<restart>.log`. Nothing is touched yet.
    pub fn new(dir: &Path, container: &str, restart: u32, rotation: Rotation) -> Self {
        Self {
            path: dir.join(container).join(format!("{restart}.log")),
            rotation,
            outdated: restart.checked_sub(RUNS_KEPT),
            open: None,
            rotated: VecDeque::new(),
            last_rotation: i64::MIN,
        }
    }

    /// Appends whole entries with one write(2), after a rotation if they do not fit. An empty batch creates
    /// the file.
    ///
    /// After an error the file holds whole entries only.
    pub fn append(&mut self, entries: &[u8], now: Timestamp) -> Result<(), LogFileError> {
        let path = &self.path;
        let lost = |operation, lost: &[u8], source| {
            let lost_entries = lost.iter().filter(|byte| **byte == b'\n').count() as u64;
            LogFileError { operation, path: path.clone(), lost_entries, source }
        };
        let mut open = match self.open.take() {
            Some(open) => open,
            None => {
                let open = OpenFile::create(path).map_err(|source| lost("create", entries, source))?;
                if let Some(run) = self.outdated.take() {
                    remove_run(path, run);
                }
                open
            }
        };
        let mut rotation = Ok(());
        if open.bytes > 0 && open.bytes + entries.len() as u64 > self.rotation.max_bytes {
            let stamp = now.as_second().max(self.last_rotation.saturating_add(1));
            let put_aside = rotated_path(path, stamp);
            match fs::rename(path, &put_aside) {
                Ok(()) => {
                    self.last_rotation = stamp;
                    self.rotated.push_back(put_aside);
                    open = OpenFile::create(path).map_err(|source| lost("create", entries, source))?;
                }
                // The entries are worth more than the size of the file.
                Err(source) => rotation = Err(lost("rotate", &[], source)),
            }
            while self.rotated.len() + 1 > self.rotation.max_files.max(1) {
                // One that is gone already need not be removed; any other failure shows at the next rotation.
                if let Some(oldest) = self.rotated.pop_front() {
                    let _ = fs::remove_file(oldest);
                }
            }
        }
        let (kept, written) = open.append(entries);
        let outcome = written.map_err(|source| lost("write", &entries[kept..], source));
        self.open = Some(open);
        outcome.and(rotation)
    }
}

impl OpenFile {
    fn create(path: &Path) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let file = OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes })
    }

    /// Writes `entries` and says how many bytes of them, all whole entries, are in the file now.
    fn append(&mut self, entries: &[u8]) -> (usize, io::Result<()>) {
        let mut written = 0;
        while written < entries.len() {
            match self.file.write(&entries[written..]) {
                Ok(0) => return (self.keep_whole(&entries[..written]), Err(io::ErrorKind::WriteZero.into())),
                Ok(n) => written += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return (self.keep_whole(&entries[..written]), Err(e)),
            }
        }
        self.bytes += written as u64;
        (written, Ok(()))
    }

    /// Cuts off the torn entry at the end of what was `written`.
    fn keep_whole(&mut self, written: &[u8]) -> usize {
        let whole = written.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        self.bytes += whole as u64;
        if whole < written.len() && self.file.set_len(self.bytes).is_err() {
            // Then at least the next entry begins on a line of its own, if the disk lets it.
            let _ = self.file.write_all(b"\n");
        }
        whole
    }
}

/// Removes what run `run` left beside `path`. What cannot be removed costs its size and nothing else.
fn remove_run(path: &Path, run: u32) {
    let (log, rotated) = (format!("{run}.log"), format!("{run}.log."));
    for entry in path.parent().map(fs::read_dir).into_iter().flatten().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| name == log || name.starts_with(&rotated)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// `<path>.20060102-150405`, the kubelet's suffix, in UTC.
fn rotated_path(path: &Path, second: i64) -> PathBuf {
    let at = Timestamp::from_second(second).unwrap_or(Timestamp::MAX);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", at.strftime("%Y%m%d-%H%M%S")));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir.join("web")).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn rotates_as_the_kubelet_and_keeps_as_many() {
        let dir = tempfile::tempdir().unwrap();
        let rotation = Rotation { max_bytes: 10, max_files: 3 };
        let mut file = LogFile::new(dir.path(), "web", 2, rotation);
        for n in 0..6 {
            file.append(format!("line {n}\n").as_bytes(), NOW).unwrap();
        }
        assert_eq!(names(dir.path()), ["2.log", "2.log.19700101-000003", "2.log.19700101-000004"]);
        let read = |name: &str| fs::read_to_string(dir.path().join("web").join(name)).unwrap();
        assert_eq!(read("2.log"), "line 5\n");
        assert_eq!(read("2.log.19700101-000004"), "line 4\n");
        assert_eq!(read("2.log.19700101-000003"), "line 3\n");
    }

    #[test]
    fn only_the_run_before_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let rotation = Rotation { max_bytes: 4, max_files: 2 };
        for run in 9..12 {
            let mut file = LogFile::new(dir.path(), "web", run, rotation);
            file.append(b"one\n", NOW).unwrap();
            file.append(b"two\n", NOW).unwrap();
        }
        let kept = ["10.log", "10.log.19700101-000000", "11.log", "11.log.19700101-000000"];
        assert_eq!(names(dir.path()), kept);
    }

    #[test]
    fn an_entry_larger_than_the_limit_is_written_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = LogFile::new(dir.path(), "web", 0, Rotation { max_bytes: 4, max_files: 1 });
        file.append(b"longer\n", NOW).unwrap();
        assert_eq!(names(dir.path()), ["0.log"]);
        file.append(b"next\n", NOW).unwrap();
        assert_eq!(names(dir.path()), ["0.log"]);
        assert_eq!(fs::read_to_string(dir.path().join("web/0.log")).unwrap(), "next\n");
    }

    #[test]
    fn a_full_disk_is_an_error_with_its_losses_and_not_the_end() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("web")).unwrap();
        let path = dir.path().join("web/0.log");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let mut file = LogFile::new(dir.path(), "web", 0, Rotation::default());
        let error = file.append(b"one\ntwo\n", NOW).unwrap_err();
        assert_eq!((error.operation, error.lost_entries), ("write", 2));
        assert!(error.to_string().contains("0.log: No space left"), "{error}");
    }

    #[test]
    fn a_disk_that_comes_back_is_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let blocked = dir.path().join("web");
        fs::write(&blocked, "not a directory").unwrap();
        let mut file = LogFile::new(dir.path(), "web", 0, Rotation::default());
        assert_eq!(file.append(b"one\n", NOW).unwrap_err().operation, "create");
        fs::remove_file(&blocked).unwrap();
        file.append(b"two\n", NOW).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("web/0.log")).unwrap(), "two\n");
    }

    #[test]
    fn a_failed_rotation_does_not_lose_the_entries() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = LogFile::new(dir.path(), "web", 0, Rotation { max_bytes: 4, max_files: 2 });
        file.append(b"one\n", NOW).unwrap();
        let taken = dir.path().join("web/0.log.19700101-000000");
        fs::create_dir(&taken).unwrap();
        let error = file.append(b"two\n", NOW).unwrap_err();
        assert_eq!((error.operation, error.lost_entries), ("rotate", 0));
        assert_eq!(fs::read_to_string(dir.path().join("web/0.log")).unwrap(), "one\ntwo\n");
    }

    #[test]
    fn a_torn_entry_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut open = OpenFile::create(&path).unwrap();
        assert_eq!(open.append(b"zero\n").0, 5);
        open.file.write_all(b"one\ntw").unwrap();
        assert_eq!(open.keep_whole(b"one\ntw"), 4);
        assert_eq!(open.append(b"three\n").0, 6);
        assert_eq!(fs::read_to_string(&path).unwrap(), "zero\none\nthree\n");
    }
}
