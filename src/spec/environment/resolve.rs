//! What one run of a container is given.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::scope::Scope;
use super::{
    ConfigError, EnvFrom, Files, ObjectKind, ObjectRef, Resolved, Surroundings, Value, env_file, field_text,
    resource_text, service,
};
use crate::spec::expand::{TooLong, expand};
use crate::spec::{Container, Mount, Pod};

/// What `container` of `pod` is given when it starts now.
///
/// In the kubelet's order and precedence (`makeEnvironmentVariables` in `pkg/kubelet/kubelet_pods.go`): variables of
/// Services, then `envFrom`, then `env`; what comes later replaces what is there.
///
/// # Errors
/// In the kubelet's words, what is missing or wrong.
pub fn resolve(
    container: &Container,
    pod: &Pod,
    around: &Surroundings,
    files: &dyn Files,
) -> Result<Resolved, ConfigError> {
    let mut scope = Scope::default();
    for (name, value) in service::variables(pod, around) {
        scope.set(&name, &value).map_err(too_long(&name))?;
    }
    for from in &container.environment.from {
        set_from(from, pod, &mut scope)?;
    }
    for variable in &container.environment.variables {
        let name = &variable.name;
        let value = match &variable.value {
            Value::Text(text) => {
                scope.set_expanded(name, text).map_err(too_long(name))?;
                continue;
            }
            Value::Key { object, key } => key_of(object, key, pod)?,
            Value::Field(field) => Some(field_text(field, pod, around).unwrap_or_default()),
            Value::Resource(field) => Some(resource_text(field, Some(container), pod, &around.allocatable)?),
            Value::File { volume, path, key, optional } => from_file(files, volume, path, key, *optional)?,
        };
        if let Some(value) = value {
            scope.set(name, &value).map_err(too_long(name))?;
        }
    }
    let mut expanded = |list: &[String], what: &str| {
        let all = list.iter().map(|text| scope.expand(text).map_err(too_long(what)));
        all.collect::<Result<Vec<_>, _>>()
    };
    let command = expanded(&container.command, "command")?;
    let args = expanded(&container.args, "args")?;
    let mounts = container.mounts.iter().map(|mount| located(mount, &scope)).collect::<Result<_, _>>()?;
    Ok(Resolved { env: scope.into_variables(), command, args, mounts })
}

fn too_long(what: &str) -> impl FnOnce(TooLong) -> ConfigError {
    move |error| ConfigError(format!("{what} {error}"))
}

fn set_from(from: &EnvFrom, pod: &Pod, scope: &mut Scope) -> Result<(), ConfigError> {
    let EnvFrom { prefix, object } = from;
    // Every key of an object is the name of a variable, and so it is with the prefix.
    let mut set = |key: &str, value: &str| {
        let name = format!("{prefix}{key}");
        scope.set(&name, value).map_err(too_long(&name))
    };
    match object.kind {
        ObjectKind::ConfigMap => match pod.objects.config_maps.get(&object.name) {
            Some(found) => found.data.iter().try_for_each(|(key, value)| set(key, value)),
            None => missing(object),
        },
        ObjectKind::Secret => match pod.objects.secrets.get(&object.name) {
            Some(found) => {
                found.data.iter().try_for_each(|(key, bytes)| set(key, text_of(bytes, key, object, pod)?))
            }
            None => missing(object),
        },
    }
}

/// `None`: it is not there, and may be missing.
fn key_of(object: &ObjectRef, key: &str, pod: &Pod) -> Result<Option<String>, ConfigError> {
    let found = match object.kind {
        ObjectKind::ConfigMap => {
            let Some(found) = pod.objects.config_maps.get(&object.name) else {
                return missing(object).map(|()| None);
            };
            found.data.get(key).cloned()
        }
        ObjectKind::Secret => {
            let Some(found) = pod.objects.secrets.get(&object.name) else {
                return missing(object).map(|()| None);
            };
            let bytes = found.data.get(key);
            bytes.map(|bytes| text_of(bytes, key, object, pod).map(str::to_owned)).transpose()?
        }
    };
    match found {
        None if !object.optional => {
            let (kind, namespace, name) = (object.kind.as_str(), &pod.namespace, &object.name);
            Err(ConfigError(format!("couldn't find key {key} in {kind} {namespace}/{name}")))
        }
        found => Ok(found),
    }
}

fn missing(object: &ObjectRef) -> Result<(), ConfigError> {
    match object.optional {
        true => Ok(()),
        false => {
            let kind = object.kind.as_str().to_lowercase();
            Err(ConfigError(format!("{kind} {:?} not found", object.name)))
        }
    }
}

/// A variable is text, which a container runtime insists on too.
fn text_of<'b>(bytes: &'b [u8], key: &str, object: &ObjectRef, pod: &Pod) -> Result<&'b str, ConfigError> {
    std::str::from_utf8(bytes).map_err(|_| {
        let (kind, namespace, name) = (object.kind.as_str(), &pod.namespace, &object.name);
        ConfigError(format!("key {key} in {kind} {namespace}/{name} is not UTF-8 text; use it in a volume"))
    })
}

/// `None`: the file or the key is not there, and may be missing. A key without a value is one that is not there, as to
/// the kubelet.
fn from_file(
    files: &dyn Files,
    volume: &str,
    path: &Path,
    key: &str,
    optional: bool,
) -> Result<Option<String>, ConfigError> {
    let shown = path.display();
    let error =
        |why: String| ConfigError(format!("couldn't parse env file {shown} of volume {volume}: {why}"));
    let Some(text) = files.read(volume, path).map_err(error)? else {
        return match optional {
            true => Ok(None),
            false => Err(ConfigError(format!("env file {shown} of volume {volume} not found"))),
        };
    };
    let value = env_file::value_of(&text, key).map_err(|wrong| error(wrong.to_string()))?;
    match value.filter(|value| !value.is_empty()) {
        None if !optional => Err(ConfigError(format!(
            "environment variable key {key:?} not found in file {shown} of volume {volume}"
        ))),
        value => Ok(value),
    }
}

/// A mount with its `subPathExpr` expanded (`ExpandContainerVolumeMounts` in `pkg/kubelet/container/helpers.go`, and
/// `makeMounts` in `pkg/kubelet/kubelet_pods.go`).
fn located(mount: &Mount, scope: &Scope) -> Result<Mount, ConfigError> {
    let Some(text) = &mount.sub_path_expr else { return Ok(mount.clone()) };
    let missing = RefCell::new(BTreeSet::new());
    let lookup = |name: &str| match scope.get(name) {
        Some(value) if !value.is_empty() => Some(value),
        _ => {
            missing.borrow_mut().insert(name.to_owned());
            None
        }
    };
    let path = expand(text, lookup, libc::PATH_MAX as usize).map_err(too_long("subPathExpr"))?;
    let missing: Vec<String> = missing.into_inner().into_iter().collect();
    if !missing.is_empty() {
        return Err(ConfigError(format!("missing value for {}", missing.join(", "))));
    }
    let sub_path = within_volume(&path)?;
    Ok(Mount { sub_path, sub_path_expr: None, ..mount.clone() })
}

/// `None`: the volume itself.
fn within_volume(path: &str) -> Result<Option<PathBuf>, ConfigError> {
    let refused = |why| Err(ConfigError(format!("unable to provision SubPath `{path}`: {why}")));
    if path.starts_with('/') {
        return Err(ConfigError(format!("error SubPath `{path}` must not be an absolute path")));
    }
    if path.contains('\0') {
        return refused("a path cannot hold a NUL byte");
    }
    let mut within = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(part) => within.push(part),
            Component::CurDir => {}
            _ => return refused("must not contain '..'"),
        }
    }
    Ok(Some(within).filter(|path| !path.as_os_str().is_empty()))
}
