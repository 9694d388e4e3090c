//! `peapod get pvc` and `peapod get pv`: claims and volumes, whether a pod runs or not.
//!
//! ```text
//! registry ─► inventory ─► objects: PersistentVolumeClaims or PersistentVolumes ─► rows ─► table
//!                                                                                └► as they are
//! ```
//!
//! The columns are those of `printPersistentVolumeClaim` and `printPersistentVolume` in
//! `pkg/printers/internalversion/printers.go`.

use std::path::PathBuf;
use std::process::ExitCode;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus,
    PersistentVolumeSpec,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::{Args, DEFAULT_NAMESPACE, Format, Named, print_all, storage_wire};
use crate::cli::age::since;
use crate::cli::target::StorageKind;
use crate::cli::{Failure, tabs};
use crate::paths::Paths;
use crate::volume::claims::ClaimError;
use crate::volume::claims::inventory::Inventory;
use crate::volume::claims::registry::Registry;

const CLAIM_COLUMNS: [&str; 9] = [
    "NAME",
    "STATUS",
    "VOLUME",
    "CAPACITY",
    "ACCESS MODES",
    "STORAGECLASS",
    "VOLUMEATTRIBUTESCLASS",
    "AGE",
    "VOLUMEMODE",
];

const VOLUME_COLUMNS: [&str; 11] = [
    "NAME",
    "CAPACITY",
    "ACCESS MODES",
    "RECLAIM POLICY",
    "STATUS",
    "CLAIM",
    "STORAGECLASS",
    "VOLUMEATTRIBUTESCLASS",
    "REASON",
    "AGE",
    "VOLUMEMODE",
];

/// Prints those that are named, or all.
pub fn run(args: &Args, kind: StorageKind, names: &[&str]) -> Result<ExitCode, Failure> {
    let paths = Paths::from_env();
    let (claims, volumes) = if Registry::exists(&paths) {
        let registry = Registry::open(&paths)?;
        let inventory = registry.inventory();
        (storage_wire::claims(inventory), storage_wire::volumes(inventory, |key| registry.data(key)))
    } else {
        let none = Inventory::default();
        (storage_wire::claims(&none), storage_wire::volumes(&none, |_| PathBuf::new()))
    };
    let now = Timestamp::now();
    let namespace = args.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
    let is_one = names.len() == 1;
    match kind {
        StorageKind::Claims => {
            let is_meant = |claim: &PersistentVolumeClaim| {
                args.all_namespaces || claim.metadata.namespace.as_deref() == Some(namespace)
            };
            let claims = claims.into_iter().filter(is_meant).collect();
            let claims: Named<PersistentVolumeClaim> = named(claims, names, kind, |claim| &claim.metadata);
            let rows: Vec<_> = claims.objects.iter().map(|claim| claim_row(claim, now)).collect();
            let place = (!args.all_namespaces).then_some(namespace);
            let owners = claims.objects.iter().map(|claim| claim.metadata.namespace.clone()).collect();
            let owners = args.all_namespaces.then_some(owners);
            let table = table(args, kind, &CLAIM_COLUMNS, rows, owners);
            print_all(args, kind.singular(), claims, is_one, place, |claim| &claim.metadata, &table)
        }
        StorageKind::Volumes => {
            let volumes: Named<PersistentVolume> = named(volumes, names, kind, |volume| &volume.metadata);
            let rows: Vec<_> = volumes.objects.iter().map(|volume| volume_row(volume, now)).collect();
            let table = table(args, kind, &VOLUME_COLUMNS, rows, None);
            print_all(args, kind.singular(), volumes, is_one, None, |volume| &volume.metadata, &table)
        }
    }
}

/// Those of `names`, in their order; without names, all.
pub fn named<T: Clone>(
    all: Vec<T>,
    names: &[&str],
    kind: StorageKind,
    metadata: fn(&T) -> &ObjectMeta,
) -> Named<T> {
    if names.is_empty() {
        return Named { objects: all, failures: Vec::new() };
    }
    let (mut objects, mut failures) = (Vec::new(), Vec::new());
    for name in names {
        let before = objects.len();
        objects.extend(all.iter().filter(|own| metadata(own).name.as_deref() == Some(*name)).cloned());
        if objects.len() == before {
            failures.push(ClaimError::Unknown { kind: kind.plural(), name: (*name).to_owned() }.into());
        }
    }
    Named { objects, failures }
}

/// The table; `namespaces` of the rows, where they are to be told. The last column is for `-o wide`.
fn table(
    args: &Args,
    kind: StorageKind,
    columns: &[&str],
    rows: Vec<Vec<String>>,
    namespaces: Option<Vec<Option<String>>>,
) -> String {
    let count = columns.len() - usize::from(args.output != Some(Format::Wide));
    let mut namespaces = namespaces.map(Vec::into_iter);
    let mut text = String::new();
    if !args.no_headers {
        let first = namespaces.is_some().then_some("NAMESPACE");
        let headings: Vec<_> = first.into_iter().chain(columns[..count].iter().copied()).collect();
        text += &(headings.join("\t") + "\n");
    }
    for mut row in rows {
        row.truncate(count);
        if args.with_kind {
            row[0] = format!("{}/{}", kind.singular(), row[0]);
        }
        if let Some(namespaces) = &mut namespaces {
            row.insert(0, namespaces.next().flatten().unwrap_or_default());
        }
        text += &(row.join("\t") + "\n");
    }
    tabs::align(&text, 6, 3)
}

fn claim_row(claim: &PersistentVolumeClaim, now: Timestamp) -> Vec<String> {
    let PersistentVolumeClaim { metadata, spec, status } = claim.clone();
    let PersistentVolumeClaimSpec { storage_class_name, volume_mode, volume_name, .. } =
        spec.unwrap_or_default();
    let PersistentVolumeClaimStatus { access_modes, capacity, phase, .. } = status.unwrap_or_default();
    vec![
        metadata.name.unwrap_or_default(),
        phase.unwrap_or_default(),
        volume_name.unwrap_or_default(),
        capacity.and_then(|mut own| own.remove("storage")).map(|Quantity(text)| text).unwrap_or_default(),
        short_modes(&access_modes.unwrap_or_default()),
        storage_class_name.unwrap_or_default(),
        "<unset>".to_owned(),
        age(metadata.creation_timestamp, now),
        volume_mode.unwrap_or_default(),
    ]
}

fn volume_row(volume: &PersistentVolume, now: Timestamp) -> Vec<String> {
    let PersistentVolume { metadata, spec, status } = volume.clone();
    let spec = spec.unwrap_or_default();
    let PersistentVolumeSpec { access_modes, capacity, claim_ref, storage_class_name, volume_mode, .. } =
        spec;
    let claim = claim_ref
        .map(|claim| format!("{}/{}", claim.namespace.unwrap_or_default(), claim.name.unwrap_or_default()));
    vec![
        metadata.name.unwrap_or_default(),
        capacity.and_then(|mut own| own.remove("storage")).map(|Quantity(text)| text).unwrap_or_default(),
        short_modes(&access_modes.unwrap_or_default()),
        spec.persistent_volume_reclaim_policy.unwrap_or_default(),
        status.and_then(|status| status.phase).unwrap_or_default(),
        claim.unwrap_or_default(),
        storage_class_name.unwrap_or_default(),
        "<unset>".to_owned(),
        String::new(),
        age(metadata.creation_timestamp, now),
        volume_mode.unwrap_or_default(),
    ]
}

fn age(created: Option<Time>, now: Timestamp) -> String {
    since(created.map(|time| time.0), now)
}

/// `RWO,ROX`: the order of `GetAccessModesAsString` in `pkg/apis/core/helper/helpers.go`.
pub fn short_modes(modes: &[String]) -> String {
    use crate::spec::AccessMode;
    let known = AccessMode::ALL.iter().filter(|(name, _)| modes.iter().any(|mode| mode == name));
    known.map(|(_, mode)| mode.short()).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::spec::{AccessMode, Claim, PersistentVolume, PersistentVolumeKind, ReclaimPolicy};
    use crate::volume::claims::inventory::Birth;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn inventory() -> Inventory {
        let mut inventory = Inventory::default();
        let birth = |uid: &str| Birth { uid: uid.to_owned(), at: "2026-11-20T16:00:00Z".parse().unwrap() };
        let volume = PersistentVolume {
            labels: Default::default(),
            path: "/srv/web".into(),
            kind: PersistentVolumeKind::HostPath,
            capacity_bytes: 10 << 30,
            access_modes: vec![AccessMode::ReadWriteMany, AccessMode::ReadWriteOnce],
            storage_class: "manual".to_owned(),
            reclaim_policy: ReclaimPolicy::Retain,
            claim: None,
        };
        inventory.apply_volume("web", &volume, birth("v1")).unwrap();
        inventory.apply_volume("spare", &volume, birth("v2")).unwrap();
        let claim = |class: Option<&str>, volume: Option<&str>| Claim {
            access_modes: vec![AccessMode::ReadWriteOnce],
            storage_bytes: 1 << 30,
            storage_class: class.map(str::to_owned),
            volume_name: volume.map(str::to_owned),
            ..Claim::default()
        };
        let key = |name: &str| ("default".to_owned(), name.to_owned());
        inventory.apply_claim(&key("www"), &claim(Some("manual"), Some("web")), None, birth("c1")).unwrap();
        inventory.apply_claim(&key("data"), &claim(None, None), None, birth("c2")).unwrap();
        inventory
    }

    #[test]
    fn it_looks_as_kubectl_has_it() {
        let now = "2026-11-20T16:05:00Z".parse().unwrap();
        let args = |words: &[&str]| Line::parse_from(["get", "pvc"].iter().chain(words)).args;
        let claims = storage_wire::claims(&inventory());
        let rows = || claims.iter().map(|claim| claim_row(claim, now)).collect();
        let expected = "\
NAME   STATUS   VOLUME   CAPACITY   ACCESS MODES   STORAGECLASS   VOLUMEATTRIBUTESCLASS   AGE
data   Bound    pvc-c2   1Gi        RWO            local          <unset>                 5m
www    Bound    web      10Gi       RWO,RWX        manual         <unset>                 5m
";
        assert_eq!(table(&args(&[]), StorageKind::Claims, &CLAIM_COLUMNS, rows(), None), expected);
        let expected = "\
default   data   Bound   pvc-c2   1Gi    RWO       local    <unset>   5m    Filesystem
default   www    Bound   web      10Gi   RWO,RWX   manual   <unset>   5m    Filesystem
";
        let namespaces = vec![Some("default".to_owned()); 2];
        let wide = args(&["-A", "-o", "wide", "--no-headers"]);
        assert_eq!(table(&wide, StorageKind::Claims, &CLAIM_COLUMNS, rows(), Some(namespaces)), expected);
    }

    #[test]
    fn volumes_too() {
        let now = "2026-11-20T16:05:00Z".parse().unwrap();
        let mut inventory = inventory();
        let key = ("default".to_owned(), "www".to_owned());
        let args = Line::parse_from(["get", "pv"]).args;
        let shown = |inventory: &Inventory| {
            let volumes = storage_wire::volumes(inventory, |(_, name)| format!("/data/{name}").into());
            table(
                &args,
                StorageKind::Volumes,
                &VOLUME_COLUMNS,
                volumes.iter().map(|own| volume_row(own, now)).collect(),
                None,
            )
        };
        let expected = "\
NAME     CAPACITY   ACCESS MODES   RECLAIM POLICY   STATUS      CLAIM          STORAGECLASS   VOLUMEATTRIBUTESCLASS   REASON   AGE
pvc-c2   1Gi        RWO            Delete           Bound       default/data   local          <unset>                          5m
spare    10Gi       RWO,RWX        Retain           Available                  manual         <unset>                          5m
web      10Gi       RWO,RWX        Retain           Bound       default/www    manual         <unset>                          5m
";
        assert_eq!(shown(&inventory), expected);
        inventory.delete_claim(&key).unwrap();
        assert!(shown(&inventory).contains("Retain           Released    default/www"));
    }
}
