//! The resources of a running pod changed in place (`ValidatePodResize` in
//! `pkg/apis/core/validation/validation.go`).
//!
//! ```text
//! wanted ─► defaults ─► only cpu and memory differ? none is gone? ─► converted anew ─► same QoS class? ─► Pod
//! ```

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as wire;
use k8s_openapi::apimachinery::pkg::api::resource;

use super::report::{Report, items};
use super::{complete, defaults, pod_resources, resources};
use crate::manifest::{FieldPath, FieldWarning, Invalid};
use crate::spec::quantity::Quantity;
use crate::spec::{Container, Pod, QosClass};

const ONLY_CPU_AND_MEMORY: &str = "only cpu and memory resources are mutable";

/// A pod with other resources.
#[derive(Debug, Clone, PartialEq)]
pub struct Resized {
    /// The pod.
    pub pod: Pod,
    /// The same on the wire.
    pub wire: wire::Pod,
    /// What looks like a mistake.
    pub warnings: Vec<FieldWarning>,
}

type Amounts = BTreeMap<String, resource::Quantity>;

/// Changes the resources of `pod`, whose wire type is `current`, to those of `wanted`: the CPU and memory of
/// its containers, sidecars and of the pod as a whole. The result's generation is one more than before if they
/// changed; of `wanted` only `spec` counts.
///
/// # Errors
/// Everything that is wrong with it at once; nothing has changed then.
pub fn resize(pod: &Pod, current: &wire::Pod, wanted: &wire::Pod) -> Result<Resized, Invalid> {
    let mut report = Report::default();
    let path = FieldPath::root().field("spec");
    let mut wanted = wire::Pod { spec: wanted.spec.clone(), ..current.clone() };
    complete(&mut wanted);
    let mut current = current.clone();
    complete(&mut current);
    let old = current.spec.clone().unwrap_or_default();
    let spec = wanted.spec.clone().unwrap_or_default();

    let mut resized = pod.clone();
    let init = Containers { old: items(&old.init_containers), new: items(&spec.init_containers) };
    let main = Containers { old: &old.containers, new: &spec.containers };
    let init_unchanged =
        init.resize(&mut resized.init_containers, &path.field("initContainers"), &mut report);
    let main_unchanged = main.resize(&mut resized.containers, &path.field("containers"), &mut report);
    if init_unchanged && main_unchanged {
        let containers = pod_resources::Containers {
            init: (&resized.init_containers, init.new),
            main: (&resized.containers, main.new),
        };
        resized.resources = pod_resources::convert(&spec.resources, containers, &path, &mut report);
        defaults::complete_pod_resources(&mut wanted, resized.resources);
    }
    let completed = wanted.spec.as_ref().and_then(|spec| spec.resources.clone());
    check_change(&old.resources, &completed, &path.field("resources"), &mut report);
    let rest = wire::PodSpec {
        init_containers: old.init_containers.clone(),
        containers: old.containers.clone(),
        resources: old.resources.clone(),
        ..spec
    };
    if rest != old {
        report.error(&path, ONLY_CPU_AND_MEMORY);
    }
    if report.errors.is_empty() && QosClass::of(pod) != QosClass::of(&resized) {
        report.error(
            &path,
            format_args!(
                "Pod QOS Class may not change as a result of resizing: it is {} and would be {}",
                QosClass::of(pod),
                QosClass::of(&resized)
            ),
        );
    }
    let Report { errors, warnings } = report;
    if !errors.is_empty() {
        return Err(Invalid { errors, warnings });
    }
    if resized != *pod {
        resized.generation += 1;
    }
    wanted.metadata.generation = Some(resized.generation);
    Ok(Resized { pod: resized, wire: wanted, warnings })
}

/// One of the lists of containers, before and after.
struct Containers<'a> {
    old: &'a [wire::Container],
    new: &'a [wire::Container],
}

impl Containers<'_> {
    /// Gives each of `converted` its new resources. Whether they are the same containers as before.
    fn resize(&self, converted: &mut [Container], path: &FieldPath, report: &mut Report) -> bool {
        let names = |list: &[wire::Container]| list.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
        if names(self.old) != names(self.new) {
            report.error(path, "containers cannot be added, removed or reordered by a resize");
            return false;
        }
        for (index, (old, new)) in self.old.iter().zip(self.new).enumerate() {
            let path = path.index(index);
            let unchanged = wire::Container { resources: old.resources.clone(), ..new.clone() };
            if unchanged != *old {
                report.error(&path, ONLY_CPU_AND_MEMORY);
            }
            let Some(container) = converted.iter_mut().find(|container| container.name == new.name) else {
                continue;
            };
            let path = path.field("resources");
            let resources = resources::convert(&new.resources, &path, report);
            if container.role == crate::spec::Role::Init && !are_equal(&old.resources, &new.resources) {
                report.error(&path, "resources for non-sidecar init containers are immutable");
            } else {
                check_change(&old.resources, &new.resources, &path, report);
            }
            container.resources = resources;
        }
        true
    }
}

/// What was given may change, and not go away; what is neither CPU nor memory may not change.
fn check_change(
    old: &Option<wire::ResourceRequirements>,
    new: &Option<wire::ResourceRequirements>,
    path: &FieldPath,
    report: &mut Report,
) {
    let (old, new) = (old.clone().unwrap_or_default(), new.clone().unwrap_or_default());
    for (list, old, new) in [("requests", &old.requests, &new.requests), ("limits", &old.limits, &new.limits)]
    {
        let path = path.field(list);
        let (old, new) = (old.clone().unwrap_or_default(), new.clone().unwrap_or_default());
        if old.keys().any(|name| !new.contains_key(name)) {
            report.error(&path, format_args!("resource {list} cannot be removed"));
        }
        let others = |amounts: &Amounts| {
            let mut others = amounts.clone();
            others.retain(|name, _| !matches!(name.as_str(), "cpu" | "memory"));
            others
        };
        let (old, mut new) = (others(&old), others(&new));
        // What is gone has been reported.
        for (name, amount) in &old {
            new.entry(name.clone()).or_insert_with(|| amount.clone());
        }
        for (name, amount) in &new {
            if !old.get(name).is_some_and(|old| is_same(old, amount)) {
                report.error(&path.field(name), ONLY_CPU_AND_MEMORY);
            }
        }
    }
}

fn are_equal(old: &Option<wire::ResourceRequirements>, new: &Option<wire::ResourceRequirements>) -> bool {
    let (old, new) = (old.clone().unwrap_or_default(), new.clone().unwrap_or_default());
    [(old.requests, new.requests), (old.limits, new.limits)].into_iter().all(|(old, new)| {
        let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
        old.len() == new.len()
            && old.iter().all(|(name, old)| new.get(name).is_some_and(|new| is_same(old, new)))
    })
}

/// `1` is the same as `1000m`.
fn is_same(one: &resource::Quantity, other: &resource::Quantity) -> bool {
    match (one.0.parse::<Quantity>(), other.0.parse::<Quantity>()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one.0 == other.0,
    }
}
