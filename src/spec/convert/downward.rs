//! Files of a downward API volume (`validateDownwardAPIVolumeFile` in `pkg/apis/core/validation/validation.go`).

use k8s_openapi::api::core::v1 as wire;
use k8s_openapi::apimachinery::pkg::api::resource;

use super::projected::{NO_USER, file_path, mode};
use super::report::{Report, is_set};
use super::resources::quantity;
use crate::manifest::{FieldPath, hint};
use crate::spec::environment::{Field, ResourceField, ResourceName};
use crate::spec::name;
use crate::spec::volume::{DownwardContent, DownwardFile};

/// The fields that a file can hold (`validVolumeDownwardAPIFieldPathExpressions`); those of labels and annotations
/// also with a key.
const FIELDS: [(&str, Field); 5] = [
    ("metadata.name", Field::Name),
    ("metadata.namespace", Field::Namespace),
    ("metadata.labels", Field::Labels),
    ("metadata.annotations", Field::Annotations),
    ("metadata.uid", Field::Uid),
];

/// The resources that a file can hold (`validContainerResourceFieldPathExpressions`).
const RESOURCES: [(&str, ResourceName); 6] = [
    ("limits.cpu", ResourceName::LimitsCpu),
    ("limits.memory", ResourceName::LimitsMemory),
    ("limits.ephemeral-storage", ResourceName::LimitsEphemeralStorage),
    ("requests.cpu", ResourceName::RequestsCpu),
    ("requests.memory", ResourceName::RequestsMemory),
    ("requests.ephemeral-storage", ResourceName::RequestsEphemeralStorage),
];

/// `validContainerResourceDivisorForCPU` in `pkg/apis/core/validation/validation.go`.
const CPU_DIVISORS: [&str; 2] = ["1m", "1"];
/// `validContainerResourceDivisorForMemory`, likewise.
const BYTE_DIVISORS: [&str; 13] =
    ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// Converts one of `items`.
pub(super) fn file(
    file: &wire::DownwardAPIVolumeFile,
    containers: &[&str],
    path: &FieldPath,
    report: &mut Report,
) -> Option<DownwardFile> {
    let wire::DownwardAPIVolumeFile { field_ref, mode: own_mode, path: file, resource_field_ref, user } =
        file;
    report.unsupported(is_set(user), &path.field("user"), NO_USER);
    let file = file_path(file, &path.field("path"), report);
    let mode = mode(*own_mode, &path.field("mode"), report);
    let content = match (field_ref, resource_field_ref) {
        (None, None) => {
            report.error(path, "required; one of fieldRef and resourceFieldRef is required");
            None
        }
        (Some(_), Some(_)) => {
            report.error(path, "fieldRef and resourceFieldRef can not be specified simultaneously");
            None
        }
        (Some(own), None) => field(own, &path.field("fieldRef"), report).map(DownwardContent::Field),
        (None, Some(own)) => {
            resource(own, containers, &path.field("resourceFieldRef"), report).map(DownwardContent::Resource)
        }
    };
    Some(DownwardFile { path: file?, content: content?, mode })
}

fn field(selector: &wire::ObjectFieldSelector, path: &FieldPath, report: &mut Report) -> Option<Field> {
    let wire::ObjectFieldSelector { api_version, field_path: text } = selector;
    let version = api_version.as_deref().unwrap_or_default();
    if !["", "v1"].contains(&version) {
        report
            .error(&path.field("apiVersion"), format_args!("unsupported pod version {version:?}; write v1"));
    }
    let path = path.field("fieldPath");
    if text.is_empty() {
        report.error(&path, "required; such as metadata.name");
        return None;
    }
    if let Some((map, key)) = text.strip_suffix("']").and_then(|text| text.split_once("['")) {
        let (checked, field) = match map {
            "metadata.labels" => (name::qualified(key), Field::Label(key.to_owned())),
            // Those of annotations may have capitals in their prefix.
            "metadata.annotations" => {
                (name::qualified(&key.to_lowercase()), Field::Annotation(key.to_owned()))
            }
            _ => (Err(format!("invalid value {map:?}: does not support subscript")), Field::Name),
        };
        return report.check(&path, checked).then_some(field);
    }
    choice(text, &FIELDS, &path, report)
}

fn resource(
    selector: &wire::ResourceFieldSelector,
    containers: &[&str],
    path: &FieldPath,
    report: &mut Report,
) -> Option<ResourceField> {
    let wire::ResourceFieldSelector { container_name, divisor, resource } = selector;
    let container = container_name.clone().unwrap_or_default();
    let container_path = path.field("containerName");
    let all = containers.join(", ");
    if container.is_empty() {
        report.error(&container_path, format_args!("required; one of the pod's containers: {all}"));
    } else if !containers.contains(&container.as_str()) {
        let hint = hint(&container, containers.iter().copied());
        report.error(
            &container_path,
            format_args!("not found: no container {container:?}{hint} (one of: {all})"),
        );
    }
    if resource.is_empty() {
        report.error(&path.field("resource"), "required; such as limits.memory");
        return None;
    }
    let name = choice(resource, &RESOURCES, &path.field("resource"), report)?;
    let divisor = self::divisor(divisor.as_ref(), name, &path.field("divisor"), report)?;
    Some(ResourceField { container: Some(container), resource: name, divisor })
}

/// In the resource's own unit; one of the resource when absent or 0.
fn divisor(
    divisor: Option<&resource::Quantity>,
    name: ResourceName,
    path: &FieldPath,
    report: &mut Report,
) -> Option<u64> {
    let is_cpu = matches!(name, ResourceName::LimitsCpu | ResourceName::RequestsCpu);
    let one = if is_cpu { 1000 } else { 1 };
    let Some(resource::Quantity(text)) = divisor else { return Some(one) };
    let quantity = quantity(text, path, report)?;
    if quantity.is_zero() {
        return Some(one);
    }
    let allowed: &[&str] = if is_cpu { &CPU_DIVISORS } else { &BYTE_DIVISORS };
    if !allowed.iter().any(|allowed| allowed.parse() == Ok(quantity)) {
        let (values, resource) = match name {
            ResourceName::LimitsCpu | ResourceName::RequestsCpu => ("1m and 1".to_owned(), "cpu"),
            ResourceName::LimitsMemory | ResourceName::RequestsMemory => (allowed.join(", "), "memory"),
            _ => (allowed.join(", "), "local ephemeral storage"),
        };
        let message = format_args!(
            "invalid value {text:?}: only divisor's values {values} are supported with the {resource} resource"
        );
        report.error(path, message);
        return None;
    }
    Some(if is_cpu { quantity.millis() } else { quantity.ceil() })
}

fn choice<T: Clone>(text: &str, choices: &[(&str, T)], path: &FieldPath, report: &mut Report) -> Option<T> {
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
        return Some(value.clone());
    }
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let hint = hint(text, names.iter().copied());
    report.error(path, format_args!("unsupported value {text:?}{hint} (one of: {})", names.join(", ")));
    None
}
