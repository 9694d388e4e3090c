//! Requests and limits as a status has them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::spec::Resources;

/// Resource name → quantity.
type Quantities = BTreeMap<String, Quantity>;

/// `allocatedResources`: the requests.
pub(super) fn allocated(resources: Resources) -> Option<Quantities> {
    let Resources { cpu_request_millis, memory_request_bytes, storage_request_bytes, .. } = resources;
    quantities(cpu_request_millis, memory_request_bytes, storage_request_bytes)
}

/// `resources`: requests and limits.
pub(super) fn requirements(resources: Resources) -> Option<ResourceRequirements> {
    let Resources { cpu_limit_millis, memory_limit_bytes, storage_limit_bytes, .. } = resources;
    let limits = quantities(cpu_limit_millis, memory_limit_bytes, storage_limit_bytes);
    let requests = allocated(resources);
    (limits.is_some() || requests.is_some()).then(|| ResourceRequirements {
        limits,
        requests,
        ..ResourceRequirements::default()
    })
}

fn quantities(cpu_millis: Option<u64>, memory: Option<u64>, storage: Option<u64>) -> Option<Quantities> {
    let all = [
        ("cpu", cpu_millis.map(millis)),
        ("memory", memory.map(bytes)),
        ("ephemeral-storage", storage.map(bytes)),
    ];
    let set = all.into_iter().filter_map(|(name, text)| Some((name.to_owned(), Quantity(text?))));
    Some(set.collect::<Quantities>()).filter(|quantities| !quantities.is_empty())
}

/// Thousandths in their shortest form: `500m`, `2`.
fn millis(millis: u64) -> String {
    if millis.is_multiple_of(1000) { (millis / 1000).to_string() } else { format!("{millis}m") }
}

/// Bytes in their shortest exact form, such as `64Mi`, which is how Kubernetes writes them.
fn bytes(mut bytes: u64) -> String {
    let mut suffixes = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].into_iter();
    let mut suffix = suffixes.next().unwrap_or_default();
    while bytes != 0
        && bytes.is_multiple_of(1024)
        && let Some(next) = suffixes.next()
    {
        (bytes, suffix) = (bytes / 1024, next);
    }
    format!("{bytes}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_their_canonical_form() {
        for (value, text) in [
            (0, "0"),
            (1, "1"),
            (1000, "1000"),
            (1024, "1Ki"),
            (64 << 20, "64Mi"),
            (3 << 30, "3Gi"),
            (1 << 60, "1Ei"),
        ] {
            assert_eq!(bytes(value), text);
        }
        for (value, text) in [(0, "0"), (100, "100m"), (1500, "1500m"), (2000, "2")] {
            assert_eq!(millis(value), text);
        }
    }

    #[test]
    fn what_is_not_set_is_not_told() {
        assert_eq!(requirements(Resources::default()), None);
        assert_eq!(allocated(Resources::default()), None);
        let limited = Resources { memory_limit_bytes: Some(1 << 20), ..Resources::default() };
        let requirements = requirements(limited).unwrap();
        assert_eq!(requirements.requests, None);
        assert_eq!(requirements.limits, Some([("memory".to_owned(), Quantity("1Mi".into()))].into()));
    }
}
