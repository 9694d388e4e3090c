//! `resources` of a container.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource;

use super::report::{Report, is_set};
use crate::manifest::{FieldPath, hint};
use crate::spec::Resources;
use crate::spec::quantity::Quantity;

/// A WebAssembly memory grows in pages of this size; less than one is no memory at all.
const WASM_PAGE_BYTES: u64 = 64 << 10;

/// CPU and memory of one of the two lists.
#[derive(Default)]
struct Amounts {
    cpu: Option<Quantity>,
    memory: Option<Quantity>,
}

pub(super) fn convert(
    resources: &Option<ResourceRequirements>,
    path: &FieldPath,
    report: &mut Report,
) -> Resources {
    let Some(ResourceRequirements { claims, limits, requests }) = resources else {
        return Resources::default();
    };
    report.unsupported(is_set(claims), &path.field("claims"), "there are no devices to claim; remove it");
    let limits = amounts(limits, &path.field("limits"), report);
    let requests = amounts(requests, &path.field("requests"), report);
    for (name, request, limit) in
        [("cpu", requests.cpu, limits.cpu), ("memory", requests.memory, limits.memory)]
    {
        if let (Some(request), Some(limit)) = (request, limit)
            && request > limit
        {
            report.error(
                &path.field("requests").field(name),
                format_args!(
                    "must be less than or equal to the {name} limit; lower it or raise limits.{name}"
                ),
            );
        }
    }
    // Kubernetes: no request but a limit means a request as high as the limit.
    Resources {
        cpu_limit_millis: limits.cpu.map(Quantity::millis),
        memory_limit_bytes: limits.memory.map(Quantity::ceil),
        cpu_request_millis: requests.cpu.or(limits.cpu).map(Quantity::millis),
        memory_request_bytes: requests.memory.or(limits.memory).map(Quantity::ceil),
        storage_limit_bytes: None,
        storage_request_bytes: None,
    }
}

fn amounts(
    list: &Option<BTreeMap<String, resource::Quantity>>,
    path: &FieldPath,
    report: &mut Report,
) -> Amounts {
    let mut amounts = Amounts::default();
    for (name, resource::Quantity(text)) in list.iter().flatten() {
        let path = path.field(name);
        let Some(quantity) = quantity(text, &path, report) else { continue };
        match name.as_str() {
            "cpu" if quantity.is_below_one_milli() => {
                report.error(&path, format_args!("{text:?} is less than 1m, the smallest share of a CPU"))
            }
            // Zero limits nothing, to the kubelet as well.
            "cpu" => amounts.cpu = Some(quantity).filter(|q| !q.is_zero()),
            "memory" => {
                warn_of_little_memory(quantity, text, &path, report);
                amounts.memory = Some(quantity).filter(|q| !q.is_zero());
            }
            "ephemeral-storage" => report.ignored(true, &path, "the use of disk space is not limited yet"),
            "storage" => report.error(&path, "belongs to a PersistentVolumeClaim, not to a container"),
            other if other.starts_with("hugepages-") => {
                report.unsupported(true, &path, "a WebAssembly guest has no huge pages; remove it");
            }
            other if other.contains('/') => {
                report.unsupported(true, &path, "there are no extended resources on this machine; remove it");
            }
            other => report.error(
                &path,
                format_args!(
                    "unknown resource{} (known: cpu, memory, ephemeral-storage)",
                    hint(other, ["cpu", "memory", "ephemeral-storage"])
                ),
            ),
        }
    }
    amounts
}

/// Parses a quantity that must not be negative.
pub(super) fn quantity(text: &str, path: &FieldPath, report: &mut Report) -> Option<Quantity> {
    match text.parse::<Quantity>() {
        Ok(quantity) if quantity.is_negative() => {
            report.error(path, format_args!("invalid value {text:?}: must be greater than or equal to 0"));
            None
        }
        Ok(quantity) => Some(quantity),
        Err(error) => {
            report.error(path, error);
            None
        }
    }
}

fn warn_of_little_memory(quantity: Quantity, text: &str, path: &FieldPath, report: &mut Report) {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    if !quantity.is_whole() {
        report.warn(
            path,
            format_args!(
                "{text:?} is a fraction of a byte, rounded up to {} bytes; did you mean {digits}Mi?",
                quantity.ceil()
            ),
        );
    } else if !quantity.is_zero() && quantity.ceil() < WASM_PAGE_BYTES {
        report.warn(
            path,
            format_args!(
                "{text:?} is {} bytes, less than one WebAssembly page (64Ki); did you mean {digits}Mi?",
                quantity.ceil()
            ),
        );
    }
}
