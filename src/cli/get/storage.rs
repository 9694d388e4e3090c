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

use super::{Args, DEFAULT_NAMESPACE, FIELDS, Format, Named, print_all, storage_wire};
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
    let fields = if kind == StorageKind::Claims { FIELDS } else { &FIELDS[..1] };
    let selection = args.selection(fields, names.len())?;
    match kind {
        StorageKind::Claims => {
            let is_meant = |claim: &PersistentVolumeClaim| {
                args.all_namespaces || claim.metadata.namespace.as_deref() == Some(namespace)
            };
            let mut claims: Vec<_> = claims.into_iter().filter(is_meant).collect();
            selection.retain(&mut claims);
            let claims: Named<PersistentVolumeClaim> = named(claims, names, kind, |claim| &claim.metadata);
            let row = |own: &PersistentVolumeClaim| Row::new(args, claim_row(own, now), &own.metadata);
            let rows: Vec<_> = claims.objects.iter().map(row).collect();
            let place = (!args.all_namespaces).then_some(namespace);
            let table = table(args, kind, &CLAIM_COLUMNS, rows);
            print_all(args, kind.singular(), claims, is_one, place, |claim| &claim.metadata, &table)
        }
        StorageKind::Volumes => {
            let mut volumes = volumes;
            selection.retain(&mut volumes);
            let volumes: Named<PersistentVolume> = named(volumes, names, kind, |volume| &volume.metadata);
            let row = |own: &PersistentVolume| Row::new(args, volume_row(own, now), &own.metadata);
            let rows: Vec<_> = volumes.objects.iter().map(row).collect();
            let table = table(args, kind, &VOLUME_COLUMNS, rows);
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

/// A line of the table.
struct Row {
    /// Where it is told.
    namespace: Option<String>,
    /// One for each column of the kind.
    cells: Vec<String>,
    labels: Vec<String>,
}

impl Row {
    fn new(args: &Args, cells: Vec<String>, metadata: &ObjectMeta) -> Self {
        let namespace = metadata.namespace.clone().filter(|_| args.all_namespaces);
        Self { namespace, cells, labels: args.labels.cells(metadata.labels.as_ref()).collect() }
    }
}

/// The table. The last column is for `-o wide`.
fn table(args: &Args, kind: StorageKind, columns: &[&str], rows: Vec<Row>) -> String {
    let count = columns.len() - usize::from(args.output != Some(Format::Wide));
    let mut text = String::new();
    let mut line = |cells: Vec<String>| text.push_str(&(cells.join("\t") + "\n"));
    if !args.no_headers {
        let first = (kind == StorageKind::Claims && args.all_namespaces).then_some("NAMESPACE");
        let headings = first.into_iter().chain(columns[..count].iter().copied()).map(str::to_owned);
        line(headings.chain(args.labels.headings()).collect());
    }
    for Row { namespace, mut cells, labels } in rows {
        cells.truncate(count);
        if args.with_kind {
            cells[0] = format!("{}/{}", kind.singular(), cells[0]);
        }
        line(namespace.into_iter().chain(cells).chain(labels).collect());
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
        let shown = |args: &Args| {
            let row = |claim: &PersistentVolumeClaim| Row::new(args, claim_row(claim, now), &claim.metadata);
            table(args, StorageKind::Claims, &CLAIM_COLUMNS, claims.iter().map(row).collect())
        };
        let expected = "\
NAME   STATUS   VOLUME   CAPACITY   ACCESS MODES   STORAGECLASS   VOLUMEATTRIBUTESCLASS   AGE
data   Bound    pvc-c2   1Gi        RWO            local          <unset>                 5m
www    Bound    web      10Gi       RWO,RWX        manual         <unset>                 5m
";
        assert_eq!(shown(&args(&[])), expected);
        let expected = "\
default   data   Bound   pvc-c2   1Gi    RWO       local    <unset>   5m    Filesystem
default   www    Bound   web      10Gi   RWO,RWX   manual   <unset>   5m    Filesystem
";
        let wide = args(&["-A", "-o", "wide", "--no-headers"]);
        assert_eq!(shown(&wide), expected);
        assert!(shown(&args(&["-L", "app", "--no-headers"])).contains("5m    <none>\n"));
    }

    #[test]
    fn volumes_too() {
        let now = "2026-11-20T16:05:00Z".parse().unwrap();
        let mut inventory = inventory();
        let key = ("default".to_owned(), "www".to_owned());
        let args = Line::parse_from(["get", "pv"]).args;
        let shown = |inventory: &Inventory| {
            let volumes = storage_wire::volumes(inventory, |(_, name)| format!("/data/{name}").into());
            let rows = volumes.iter().map(|own| Row::new(&args, volume_row(own, now), &own.metadata));
            table(&args, StorageKind::Volumes, &VOLUME_COLUMNS, rows.collect())
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
