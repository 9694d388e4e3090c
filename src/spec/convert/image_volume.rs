//! `image` of a volume.

use std::path::Path;

use k8s_openapi::api::core::v1 as wire;

use super::report::Report;
use crate::manifest::FieldPath;
use crate::spec::VolumeSource;

/// Converts it; relative references start at `base`.
pub(super) fn convert(
    source: &wire::ImageVolumeSource,
    base: &Path,
    path: &FieldPath,
    report: &mut Report,
) -> Option<VolumeSource> {
    let _ = (source, base);
    report.unsupported(true, path, "this kind of volume does not exist yet; use emptyDir or hostPath");
    None
}
