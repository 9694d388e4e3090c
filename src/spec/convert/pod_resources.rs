//! `spec.resources`: requests and limits of the pod as a whole.
//!
//! ```text
//! spec.resources ─► as given ─► limits:   the containers' together, if there are requests only
//!                           └─► requests: the containers' together, else the limits
//!                ─► checked: each container's limits fit in, and all their requests together
//! ```
//!
//! Defaults as `defaultPodRequests` and `defaultPodLimits` in `pkg/apis/core/v1/defaults.go` have them, checks as
//! `validatePodResourceConsistency` in `pkg/apis/core/validation/validation.go`.

use k8s_openapi::api::core::v1 as wire;

use super::report::Report;
use super::resources;
use crate::manifest::FieldPath;
use crate::spec::quantity::{Bytes, of_millis};
use crate::spec::{Container, Resources, Role};

/// The containers of the pod, converted and as they are written.
pub(super) struct Containers<'a> {
    pub(super) init: (&'a [Container], &'a [wire::Container]),
    pub(super) main: (&'a [Container], &'a [wire::Container]),
}

/// One kind of resource: its name, and where it stands.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    limit: fn(&mut Resources) -> &mut Option<u64>,
    request: fn(&mut Resources) -> &mut Option<u64>,
    text: fn(u64) -> String,
}

const KINDS: [Kind; 2] = [
    Kind {
        name: "cpu",
        limit: |resources| &mut resources.cpu_limit_millis,
        request: |resources| &mut resources.cpu_request_millis,
        text: of_millis,
    },
    Kind {
        name: "memory",
        limit: |resources| &mut resources.memory_limit_bytes,
        request: |resources| &mut resources.memory_request_bytes,
        text: |bytes| Bytes(bytes).to_string(),
    },
];

/// Converts `resources` of the spec at `spec`, whose containers have been converted.
pub(super) fn convert(
    requirements: &Option<wire::ResourceRequirements>,
    containers: Containers<'_>,
    spec: &FieldPath,
    report: &mut Report,
) -> Resources {
    let path = spec.field("resources");
    let before = report.errors.len();
    let given = resources::of_pod(requirements, &path, report);
    if given == Resources::default() || report.errors.len() > before {
        return given;
    }
    let Containers { init: (init, _), main: (main, _) } = containers;
    let together = |of: fn(&mut Resources) -> &mut Option<u64>| {
        aggregate(init, main, |mut container| *of(&mut container))
    };
    let mut pod = given;
    let has_limits = |pod: Resources| pod.cpu_limit_millis.or(pod.memory_limit_bytes).is_some();
    if !has_limits(given) {
        for Kind { limit, .. } in KINDS {
            let all_have_one = || init.iter().chain(main).all(|c| limit(&mut c.resources.clone()).is_some());
            *limit(&mut pod) = together(limit).filter(|_| all_have_one());
        }
    }
    // After the limits, so that a printed Pod means the same when it is run again.
    if has_limits(pod) {
        for Kind { limit, request, .. } in KINDS {
            let default = together(request).or(*limit(&mut pod));
            let request = request(&mut pod);
            *request = request.or(default);
        }
    }
    for kind in KINDS {
        let (whole, parts) = (*(kind.request)(&mut pod), together(kind.request));
        if let (Some(whole), Some(parts)) = (whole, parts)
            && parts > whole
        {
            let parts = (kind.text)(parts);
            report.error(
                &path.field("requests").field(kind.name),
                format_args!("must be greater than or equal to aggregate container requests of {parts}"),
            );
        }
        let limit = *(kind.limit)(&mut pod);
        if let (Some(request), Some(limit)) = (whole, limit)
            && request > limit
        {
            // One of them is a default: else it has been reported. What is given is at fault; where neither is,
            // a container is.
            let mut given = given;
            let (request, limit) = ((kind.text)(request), (kind.text)(limit));
            if (kind.request)(&mut given).is_some() {
                report.error(
                    &path.field("requests").field(kind.name),
                    format_args!("must be less than or equal to the container limits together, {limit}"),
                );
            } else if (kind.limit)(&mut given).is_some() {
                report.error(
                    &path.field("limits").field(kind.name),
                    format_args!(
                        "must be greater than or equal to aggregate container requests of {request}"
                    ),
                );
            }
        }
        if let Some(whole) = limit {
            check_limits(containers.main, whole, &kind, &spec.field("containers"), report);
        }
    }
    pod
}

/// Each main container's limit fits into the pod's.
fn check_limits(
    (converted, wire): (&[Container], &[wire::Container]),
    whole: u64,
    kind: &Kind,
    path: &FieldPath,
    report: &mut Report,
) {
    for (index, container) in wire.iter().enumerate() {
        let converted = converted.iter().find(|converted| converted.name == container.name);
        let part = converted.and_then(|converted| *(kind.limit)(&mut converted.resources.clone()));
        if part.is_some_and(|part| part > whole) {
            report.error(
                &path.index(index).field("resources").field("limits").field(kind.name),
                format_args!("must be less than or equal to pod limits of {}", (kind.text)(whole)),
            );
        }
    }
}

/// What the containers have of something at the most at any time: the main ones and the sidecars together, or
/// an init container with the sidecars before it (`AggregateContainerRequests` in
/// `staging/src/k8s.io/component-helpers/resource/helpers.go`). `None`: none of them has any.
fn aggregate(init: &[Container], main: &[Container], of: impl Fn(Resources) -> Option<u64>) -> Option<u64> {
    let mut any = false;
    let mut value = |container: &Container| {
        let value = of(container.resources);
        any |= value.is_some();
        value.unwrap_or_default()
    };
    let mut sidecars: u64 = 0;
    let mut most: u64 = 0;
    for container in init {
        let alone = value(container);
        if container.role == Role::Sidecar {
            sidecars = sidecars.saturating_add(alone);
            most = most.max(sidecars);
        } else {
            most = most.max(sidecars.saturating_add(alone));
        }
    }
    let running = main.iter().fold(sidecars, |sum, container| sum.saturating_add(value(container)));
    any.then_some(most.max(running))
}
