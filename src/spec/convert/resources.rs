//! `resources`: requests and limits of a container, and of the pod as a whole.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource;

use super::report::{Report, is_set};
use crate::manifest::{FieldPath, hint};
use crate::spec::Resources;
use crate::spec::quantity::Quantity;

/// A WebAssembly memory grows in pages of this size; less than one is no memory at all.
const WASM_PAGE_BYTES: u64 = 64 << 10;

/// Whose resources they are, which says what may be among them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Container,
    Pod,
}

impl Owner {
    fn known(self) -> &'static [&'static str] {
        match self {
            Self::Container => &["cpu", "memory", "ephemeral-storage"],
            Self::Pod => &["cpu", "memory"],
        }
    }
}

/// One of the two lists.
#[derive(Default)]
struct Amounts {
    cpu: Option<Quantity>,
    memory: Option<Quantity>,
    storage: Option<Quantity>,
}

/// Converts `resources` of a container.
pub(super) fn convert(
    resources: &Option<ResourceRequirements>,
    path: &FieldPath,
    report: &mut Report,
) -> Resources {
    let Some((requests, limits)) = read(resources, Owner::Container, path, report) else {
        return Resources::default();
    };
    // Kubernetes: no request but a limit means a request as high as the limit.
    Resources {
        cpu_limit_millis: millis(limits.cpu),
        memory_limit_bytes: bytes(limits.memory),
        cpu_request_millis: millis(requests.cpu.or(limits.cpu)),
        memory_request_bytes: bytes(requests.memory.or(limits.memory)),
        storage_limit_bytes: bytes(limits.storage),
        storage_request_bytes: bytes(requests.storage.or(limits.storage)),
    }
}

/// Converts `spec.resources`: what is not requested stays absent, as it depends on the containers.
pub(super) fn of_pod(
    resources: &Option<ResourceRequirements>,
    path: &FieldPath,
    report: &mut Report,
) -> Resources {
    let Some((requests, limits)) = read(resources, Owner::Pod, path, report) else {
        return Resources::default();
    };
    Resources {
        cpu_limit_millis: millis(limits.cpu),
        memory_limit_bytes: bytes(limits.memory),
        cpu_request_millis: millis(requests.cpu),
        memory_request_bytes: bytes(requests.memory),
        ..Resources::default()
    }
}

/// Zero limits and asks for nothing, to the kubelet as well.
fn millis(quantity: Option<Quantity>) -> Option<u64> {
    quantity.filter(|quantity| !quantity.is_zero()).map(Quantity::millis)
}

fn bytes(quantity: Option<Quantity>) -> Option<u64> {
    quantity.filter(|quantity| !quantity.is_zero()).map(Quantity::ceil)
}

/// The requests and the limits.
fn read(
    resources: &Option<ResourceRequirements>,
    owner: Owner,
    path: &FieldPath,
    report: &mut Report,
) -> Option<(Amounts, Amounts)> {
    let ResourceRequirements { claims, limits, requests } = resources.as_ref()?;
    report.unsupported(is_set(claims), &path.field("claims"), "there are no devices to claim; remove it");
    let limits = amounts(limits, owner, &path.field("limits"), report);
    let requests = amounts(requests, owner, &path.field("requests"), report);
    for (name, request, limit) in [
        ("cpu", requests.cpu, limits.cpu),
        ("memory", requests.memory, limits.memory),
        ("ephemeral-storage", requests.storage, limits.storage),
    ] {
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
    Some((requests, limits))
}

fn amounts(
    list: &Option<BTreeMap<String, resource::Quantity>>,
    owner: Owner,
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
            "cpu" => amounts.cpu = Some(quantity),
            "memory" => {
                warn_of_little_memory(quantity, text, &path, report);
                amounts.memory = Some(quantity);
            }
            "ephemeral-storage" if owner == Owner::Container => amounts.storage = Some(quantity),
            "ephemeral-storage" => {
                report.error(&path, "a pod as a whole has no limit of it; give the containers' own");
            }
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
                    "unknown resource{} (known: {})",
                    hint(other, owner.known().iter().copied()),
                    owner.known().join(", ")
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
