//! What a running pod is configured by, and its labels and annotations, when they change.
//!
//! ```text
//! ConfigMap, Secret ─► their fields, labels, annotations ─► the object that Pod::objects holds
//! labels, annotations ─► allowed? none that peapod has read once? same NetworkPolicies? ─► Pod
//! ```

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as wire;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::report::Report;
use super::{annotations, config, metadata, network_policy};
use crate::manifest::{FieldPath, Invalid, Numbered};
use crate::spec::{ConfigMap, Pod, Secret, name};

/// Converts a ConfigMap that a running pod is given.
///
/// # Errors
/// Everything that is wrong with it at once.
pub fn config_map(wire: &wire::ConfigMap) -> Result<ConfigMap, Invalid> {
    let mut report = Report::default();
    check_metadata(&wire.metadata, &mut report);
    let converted = config::config_map(wire, &mut report);
    finished(converted, report)
}

/// Converts a Secret that a running pod is given.
///
/// # Errors
/// Everything that is wrong with it at once.
pub fn secret(wire: &wire::Secret) -> Result<Secret, Invalid> {
    let mut report = Report::default();
    check_metadata(&wire.metadata, &mut report);
    let converted = config::secret(wire, &mut report);
    finished(converted, report)
}

/// Gives the running `pod` other labels and annotations. `policies` are the NetworkPolicies of its manifest.
///
/// # Errors
/// Everything that is wrong with them at once; what peapod has read once, when the pod began, cannot change.
pub fn relabel(
    pod: &Pod,
    policies: &[Numbered<networking::NetworkPolicy>],
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
) -> Result<Pod, Invalid> {
    let mut report = Report::default();
    let path = FieldPath::root().field("metadata");
    let labels_path = path.field("labels");
    let labels = metadata::checked_labels(&labels, &labels_path, &mut report);
    let path = path.field("annotations");
    let annotations = metadata::checked_annotations(&annotations, &path, &mut report);
    let containers: Vec<_> = pod.all_containers().map(|container| &*container.name).collect();
    let mut config_sources = pod.config_sources.clone();
    for key in changed(&pod.annotations, &annotations).filter(|key| key.starts_with(annotations::PREFIX)) {
        let Some(container) = annotations::config_of(key) else {
            report.error(
                &path.field(key),
                "cannot change while the pod runs: it is read when the pod begins; delete the pod and run it anew",
            );
            continue;
        };
        config_sources.remove(container);
        let Some(value) = annotations.get(key) else { continue };
        match annotations::config::parse(container, value, &containers, &pod.objects.config_maps) {
            Ok(names) => drop(config_sources.insert(container.to_owned(), names)),
            Err(errors) => errors.iter().for_each(|error| report.error(&path.field(key), error)),
        }
    }
    let relabelled = Pod { labels, annotations, config_sources, ..pod.clone() };
    if report.errors.is_empty() {
        let selected = network_policy::convert_all(policies, &relabelled, &mut Report::default());
        if selected != pod.network_rules.policies {
            report.error(
                &labels_path,
                "other NetworkPolicies of the pod's manifest would select it, and those cannot change while the \
                 pod runs; delete the pod and run it anew",
            );
        }
    }
    finished(relabelled, report)
}

/// The keys whose values differ.
fn changed<'a>(
    old: &'a BTreeMap<String, String>,
    new: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = &'a str> {
    let gone = old.keys().filter(|key| !new.contains_key(*key));
    let other = new.iter().filter(|(key, value)| old.get(*key) != Some(value)).map(|(key, _)| key);
    gone.chain(other).map(String::as_str)
}

fn check_metadata(meta: &ObjectMeta, report: &mut Report) {
    let path = FieldPath::root().field("metadata");
    report.check(&path.field("name"), name::subdomain(meta.name.as_deref().unwrap_or_default()));
    metadata::checked_labels(&meta.labels, &path.field("labels"), report);
    metadata::checked_annotations(&meta.annotations, &path.field("annotations"), report);
}

fn finished<T>(converted: T, report: Report) -> Result<T, Invalid> {
    let Report { errors, warnings } = report;
    if errors.is_empty() { Ok(converted) } else { Err(Invalid { errors, warnings }) }
}

#[cfg(test)]
mod tests {
    use super::super::{Options, load};
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> Option<BTreeMap<String, String>> {
        Some(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn objects_are_refused_with_their_paths() {
        let wire = wire::ConfigMap {
            metadata: ObjectMeta {
                name: Some("Web".to_owned()),
                labels: map(&[("a b", "")]),
                ..Default::default()
            },
            data: map(&[("../x", "v"), ("ok", "v")]),
            ..Default::default()
        };
        let paths = |invalid: Invalid| invalid.errors.into_iter().map(|error| error.path).collect::<Vec<_>>();
        assert_eq!(
            paths(config_map(&wire).unwrap_err()),
            ["metadata.name", "metadata.labels[a b]", "data[../x]"]
        );
        let wire = wire::Secret { string_data: map(&[("", "v")]), ..Default::default() };
        assert_eq!(paths(secret(&wire).unwrap_err()), ["metadata.name", "stringData[]"]);
    }

    #[test]
    fn what_was_read_at_the_beginning_stays() {
        let text = b"
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web, tier: front}, annotations: {peapod.dev/ipc.queues: '4', note: x}}
spec: {containers: [{name: web, image: ./web.wasm}]}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: base}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: front}
spec: {podSelector: {matchLabels: {tier: front}}, policyTypes: [Ingress]}
";
        let loaded = load(text, &Options { manifest_dir: "/".into(), ..Options::default() });
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(invalid) => panic!("{invalid}"),
        };
        let own = ("peapod.dev/ipc.queues", "4");
        let policies = &loaded.manifest.network_policies;
        let relabel = |labels: &[_], annotations: &[_]| {
            relabel(&loaded.pod, policies, map(labels), map(annotations))
                .map_err(|invalid| invalid.errors[0].path.clone())
        };
        let pod = relabel(&[("tier", "front"), ("app", "api")], &[own, ("note", "y")]).unwrap();
        assert_eq!((&*pod.labels["app"], &*pod.annotations["note"]), ("api", "y"));
        assert_eq!(pod.generation, loaded.pod.generation);
        assert_eq!(relabel(&[("tier", "back")], &[own]), Err("metadata.labels".to_owned()));
        let base = ("peapod.dev/config.web", "base");
        let pod = relabel(&[("tier", "front")], &[own, base]).unwrap();
        assert_eq!(pod.config_sources, [("web".to_owned(), vec!["base".to_owned()])].into());
        for wrong in [("peapod.dev/config.web", "bsae"), ("peapod.dev/config.wbe", "base")] {
            let path = format!("metadata.annotations[{}]", wrong.0);
            assert_eq!(relabel(&[("tier", "front")], &[own, wrong]), Err(path));
        }
        let path = "metadata.annotations[peapod.dev/ipc.queues]".to_owned();
        assert_eq!(relabel(&[("tier", "front")], &[]), Err(path.clone()));
        assert_eq!(relabel(&[("tier", "front")], &[("peapod.dev/ipc.queues", "5")]), Err(path));
        assert_eq!(relabel(&[("tier", "-")], &[own]), Err("metadata.labels.tier".to_owned()));
    }
}
