//! The ConfigMaps and Secrets of the pods that run.
//!
//! ```text
//! records of the namespace ─► each control socket ─┬─ GET ───► get
//!                                                  ├─ PATCH ─► apply
//!                                                  └─ DELETE ► delete
//! ```
//!
//! Every pod has its own: those of its manifest, and what was applied since.

mod get;
mod refer;

use std::time::{Duration, Instant};

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde::Deserialize;
use serde_json::Value;

pub use self::get::{Form, Wanted, describe, show};
pub use self::refer::refers;
use super::get::DEFAULT_NAMESPACE;
use super::{EXIT_REFUSED, Failure, all_well, target};
use crate::api::client::{self, ClientError};
use crate::api::objects::ObjectKind;
use crate::api::patch::PatchType;
use crate::paths::Paths;
use crate::sandbox::record::{self, Record};

/// HTTP's "Not Found".
const NOT_FOUND: u16 = 404;

/// HTTP's "Service Unavailable".
const UNAVAILABLE: u16 = 503;

/// How long a pod that does not answer is given to be gone: to remove a sandbox takes some milliseconds.
const ENDING: Duration = Duration::from_secs(2);

/// The kind and the names in a command's words: `configmaps`, `configmap NAME..`, `secret/NAME..`. `None`: they are
/// about pods.
///
/// # Errors
/// They are about several kinds.
pub fn named(words: &[String]) -> anyhow::Result<Option<(ObjectKind, Vec<String>)>> {
    let Some(first) = words.first() else { return Ok(None) };
    if let Some(kind) = ObjectKind::of_word(first) {
        return Ok(Some((kind, words[1..].to_vec())));
    }
    let split = |word: &str| {
        let (kind, name) = word.split_once('/')?;
        Some((ObjectKind::of_word(kind)?, name.to_owned()))
    };
    let Some((kind, _)) = split(first) else { return Ok(None) };
    let names = words.iter().map(|word| match split(word) {
        Some((own, name)) if own == kind => Ok(name),
        _ => anyhow::bail!("one kind at a time: {}", words.join(" ")),
    });
    Ok(Some((kind, names.collect::<Result<_, _>>()?)))
}

/// The pods of a namespace, or all, that somebody answers for, in order.
pub fn pods(paths: &Paths, namespace: Option<&str>) -> Vec<Record> {
    let mut pods = target::all(paths);
    pods.retain(|pod| namespace.is_none_or(|namespace| pod.identity.namespace == namespace));
    pods.retain(|pod| target::is_served(paths, pod));
    pods.sort_by(|a, b| {
        let key = |pod: &Record| (pod.identity.namespace.clone(), pod.identity.name.clone(), pod.uid.clone());
        key(a).cmp(&key(b))
    });
    pods
}

/// What a pod has of a kind. Nothing, when it has ended meanwhile.
pub fn of_pod(paths: &Paths, pod: &Record, kind: ObjectKind) -> anyhow::Result<Vec<Value>> {
    #[derive(Deserialize)]
    struct List {
        items: Vec<Value>,
    }
    let path = path(pod, kind, None);
    let list = unless_ended(paths, pod, client::get::<List>(&paths.pod_run(&pod.uid), &path))?;
    Ok(list.map(|list| list.items).unwrap_or_default())
}

/// An object as a pod has it. `None` when it has none, or has ended meanwhile.
pub fn one_of_pod(
    paths: &Paths,
    pod: &Record,
    kind: ObjectKind,
    name: &str,
) -> anyhow::Result<Option<Value>> {
    match client::get(&paths.pod_run(&pod.uid), &path(pod, kind, Some(name))) {
        Err(ClientError::Refused { code: NOT_FOUND, .. }) => Ok(None),
        answer => unless_ended(paths, pod, answer),
    }
}

/// Behind a path: what is asked for is not done, only tried.
pub const DRY_RUN: &str = "?dryRun=All";

/// Applies an object to a pod: as it is then, or would be, `None` when the pod has ended meanwhile.
pub fn apply(
    paths: &Paths,
    pod: &Record,
    kind: ObjectKind,
    name: &str,
    object: &Value,
    is_dry_run: bool,
) -> anyhow::Result<Option<Value>> {
    let path = path(pod, kind, Some(name)) + if is_dry_run { DRY_RUN } else { "" };
    let patch = object.to_string();
    let applied = client::patch(&paths.pod_run(&pod.uid), &path, PatchType::Apply, patch);
    unless_ended(paths, pod, applied)
}

/// Deletes objects of every pod of the namespace that has them.
pub fn delete(namespace: Option<&str>, kind: ObjectKind, names: &[String]) -> Result<(), Failure> {
    let paths = Paths::from_env();
    let namespace = namespace.unwrap_or(DEFAULT_NAMESPACE);
    let pods = pods(&paths, Some(namespace));
    let mut failures = Vec::new();
    for name in names {
        let mut found = false;
        for pod in &pods {
            let deleted = client::delete::<Status>(&paths.pod_run(&pod.uid), &path(pod, kind, Some(name)));
            found |= match deleted {
                Err(ClientError::Refused { code: NOT_FOUND, .. }) => false,
                deleted => unless_ended(&paths, pod, deleted)?.is_some(),
            };
        }
        if !found {
            failures.push(missing(kind, name, namespace));
            continue;
        }
        target::print(&format!("{} {name:?} deleted from {namespace} namespace\n", kind.singular()))?;
    }
    all_well(failures)
}

/// The pod as it is now; `None` when it has ended meanwhile.
pub fn pod_of(paths: &Paths, pod: &Record) -> anyhow::Result<Option<Pod>> {
    unless_ended(paths, pod, client::get(&paths.pod_run(&pod.uid), &target::path(pod)))
}

fn path(pod: &Record, kind: ObjectKind, name: Option<&str>) -> String {
    let namespace = &pod.identity.namespace;
    let name = name.map(|name| format!("/{}", crate::api::server::encode(name))).unwrap_or_default();
    format!("/api/v1/namespaces/{namespace}/{}{name}", kind.plural())
}

/// An answer; `None` when there is none because the pod has ended.
fn unless_ended<T>(paths: &Paths, pod: &Record, answer: Result<T, ClientError>) -> anyhow::Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        // One that ends answers no more, breaks off, or says so, before its record goes.
        Err(
            ClientError::NotServed
            | ClientError::Socket(_)
            | ClientError::Nonsense(_)
            | ClientError::Refused { code: UNAVAILABLE, .. },
        ) if has_ended_soon(paths, pod) => Ok(None),
        Err(ClientError::Refused { message, .. }) => {
            Err(anyhow::anyhow!(message)).with_context(|| format!("pod {}", target::full_name(pod)))
        }
        Err(error) => Err(target::about(pod, &error)),
    }
}

fn has_ended_soon(paths: &Paths, pod: &Record) -> bool {
    let end = Instant::now() + ENDING;
    while record::exists(paths, &pod.uid) {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

fn missing(kind: ObjectKind, name: &str, namespace: &str) -> Failure {
    let plural = kind.plural();
    let error =
        anyhow::anyhow!("{plural} {name:?} not found in any pod that runs in namespace {namespace:?}");
    Failure::new(EXIT_REFUSED, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_named_as_kubectl_names_them() {
        let of = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            named(&words).map_err(|error| error.to_string())
        };
        let map = |names: &[&str]| {
            Ok(Some((ObjectKind::ConfigMap, names.iter().map(|name| (*name).to_owned()).collect())))
        };
        assert_eq!(of(&["cm"]), map(&[]));
        assert_eq!(of(&["configmap", "a", "b"]), map(&["a", "b"]));
        assert_eq!(of(&["configmap/a", "cm/b"]), map(&["a", "b"]));
        assert_eq!(of(&["secret/a"]), Ok(Some((ObjectKind::Secret, vec!["a".to_owned()]))));
        for pods in [&["web"][..], &["pods"], &["pod/web"], &["prod/web"], &[]] {
            assert_eq!(of(pods), Ok(None), "{pods:?}");
        }
        assert!(of(&["cm/a", "secret/b"]).unwrap_err().contains("one kind at a time"));
    }
}
