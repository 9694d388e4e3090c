//! Cleans up after supervisors that were killed: called at the start of every run, and to delete such a pod.
//!
//! A pod whose lock can be taken has no owner any more. Its record says what there is; what the record cannot
//! say follows from the uid. Several sweeps and creations may go on at once: the lock decides.

use std::net::IpAddr;

use super::ipam::Leases;
use super::record::{self, Owner, RecordError};
use super::remove::{Holdings, RemoveError};
use crate::paths::Paths;

/// A pod that was cleaned up after.
#[derive(Debug)]
pub struct Swept {
    /// `metadata.uid`.
    pub uid: String,
    /// The name in its record, where it is readable.
    pub name: Option<String>,
    /// The addresses it held.
    pub addresses: Vec<IpAddr>,
    /// What could not be removed; the next sweep tries again.
    pub errors: Vec<RemoveError>,
}

/// Removes what pods without an owner left behind.
///
/// # Errors
/// When `<run>` cannot be read.
pub fn sweep(paths: &Paths) -> Result<Vec<Swept>, RecordError> {
    let orphans = Owner::take_orphans(paths)?;
    let swept = orphans.into_iter().map(|(uid, owner)| clean_up(paths, uid, owner)).collect();
    // A lease is taken after its pod's directory is made and given back before that is removed: one without
    // the other is left from someone who removed the directory by hand.
    let leases = Leases::of(paths);
    for (address, uid) in leases.all() {
        if !record::exists(paths, &uid) {
            let _ = leases.release(address, &uid);
        }
    }
    Ok(swept)
}

/// Removes what this pod left behind; `None` when it has an owner, or nothing is left.
///
/// # Errors
/// When `<run>` cannot be read.
pub fn sweep_pod(paths: &Paths, uid: &str) -> Result<Option<Swept>, RecordError> {
    let orphan = Owner::take_orphans(paths)?.into_iter().find(|(orphan, _)| orphan == uid);
    Ok(orphan.map(|(uid, owner)| clean_up(paths, uid, owner)))
}

fn clean_up(paths: &Paths, uid: String, owner: Owner) -> Swept {
    let name = owner.read().map(|record| record.identity.name);
    let mut holdings = Holdings::of_orphan(paths, &uid, owner);
    let addresses = holdings.addresses.clone();
    let errors = holdings.remove();
    Swept { uid, name, addresses, errors }
}
