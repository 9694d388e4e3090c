//! `volumes` of the pod.

use std::collections::HashSet;
use std::path::Path;

use k8s_openapi::api::core::v1 as wire;
use k8s_openapi::apimachinery::pkg::api::resource;

use super::projected::Available;
use super::report::{Report, items};
use super::resources::quantity;
use super::{claim, image_volume, location, projected};
use crate::manifest::FieldPath;
use crate::spec::{HostPathType, Volume, VolumeSource, name};

/// How the API server names the volume with a service account's token that it adds to every pod.
const TOKEN_VOLUME_PREFIX: &str = "kube-api-access-";

/// The pod's volumes, and the names that mounts may use.
#[derive(Default)]
pub(super) struct Volumes {
    pub(super) volumes: Vec<Volume>,
    /// Every name in the manifest, of broken volumes too: a mount of one is not at fault.
    pub(super) names: HashSet<String>,
    /// Volumes that are left out together with their mounts.
    pub(super) left_out: HashSet<String>,
}

pub(super) fn convert(
    volumes: &Option<Vec<wire::Volume>>,
    manifest_dir: &Path,
    available: &Available<'_>,
    path: &FieldPath,
    report: &mut Report,
) -> Volumes {
    let mut result = Volumes::default();
    for (index, volume) in items(volumes).iter().enumerate() {
        let path = path.index(index);
        let known = report.check(&path.field("name"), name::label(&volume.name));
        if known && !result.names.insert(volume.name.clone()) {
            report.error(
                &path.field("name"),
                format_args!("duplicate value {:?}: another volume has it", volume.name),
            );
        }
        if is_left_out(volume) {
            report.ignored(
                true,
                &path,
                "added by a cluster's API server; there is no API server here to talk to",
            );
            result.left_out.insert(volume.name.clone());
            continue;
        }
        if let Some(source) = source(volume, manifest_dir, available, &path, report) {
            result.volumes.push(Volume { name: volume.name.clone(), source });
        }
    }
    result
}

/// Whether it is there for the API server only.
fn is_left_out(volume: &wire::Volume) -> bool {
    volume.name.starts_with(TOKEN_VOLUME_PREFIX) && volume.projected.is_some()
}

impl Volumes {
    /// Those of a pod that was converted before.
    pub(super) fn of(volumes: &[Volume], wire: &[wire::Volume]) -> Self {
        let left_out = wire.iter().filter(|volume| is_left_out(volume)).map(|volume| volume.name.clone());
        Self {
            volumes: volumes.to_vec(),
            names: volumes.iter().map(|volume| volume.name.clone()).collect(),
            left_out: left_out.collect(),
        }
    }
}

fn source(
    volume: &wire::Volume,
    manifest_dir: &Path,
    available: &Available<'_>,
    path: &FieldPath,
    report: &mut Report,
) -> Option<VolumeSource> {
    let wire::Volume {
        name: _,
        empty_dir,
        host_path,
        aws_elastic_block_store,
        azure_disk,
        azure_file,
        cephfs,
        cinder,
        config_map,
        csi,
        downward_api,
        ephemeral,
        fc,
        flex_volume,
        flocker,
        gce_persistent_disk,
        git_repo,
        glusterfs,
        image,
        iscsi,
        nfs,
        persistent_volume_claim,
        photon_persistent_disk,
        portworx_volume,
        projected,
        quobyte,
        rbd,
        scale_io,
        secret,
        storageos,
        vsphere_volume,
    } = volume;
    let others = [
        ("awsElasticBlockStore", aws_elastic_block_store.is_some()),
        ("azureDisk", azure_disk.is_some()),
        ("azureFile", azure_file.is_some()),
        ("cephfs", cephfs.is_some()),
        ("cinder", cinder.is_some()),
        ("csi", csi.is_some()),
        ("fc", fc.is_some()),
        ("flexVolume", flex_volume.is_some()),
        ("flocker", flocker.is_some()),
        ("gcePersistentDisk", gce_persistent_disk.is_some()),
        ("gitRepo", git_repo.is_some()),
        ("glusterfs", glusterfs.is_some()),
        ("iscsi", iscsi.is_some()),
        ("nfs", nfs.is_some()),
        ("photonPersistentDisk", photon_persistent_disk.is_some()),
        ("portworxVolume", portworx_volume.is_some()),
        ("quobyte", quobyte.is_some()),
        ("rbd", rbd.is_some()),
        ("scaleIO", scale_io.is_some()),
        ("storageos", storageos.is_some()),
        ("vsphereVolume", vsphere_volume.is_some()),
    ];
    let mut given: Vec<&str> = others.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
    for name in &given {
        report.unsupported(
            true,
            &path.field(name),
            "peapod has no driver for it; use persistentVolumeClaim or hostPath",
        );
    }
    let known = [
        ("emptyDir", empty_dir.is_some()),
        ("hostPath", host_path.is_some()),
        ("configMap", config_map.is_some()),
        ("secret", secret.is_some()),
        ("downwardAPI", downward_api.is_some()),
        ("projected", projected.is_some()),
        ("persistentVolumeClaim", persistent_volume_claim.is_some()),
        ("ephemeral", ephemeral.is_some()),
        ("image", image.is_some()),
    ];
    given.extend(known.iter().filter(|(_, given)| *given).map(|(name, _)| *name));
    match given[..] {
        [] => {
            let names = known.map(|(name, _)| name).join(", ");
            let message = format_args!(
                "must specify a volume type: one of {names} (`emptyDir: {{}}` for an empty one)"
            );
            report.error(path, message);
        }
        [_] => {}
        _ => report.error(
            path,
            format_args!("may not specify more than 1 volume type, found {}", given.join(" and ")),
        ),
    }
    let at = |name| path.field(name);
    let empty_dir = empty_dir.as_ref().map(|own| convert_empty_dir(own, &at("emptyDir"), report));
    let host_path = host_path.as_ref().and_then(|own| convert_host_path(own, &at("hostPath"), report));
    let config_map =
        config_map.as_ref().and_then(|own| projected::config_map(own, available, &at("configMap"), report));
    let secret = secret.as_ref().and_then(|own| projected::secret(own, available, &at("secret"), report));
    let downward = downward_api
        .as_ref()
        .and_then(|own| projected::downward_api(own, available, &at("downwardAPI"), report));
    let all =
        projected.as_ref().and_then(|own| projected::projected(own, available, &at("projected"), report));
    let claim = persistent_volume_claim
        .as_ref()
        .and_then(|own| claim::convert(own, &at("persistentVolumeClaim"), report));
    let ephemeral = ephemeral.as_ref().and_then(|own| claim::ephemeral(own, &at("ephemeral"), report));
    let image = image.as_ref().and_then(|own| image_volume::convert(own, manifest_dir, &at("image"), report));
    empty_dir.or(host_path).or(config_map).or(secret).or(downward).or(all).or(claim).or(ephemeral).or(image)
}

fn convert_empty_dir(
    source: &wire::EmptyDirVolumeSource,
    path: &FieldPath,
    report: &mut Report,
) -> VolumeSource {
    const DEFAULT_MODE: i32 = 0o777;
    let wire::EmptyDirVolumeSource { medium, mode, size_limit } = source;
    let medium = medium.as_deref().unwrap_or_default();
    let memory = if medium.starts_with("HugePages") {
        report.unsupported(true, &path.field("medium"), "a WebAssembly guest has no huge pages; use Memory");
        None
    } else {
        report.choice(&path.field("medium"), medium, &[("", false), ("Memory", true)])
    };
    let memory = memory.unwrap_or_default();
    report.unsupported(
        mode.is_some_and(|mode| mode != DEFAULT_MODE),
        &path.field("mode"),
        "every container may write to it, whatever its user; remove it",
    );
    let limit_path = path.field("sizeLimit");
    let size_limit = size_limit
        .as_ref()
        .and_then(|resource::Quantity(text)| quantity(text, &limit_path, report))
        // Zero is no limit, as in the kubelet.
        .filter(|limit| !limit.is_zero())
        .map(|limit| limit.ceil());
    VolumeSource::EmptyDir { memory, size_limit }
}

fn convert_host_path(
    source: &wire::HostPathVolumeSource,
    path: &FieldPath,
    report: &mut Report,
) -> Option<VolumeSource> {
    let wire::HostPathVolumeSource { path: host_path, type_ } = source;
    const KINDS: [(&str, HostPathType); 8] = [
        ("", HostPathType::Any),
        ("DirectoryOrCreate", HostPathType::DirectoryOrCreate),
        ("Directory", HostPathType::Directory),
        ("FileOrCreate", HostPathType::FileOrCreate),
        ("File", HostPathType::File),
        ("Socket", HostPathType::Socket),
        ("CharDevice", HostPathType::CharDevice),
        ("BlockDevice", HostPathType::BlockDevice),
    ];
    let kind = report.choice(&path.field("type"), type_.as_deref().unwrap_or_default(), &KINDS);
    match location::on_host(host_path) {
        Ok(located) => Some(VolumeSource::HostPath { path: located, kind: kind.unwrap_or_default() }),
        Err(message) => {
            report.error(&path.field("path"), message);
            None
        }
    }
}
