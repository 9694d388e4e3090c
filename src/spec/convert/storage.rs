//! PersistentVolumeClaims and PersistentVolumes that stand beside the Pod
//! (`ValidatePersistentVolumeClaimSpec` and `ValidatePersistentVolumeSpec` in
//! `pkg/apis/core/validation/validation.go`).
//!
//! ```text
//! claims of the pod's namespace ─┬─► Storage ─► crate::volume::claims, where a run begins
//! volumes                       ─┘
//! ```

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as wire;
use k8s_openapi::apimachinery::pkg::api::resource;

use super::report::{Report, is_set, items};
use super::resources::quantity;
use super::{location, metadata, network_policy};
use crate::manifest::{FieldPath, Numbered};
use crate::spec::{
    AccessMode, Claim, PersistentVolume, PersistentVolumeKind, Pod, ReclaimPolicy, Storage, VolumeSource,
    name,
};

/// The one resource of claims and volumes.
const STORAGE: &str = "storage";

type Quantities = Option<BTreeMap<String, resource::Quantity>>;

/// Converts all; claims are those of `namespace`.
pub(super) fn convert_all(
    claims: &[Numbered<wire::PersistentVolumeClaim>],
    volumes: &[Numbered<wire::PersistentVolume>],
    namespace: &str,
    report: &mut Report,
) -> Storage {
    let mut storage = Storage::default();
    for (number, wire::PersistentVolumeClaim { metadata, spec, status: _ }) in claims {
        let mut own = Report::default();
        let root = FieldPath::root();
        let labels =
            metadata::checked_labels(&metadata.labels, &root.field("metadata").field("labels"), &mut own);
        let spec = spec.clone().unwrap_or_default();
        let claim = claim_spec(&spec, &root.field("spec"), &mut own).map(|claim| Claim { labels, ..claim });
        let path = root.field("metadata").field("namespace");
        let given = metadata.namespace.as_deref().filter(|given| !given.is_empty()).unwrap_or("default");
        if given != namespace {
            own.warn(
                &path,
                format_args!("ignored: the pod is in {namespace:?}, and uses claims of its namespace only"),
            );
        } else {
            add(&mut storage.claims, metadata.name.as_deref(), claim, &mut own);
        }
        report.of_document(*number, own);
    }
    for (number, wire) in volumes {
        let mut own = Report::default();
        let volume = persistent_volume(wire, &mut own);
        add(&mut storage.volumes, wire.metadata.name.as_deref(), volume, &mut own);
        report.of_document(*number, own);
    }
    for (number, claim) in claims {
        let claim = claim.metadata.name.as_ref().and_then(|name| storage.claims.get(name));
        let Some(Claim { storage_class: None, .. }) = claim else { continue };
        let unclassed =
            storage.volumes.iter().find(|(_, own)| own.storage_class.is_empty() && own.claim.is_none());
        if let Some((name, _)) = unclassed {
            let mut own = Report::default();
            own.warn(
                &FieldPath::root().field("spec").field("storageClassName"),
                format_args!(
                    "missing: the claim has the default class, and volume {name:?} has none; write \
                     storageClassName: \"\" for volumes without one"
                ),
            );
            report.of_document(*number, own);
        }
    }
    storage
}

/// Warns of claims that no volume of the pod uses: such a one is bound when a pod uses it first.
pub(super) fn warn_of_unused(
    claims: &[Numbered<wire::PersistentVolumeClaim>],
    pod: &Pod,
    report: &mut Report,
) {
    let is_used = |name: &str| {
        let mut sources = pod.volumes.iter().map(|volume| &volume.source);
        sources.any(|source| matches!(source, VolumeSource::Claim { name: own, .. } if own == name))
    };
    for (number, claim) in claims {
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        if pod.storage.claims.contains_key(name) && !is_used(name) {
            let mut own = Report::default();
            let path = FieldPath::root().field("metadata").field("name");
            own.warn(&path, format_args!("no volume of the pod uses claim {name:?}: it is not made yet"));
            report.of_document(*number, own);
        }
    }
}

/// Adds an object that is right by its name.
fn add<T>(objects: &mut BTreeMap<String, T>, name: Option<&str>, object: Option<T>, report: &mut Report) {
    let path = FieldPath::root().field("metadata").field("name");
    let name = name.unwrap_or_default();
    if objects.contains_key(name) {
        report.error(&path, format_args!("duplicate value {name:?}: another document has it"));
    }
    if report.check(&path, name::subdomain(name))
        && let Some(object) = object
    {
        objects.insert(name.to_owned(), object);
    }
}

/// Converts the spec of a claim, or of a template for one; its labels are the caller's.
pub(super) fn claim_spec(
    spec: &wire::PersistentVolumeClaimSpec,
    path: &FieldPath,
    report: &mut Report,
) -> Option<Claim> {
    let wire::PersistentVolumeClaimSpec {
        access_modes,
        data_source,
        data_source_ref,
        resources,
        selector,
        storage_class_name,
        volume_attributes_class_name,
        volume_mode,
        volume_name,
    } = spec;
    let access_modes = convert_access_modes(access_modes, &path.field("accessModes"), report);
    const FRESH: &str = "a claim's directory begins empty; let an init container fill it";
    report.unsupported(data_source.is_some(), &path.field("dataSource"), FRESH);
    report.unsupported(data_source_ref.is_some(), &path.field("dataSourceRef"), FRESH);
    report.unsupported(
        is_set(volume_attributes_class_name),
        &path.field("volumeAttributesClassName"),
        "a directory has no attributes to modify",
    );
    refuse_block(volume_mode, &path.field("volumeMode"), report);
    check_class(storage_class_name, &path.field("storageClassName"), report);
    let volume_name = volume_name.clone().filter(|name| !name.is_empty());
    if let Some(volume) = &volume_name {
        report.check(&path.field("volumeName"), name::subdomain(volume));
    }
    let selector =
        selector.as_ref().map(|own| network_policy::label_selector(own, &path.field("selector"), report));
    let wire::VolumeResourceRequirements { limits, requests } = resources.clone().unwrap_or_default();
    let path = path.field("resources");
    report.ignored(is_set(&limits), &path.field("limits"), "the size of a claim is not enforced");
    let storage_bytes = storage_of(&requests, &path.field("requests"), report)?;
    Some(Claim {
        labels: BTreeMap::new(),
        access_modes,
        storage_bytes,
        storage_class: storage_class_name.clone(),
        volume_name,
        selector,
    })
}

fn persistent_volume(wire: &wire::PersistentVolume, report: &mut Report) -> Option<PersistentVolume> {
    let wire::PersistentVolume { metadata, spec, status: _ } = wire;
    let root = FieldPath::root();
    let labels = metadata::checked_labels(&metadata.labels, &root.field("metadata").field("labels"), report);
    let path = root.field("spec");
    let spec = spec.clone().unwrap_or_default();
    let source = source(&spec, &path, report);
    let wire::PersistentVolumeSpec {
        access_modes,
        capacity,
        claim_ref,
        mount_options,
        node_affinity,
        persistent_volume_reclaim_policy,
        storage_class_name,
        volume_attributes_class_name,
        volume_mode,
        aws_elastic_block_store: _,
        azure_disk: _,
        azure_file: _,
        cephfs: _,
        cinder: _,
        csi: _,
        fc: _,
        flex_volume: _,
        flocker: _,
        gce_persistent_disk: _,
        glusterfs: _,
        host_path: _,
        iscsi: _,
        local,
        nfs: _,
        photon_persistent_disk: _,
        portworx_volume: _,
        quobyte: _,
        rbd: _,
        scale_io: _,
        storageos: _,
        vsphere_volume: _,
    } = &spec;
    let at = |name| path.field(name);
    let access_modes = convert_access_modes(access_modes, &at("accessModes"), report);
    refuse_block(volume_mode, &at("volumeMode"), report);
    check_class(storage_class_name, &at("storageClassName"), report);
    if is_set(mount_options) {
        report.error(&at("mountOptions"), "forbidden: may not specify mount options for this volume type");
    }
    if is_set(volume_attributes_class_name) {
        report.error(&at("volumeAttributesClassName"), "forbidden: only a csi volume has one");
    }
    // Of a `local` volume it must be said, and says what is true anyway.
    report.ignored(
        node_affinity.is_some() && local.is_none(),
        &at("nodeAffinity"),
        "there is one node, this machine",
    );
    if local.is_some() && node_affinity.is_none() {
        report.warn(&at("nodeAffinity"), "missing: Kubernetes requires it of a local volume");
    }
    let reclaim_policy = match persistent_volume_reclaim_policy.as_deref().unwrap_or_default() {
        "Recycle" => {
            report.unsupported(true, &at("persistentVolumeReclaimPolicy"), "it is deprecated; use Retain");
            None
        }
        text => {
            let choices = [("", ReclaimPolicy::Retain)].into_iter();
            let choices =
                choices.chain([ReclaimPolicy::Retain, ReclaimPolicy::Delete].map(|p| (p.as_str(), p)));
            report.choice(&at("persistentVolumeReclaimPolicy"), text, &choices.collect::<Vec<_>>())
        }
    };
    let claim = claim_ref.as_ref().and_then(|own| claim_reference(own, &at("claimRef"), report));
    let capacity_bytes = storage_of(capacity, &at("capacity"), report)?;
    let (directory, kind) = source?;
    let volume = PersistentVolume {
        labels,
        path: directory,
        kind,
        capacity_bytes,
        access_modes,
        storage_class: storage_class_name.clone().unwrap_or_default(),
        reclaim_policy: reclaim_policy.unwrap_or_default(),
        claim,
    };
    if volume.reclaim_policy == ReclaimPolicy::Delete
        && let Some(why) = volume.deletion_refused()
    {
        report.warn(
            &at("persistentVolumeReclaimPolicy"),
            format_args!("the volume will be Failed and its data stay when its claim is deleted: {why}"),
        );
    }
    Some(volume)
}

/// The one source of a volume.
fn source(
    spec: &wire::PersistentVolumeSpec,
    path: &FieldPath,
    report: &mut Report,
) -> Option<(std::path::PathBuf, PersistentVolumeKind)> {
    let foreign = [
        ("awsElasticBlockStore", spec.aws_elastic_block_store.is_some()),
        ("azureDisk", spec.azure_disk.is_some()),
        ("azureFile", spec.azure_file.is_some()),
        ("cephfs", spec.cephfs.is_some()),
        ("cinder", spec.cinder.is_some()),
        ("csi", spec.csi.is_some()),
        ("fc", spec.fc.is_some()),
        ("flexVolume", spec.flex_volume.is_some()),
        ("flocker", spec.flocker.is_some()),
        ("gcePersistentDisk", spec.gce_persistent_disk.is_some()),
        ("glusterfs", spec.glusterfs.is_some()),
        ("iscsi", spec.iscsi.is_some()),
        ("nfs", spec.nfs.is_some()),
        ("photonPersistentDisk", spec.photon_persistent_disk.is_some()),
        ("portworxVolume", spec.portworx_volume.is_some()),
        ("quobyte", spec.quobyte.is_some()),
        ("rbd", spec.rbd.is_some()),
        ("scaleIO", spec.scale_io.is_some()),
        ("storageos", spec.storageos.is_some()),
        ("vsphereVolume", spec.vsphere_volume.is_some()),
    ];
    let own = [("hostPath", spec.host_path.is_some()), ("local", spec.local.is_some())];
    let given: Vec<_> =
        foreign.iter().chain(&own).filter(|(_, given)| *given).map(|(name, _)| *name).collect();
    for name in given.iter().filter(|name| foreign.iter().any(|(foreign, _)| foreign == *name)) {
        report.unsupported(true, &path.field(name), "peapod has no driver for it; use hostPath or local");
    }
    match given[..] {
        [] => report.error(path, "must specify a volume type: hostPath or local"),
        [_] => {}
        _ => report.error(
            path,
            format_args!("may not specify more than 1 volume type, found {}", given.join(" and ")),
        ),
    }
    let (text, kind, path) = match (&spec.host_path, &spec.local) {
        (Some(wire::HostPathVolumeSource { path: text, type_ }), _) => {
            let path = path.field("hostPath");
            (text, host_path_kind(type_.as_deref().unwrap_or_default(), &path.field("type"), report)?, path)
        }
        (None, Some(wire::LocalVolumeSource { path: text, fs_type })) => {
            let path = path.field("local");
            report.ignored(is_set(fs_type), &path.field("fsType"), "the path is a directory, no device");
            (text, PersistentVolumeKind::Local, path)
        }
        (None, None) => return None,
    };
    match location::on_host(text) {
        Ok(located) => Some((located, kind)),
        Err(message) => {
            report.error(&path.field("path"), message);
            None
        }
    }
}

fn host_path_kind(text: &str, path: &FieldPath, report: &mut Report) -> Option<PersistentVolumeKind> {
    const KINDS: [(&str, Option<PersistentVolumeKind>); 8] = [
        ("", Some(PersistentVolumeKind::HostPath)),
        ("DirectoryOrCreate", Some(PersistentVolumeKind::HostPathOrCreate)),
        ("Directory", Some(PersistentVolumeKind::HostPath)),
        ("FileOrCreate", None),
        ("File", None),
        ("Socket", None),
        ("CharDevice", None),
        ("BlockDevice", None),
    ];
    let kind = report.choice(path, text, &KINDS)?;
    report.unsupported(kind.is_none(), path, "a claim is a directory; use Directory or DirectoryOrCreate");
    kind
}

fn claim_reference(
    reference: &wire::ObjectReference,
    path: &FieldPath,
    report: &mut Report,
) -> Option<(String, String)> {
    let wire::ObjectReference {
        api_version: _,
        field_path: _,
        kind,
        name: claim,
        namespace,
        resource_version: _,
        // Of a claim of another cluster.
        uid: _,
    } = reference;
    if let Some(kind) = kind.as_deref().filter(|kind| !["", "PersistentVolumeClaim"].contains(kind)) {
        report.error(
            &path.field("kind"),
            format_args!("invalid value {kind:?}: must be PersistentVolumeClaim"),
        );
    }
    let (claim, namespace) = (claim.clone().unwrap_or_default(), namespace.clone().unwrap_or_default());
    let named = report.check(&path.field("name"), name::subdomain(&claim));
    let placed = report.check(&path.field("namespace"), name::label(&namespace));
    (named && placed).then_some((namespace, claim))
}

fn convert_access_modes(
    modes: &Option<Vec<String>>,
    path: &FieldPath,
    report: &mut Report,
) -> Vec<AccessMode> {
    let mut converted = Vec::new();
    for (index, text) in items(modes).iter().enumerate() {
        let mode = report.choice(&path.index(index), text, &AccessMode::ALL);
        converted.extend(mode.filter(|mode| !converted.contains(mode)));
    }
    if items(modes).is_empty() {
        report.error(path, "required: at least 1 access mode, such as ReadWriteOnce");
    } else if converted.len() > 1 && converted.contains(&AccessMode::ReadWriteOncePod) {
        report.error(path, "forbidden: may not use ReadWriteOncePod with other access modes");
    }
    converted
}

fn refuse_block(mode: &Option<String>, path: &FieldPath, report: &mut Report) {
    let choices = [("", false), ("Filesystem", false), ("Block", true)];
    let is_block = report.choice(path, mode.as_deref().unwrap_or_default(), &choices);
    report.unsupported(is_block == Some(true), path, "WASI has no block devices; use Filesystem");
}

fn check_class(class: &Option<String>, path: &FieldPath, report: &mut Report) {
    if let Some(class) = class.as_deref().filter(|class| !class.is_empty()) {
        report.check(path, name::subdomain(class));
    }
}

/// The amount of `storage`, bytes: more than none.
fn storage_of(amounts: &Quantities, path: &FieldPath, report: &mut Report) -> Option<u64> {
    for other in amounts.iter().flat_map(BTreeMap::keys).filter(|key| *key != STORAGE) {
        report.error(&path.field(other), format_args!("unsupported value {other:?} (one of: {STORAGE})"));
    }
    let path = path.field(STORAGE);
    let Some(resource::Quantity(text)) = amounts.as_ref().and_then(|amounts| amounts.get(STORAGE)) else {
        report.error(&path, "required; an amount such as 1Gi");
        return None;
    };
    let amount = quantity(text, &path, report)?;
    if amount.is_zero() {
        report.error(&path, format_args!("invalid value {text:?}: must be greater than zero"));
        return None;
    }
    Some(amount.ceil())
}
