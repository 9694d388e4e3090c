//! Services that stand beside the Pod.

use k8s_openapi::api::core::v1 as wire;

use super::report::Report;
use crate::manifest::Numbered;
use crate::spec::Service;

/// Converts those of `namespace`.
pub(super) fn convert_all(
    services: &[Numbered<wire::Service>],
    namespace: &str,
    report: &mut Report,
) -> Vec<Service> {
    let _ = (services, namespace, report);
    Vec::new()
}
