//! `persistentVolumeClaim` and `ephemeral` of a volume (`validateVolumeSource` in
//! `pkg/apis/core/validation/validation.go`).
//!
//! That a claim is in no document says nothing here: it may be there from an earlier run, which is for those who bind
//! it to find out ([`crate::volume::claims`]).

use k8s_openapi::api::core::v1 as wire;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::report::Report;
use super::{metadata, storage};
use crate::manifest::FieldPath;
use crate::spec::{Claim, VolumeSource, name};

/// Converts a reference to a claim.
pub(super) fn convert(
    source: &wire::PersistentVolumeClaimVolumeSource,
    path: &FieldPath,
    report: &mut Report,
) -> Option<VolumeSource> {
    let wire::PersistentVolumeClaimVolumeSource { claim_name, read_only } = source;
    let path = path.field("claimName");
    if claim_name.is_empty() {
        report.error(&path, "required; the name of a PersistentVolumeClaim");
        return None;
    }
    let source = VolumeSource::Claim { name: claim_name.clone(), read_only: read_only.unwrap_or_default() };
    report.check(&path, name::subdomain(claim_name)).then_some(source)
}

/// Converts a claim of the pod's own.
pub(super) fn ephemeral(
    source: &wire::EphemeralVolumeSource,
    path: &FieldPath,
    report: &mut Report,
) -> Option<VolumeSource> {
    let wire::EphemeralVolumeSource { volume_claim_template } = source;
    let path = path.field("volumeClaimTemplate");
    let Some(wire::PersistentVolumeClaimTemplate { metadata, spec }) = volume_claim_template else {
        report.error(&path, "required; the spec of the claim that the pod gets");
        return None;
    };
    let metadata = metadata.clone().unwrap_or_default();
    let labels_path = path.field("metadata").field("labels");
    let labels = metadata::checked_labels(&metadata.labels, &labels_path, report);
    // Of others than these the API server says so as well.
    let allowed = ObjectMeta {
        labels: metadata.labels.clone(),
        annotations: metadata.annotations.clone(),
        ..Default::default()
    };
    if metadata != allowed {
        report.error(
            &path.field("metadata"),
            "only labels and annotations may be set: the pod names its claim",
        );
    }
    let claim = storage::claim_spec(spec, &path.field("spec"), report)?;
    Some(VolumeSource::Ephemeral { claim: Claim { labels, ..claim } })
}
