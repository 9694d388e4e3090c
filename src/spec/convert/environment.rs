//! `env` and `envFrom` of a container (`ValidateEnv`, `ValidateEnvFrom` and what they call in
//! `pkg/apis/core/validation/validation.go`), and whether what they refer to is there.

use k8s_openapi::api::core::v1 as wire;

use super::container::Surroundings;
use super::downward::{self, Use};
use super::location;
use super::report::Report;
use crate::manifest::{FieldPath, hint};
use crate::spec::environment::scope::Scope;
use crate::spec::environment::{
    EnvFrom, Environment, MAX_EXPANSION_BYTES, MAX_STRING_BYTES, ObjectKind, ObjectRef, Value, Variable,
};
use crate::spec::expand::TooLong;
use crate::spec::{Objects, VolumeSource, name};

/// The fields of a container that variables are in.
pub(super) struct Fields<'a> {
    pub(super) env: &'a [wire::EnvVar],
    pub(super) env_from: &'a [wire::EnvFromSource],
    pub(super) command: &'a [String],
    pub(super) args: &'a [String],
}

/// Converts `env` and `envFrom`. Values that grow beyond all bounds are found by expanding them once, with what is
/// known of the objects now.
pub(super) fn convert(
    fields: &Fields<'_>,
    path: &FieldPath,
    around: &mut Surroundings<'_>,
    report: &mut Report,
) -> Environment {
    let mut environment = Environment::default();
    let mut trial = Trial { scope: Scope::within(around.expansion_budget), objects: around.objects };
    for (index, source) in fields.env_from.iter().enumerate() {
        let path = path.field("envFrom").index(index);
        let Some(from) = env_from(source, &path, around, report) else { continue };
        trial.from(&from, &path, report);
        environment.from.push(from);
    }
    for (index, variable) in fields.env.iter().enumerate() {
        let path = path.field("env").index(index);
        let wire::EnvVar { name, value, value_from } = variable;
        report.check(&path.field("name"), name::env(name));
        let text = value.as_deref().unwrap_or_default();
        if environment.variables.iter().any(|earlier| earlier.name == *name) {
            report.warn(&path, format_args!("{name:?} is set twice; this value replaces the earlier one"));
        }
        let value = match value_from {
            None => {
                if text.contains('\0') {
                    report.error(&path.field("value"), "must not contain a NUL byte");
                }
                Value::Text(text.to_owned())
            }
            Some(source) => {
                let Some(value) = value_from_source(source, text, &path.field("valueFrom"), around, report)
                else {
                    continue;
                };
                value
            }
        };
        trial.variable(name, &value, &path, report);
        environment.variables.push(Variable { name: name.clone(), value });
    }
    for (field, list) in [("command", fields.command), ("args", fields.args)] {
        for (index, text) in list.iter().enumerate() {
            let path = path.field(field).index(index);
            if text.contains('\0') {
                report.error(&path, "must not contain a NUL byte");
            }
            let expanded = trial.scope.expand(text).map(drop);
            not_too_long(expanded, &path, report);
        }
    }
    around.expansion_budget = trial.scope.budget();
    environment
}

fn env_from(
    source: &wire::EnvFromSource,
    path: &FieldPath,
    around: &Surroundings<'_>,
    report: &mut Report,
) -> Option<EnvFrom> {
    let wire::EnvFromSource { config_map_ref, prefix, secret_ref } = source;
    let prefix = prefix.clone().unwrap_or_default();
    if !prefix.is_empty() {
        report.check(&path.field("prefix"), name::env(&prefix));
    }
    let config_map = config_map_ref.as_ref().map(|wire::ConfigMapEnvSource { name, optional }| {
        ("configMapRef", reference(ObjectKind::ConfigMap, name, *optional))
    });
    let secret = secret_ref.as_ref().map(|wire::SecretEnvSource { name, optional }| {
        ("secretRef", reference(ObjectKind::Secret, name, *optional))
    });
    let (field, object) = match (config_map, secret) {
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => {
            report.error(path, "must specify one of: `configMapRef` or `secretRef`");
            return None;
        }
        (Some(_), Some(_)) => {
            report.error(path, "may not have more than one field specified at a time");
            return None;
        }
    };
    check_object(&object, None, &path.field(field), around.objects, report);
    Some(EnvFrom { prefix, object })
}

/// `valueFrom`; `text` is the `value` beside it.
fn value_from_source(
    source: &wire::EnvVarSource,
    text: &str,
    path: &FieldPath,
    around: &Surroundings<'_>,
    report: &mut Report,
) -> Option<Value> {
    let wire::EnvVarSource {
        config_map_key_ref,
        field_ref,
        file_key_ref,
        resource_field_ref,
        secret_key_ref,
    } = source;
    let given = [
        config_map_key_ref.is_some(),
        field_ref.is_some(),
        file_key_ref.is_some(),
        resource_field_ref.is_some(),
        secret_key_ref.is_some(),
    ];
    let wrong = match given.into_iter().filter(|given| *given).count() {
        0 => Some(
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        ),
        _ if !text.is_empty() => Some("may not be specified when `value` is not empty"),
        1 => None,
        _ => Some("may not have more than one field specified at a time"),
    };
    if let Some(wrong) = wrong {
        report.error(path, wrong);
        return None;
    }
    if let Some(wire::ConfigMapKeySelector { key, name, optional }) = config_map_key_ref {
        let object = reference(ObjectKind::ConfigMap, name, *optional);
        check_object(&object, Some(key), &path.field("configMapKeyRef"), around.objects, report);
        return Some(Value::Key { object, key: key.clone() });
    }
    if let Some(wire::SecretKeySelector { key, name, optional }) = secret_key_ref {
        let object = reference(ObjectKind::Secret, name, *optional);
        check_object(&object, Some(key), &path.field("secretKeyRef"), around.objects, report);
        return Some(Value::Key { object, key: key.clone() });
    }
    if let Some(selector) = field_ref {
        return downward::field(selector, Use::Variable, &path.field("fieldRef"), report).map(Value::Field);
    }
    if let Some(selector) = resource_field_ref {
        let path = path.field("resourceFieldRef");
        return downward::resource(selector, Use::Variable, around.containers, &path, report)
            .map(Value::Resource);
    }
    file_key(file_key_ref.as_ref()?, &path.field("fileKeyRef"), around, report)
}

/// `validateFileKeySelector` and `validateFileKeyRefVolumes`.
fn file_key(
    selector: &wire::FileKeySelector,
    path: &FieldPath,
    around: &Surroundings<'_>,
    report: &mut Report,
) -> Option<Value> {
    let wire::FileKeySelector { key, optional, path: file, volume_name } = selector;
    report.check(&path.field("key"), name::env(key));
    let at = path.field("volumeName");
    let volumes = around.volumes;
    if volume_name.is_empty() {
        report.error(&at, "required; the name of an emptyDir under spec.volumes");
    } else if !volumes.names.contains(volume_name) {
        let hint = hint(volume_name, volumes.names.iter().map(String::as_str));
        report.error(&at, format_args!("no volume named {volume_name:?} under spec.volumes{hint}"));
    } else if let Some(volume) = volumes.volumes.iter().find(|volume| volume.name == *volume_name)
        && !matches!(volume.source, VolumeSource::EmptyDir { .. })
    {
        report.error(&at, "referenced volume must be of type emptyDir");
    }
    let at = path.field("path");
    let located = match location::in_volume(file) {
        Ok(None) => Err("required; a file inside of the volume".to_owned()),
        Ok(Some(_)) if file.starts_with("..") => Err(format!("{file:?} must not start with '..'")),
        located => located,
    };
    let located = located.map_err(|message| report.error(&at, message)).ok()??;
    let optional = optional.unwrap_or_default();
    Some(Value::File { volume: volume_name.clone(), path: located, key: key.clone(), optional })
}

fn reference(kind: ObjectKind, name: &str, optional: Option<bool>) -> ObjectRef {
    ObjectRef { kind, name: name.to_owned(), optional: optional.unwrap_or_default() }
}

/// Checks a reference at `path` to an object, or to a `key` of it: that it is well formed, and that what it refers to
/// stands beside the Pod unless it is optional.
fn check_object(
    object: &ObjectRef,
    key: Option<&str>,
    path: &FieldPath,
    objects: &Objects,
    report: &mut Report,
) {
    let ObjectRef { kind, name, optional } = object;
    let named = report.check(&path.field("name"), name::subdomain(name));
    let keyed = key.is_none_or(|key| {
        let checked = if key.is_empty() { Err("required".to_owned()) } else { name::config_key(key) };
        report.check(&path.field("key"), checked)
    });
    if !named || !keyed {
        return;
    }
    let Found { names, keys, binary } = find(object, objects);
    let kind_name = kind.as_str();
    let Some(keys) = keys else {
        if !optional {
            let hint = hint(name, names.iter().copied());
            report.error(
                &path.field("name"),
                format_args!(
                    "{} {name:?} not found{hint}; add a document of kind: {kind_name}, or set optional: true",
                    kind_name.to_lowercase()
                ),
            );
        }
        return;
    };
    let Some(key) = key else { return };
    if binary.contains(&key) {
        let way = match kind {
            ObjectKind::ConfigMap => "it is in binaryData; move it to data",
            ObjectKind::Secret => "its value is not UTF-8 text",
        };
        report.error(
            &path.field("key"),
            format_args!(
                "a variable cannot have {key:?} of {kind_name} {name:?}: {way}, or mount it in a volume"
            ),
        );
    } else if !optional && !keys.contains(&key) {
        let hint = hint(key, keys.iter().copied());
        report.error(
            &path.field("key"),
            format_args!("no key {key:?} in {kind_name} {name:?}{hint}; add it there, or set optional: true"),
        );
    }
}

/// What there is of the kind and of the object that a reference names.
struct Found<'o> {
    /// All objects of the kind.
    names: Vec<&'o str>,
    /// The keys of the one; `None`: there is none of that name.
    keys: Option<Vec<&'o str>>,
    /// Keys that a variable cannot have.
    binary: Vec<&'o str>,
}

fn find<'o>(object: &ObjectRef, objects: &'o Objects) -> Found<'o> {
    match object.kind {
        ObjectKind::ConfigMap => {
            let found = objects.config_maps.get(&object.name);
            Found {
                names: objects.config_maps.keys().map(String::as_str).collect(),
                keys: found.map(|found| found.data.keys().map(String::as_str).collect()),
                binary: found.iter().flat_map(|found| found.binary_data.keys().map(String::as_str)).collect(),
            }
        }
        ObjectKind::Secret => {
            let found = objects.secrets.get(&object.name);
            let data = || found.iter().flat_map(|found| &found.data);
            let is_binary = |bytes: &[u8]| std::str::from_utf8(bytes).is_err();
            Found {
                names: objects.secrets.keys().map(String::as_str).collect(),
                keys: found.map(|found| found.data.keys().map(String::as_str).collect()),
                binary: data().filter(|(_, bytes)| is_binary(bytes)).map(|(key, _)| key.as_str()).collect(),
            }
        }
    }
}

/// Expands a container's variables, to see how much comes of them. What is known at its start only is short, and empty
/// here.
struct Trial<'o> {
    scope: Scope,
    objects: &'o Objects,
}

impl Trial<'_> {
    fn from(&mut self, from: &EnvFrom, path: &FieldPath, report: &mut Report) {
        let EnvFrom { prefix, object } = from;
        let mut set = |key: &str, value: &str| self.scope.set(&format!("{prefix}{key}"), value);
        let fits = match object.kind {
            ObjectKind::ConfigMap => self
                .objects
                .config_maps
                .get(&object.name)
                .map_or(Ok(()), |found| found.data.iter().try_for_each(|(key, value)| set(key, value))),
            ObjectKind::Secret => {
                let data = self.objects.secrets.get(&object.name).into_iter().flat_map(|found| &found.data);
                data.into_iter().try_for_each(|(key, bytes)| match std::str::from_utf8(bytes) {
                    Ok(value) => set(key, value),
                    Err(_) => {
                        report.error(
                            path,
                            format_args!(
                                "a variable cannot have {key:?} of Secret {:?}: its value is not UTF-8 text; name the keys under env, or mount it in a volume",
                                object.name
                            ),
                        );
                        Ok(())
                    }
                })
            }
        };
        not_too_long(fits, path, report);
    }

    fn variable(&mut self, name: &str, value: &Value, path: &FieldPath, report: &mut Report) {
        match value {
            Value::Text(text) => {
                let fits = self.scope.set_expanded(name, text);
                not_too_long(fits, &path.field("value"), report);
            }
            Value::Key { object, key } => {
                let text = match object.kind {
                    ObjectKind::ConfigMap => self
                        .objects
                        .config_maps
                        .get(&object.name)
                        .and_then(|found| found.data.get(key).map(String::as_str)),
                    ObjectKind::Secret => self
                        .objects
                        .secrets
                        .get(&object.name)
                        .and_then(|found| std::str::from_utf8(found.data.get(key)?).ok()),
                };
                if let Some(text) = text {
                    let fits = self.scope.set(name, text);
                    not_too_long(fits, &path.field("valueFrom"), report);
                }
            }
            Value::Field(_) | Value::Resource(_) | Value::File { .. } => {
                let fits = self.scope.set(name, "");
                not_too_long(fits, path, report);
            }
        }
    }
}

fn not_too_long(fits: Result<(), TooLong>, path: &FieldPath, report: &mut Report) {
    if let Err(error) = fits {
        report.error(
            path,
            format_args!(
                "{error}: at most {} KiB each, and {} MiB in a pod",
                MAX_STRING_BYTES >> 10,
                MAX_EXPANSION_BYTES >> 20
            ),
        );
    }
}
