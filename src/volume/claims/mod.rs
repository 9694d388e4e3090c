//! Claims: directories that outlive the pods that use them.
//!
//! ```text
//!                    Registry::open ─► Inventory (pure) ◄── documents beside the Pod
//!                      locks, reads       │ plan: every claim of the pod bound, or everything that is wrong
//!                                         ▼
//! supervisor: bind ─► commit ─► users::enter ─► Held: the directory of each volume ─► Plan::bound ─► (fork)
//!                                                 │ end of the run, or the supervisor's death
//!                                                 └► used no more; claims of the pod's own are gone (`sweep`)
//! ```
//!
//! This is what the API server, the binder (`pkg/controller/volume/persistentvolume`), a provisioner and the
//! finalizers of claims are in a cluster: [`inventory`] decides, [`registry`] keeps it on disk, [`users`] knows who
//! uses what. A claim of a document is bound when a pod uses it first (`WaitForFirstConsumer`). The capacity of a
//! claim is shown, and not enforced: its data is on the host's own file system.

mod error;
pub mod inventory;
mod record;
pub mod registry;
pub mod users;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;

use jiff::Timestamp;
use uuid::Uuid;

pub use error::ClaimError;

use super::{Bound, BoundDirectory};
use crate::manifest::hint;
use crate::paths::Paths;
use crate::sandbox::tree;
use crate::spec::{AccessMode, Claim, PersistentVolumeKind, Pod, VolumeSource, name};
use inventory::{Birth, BoundClaim, ClaimKey, Inventory, KnownVolume, Phase};
use registry::Registry;
use users::{Use, User};

/// The storage class of peapod's own provisioner, and the default one.
pub const CLASS: &str = "local";

/// Permissions of a directory that `DirectoryOrCreate` makes.
const HOST_PATH_MODE: u32 = 0o755;

/// A pod's use of its claims, which ends with this value, or with the processes that have it.
#[derive(Debug, Default)]
pub struct Held {
    /// The directory of each volume that is a claim.
    pub bound: Bound,
    uses: Vec<Use>,
    /// Where claims of the pod's own are to be removed.
    own: Option<Paths>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.uses.clear();
        if let Some(paths) = &self.own {
            // What stays is the next sweep's.
            let _ = sweep(paths);
        }
    }
}

/// Binds the claims of a pod, as long as its run takes. Nothing is touched of a pod without claims and volumes.
///
/// # Errors
/// Everything that keeps it from having them; nothing is bound then.
pub fn bind(paths: &Paths, pod: &Pod, now: Timestamp) -> Result<Held, Vec<ClaimError>> {
    let wanted = wanted(pod);
    if wanted.is_empty() && pod.storage.volumes.is_empty() {
        return Ok(Held::default());
    }
    let mut registry = Registry::open(paths).map_err(|error| vec![error])?;
    let held = bind_in(&mut registry, paths, pod, &wanted, now);
    registry.close();
    held
}

fn bind_in(
    registry: &mut Registry,
    paths: &Paths,
    pod: &Pod,
    wanted: &[Wanted<'_>],
    now: Timestamp,
) -> Result<Held, Vec<ClaimError>> {
    let mut inventory = registry.inventory().clone();
    let mut errors = plan(&mut inventory, pod, wanted, now);
    let mut held = Held::default();
    for Wanted { volume, key, .. } in wanted {
        let Some(claim) = inventory.claims.get(key) else { continue };
        match directory(registry, &inventory, key, claim) {
            Ok(directory) => drop(held.bound.insert((*volume).to_owned(), directory)),
            Err(error) => errors.push(error),
        }
        errors.extend(check_alone(registry, key, claim, pod).err());
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    registry.commit(inventory).map_err(|error| vec![error])?;
    let user = User { uid: pod.uid.clone(), pod: full_name(pod) };
    let mut keys: Vec<_> = wanted.iter().map(|wanted| &wanted.key).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        held.uses.push(registry.enter(key, &user).map_err(|error| vec![error])?);
    }
    // Last: to drop it opens the registry.
    held.own = wanted.iter().any(|wanted| wanted.owner.is_some()).then(|| paths.clone());
    Ok(held)
}

/// What would keep a pod from having its claims, as far as that can be told without looking at who uses them and
/// whether their directories are there.
///
/// # Errors
/// The files'.
pub fn check(paths: &Paths, pod: &Pod, now: Timestamp) -> Result<Vec<ClaimError>, ClaimError> {
    let mut inventory = Inventory::default();
    if Registry::exists(paths) {
        inventory = Registry::open(paths)?.inventory().clone();
    }
    Ok(plan(&mut inventory, pod, &wanted(pod), now))
}

/// Deletes the claims of pods that are no more: of those that were killed.
///
/// # Errors
/// The files'.
pub fn sweep(paths: &Paths) -> Result<(), ClaimError> {
    if !Registry::exists(paths) {
        return Ok(());
    }
    let mut registry = Registry::open(paths)?;
    let mut inventory = registry.inventory().clone();
    for (key, claim) in &registry.inventory().claims {
        if claim.owner.is_some() && registry.users(key)?.is_empty() {
            inventory.claims.remove(key);
        }
    }
    registry.commit(inventory)?;
    reclaim(&mut registry)?;
    registry.close();
    Ok(())
}

/// Deletes volumes whose claims are gone and that say so, with their data. What cannot be removed is `Failed`, and tried
/// again at the next sweep.
fn reclaim(registry: &mut Registry) -> Result<(), ClaimError> {
    let mut inventory = registry.inventory().clone();
    for (name, volume) in registry.inventory().reclaimable() {
        let path = &volume.spec.path;
        // Not where a link leads.
        let parent = path.parent().filter(|parent| fs::canonicalize(parent).is_ok_and(|own| own == *parent));
        let is_link = fs::symlink_metadata(path).is_ok_and(|own| own.is_symlink());
        if parent.is_some() && !is_link && tree::remove(path).is_empty() {
            inventory.delete_volume(name)?;
        }
    }
    registry.commit(inventory)
}

/// Deletes a claim, with its data where peapod made it for it, or where its volume says so. Returns why it stays, where
/// its volume says so all the same.
///
/// # Errors
/// There is none, or pods use it.
pub fn delete_claim(paths: &Paths, key: &ClaimKey) -> Result<Option<String>, ClaimError> {
    let mut registry = Registry::open(paths)?;
    let mut inventory = registry.inventory().clone();
    let claim = inventory.delete_claim(key)?;
    let users = registry.users(key)?;
    if !users.is_empty() {
        return Err(ClaimError::Protected { claim: key.1.clone(), pods: users::names(&users) });
    }
    registry.commit(inventory)?;
    reclaim(&mut registry)?;
    let volumes = &registry.inventory().volumes;
    let volume = claim.volume.and_then(|name| volumes.get(&name).map(|volume| (name, volume)));
    let failed = volume.and_then(|(name, volume)| {
        let why = failure(registry.inventory(), volume)?;
        Some(format!("persistentvolume {name:?} is Failed, its data stays: {why}"))
    });
    registry.close();
    Ok(failed)
}

/// Why a volume is [`Phase::Failed`], if it is.
pub fn failure(inventory: &Inventory, volume: &KnownVolume) -> Option<String> {
    let unremoved = || format!("{} cannot be removed; the next run tries again", volume.spec.path.display());
    let is_failed = inventory.phase(volume) == Phase::Failed;
    is_failed.then(|| volume.spec.deletion_refused().unwrap_or_else(unremoved))
}

/// Deletes a volume that no claim has. Its data stays.
///
/// # Errors
/// There is none, or a claim has it.
pub fn delete_volume(paths: &Paths, name: &str) -> Result<(), ClaimError> {
    let mut registry = Registry::open(paths)?;
    let mut inventory = registry.inventory().clone();
    inventory.delete_volume(name)?;
    registry.commit(inventory)?;
    registry.close();
    Ok(())
}

/// `namespace/name`.
fn full_name(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace, pod.name)
}

/// A volume of the pod that is a claim.
struct Wanted<'a> {
    volume: &'a str,
    /// Where the pod names it.
    field: String,
    key: ClaimKey,
    /// Its document; `None`: it must be there.
    document: Option<&'a Claim>,
    /// The pod's uid, where the claim is its own.
    owner: Option<&'a str>,
}

fn wanted(pod: &Pod) -> Vec<Wanted<'_>> {
    let key = |name| (pod.namespace.clone(), name);
    let volumes = pod.volumes.iter().enumerate().filter_map(|(index, volume)| match &volume.source {
        VolumeSource::Claim { name, .. } => Some(Wanted {
            volume: &volume.name,
            field: format!("spec.volumes[{index}].persistentVolumeClaim.claimName"),
            key: key(name.clone()),
            document: pod.storage.claims.get(name),
            owner: None,
        }),
        VolumeSource::Ephemeral { claim } => Some(Wanted {
            volume: &volume.name,
            field: format!("spec.volumes[{index}].ephemeral"),
            // `pkg/controller/volume/ephemeral`: `VolumeClaimName`.
            key: key(format!("{}-{}", pod.name, volume.name)),
            document: Some(claim),
            owner: Some(&pod.uid),
        }),
        _ => None,
    });
    volumes.collect()
}

/// Binds all that a pod wants in `inventory`; everything that is wrong with it. Pure but for the new uids.
fn plan(inventory: &mut Inventory, pod: &Pod, wanted: &[Wanted<'_>], now: Timestamp) -> Vec<ClaimError> {
    let birth = || Birth { uid: Uuid::new_v4().to_string(), at: now };
    let mut errors = Vec::new();
    for (name, volume) in &pod.storage.volumes {
        errors.extend(inventory.apply_volume(name, volume, birth()).err());
    }
    // Several volumes may be of one claim.
    let by_key: BTreeMap<_, _> = wanted.iter().map(|wanted| (&wanted.key, wanted)).collect();
    let mut claims: Vec<_> = by_key.into_iter().collect();
    // Those that name their volume come first, so that no other takes it; those of the pod's own come last.
    claims.sort_by_key(|(_, claim)| {
        let names_volume = claim.document.is_some_and(|document| document.volume_name.is_some());
        (!names_volume, claim.owner.is_some())
    });
    for (key, claim) in claims {
        // One that an ephemeral volume makes is for that volume alone.
        if wanted.iter().any(|other| other.key == *key && other.owner != claim.owner) {
            errors.push(ClaimError::NotOwner { claim: key.1.clone(), pod: full_name(pod) });
            continue;
        }
        errors.extend(take(inventory, pod, claim, birth()).err());
    }
    errors
}

fn take(inventory: &mut Inventory, pod: &Pod, wanted: &Wanted<'_>, birth: Birth) -> Result<(), ClaimError> {
    let Wanted { volume: _, field, key, document, owner } = wanted;
    let claim = || key.1.clone();
    let Some(document) = document else {
        let names = inventory.names(&key.0);
        return match inventory.claims.get(key) {
            Some(BoundClaim { volume: Some(volume), .. }) if !inventory.volumes.contains_key(volume) => {
                Err(ClaimError::Lost { claim: claim(), volume: volume.clone() })
            }
            Some(_) => Ok(()),
            None => Err(ClaimError::NotFound {
                field: field.clone(),
                claim: claim(),
                hint: hint(&key.1, names.chain(pod.storage.claims.keys().map(String::as_str))),
            }),
        };
    };
    if owner.is_some() {
        name::subdomain(&key.1).map_err(|why| ClaimError::Name { claim: claim(), why })?;
        // Of this run there can be none yet.
        if inventory.claims.contains_key(key) {
            return Err(ClaimError::NotOwner { claim: claim(), pod: full_name(pod) });
        }
    }
    inventory.apply_claim(key, document, *owner, birth)
}

/// `node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode`: the scheduler's
/// `pkg/scheduler/framework/plugins/volumerestrictions`.
fn check_alone(registry: &Registry, key: &ClaimKey, claim: &BoundClaim, pod: &Pod) -> Result<(), ClaimError> {
    if claim.access_modes.contains(&AccessMode::ReadWriteOncePod) {
        let mut users = registry.users(key)?;
        users.retain(|user| user.uid != pod.uid);
        if !users.is_empty() {
            return Err(ClaimError::InUse { claim: key.1.clone(), pods: users::names(&users) });
        }
    }
    Ok(())
}

/// Where a claim's data is; made where its volume says so.
fn directory(
    registry: &Registry,
    inventory: &Inventory,
    key: &ClaimKey,
    claim: &BoundClaim,
) -> Result<BoundDirectory, ClaimError> {
    let Some(volume) = &claim.volume else {
        return Ok(BoundDirectory { path: registry.data(key), is_the_hosts: false });
    };
    let Some(known) = inventory.volumes.get(volume) else {
        return Err(ClaimError::Lost { claim: key.1.clone(), volume: volume.clone() });
    };
    let path = &known.spec.path;
    let wrong = |what| ClaimError::Directory { volume: volume.clone(), path: path.clone(), what };
    if known.spec.kind == PersistentVolumeKind::HostPathOrCreate {
        let made = DirBuilder::new().recursive(true).mode(HOST_PATH_MODE).create(path);
        made.map_err(|source| ClaimError::File { action: "make", path: path.clone(), source })?;
    }
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(BoundDirectory {
            path: path.clone(),
            is_the_hosts: known.spec.kind != PersistentVolumeKind::Local,
        }),
        Ok(_) => Err(wrong("is not a directory")),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(wrong("does not exist: create it, or use hostPath with type: DirectoryOrCreate"))
        }
        Err(source) => Err(ClaimError::File { action: "look at", path: path.clone(), source }),
    }
}
