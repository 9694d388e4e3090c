//! The other pods of this machine, from their records.
//!
//! ```text
//! <run>/pods ── unchanged ──► the records known, those not final yet read again
//!            └─ changed ────► its directories listed; records read that are not known or not final
//! ```
//!
//! A pod's directory appears before its record, and its record gets process and addresses later: a record
//! that was written just now may be written once more without any sign on the directory that is looked at. So
//! a record is final [`SETTLING`] after it was written. Of a pod without a supervisor, which nobody has swept up,
//! the record is there and the process is not.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::net::names::{Neighbour, Neighbours};
use crate::paths::Paths;
use crate::sandbox::record::{self, Record};
use crate::spec::Pod;
use crate::sys::process;

/// How long after its last writing a record, or the directory of pods, may change unseen: many times what a pod's
/// start takes, and what the clock of the file system is behind (some milliseconds).
const SETTLING: Duration = Duration::from_secs(2);

/// Most pods that are looked at: more than a machine's process ids allow (`pid_max` is 32,768 by default).
const MAX_PODS: usize = 32_768;

/// The pods that have the same directories of peapod's.
#[derive(Debug)]
pub struct Records {
    directory: PathBuf,
    own: String,
    /// The host's processes: the pod's own `/proc` has others.
    proc: Option<File>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// When the directory had changed last at the last listing; `None` while that is too close to tell.
    listed: Option<SystemTime>,
    records: HashMap<String, Entry>,
    pods: Arc<Vec<Neighbour>>,
}

#[derive(Debug, Default)]
struct Entry {
    pod: Option<Neighbour>,
    is_final: bool,
}

impl Records {
    /// Those beside pod `own`. To be called on the host, before the pod's own `/proc` covers the host's.
    pub fn new(paths: &Paths, own: &str) -> Self {
        let proc = File::open("/proc").ok();
        Self { directory: record::directories(paths), own: own.to_owned(), proc, known: Mutex::default() }
    }
}

impl Neighbours for Records {
    fn pods(&self) -> Arc<Vec<Neighbour>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.refresh(&self.directory, &self.own, SystemTime::now());
        known.pods.clone()
    }

    fn is_alive(&self, pod: &Neighbour) -> bool {
        let (Some((pid, started)), Some(proc)) = (pod.process, &self.proc) else { return false };
        let proc = PathBuf::from(format!("/proc/self/fd/{}", proc.as_raw_fd()));
        process::start_time_in(&proc, pid) == Some(started)
    }
}

impl Known {
    fn refresh(&mut self, directory: &std::path::Path, own: &str, now: SystemTime) {
        // Before the listing: what appears meanwhile changes it again.
        let changed = fs::metadata(directory).and_then(|metadata| metadata.modified()).ok();
        let mut fresh = false;
        if changed.is_none() || changed != self.listed {
            self.list(directory, own);
            self.listed = changed.filter(|changed| has_settled(*changed, now));
            fresh = true;
        }
        for (uid, entry) in self.records.iter_mut().filter(|(_, entry)| !entry.is_final) {
            let found = record::read(&directory.join(uid));
            entry.is_final = found.as_ref().is_some_and(|(_, written)| has_settled(*written, now));
            entry.pod = found.and_then(|(record, _)| neighbour(record));
            fresh = true;
        }
        if fresh {
            self.pods = Arc::new(self.records.values().filter_map(|entry| entry.pod.clone()).collect());
        }
    }

    fn list(&mut self, directory: &std::path::Path, own: &str) {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let uids = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut before = std::mem::take(&mut self.records);
        for uid in uids.filter(|uid| uid != own).take(MAX_PODS) {
            let entry = before.remove(&uid).unwrap_or_default();
            self.records.insert(uid, entry);
        }
    }
}

fn has_settled(written: SystemTime, now: SystemTime) -> bool {
    now.duration_since(written).is_ok_and(|age| age > SETTLING)
}

/// A pod that others can reach.
fn neighbour(record: Record) -> Option<Neighbour> {
    let Record { identity, pid, started, addresses, .. } = record;
    let process = pid.zip(started)?;
    (!addresses.is_empty()).then_some(Neighbour {
        name: identity.name,
        namespace: identity.namespace,
        hostname: identity.dns_hostname,
        subdomain: identity.subdomain,
        addresses,
        process: Some(process),
    })
}

/// A pod as it knows itself.
pub fn own(pod: &Pod, addresses: &[std::net::IpAddr]) -> Neighbour {
    Neighbour {
        name: pod.name.clone(),
        namespace: pod.namespace.clone(),
        hostname: pod.dns.hostname.clone(),
        subdomain: pod.subdomain.clone(),
        addresses: addresses.to_vec(),
        process: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::record::{Identity, Owner};

    fn paths() -> (tempfile::TempDir, Paths) {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths::resolve(0, |_| Some(directory.path().into()));
        (directory, paths)
    }

    fn record(name: &str, address: Option<&str>) -> Record {
        let pid = std::process::id() as i32;
        Record {
            uid: name.into(),
            identity: Identity { name: name.into(), namespace: "default".into(), ..Identity::default() },
            pid: address.map(|_| pid),
            started: address.and_then(|_| process::start_time(pid)),
            addresses: address.iter().map(|ip| ip.parse().unwrap()).collect(),
            ..Record::default()
        }
    }

    fn names(records: &Records) -> Vec<String> {
        let mut names: Vec<String> = records.pods().iter().map(|pod| pod.name.clone()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_record_that_is_written_twice_is_seen() {
        let (_directory, paths) = paths();
        let records = Records::new(&paths, "me");
        assert_eq!(names(&records), [""; 0], "no directory yet");
        let (me, other) = (Owner::take(&paths, "me").unwrap(), Owner::take(&paths, "other").unwrap());
        me.write(&record("me", Some("10.0.0.2"))).unwrap();
        assert_eq!(names(&records), [""; 0], "no record yet");
        other.write(&record("other", None)).unwrap();
        assert_eq!(names(&records), [""; 0], "no address yet");
        other.write(&record("other", Some("10.0.0.3"))).unwrap();
        assert_eq!(names(&records), ["other"]);
        let pods = records.pods();
        assert!(records.is_alive(&pods[0]));
        let recycled = Neighbour { process: Some((std::process::id() as i32, 1)), ..pods[0].clone() };
        assert!(!records.is_alive(&recycled), "another process of that id");
        fs::remove_dir_all(other.directory()).unwrap();
        assert_eq!(names(&records), [""; 0]);
    }

    #[test]
    fn what_has_settled_is_not_read_again() {
        let (_directory, paths) = paths();
        let owner = Owner::take(&paths, "one").unwrap();
        owner.write(&record("one", Some("10.0.0.3"))).unwrap();
        let (directory, later) = (record::directories(&paths), SystemTime::now() + 2 * SETTLING);
        let mut known = Known::default();
        known.refresh(&directory, "me", later);
        assert_eq!(known.pods.len(), 1);
        let before = known.pods.clone();
        known.refresh(&directory, "me", later);
        assert!(Arc::ptr_eq(&before, &known.pods));
        // A new directory is a sign.
        let two = Owner::take(&paths, "two").unwrap();
        two.write(&record("two", Some("10.0.0.4"))).unwrap();
        known.refresh(&directory, "me", later);
        assert_eq!(known.pods.len(), 2);
    }
}
