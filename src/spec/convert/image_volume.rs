//! `image` of a volume.

use std::path::Path;

use k8s_openapi::api::core::v1 as wire;

use super::location;
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
    let wire::ImageVolumeSource { pull_policy, reference } = source;
    let policy_path = path.field("pullPolicy");
    let pulls = pull_policy.as_deref().filter(|policy| !policy.is_empty()).and_then(|policy| {
        let policies = [("Always", true), ("IfNotPresent", false), ("Never", false)];
        report.choice(&policy_path, policy, &policies)
    });
    // A local file is always present and never stale, which is what the other two ask for.
    report.ignored(pulls == Some(true), &policy_path, "images are local files, looked at with every start");
    let path = path.field("reference");
    let reference = match reference.as_deref().unwrap_or_default() {
        "" => {
            Err("required; a local directory or file, such as ./data, ./model.bin or ./image.tar".to_owned())
        }
        reference => location::image(reference, base),
    };
    match reference {
        Ok(reference) => Some(VolumeSource::Image { reference }),
        Err(message) => {
            report.error(&path, message);
            None
        }
    }
}
