//! Ephemeral containers, and which container a command runs in, as the API server of Kubernetes decides it.

use std::collections::BTreeSet;
use std::path::Path;

use k8s_openapi::api::core::v1::{ContainerStatus, EphemeralContainer, Pod, PodSpec, PodStatus};

use crate::api::patch::Cause;
use crate::api::server::Failure;
use crate::manifest::{FieldError, Invalid};
use crate::spec::convert::{self, Options};
use crate::spec::{self, Container};

/// The container that is to be added to the pod, of which `wire` is the wire type.
///
/// # Errors
/// What is wrong with the container.
pub fn check(
    container: &EphemeralContainer,
    pod: &spec::Pod,
    wire: &Pod,
    directory: &Path,
) -> Result<Container, Failure> {
    let options = Options { manifest_dir: directory.to_owned(), ..Options::default() };
    let converted = convert::ephemeral(container, pod, wire, &options);
    let (container, _) = converted.map_err(|invalid| self::invalid(wire, &invalid))?;
    Ok(container)
}

/// What is wrong with an object, for its answer.
pub fn causes_of(invalid: &Invalid) -> Vec<Cause> {
    let cause = |error: &FieldError| Cause {
        reason: "FieldValueInvalid",
        field: error.path.clone(),
        message: error.message.clone(),
    };
    invalid.errors.iter().map(cause).collect()
}

/// The answer to a change that would make the pod invalid.
pub fn invalid(pod: &Pod, invalid: &Invalid) -> Failure {
    let causes = causes_of(invalid);
    Failure::invalid_pod(pod.metadata.name.as_deref().unwrap_or_default(), causes)
}

/// The answer to an ephemeral container that cannot be added for what its image is, or for another reason.
pub fn refused(pod: &Pod, field: &str, message: String) -> Failure {
    let list = pod.spec.as_ref().and_then(|spec| spec.ephemeral_containers.as_ref()).map_or(0, Vec::len);
    let field = format!("spec.ephemeralContainers[{list}]{field}");
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    Failure::invalid_pod(name, vec![Cause { reason: "FieldValueInvalid", field, message }])
}

/// Enters an added container into the pod's specification, which has at least this generation by it.
pub fn add(pod: &mut Pod, container: EphemeralContainer, generation: i64) {
    if let Some(spec) = &mut pod.spec {
        spec.ephemeral_containers.get_or_insert_default().push(container);
    }
    pod.metadata.generation = pod.metadata.generation.max(Some(generation));
    convert::complete(pod);
}

/// The container that a command is to run in, as far as the pod's `status` knows and what has `begun` since: the only
/// one when none is named (`LocationFromPod` in `pkg/registry/core/pod/strategy.go`).
///
/// # Errors
/// There is none, or it does not run.
pub fn running(
    wanted: Option<&str>,
    pod: &Pod,
    status: Option<&PodStatus>,
    begun: &BTreeSet<String>,
) -> Result<String, Failure> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let spec =
        pod.spec.as_ref().ok_or_else(|| Failure::BadRequest(format!("pod {name} has no containers")))?;
    let wanted = match (wanted, &spec.containers[..]) {
        (Some(wanted), _) => wanted,
        (None, [only]) => &only.name,
        (None, containers) => {
            let names: Vec<_> = containers.iter().map(|container| container.name.as_str()).collect();
            let names = names.join(" ");
            return Err(Failure::BadRequest(format!(
                "a container name must be specified for pod {name}, choose one of: [{names}]"
            )));
        }
    };
    if !names(spec).any(|container| container == wanted) {
        return Err(Failure::BadRequest(format!("container {wanted} is not valid for pod {name}")));
    }
    let found = status.and_then(|status| statuses(status).find(|container| container.name == wanted));
    let state = found.and_then(|found| found.state.as_ref());
    if begun.contains(wanted) || state.is_some_and(|state| state.running.is_some()) {
        return Ok(wanted.to_owned());
    }
    let why = match state.map(|state| (&state.waiting, &state.terminated)) {
        Some((Some(waiting), _)) => format!("it is waiting: {}", waiting.reason.as_deref().unwrap_or("-")),
        Some((_, Some(ended))) => format!("it has ended with exit code {}", ended.exit_code),
        _ => "it has not started".to_owned(),
    };
    Err(Failure::BadRequest(format!("container {wanted} of pod {name} does not run: {why}")))
}

/// The names of all containers.
fn names(spec: &PodSpec) -> impl Iterator<Item = &str> {
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| container.name.as_str());
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    containers.map(|container| container.name.as_str()).chain(ephemeral)
}

fn statuses(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let lists =
        [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    lists.into_iter().flatten().flatten()
}
