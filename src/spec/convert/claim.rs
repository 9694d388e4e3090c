//! `persistentVolumeClaim` and `ephemeral` of a volume.

use k8s_openapi::api::core::v1 as wire;

use super::report::Report;
use crate::manifest::FieldPath;
use crate::spec::VolumeSource;

/// Converts a reference to a claim.
pub(super) fn convert(
    source: &wire::PersistentVolumeClaimVolumeSource,
    path: &FieldPath,
    report: &mut Report,
) -> Option<VolumeSource> {
    let _ = source;
    report.unsupported(true, path, "this kind of volume does not exist yet; use emptyDir or hostPath");
    None
}
