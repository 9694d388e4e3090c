//! `configMap`, `secret`, `downwardAPI` and `projected` of a volume.

use k8s_openapi::api::core::v1 as wire;

use super::report::Report;
use crate::manifest::FieldPath;
use crate::spec::VolumeSource;

const NOT_YET: &str = "this kind of volume does not exist yet; use emptyDir or hostPath";

/// Converts `configMap`.
pub(super) fn config_map(
    source: &wire::ConfigMapVolumeSource,
    path: &FieldPath,
    report: &mut Report,
) -> Option<VolumeSource> {
    let _ = source;
    report.unsupported(true, path, NOT_YET);
    None
}

/// Converts `secret`.
pub(super) fn secret(
    source: &wire::SecretVolumeSource,
    path: &FieldPath,
    report: &mut Report,
) -> Option<VolumeSource> {
    let _ = source;
    report.unsupported(true, path, NOT_YET);
    None
}

/// Converts `downwardAPI`.
pub(super) fn downward_api(
    source: &wire::DownwardAPIVolumeSource,
    path: &FieldPath,
    report: &mut Report,
) -> Option<VolumeSource> {
    let _ = source;
    report.unsupported(true, path, NOT_YET);
    None
}

/// Converts `projected`.
pub(super) fn projected(
    source: &wire::ProjectedVolumeSource,
    path: &FieldPath,
    report: &mut Report,
) -> Option<VolumeSource> {
    let _ = source;
    report.unsupported(true, path, NOT_YET);
    None
}
