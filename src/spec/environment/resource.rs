//! What a `resourceFieldRef` stands for (`ExtractContainerResourceValue` in `pkg/api/v1/resource/helpers.go`).

use super::{Allocatable, ConfigError, ResourceField, ResourceName};
use crate::spec::{Container, Pod};

/// The number that `field` stands for, in units of its divisor and rounded up. `own`: the container whose variable it
/// is, for a field that names none; in volumes every field names one.
///
/// A limit that the container does not have is the pod's as a whole, or what the node has
/// (`defaultPodLimitsForDownwardAPI` in `pkg/kubelet/kubelet_resources.go`); a request that it does not have is 0.
///
/// # Errors
/// There is no container of that name.
pub fn resource_text(
    field: &ResourceField,
    own: Option<&Container>,
    pod: &Pod,
    allocatable: &Allocatable,
) -> Result<String, ConfigError> {
    let named = field.container.as_deref();
    let container = match named {
        None => own,
        Some(name) => pod.init_containers.iter().chain(&pod.containers).find(|c| c.name == name),
    };
    let not_found = || ConfigError(format!("container {} not found", named.unwrap_or_default()));
    let container = container.ok_or_else(not_found)?;
    let (resources, whole) = (&container.resources, &pod.resources);
    let amount = match field.resource {
        ResourceName::LimitsCpu => {
            resources.cpu_limit_millis.or(whole.cpu_limit_millis).unwrap_or(allocatable.cpu_millis)
        }
        ResourceName::LimitsMemory => {
            resources.memory_limit_bytes.or(whole.memory_limit_bytes).unwrap_or(allocatable.memory_bytes)
        }
        ResourceName::LimitsEphemeralStorage => {
            resources.storage_limit_bytes.unwrap_or(allocatable.storage_bytes)
        }
        ResourceName::RequestsCpu => resources.cpu_request_millis.unwrap_or_default(),
        ResourceName::RequestsMemory => resources.memory_request_bytes.unwrap_or_default(),
        ResourceName::RequestsEphemeralStorage => resources.storage_request_bytes.unwrap_or_default(),
    };
    Ok(amount.div_ceil(field.divisor.max(1)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Resources, Role};
    use crate::testing::spec as testing;

    const NODE: Allocatable =
        Allocatable { cpu_millis: 4000, memory_bytes: 8 << 30, storage_bytes: 100 << 30 };

    fn pod() -> Pod {
        let web = Container {
            resources: Resources {
                cpu_limit_millis: Some(1500),
                cpu_request_millis: Some(250),
                memory_limit_bytes: Some((64 << 20) + 1),
                storage_request_bytes: Some(1 << 30),
                ..Resources::default()
            },
            ..testing::container("web", Role::Main)
        };
        testing::pod([web, testing::container("bare", Role::Main), testing::container("first", Role::Init)])
    }

    fn text(pod: &Pod, container: Option<&str>, resource: ResourceName, divisor: u64) -> String {
        let field = ResourceField { container: container.map(str::to_owned), resource, divisor };
        resource_text(&field, pod.containers.first(), pod, &NODE).unwrap_or_else(|error| error.0)
    }

    #[test]
    fn amounts_are_rounded_up_to_the_divisor() {
        use ResourceName::*;
        let pod = pod();
        for (container, resource, divisor, expected) in [
            (None, LimitsCpu, 1000, "2"),
            (None, LimitsCpu, 1, "1500"),
            (Some("web"), RequestsCpu, 1000, "1"),
            (None, LimitsMemory, 1, "67108865"),
            (None, LimitsMemory, 1 << 20, "65"),
            (None, RequestsMemory, 1, "0"),
            (None, LimitsEphemeralStorage, 1 << 30, "100"),
            (None, RequestsEphemeralStorage, 1 << 20, "1024"),
            (Some("bare"), LimitsCpu, 1000, "4"),
            (Some("bare"), LimitsMemory, 1 << 30, "8"),
            (Some("first"), RequestsCpu, 1000, "0"),
            (Some("nobody"), RequestsCpu, 1000, "container nobody not found"),
        ] {
            assert_eq!(text(&pod, container, resource, divisor), expected, "{container:?} {resource:?}");
        }
    }

    #[test]
    fn without_a_limit_of_its_own_a_container_has_the_pods() {
        let mut pod = pod();
        pod.resources.cpu_limit_millis = Some(3000);
        assert_eq!(text(&pod, Some("bare"), ResourceName::LimitsCpu, 1000), "3");
        assert_eq!(text(&pod, Some("web"), ResourceName::LimitsCpu, 1000), "2");
    }
}
