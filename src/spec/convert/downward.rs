//! `fieldRef` and `resourceFieldRef`, of variables and of files in volumes (`validateObjectFieldSelector` and
//! `validateContainerResourceFieldSelector` in `pkg/apis/core/validation/validation.go`).

use k8s_openapi::api::core::v1 as wire;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;

use super::projected::{NO_USER, file_path, mode};
use super::report::{Report, is_set};
use super::resources::quantity;
use crate::manifest::{FieldPath, hint};
use crate::spec::environment::{Field, ResourceField, ResourceName};
use crate::spec::name;
use crate::spec::quantity::Quantity;
use crate::spec::volume::{DownwardContent, DownwardFile};

/// What is made of the pod's own fields: they have not the same ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// A variable.
    Variable,
    /// A file of a `downwardAPI` volume or projection.
    File,
}

const IDENTITY: [(&str, Field); 3] =
    [("metadata.name", Field::Name), ("metadata.namespace", Field::Namespace), ("metadata.uid", Field::Uid)];

const OF_VARIABLES: [(&str, Field); 6] = [
    ("spec.nodeName", Field::NodeName),
    ("spec.serviceAccountName", Field::ServiceAccountName),
    ("status.hostIP", Field::HostIp),
    ("status.hostIPs", Field::HostIps),
    ("status.podIP", Field::PodIp),
    ("status.podIPs", Field::PodIps),
];

const OF_FILES: [(&str, Field); 2] =
    [("metadata.annotations", Field::Annotations), ("metadata.labels", Field::Labels)];

/// Converts one of the `items` of a volume (`validateDownwardAPIVolumeFile`, likewise).
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
        (Some(own), None) => {
            field(own, Use::File, &path.field("fieldRef"), report).map(DownwardContent::Field)
        }
        (None, Some(own)) => resource(own, Use::File, containers, &path.field("resourceFieldRef"), report)
            .map(DownwardContent::Resource),
    };
    Some(DownwardFile { path: file?, content: content?, mode })
}

/// Converts a `fieldRef`.
pub(super) fn field(
    selector: &wire::ObjectFieldSelector,
    used: Use,
    path: &FieldPath,
    report: &mut Report,
) -> Option<Field> {
    let wire::ObjectFieldSelector { api_version, field_path } = selector;
    let version = api_version.as_deref().unwrap_or("v1");
    if version != "v1" && !version.is_empty() {
        report.error(&path.field("apiVersion"), format_args!("unsupported pod version: {version}; write v1"));
        return None;
    }
    let path = path.field("fieldPath");
    if field_path.is_empty() {
        report.error(&path, "required; such as metadata.name");
        return None;
    }
    if let Some((map, key)) = field_path.strip_suffix("']").and_then(|rest| rest.split_once("['")) {
        return of_map(map, key, &path, report);
    }
    // What clients of the very first version wrote.
    let field_path = if field_path == "spec.host" { "spec.nodeName" } else { field_path };
    let more: &[(&str, Field)] = match used {
        Use::Variable => &OF_VARIABLES,
        Use::File => &OF_FILES,
    };
    let known = || IDENTITY.iter().chain(more);
    if let Some((_, field)) = known().find(|(known, _)| *known == field_path) {
        return Some(field.clone());
    }
    let with_key = ["metadata.labels['<KEY>']", "metadata.annotations['<KEY>']"];
    let listed = known().map(|(known, _)| *known).chain(with_key).collect::<Vec<_>>().join(", ");
    let why = match OF_FILES.iter().find(|(known, _)| *known == field_path) {
        Some(_) => format!("; a variable can have one of them: {field_path}['<KEY>']"),
        None => hint(field_path, known().map(|(known, _)| *known)),
    };
    report.error(&path, format_args!("unsupported value {field_path:?}{why} (one of: {listed})"));
    None
}

/// `metadata.labels['key']` and `metadata.annotations['key']`.
fn of_map(map: &str, key: &str, path: &FieldPath, report: &mut Report) -> Option<Field> {
    let (field, valid) = match map {
        "metadata.labels" => (Field::Label(key.to_owned()), name::qualified(key)),
        // Kubernetes checks annotation keys without regard to case.
        "metadata.annotations" => (Field::Annotation(key.to_owned()), name::qualified(&key.to_lowercase())),
        _ => {
            report.error(path, format_args!("{map:?} does not support subscript"));
            return None;
        }
    };
    report.check(path, valid).then_some(field)
}

const RESOURCES: [(&str, ResourceName); 6] = [
    ("limits.cpu", ResourceName::LimitsCpu),
    ("limits.memory", ResourceName::LimitsMemory),
    ("limits.ephemeral-storage", ResourceName::LimitsEphemeralStorage),
    ("requests.cpu", ResourceName::RequestsCpu),
    ("requests.memory", ResourceName::RequestsMemory),
    ("requests.ephemeral-storage", ResourceName::RequestsEphemeralStorage),
];

const CPU_DIVISORS: [&str; 2] = ["1m", "1"];
const BYTE_DIVISORS: [&str; 13] =
    ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// Converts a `resourceFieldRef`. `containers`: the names of those that it may name.
pub(super) fn resource(
    selector: &wire::ResourceFieldSelector,
    used: Use,
    containers: &[&str],
    path: &FieldPath,
    report: &mut Report,
) -> Option<ResourceField> {
    let wire::ResourceFieldSelector { container_name, divisor, resource } = selector;
    let container = container_name.clone().filter(|name| !name.is_empty());
    let at = path.field("containerName");
    match &container {
        None if used == Use::File => report.error(&at, "required; the container whose resource it is"),
        Some(name) if !containers.contains(&name.as_str()) => {
            let hint = hint(name, containers.iter().copied());
            let listed = containers.join(", ");
            report.error(&at, format_args!("container {name} not found{hint} (one of: {listed})"));
        }
        _ => {}
    }
    let at = path.field("resource");
    if resource.is_empty() {
        report.error(&at, "required; such as limits.memory");
        return None;
    }
    if resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-") {
        report.unsupported(true, &at, "a WebAssembly guest has no huge pages; remove it");
        return None;
    }
    let resource = report.choice(&at, resource, &RESOURCES)?;
    let divisor = convert_divisor(divisor, resource, &path.field("divisor"), report)?;
    Some(ResourceField { container, resource, divisor })
}

/// In the resource's own unit: thousandths of a core, or bytes.
fn convert_divisor(
    divisor: &Option<WireQuantity>,
    resource: ResourceName,
    path: &FieldPath,
    report: &mut Report,
) -> Option<u64> {
    let is_cpu = matches!(resource, ResourceName::LimitsCpu | ResourceName::RequestsCpu);
    let in_unit = |quantity: Quantity| if is_cpu { quantity.millis() } else { quantity.ceil() };
    let one = if is_cpu { 1000 } else { 1 };
    let Some(WireQuantity(text)) = divisor.as_ref().filter(|WireQuantity(text)| !text.is_empty()) else {
        return Some(one);
    };
    let given = quantity(text, path, report)?;
    if given.is_zero() {
        return Some(one);
    }
    let allowed: &[&str] = if is_cpu { &CPU_DIVISORS } else { &BYTE_DIVISORS };
    // Kubernetes compares the canonical form, which keeps the kind of the suffix: 1024 is not 1Ki.
    let is_binary = |text: &str| text.ends_with('i');
    let same = |known: &&str| is_binary(known) == is_binary(text) && known.parse() == Ok(given);
    if !allowed.iter().any(same) {
        let allowed = allowed.join(", ");
        report.error(path, format_args!("invalid value {text:?}: only these are supported: {allowed}"));
        return None;
    }
    Some(in_unit(given))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(field_path: &str, used: Use) -> Result<Field, String> {
        let selector = wire::ObjectFieldSelector { api_version: None, field_path: field_path.to_owned() };
        let mut report = Report::default();
        let field = field(&selector, used, &FieldPath::root().field("fieldRef"), &mut report);
        field.ok_or_else(|| report.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn variables_and_files_have_their_own_fields() {
        use Use::{File, Variable};
        let key = "a.b/c".to_owned();
        assert_eq!(converted("metadata.labels['a.b/c']", Variable), Ok(Field::Label(key.clone())));
        assert_eq!(converted("metadata.annotations['a.b/c']", File), Ok(Field::Annotation(key)));
        assert_eq!(
            converted("metadata.annotations['Some/Key']", Variable),
            Ok(Field::Annotation("Some/Key".into()))
        );
        assert_eq!(converted("spec.host", Variable), Ok(Field::NodeName));
        assert_eq!(converted("metadata.labels", File), Ok(Field::Labels));
        assert!(converted("metadata.uid", File).is_ok() && converted("status.podIPs", Variable).is_ok());
        for (path, used, part) in [
            ("", Variable, "required"),
            ("status.podIp", Variable, "did you mean status.podIP?"),
            ("status.podIP", File, "unsupported value"),
            ("metadata.labels", Variable, "metadata.labels['<KEY>']"),
            ("metadata.labels['a b']", Variable, "invalid value"),
            ("metadata.name['a']", Variable, "does not support subscript"),
        ] {
            let error = converted(path, used).unwrap_err();
            assert!(error.starts_with("fieldRef.fieldPath: ") && error.contains(part), "{path}: {error}");
        }
    }

    #[test]
    fn the_version_of_the_pod_is_v1() {
        let selector =
            wire::ObjectFieldSelector { api_version: Some("v2".into()), field_path: "metadata.name".into() };
        let mut report = Report::default();
        assert_eq!(field(&selector, Use::Variable, &FieldPath::root(), &mut report), None);
        assert!(report.errors[0].message.contains("unsupported pod version: v2"));
    }

    fn divided(resource: &str, divisor: Option<&str>) -> Result<u64, String> {
        let selector = wire::ResourceFieldSelector {
            container_name: Some("web".into()),
            divisor: divisor.map(|text| WireQuantity(text.to_owned())),
            resource: resource.to_owned(),
        };
        let mut report = Report::default();
        let field = super::resource(&selector, Use::Variable, &["web"], &FieldPath::root(), &mut report);
        field
            .map(|field| field.divisor)
            .ok_or_else(|| report.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn divisors_are_those_of_kubernetes() {
        for (resource, divisor, unit) in [
            ("limits.cpu", None, 1000),
            ("limits.cpu", Some("0"), 1000),
            ("requests.cpu", Some("1m"), 1),
            ("requests.cpu", Some("1000m"), 1000),
            ("limits.memory", None, 1),
            ("limits.memory", Some("1Mi"), 1 << 20),
            ("requests.ephemeral-storage", Some("1M"), 1_000_000),
        ] {
            assert_eq!(divided(resource, divisor), Ok(unit), "{resource} {divisor:?}");
        }
        for (resource, divisor, part) in [
            ("limits.cpu", Some("10m"), "divisor: invalid value"),
            ("limits.cpu", Some("1Mi"), "divisor: invalid value"),
            ("limits.memory", Some("1m"), "divisor: invalid value"),
            ("limits.memory", Some("1024"), "divisor: invalid value"),
            ("limits.memory", Some("2Mi"), "divisor: invalid value"),
            ("limits.memory", Some("x"), "divisor"),
            ("limits.memroy", None, "did you mean limits.memory?"),
            ("limits.hugepages-2Mi", None, "huge pages"),
            ("", None, "required"),
        ] {
            let error = divided(resource, divisor).unwrap_err();
            assert!(error.contains(part), "{resource} {divisor:?}: {error}");
        }
    }

    #[test]
    fn a_container_that_is_named_exists() {
        let mut selector =
            wire::ResourceFieldSelector { resource: "limits.cpu".into(), ..Default::default() };
        let of = |selector: &wire::ResourceFieldSelector, used| {
            let mut report = Report::default();
            super::resource(selector, used, &["web"], &FieldPath::root(), &mut report);
            report.errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(of(&selector, Use::Variable).is_empty());
        assert!(of(&selector, Use::File)[0].contains("containerName: required"));
        selector.container_name = Some("wbe".into());
        assert!(of(&selector, Use::File)[0].contains("container wbe not found, did you mean web?"));
    }
}
