//! PersistentVolumeClaims and PersistentVolumes that stand beside the Pod
//! (`ValidatePersistentVolumeClaim` and `ValidatePersistentVolume` in `pkg/apis/core/validation/validation.go`).

use k8s_openapi::api::core::v1 as wire;

use super::report::Report;
use crate::manifest::Numbered;
use crate::spec::Storage;

/// Converts all; claims are those of `namespace`.
pub(super) fn convert_all(
    claims: &[Numbered<wire::PersistentVolumeClaim>],
    volumes: &[Numbered<wire::PersistentVolume>],
    namespace: &str,
    report: &mut Report,
) -> Storage {
    let _ = (claims, volumes, namespace, report);
    Storage::default()
}
