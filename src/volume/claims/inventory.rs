//! Which claims and volumes there are, and which belongs to which. Pure.
//!
//! ```text
//! PersistentVolume ─► apply_volume ─► volumes ──┐ find: the smallest that fits
//! claim's document ─► apply_claim ──► claims ◄──┘ or made by the provisioner
//!                                       │ delete_claim
//!                                       └──► gone; its volume is Released, or reclaimable
//! ```
//!
//! As `pkg/controller/volume/persistentvolume/pv_controller.go` decides, except that a claim which cannot be bound is
//! refused in place of Pending: nothing here would ever bind it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{CLASS, ClaimError};
use crate::spec::network_policy::{Condition, LabelSelector, Requirement};
use crate::spec::quantity::Bytes;
use crate::spec::{AccessMode, Claim, PersistentVolume, ReclaimPolicy};

/// Namespace and name of a claim.
pub type ClaimKey = (String, String);

/// All claims and volumes of a host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inventory {
    /// By namespace and name.
    pub claims: BTreeMap<ClaimKey, BoundClaim>,
    /// Those of documents, by name.
    pub volumes: BTreeMap<String, KnownVolume>,
}

/// A claim that has its volume.
#[derive(Debug, Clone, PartialEq)]
pub struct BoundClaim {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `spec.accessModes`.
    pub access_modes: Vec<AccessMode>,
    /// `spec.resources.requests.storage`, bytes.
    pub request_bytes: u64,
    /// `spec.storageClassName`; empty is none.
    pub storage_class: String,
    /// `spec.selector`, in words.
    pub selector: Vec<String>,
    /// The PersistentVolume that it is bound to; `None`: a directory that peapod made for it.
    pub volume: Option<String>,
    /// The uid of the pod that it was made for and goes with.
    pub owner: Option<String>,
}

impl BoundClaim {
    /// `spec.volumeName`.
    pub fn volume_name(&self) -> String {
        // As the provisioners of Kubernetes name what they make.
        self.volume.clone().unwrap_or_else(|| format!("pvc-{}", self.uid))
    }
}

/// A PersistentVolume of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownVolume {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// What the document says.
    pub spec: PersistentVolume,
    /// The claim that has it, or had it, and that claim's uid.
    pub claim: Option<(ClaimKey, String)>,
}

/// `status.phase` of a PersistentVolume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No claim has had it.
    Available,
    /// A claim has it.
    Bound,
    /// Its claim is gone.
    Released,
    /// Its claim is gone, and its data should be too.
    Failed,
}

/// What is new of an object.
#[derive(Debug, Clone)]
pub struct Birth {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.creationTimestamp`.
    pub at: Timestamp,
}

impl Inventory {
    /// Has every volume know the claim that has it: a crash may have come between the two records.
    pub fn heal(&mut self) {
        for (key, claim) in &self.claims {
            let volume = claim.volume.as_ref().and_then(|name| self.volumes.get_mut(name));
            if let Some(volume) = volume {
                volume.claim = Some((key.clone(), claim.uid.clone()));
            }
        }
    }

    /// The phase of a volume.
    pub fn phase(&self, volume: &KnownVolume) -> Phase {
        match &volume.claim {
            None => Phase::Available,
            Some((key, uid)) if self.claims.get(key).is_some_and(|claim| claim.uid == *uid) => Phase::Bound,
            Some(_) if volume.spec.reclaim_policy == ReclaimPolicy::Delete => Phase::Failed,
            Some(_) => Phase::Released,
        }
    }

    /// Volumes that are to be deleted with the data in them, as their claims were.
    pub fn reclaimable(&self) -> impl Iterator<Item = (&String, &KnownVolume)> {
        self.volumes.iter().filter(|(_, volume)| {
            self.phase(volume) == Phase::Failed && volume.spec.deletion_refused().is_none()
        })
    }

    /// What a claim has, bytes.
    pub fn capacity_bytes(&self, claim: &BoundClaim) -> u64 {
        let volume = claim.volume.as_ref().and_then(|name| self.volumes.get(name));
        volume.map_or(claim.request_bytes, |volume| volume.spec.capacity_bytes)
    }

    /// The names of the claims of a namespace.
    pub fn names<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a str> {
        self.claims.keys().filter(move |(own, _)| own == namespace).map(|(_, name)| &**name)
    }

    /// Takes a document of a PersistentVolume (`ValidatePersistentVolumeUpdate`).
    ///
    /// # Errors
    /// It is there already, at another place.
    pub fn apply_volume(
        &mut self,
        name: &str,
        spec: &PersistentVolume,
        birth: Birth,
    ) -> Result<(), ClaimError> {
        match self.volumes.get_mut(name) {
            Some(known) if known.spec.path != spec.path || known.spec.kind != spec.kind => {
                return Err(ClaimError::SourceChanged {
                    volume: name.to_owned(),
                    path: known.spec.path.clone(),
                });
            }
            Some(known) => known.spec = spec.clone(),
            None => {
                let Birth { uid, at: created } = birth;
                let known = KnownVolume { uid, created, spec: spec.clone(), claim: None };
                self.volumes.insert(name.to_owned(), known);
            }
        }
        self.heal();
        Ok(())
    }

    /// Takes a document of a claim: binds it, or checks that it may change as it says. `owner`: the uid of the pod that
    /// it goes with.
    ///
    /// # Errors
    /// No volume fits, or it is there already and says something else.
    pub fn apply_claim(
        &mut self,
        key: &ClaimKey,
        claim: &Claim,
        owner: Option<&str>,
        birth: Birth,
    ) -> Result<(), ClaimError> {
        if self.claims.contains_key(key) {
            return self.update_claim(key, claim);
        }
        let (volume, class) = self.choose(key, claim)?;
        let bound = BoundClaim {
            uid: birth.uid,
            created: birth.at,
            labels: claim.labels.clone(),
            access_modes: claim.access_modes.clone(),
            request_bytes: claim.storage_bytes,
            storage_class: class,
            selector: claim.selector.as_ref().map(in_words).unwrap_or_default(),
            volume,
            owner: owner.map(str::to_owned),
        };
        self.claims.insert(key.clone(), bound);
        self.heal();
        Ok(())
    }

    /// `ValidatePersistentVolumeClaimUpdate`. What a document leaves out stays as it was filled in.
    fn update_claim(&mut self, key: &ClaimKey, claim: &Claim) -> Result<(), ClaimError> {
        let Some(bound) = self.claims.get(key) else { return Ok(()) };
        let name = || key.1.clone();
        let immutable = |field, is: String| Err(ClaimError::Immutable { claim: name(), field, is });
        let sorted = |modes: &[AccessMode]| {
            let mut modes = modes.to_vec();
            modes.sort();
            modes
        };
        if sorted(&bound.access_modes) != sorted(&claim.access_modes) {
            let modes: Vec<_> = bound.access_modes.iter().map(|mode| mode.as_str()).collect();
            return immutable("spec.accessModes", format!("[{}]", modes.join(", ")));
        }
        if claim.storage_class.as_ref().is_some_and(|class| *class != bound.storage_class) {
            return immutable("spec.storageClassName", format!("{:?}", bound.storage_class));
        }
        if claim.volume_name.as_ref().is_some_and(|volume| *volume != bound.volume_name()) {
            return immutable("spec.volumeName", bound.volume_name());
        }
        if claim.selector.as_ref().map(in_words).unwrap_or_default() != bound.selector {
            let selector =
                if bound.selector.is_empty() { "absent".to_owned() } else { bound.selector.join(", ") };
            return immutable("spec.selector", selector);
        }
        if claim.storage_bytes < bound.request_bytes {
            let capacity = Bytes(self.capacity_bytes(bound)).to_string();
            return Err(ClaimError::Shrunk { claim: name(), capacity });
        }
        if claim.storage_bytes > bound.request_bytes && bound.volume.is_some() {
            return Err(ClaimError::NotResizable { claim: name() });
        }
        if let Some(bound) = self.claims.get_mut(key) {
            bound.request_bytes = claim.storage_bytes;
            bound.labels = claim.labels.clone();
        }
        Ok(())
    }

    /// The volume for a claim that has none, `None` for a new directory, and the claim's class
    /// (`syncUnboundClaim`).
    fn choose(&self, key: &ClaimKey, claim: &Claim) -> Result<(Option<String>, String), ClaimError> {
        let name = || key.1.clone();
        let class = claim.storage_class.clone().unwrap_or_else(|| CLASS.to_owned());
        if let Some(volume) = &claim.volume_name {
            self.check_requested(key, claim, &class, volume)?;
            return Ok((Some(volume.clone()), class));
        }
        if let Some(volume) = self.find(key, claim, &class) {
            return Ok((Some(volume.to_owned()), class));
        }
        match &*class {
            "" => Err(ClaimError::NoVolume { claim: name() }),
            CLASS if claim.selector.is_some() => Err(ClaimError::Selector { claim: name() }),
            CLASS => Ok((None, class)),
            _ => Err(ClaimError::ClassNotFound { claim: name(), class }),
        }
    }

    /// Whether the volume that a claim of `class` names can be its.
    fn check_requested(
        &self,
        key: &ClaimKey,
        claim: &Claim,
        class: &str,
        name: &str,
    ) -> Result<(), ClaimError> {
        let (claim_name, volume_name) = (|| key.1.clone(), || name.to_owned());
        let Some(volume) = self.volumes.get(name) else {
            return Err(ClaimError::VolumeNotFound { claim: claim_name(), volume: volume_name() });
        };
        let taken = || Err(ClaimError::VolumeTaken { claim: claim_name(), volume: volume_name() });
        if volume.claim.is_some() {
            return taken();
        }
        match &volume.spec.claim {
            // Whoever has reserved it for this claim knows what it is.
            Some(reserved) if reserved == key => return Ok(()),
            Some(_) => return taken(),
            None => {}
        }
        let mismatch = |why| Err(ClaimError::Mismatch { claim: claim_name(), volume: volume_name(), why });
        if volume.spec.capacity_bytes < claim.storage_bytes {
            return mismatch("requested PV is too small");
        }
        if volume.spec.storage_class != class {
            return mismatch(match (claim.storage_class.is_some(), &*volume.spec.storage_class) {
                (false, "") => {
                    "storageClassName does not match: the claim has the default class; for a volume without one \
                     write storageClassName: \"\""
                }
                _ => "storageClassName does not match",
            });
        }
        if !has_modes(&volume.spec, claim) {
            return mismatch("incompatible accessMode");
        }
        Ok(())
    }

    /// The best volume for a claim of `class` (`FindMatchingVolume` in
    /// `k8s.io/component-helpers/storage/volume/pv_helpers.go`): one that is reserved for it; else of those that fit
    /// the one with the fewest access modes, the smallest of them, the first by name.
    fn find(&self, key: &ClaimKey, claim: &Claim, class: &str) -> Option<&str> {
        let fits = self.volumes.iter().filter(|(_, volume)| {
            let KnownVolume { spec, claim: had_by, .. } = volume;
            let reserved = spec.claim.as_ref();
            let is_labelled = || claim.selector.as_ref().is_none_or(|own| own.matches(&spec.labels));
            had_by.is_none()
                && spec.capacity_bytes >= claim.storage_bytes
                && has_modes(spec, claim)
                && reserved.is_none_or(|reserved| reserved == key)
                && (reserved.is_some() || (spec.storage_class == class && is_labelled()))
        });
        let best = fits.min_by_key(|(name, KnownVolume { spec, .. })| {
            (spec.claim.is_none(), spec.access_modes.len(), spec.capacity_bytes, *name)
        });
        best.map(|(name, _)| &**name)
    }

    /// Deletes a claim; a volume of a document is Released.
    ///
    /// # Errors
    /// There is none.
    pub fn delete_claim(&mut self, key: &ClaimKey) -> Result<BoundClaim, ClaimError> {
        let unknown = || ClaimError::Unknown { kind: "persistentvolumeclaims", name: key.1.clone() };
        self.claims.remove(key).ok_or_else(unknown)
    }

    /// Deletes a volume, which keeps its data.
    ///
    /// # Errors
    /// There is none, or a claim has it.
    pub fn delete_volume(&mut self, name: &str) -> Result<(), ClaimError> {
        let protected = |(namespace, claim): &ClaimKey| ClaimError::VolumeProtected {
            volume: name.to_owned(),
            claim: format!("{namespace}/{claim}"),
        };
        if let Some((key, _)) = self.claims.iter().find(|(_, claim)| claim.volume_name() == name) {
            return Err(protected(key));
        }
        let unknown = || ClaimError::Unknown { kind: "persistentvolumes", name: name.to_owned() };
        self.volumes.remove(name).map(drop).ok_or_else(unknown)
    }
}

/// Whether a volume can be used in every way that a claim asks for (`CheckAccessModes`).
fn has_modes(volume: &PersistentVolume, claim: &Claim) -> bool {
    claim.access_modes.iter().all(|mode| volume.access_modes.contains(mode))
}

/// The policy of a directory that peapod makes.
pub const PROVISIONED_POLICY: ReclaimPolicy = ReclaimPolicy::Delete;

/// A selector as kubectl prints it, one requirement each, in an order that does not depend on the document's.
fn in_words(selector: &LabelSelector) -> Vec<String> {
    let mut words: Vec<_> = selector.requirements.iter().map(requirement).collect();
    words.sort();
    words
}

fn requirement(Requirement { key, condition }: &Requirement) -> String {
    let list = |values: &std::collections::BTreeSet<String>| {
        values.iter().map(String::as_str).collect::<Vec<_>>().join(",")
    };
    match condition {
        Condition::In(values) => format!("{key} in ({})", list(values)),
        Condition::NotIn(values) => format!("{key} notin ({})", list(values)),
        Condition::Exists => key.clone(),
        Condition::DoesNotExist => format!("!{key}"),
    }
}
