//! Who owns a pod's things: a lock that ends with its holder, and a record of what there is to remove.
//!
//! ```text
//! <run>/lock                 held for moments: while a pod's directory appears, is looked for or vanishes
//! <run>/pods/<uid>/lock      held by the pod's supervisor as long as it lives
//! <run>/pods/<uid>/record.json
//! <run>/pods/<uid>/etc/        the pod's /etc/hosts and the like
//!
//! absent ─take─► owned ─release─► absent
//!                  └── owner dies ──► orphaned ─take_orphans─► owned (by the sweeper)
//! ```
//!
//! A pod's cgroups, link, leases and directories follow from its uid, so that a record which is missing or cut
//! short hides nothing. The record adds the process, and the cgroups as they were found when it began.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::paths::Paths;
use crate::spec::Pod;

const LOCK: &str = "lock";
const RECORD: &str = "record.json";
/// How often a directory may vanish between its making and its locking.
const TAKE_TRIES: usize = 16;
/// The longest uid: it names cgroups and directories beside a prefix (NAME_MAX is 255).
const UID_MAX_BYTES: usize = 128;

/// A pod's record or lock cannot be had.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The uid cannot name a directory.
    #[error(
        "pod uid {0:?}: use at most {UID_MAX_BYTES} letters, digits, '-', '_' and '.', not beginning with '.'"
    )]
    Uid(String),
    /// Somebody holds the lock.
    #[error("pod {0} is already running, or is being removed")]
    Running(String),
    /// A directory belongs to someone else.
    #[error("{} belongs to another user, or is no directory: remove it, or set PEAPOD_ROOT", .0.display())]
    Foreign(PathBuf),
    /// The files cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What failed.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Who a pod is: what the other pods of the host, and people, know it by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// The UTS hostname.
    #[serde(default)]
    pub hostname: String,
    /// The pod's name in DNS, below its subdomain ([`crate::spec::Dns::hostname`]).
    #[serde(default)]
    pub dns_hostname: String,
    /// `spec.subdomain`.
    #[serde(default)]
    pub subdomain: Option<String>,
    /// `metadata.labels`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

impl Identity {
    /// That of a validated pod.
    pub fn of(pod: &Pod) -> Self {
        Self {
            name: pod.name.clone(),
            namespace: pod.namespace.clone(),
            hostname: pod.hostname.clone(),
            dns_hostname: pod.dns.hostname.clone(),
            subdomain: pod.subdomain.clone(),
            labels: pod.labels.clone(),
        }
    }
}

/// What a pod consists of on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// `metadata.uid`.
    pub uid: String,
    /// Who the pod is.
    #[serde(flatten)]
    pub identity: Identity,
    /// The pod process, once there is one.
    pub pid: Option<i32>,
    /// When it started, clock ticks since boot.
    pub started: Option<u64>,
    /// Its cgroups.
    pub cgroups: Vec<PathBuf>,
    /// The host's end of its link.
    pub link: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// The right to make and remove one pod's things. It ends when this value does, or this process.
#[derive(Debug)]
pub struct Owner {
    directory: PathBuf,
    lock: File,
    run_lock: PathBuf,
}

impl Owner {
    /// Takes ownership of pod `uid`.
    ///
    /// # Errors
    /// [`RecordError::Running`] when it has an owner already.
    pub fn take(paths: &Paths, uid: &str) -> Result<Self, RecordError> {
        if !is_valid_uid(uid) {
            return Err(RecordError::Uid(uid.into()));
        }
        private_directory(&paths.run)?;
        let directory = directories(paths).join(uid);
        let run_lock = paths.run.join(LOCK);
        let _held = lock(&run_lock)?;
        for _ in 0..TAKE_TRIES {
            make_directories(&directory)?;
            match try_lock(&directory) {
                Ok(lock) => return Ok(Self { directory, lock, run_lock }),
                Err(TryLockError::WouldBlock) => return Err(RecordError::Running(uid.into())),
                Err(TryLockError::Error(error)) if error.kind() == ErrorKind::NotFound => {}
                Err(TryLockError::Error(error)) => {
                    return Err(file_error("lock", directory.join(LOCK), error));
                }
            }
        }
        Err(RecordError::Running(uid.into()))
    }

    /// Takes ownership of every pod that has lost its owner: (uid, ownership). What is not a pod's directory
    /// is left alone.
    ///
    /// # Errors
    /// When the directories cannot be read; none of them existing is no error.
    pub fn take_orphans(paths: &Paths) -> Result<Vec<(String, Self)>, RecordError> {
        let entries = match fs::read_dir(directories(paths)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(vec![]),
            Err(error) => return Err(file_error("read", directories(paths), error)),
        };
        private_directory(&paths.run)?;
        let run_lock = paths.run.join(LOCK);
        let _held = lock(&run_lock)?;
        let mut orphans = Vec::new();
        for entry in entries.flatten() {
            let Ok(uid) = entry.file_name().into_string() else { continue };
            // Not a symbolic link: file_type does not follow.
            if !is_valid_uid(&uid) || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let directory = entry.path();
            if let Ok(lock) = try_lock(&directory) {
                orphans.push((uid, Self { directory, lock, run_lock: run_lock.clone() }));
            }
        }
        Ok(orphans)
    }

    /// The pod's directory below `<run>`.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The lock's descriptor: a forked child closes its copy, or the lock would outlive its owner.
    pub fn lock(&self) -> &File {
        &self.lock
    }

    /// Writes the record: at any instant there is the old one or the new one.
    ///
    /// # Errors
    /// The file's.
    pub fn write(&self, record: &Record) -> Result<(), RecordError> {
        let path = self.directory.join(RECORD);
        let fresh = self.directory.join("record.json.new");
        let text = serde_json::to_vec(record).map_err(io::Error::from);
        let written = text.and_then(|text| fs::write(&fresh, text)).and_then(|()| fs::rename(&fresh, &path));
        written.map_err(|error| file_error("write", path, error))
    }

    /// Writes the record with other labels.
    ///
    /// # Errors
    /// The file's; [`ErrorKind::NotFound`] when there is no record that makes sense.
    pub fn relabel(&self, labels: &BTreeMap<String, String>) -> Result<(), RecordError> {
        let missing = || file_error("read", self.directory.join(RECORD), ErrorKind::NotFound.into());
        let mut record = self.read().ok_or_else(missing)?;
        record.identity.labels = labels.clone();
        self.write(&record)
    }

    /// The record; `None` when it is missing or makes no sense.
    pub fn read(&self) -> Option<Record> {
        Some(read(&self.directory)?.0)
    }

    /// Holds off everyone who would take or look for a pod: for removing this one's directory.
    ///
    /// # Errors
    /// The lock file's.
    pub fn hold_others_off(&self) -> Result<File, RecordError> {
        lock(&self.run_lock)
    }
}

/// The directory that has one of every pod, by its uid.
pub fn directories(paths: &Paths) -> PathBuf {
    paths.run.join("pods")
}

/// The records of every pod below [`directories`], in no order. One that is missing, or makes no sense, is left out;
/// the record of a pod whose supervisor was killed is there until the next sweep.
pub fn all(directories: &Path) -> Vec<Record> {
    let entries = fs::read_dir(directories).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(read(&entry.path())?.0)).collect()
}

/// The record in a pod's directory, and when it was written. `None` when it is missing or makes no sense.
pub fn read(directory: &Path) -> Option<(Record, SystemTime)> {
    let mut file = File::open(directory.join(RECORD)).ok()?;
    let written = file.metadata().and_then(|metadata| metadata.modified()).ok()?;
    let mut text = Vec::new();
    file.read_to_end(&mut text).ok()?;
    Some((serde_json::from_slice(&text).ok()?, written))
}

/// Whether pod `uid` has a directory: whether it has, or had, an owner.
pub fn exists(paths: &Paths, uid: &str) -> bool {
    is_valid_uid(uid) && directories(paths).join(uid).exists()
}

/// Makes `path` with its parents for this user alone; refuses one that another user owns.
///
/// # Errors
/// [`RecordError::Foreign`]; mkdir(2)'s.
pub fn private_directory(path: &Path) -> Result<(), RecordError> {
    make_directories(path)?;
    let metadata = fs::symlink_metadata(path).map_err(|error| file_error("look at", path, error))?;
    if !metadata.is_dir() || metadata.uid() != nix::unistd::geteuid().as_raw() {
        return Err(RecordError::Foreign(path.into()));
    }
    Ok(())
}

fn make_directories(path: &Path) -> Result<(), RecordError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| file_error("make", path, error))
}

fn is_valid_uid(uid: &str) -> bool {
    !uid.is_empty()
        && uid.len() <= UID_MAX_BYTES
        && !uid.starts_with('.')
        && uid.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn lock(path: &Path) -> Result<File, RecordError> {
    let file = open(path);
    let locked = file.and_then(|file| file.lock().map(|()| file));
    locked.map_err(|error| file_error("lock", path, error))
}

fn try_lock(directory: &Path) -> Result<File, TryLockError> {
    let file = open(&directory.join(LOCK)).map_err(TryLockError::Error)?;
    file.try_lock()?;
    // Between opening and locking its last owner may have removed it.
    match file.metadata() {
        Ok(metadata) if metadata.nlink() > 0 => Ok(file),
        Ok(_) => Err(TryLockError::Error(ErrorKind::NotFound.into())),
        Err(error) => Err(TryLockError::Error(error)),
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).open(path)
}

fn file_error(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> RecordError {
    RecordError::File { action, path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths() -> (tempfile::TempDir, Paths) {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths::resolve(0, |_| Some(directory.path().into()));
        (directory, paths)
    }

    #[test]
    fn a_pod_has_one_owner_and_loses_it() {
        let (_directory, paths) = paths();
        let owner = Owner::take(&paths, "u1").unwrap();
        assert!(matches!(Owner::take(&paths, "u1"), Err(RecordError::Running(_))));
        assert!(Owner::take_orphans(&paths).unwrap().is_empty());
        let record = Record { uid: "u1".into(), pid: Some(7), ..Record::default() };
        owner.write(&record).unwrap();
        assert_eq!(owner.read(), Some(record));
        drop(owner);
        let orphans = Owner::take_orphans(&paths).unwrap();
        assert_eq!(orphans[0].0, "u1");
        assert!(matches!(Owner::take(&paths, "u1"), Err(RecordError::Running(_))));
    }

    #[test]
    fn garbage_is_no_record() {
        let (_directory, paths) = paths();
        let owner = Owner::take(&paths, "u1").unwrap();
        assert_eq!(owner.read(), None);
        for text in ["", "{\"uid\":", "[]", "\u{0}"] {
            fs::write(owner.directory().join(RECORD), text).unwrap();
            assert_eq!(owner.read(), None, "{text:?}");
        }
    }

    #[test]
    fn every_pod_is_found_by_its_record() {
        let (_directory, paths) = paths();
        assert!(all(&directories(&paths)).is_empty());
        let identity = |name: &str| Identity { name: name.into(), ..Identity::default() };
        for uid in ["u1", "u2", "u3"] {
            let owner = Owner::take(&paths, uid).unwrap();
            if uid != "u2" {
                let record = Record { uid: uid.into(), identity: identity(uid), ..Record::default() };
                owner.write(&record).unwrap();
            }
        }
        let mut names: Vec<_> =
            all(&directories(&paths)).into_iter().map(|record| record.identity.name).collect();
        names.sort();
        assert_eq!(names, ["u1", "u3"]);
    }

    #[test]
    fn hostile_uids_name_nothing() {
        let (_directory, paths) = paths();
        for uid in ["", ".", "..", "../x", "a/b", "a b", "a\0", "ü", &"x".repeat(200)] {
            assert!(matches!(Owner::take(&paths, uid), Err(RecordError::Uid(_))), "{uid:?}");
        }
        fs::create_dir_all(directories(&paths).join(".hidden")).unwrap();
        fs::write(directories(&paths).join("file"), "").unwrap();
        std::os::unix::fs::symlink("/", directories(&paths).join("link")).unwrap();
        assert!(Owner::take_orphans(&paths).unwrap().is_empty());
    }

    #[test]
    fn a_directory_that_is_a_link_is_foreign() {
        let (directory, paths) = paths();
        std::os::unix::fs::symlink("/tmp", &paths.run).unwrap();
        assert!(matches!(Owner::take(&paths, "u1"), Err(RecordError::Foreign(_))));
        drop(directory);
    }
}
