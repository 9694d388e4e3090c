//! What the API server fills in, so that a printed Pod looks as kubectl prints it
//! (`pkg/apis/core/v1/defaults.go`). For output only: what runs has its defaults from the conversion.

use k8s_openapi::api::core::v1 as wire;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::projected::DEFAULT_MODE as DEFAULT_FILE_MODE;
use super::{
    DEFAULT_GRACE_SECONDS, PROBE_FAILURES, PROBE_PERIOD_SECONDS, PROBE_SUCCESSES, PROBE_TIMEOUT_SECONDS,
};
use crate::spec::quantity::{Bytes, of_millis};
use crate::spec::{Resources, TerminationMessage};

/// Fills in the defaults of every field that has one, also of ephemeral containers; what is there stays.
/// Doing it again changes nothing.
pub fn complete(pod: &mut wire::Pod) {
    let spec = pod.spec.get_or_insert_default();
    text(&mut spec.restart_policy, "Always");
    text(&mut spec.dns_policy, "ClusterFirst");
    text(&mut spec.scheduler_name, "default-scheduler");
    spec.termination_grace_period_seconds.get_or_insert(DEFAULT_GRACE_SECONDS);
    spec.security_context.get_or_insert_default();
    spec.enable_service_links.get_or_insert(true);
    let host_network = spec.host_network == Some(true);
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        complete_container(container, host_network);
    }
    for container in spec.ephemeral_containers.iter_mut().flatten() {
        container.resources.get_or_insert_default();
        let message = (&mut container.termination_message_path, &mut container.termination_message_policy);
        complete_common(&mut container.image_pull_policy, message);
    }
    for volume in spec.volumes.iter_mut().flatten() {
        if let Some(source) = &mut volume.host_path {
            source.type_.get_or_insert_default();
        }
        complete_projected(volume);
    }
}

/// `SetDefaults_SecretVolumeSource` and its like, and the apiVersion of fields.
fn complete_projected(volume: &mut wire::Volume) {
    let field = |file: &mut wire::DownwardAPIVolumeFile| {
        if let Some(field) = &mut file.field_ref {
            text(&mut field.api_version, "v1");
        }
        if let Some(resource) = &mut file.resource_field_ref {
            resource.divisor.get_or_insert_with(|| Quantity("0".to_owned()));
        }
    };
    if let Some(source) = &mut volume.config_map {
        source.default_mode.get_or_insert(DEFAULT_FILE_MODE);
    }
    if let Some(source) = &mut volume.secret {
        source.default_mode.get_or_insert(DEFAULT_FILE_MODE);
    }
    if let Some(source) = &mut volume.downward_api {
        source.default_mode.get_or_insert(DEFAULT_FILE_MODE);
        source.items.iter_mut().flatten().for_each(field);
    }
    if let Some(source) = &mut volume.projected {
        source.default_mode.get_or_insert(DEFAULT_FILE_MODE);
        let sources = source.sources.iter_mut().flatten();
        let downward = sources.filter_map(|source| source.downward_api.as_mut());
        downward.flat_map(|own| own.items.iter_mut().flatten()).for_each(field);
    }
}

/// Fills in what `spec.resources` is by default; `resources` is what it was converted to.
pub(super) fn complete_pod_resources(pod: &mut wire::Pod, resources: Resources) {
    let Some(wire) = pod.spec.as_mut().and_then(|spec| spec.resources.as_mut()) else { return };
    let quantity = |text: Option<String>| text.map(Quantity);
    for (list, cpu, memory) in [
        (&mut wire.limits, resources.cpu_limit_millis, resources.memory_limit_bytes),
        (&mut wire.requests, resources.cpu_request_millis, resources.memory_request_bytes),
    ] {
        for (name, value) in [
            ("cpu", quantity(cpu.map(of_millis))),
            ("memory", quantity(memory.map(|bytes| Bytes(bytes).to_string()))),
        ] {
            if let Some(value) = value {
                list.get_or_insert_default().entry(name.to_owned()).or_insert(value);
            }
        }
    }
}

fn complete_container(container: &mut wire::Container, host_network: bool) {
    let message = (&mut container.termination_message_path, &mut container.termination_message_policy);
    complete_common(&mut container.image_pull_policy, message);
    let resources = container.resources.get_or_insert_default();
    if let Some(limits) = resources.limits.as_ref().filter(|limits| !limits.is_empty()) {
        let requests = resources.requests.get_or_insert_default();
        for (name, limit) in limits {
            requests.entry(name.clone()).or_insert_with(|| limit.clone());
        }
    }
    for port in container.ports.iter_mut().flatten() {
        text(&mut port.protocol, "TCP");
        if host_network && port.host_port.unwrap_or_default() == 0 {
            port.host_port = Some(port.container_port);
        }
    }
    let probes =
        [&mut container.startup_probe, &mut container.liveness_probe, &mut container.readiness_probe];
    probes.into_iter().flatten().for_each(complete_probe);
    if let Some(lifecycle) = &mut container.lifecycle {
        for handler in [&mut lifecycle.post_start, &mut lifecycle.pre_stop].into_iter().flatten() {
            complete_http_get(&mut handler.http_get);
        }
    }
}

/// Images are local files, which are present.
fn complete_common(
    pull_policy: &mut Option<String>,
    (message_path, message_policy): (&mut Option<String>, &mut Option<String>),
) {
    text(pull_policy, "IfNotPresent");
    text(message_path, &TerminationMessage::default().path);
    text(message_policy, "File");
}

fn complete_probe(probe: &mut wire::Probe) {
    let number = |value: &mut Option<i32>, default: u32| {
        if value.unwrap_or_default() == 0 {
            *value = i32::try_from(default).ok();
        }
    };
    number(&mut probe.period_seconds, PROBE_PERIOD_SECONDS);
    number(&mut probe.timeout_seconds, PROBE_TIMEOUT_SECONDS);
    number(&mut probe.success_threshold, PROBE_SUCCESSES);
    number(&mut probe.failure_threshold, PROBE_FAILURES);
    complete_http_get(&mut probe.http_get);
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn complete_http_get(get: &mut Option<wire::HTTPGetAction>) {
    if let Some(get) = get {
        text(&mut get.path, "/");
        text(&mut get.scheme, "HTTP");
    }
}

/// An empty text is as good as none.
fn text(field: &mut Option<String>, default: &str) {
    if field.as_deref().unwrap_or_default().is_empty() {
        *field = Some(default.to_owned());
    }
}
