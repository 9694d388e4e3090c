//! The sections of containers.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, ContainerState, ContainerStatus, EnvVar, EphemeralContainer, FileKeySelector,
    HTTPGetAction, Pod, Probe, ResourceFieldSelector, ResourceRequirements, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::page::Page;
use crate::cli::age::rfc1123z;
use crate::spec;

/// The section of one list of containers.
pub fn describe(page: &mut Page, label: &str, list: &[Container], statuses: &[ContainerStatus], pod: &Pod) {
    let none = if list.is_empty() { " <none>" } else { "" };
    page.line(0, format!("{label}:{none}"));
    for container in list {
        let status = statuses.iter().find(|status| status.name == container.name);
        basics(page, container, status);
        words(page, "Command", container.command.as_deref().unwrap_or_default());
        words(page, "Args", container.args.as_deref().unwrap_or_default());
        if let Some(status) = status {
            states(page, status);
        }
        if let Some(of_container) = &container.resources {
            resources(page, of_container, 2);
        }
        for (label, probe) in [
            ("Liveness", &container.liveness_probe),
            ("Readiness", &container.readiness_probe),
            ("Startup", &container.startup_probe),
        ] {
            if let Some(probe) = probe {
                page.line(2, format!("{label}:\t{}", describe_probe(probe)));
            }
        }
        sources(page, container);
        environment(page, container, pod);
        mounts(page, container.volume_mounts.as_deref().unwrap_or_default());
    }
}

/// What an ephemeral container has of a container.
pub fn of_ephemeral(ephemeral: &EphemeralContainer) -> Container {
    Container {
        name: ephemeral.name.clone(),
        image: ephemeral.image.clone(),
        command: ephemeral.command.clone(),
        args: ephemeral.args.clone(),
        ports: ephemeral.ports.clone(),
        env: ephemeral.env.clone(),
        env_from: ephemeral.env_from.clone(),
        resources: ephemeral.resources.clone(),
        volume_mounts: ephemeral.volume_mounts.clone(),
        ..Container::default()
    }
}

fn basics(page: &mut Page, container: &Container, status: Option<&ContainerStatus>) {
    page.line(1, format!("{}:", container.name));
    let field = |page: &mut Page, label: &str, value: &str| page.line(2, format!("{label}:\t{value}"));
    if let Some(status) = status {
        field(page, "Container ID", status.container_id.as_deref().unwrap_or_default());
    }
    field(page, "Image", container.image.as_deref().unwrap_or_default());
    if let Some(status) = status {
        field(page, "Image ID", &status.image_id);
    }
    let ports = container.ports.as_deref().unwrap_or_default();
    let listed = |number: fn(&ContainerPort) -> i32| {
        let one = |port| format!("{}/{}", number(port), port.protocol.as_deref().unwrap_or("TCP"));
        ports.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    for (label, text) in [
        ("Port", listed(|port| port.container_port)),
        ("Host Port", listed(|port| port.host_port.unwrap_or_default())),
    ] {
        match ports.len() {
            0 => field(page, label, "<none>"),
            1 => field(page, label, &text),
            _ => field(page, &format!("{label}s"), &text),
        }
    }
}

fn words(page: &mut Page, label: &str, words: &[String]) {
    if words.is_empty() {
        return;
    }
    page.line(2, format!("{label}:"));
    for line in words.iter().flat_map(|word| word.split('\n')) {
        page.line(3, line);
    }
}

fn states(page: &mut Page, status: &ContainerStatus) {
    state(page, "State", status.state.as_ref());
    if status.last_state.as_ref().is_some_and(|last| last.terminated.is_some()) {
        state(page, "Last State", status.last_state.as_ref());
    }
    page.line(2, format!("Ready:\t{}", if status.ready { "True" } else { "False" }));
    page.line(2, format!("Restart Count:\t{}", status.restart_count));
}

fn state(page: &mut Page, label: &str, state: Option<&ContainerState>) {
    let no_state = ContainerState::default();
    let ContainerState { running, terminated, waiting } = state.unwrap_or(&no_state);
    let field = |page: &mut Page, label: &str, value: &str| page.line(3, format!("{label}:\t{value}"));
    let text = |page: &mut Page, label: &str, value: &Option<String>| {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            field(page, label, value);
        }
    };
    // As Go writes the time of no clock.
    let at = |time: &Option<Time>| {
        time.as_ref().map_or_else(|| "Mon, 01 Jan 0001 00:00:00 +0000".to_owned(), |time| rfc1123z(time.0))
    };
    if let Some(running) = running {
        page.line(2, format!("{label}:\tRunning"));
        field(page, "Started", &at(&running.started_at));
    } else if let Some(ended) = terminated {
        page.line(2, format!("{label}:\tTerminated"));
        text(page, "Reason", &ended.reason);
        text(page, "Message", &ended.message);
        field(page, "Exit Code", &ended.exit_code.to_string());
        if let Some(signal) = ended.signal.filter(|signal| *signal > 0) {
            field(page, "Signal", &signal.to_string());
        }
        field(page, "Started", &at(&ended.started_at));
        field(page, "Finished", &at(&ended.finished_at));
    } else {
        page.line(2, format!("{label}:\tWaiting"));
        text(page, "Reason", &waiting.as_ref().and_then(|waiting| waiting.reason.clone()));
    }
}

/// `Limits` and `Requests`.
pub fn resources(page: &mut Page, resources: &ResourceRequirements, level: usize) {
    let mut list = |label: &str, quantities: &Option<BTreeMap<String, Quantity>>| {
        let Some(quantities) = quantities.as_ref().filter(|quantities| !quantities.is_empty()) else {
            return;
        };
        page.line(level, format!("{label}:"));
        for (name, quantity) in quantities {
            page.line(level + 1, format!("{name}:\t{}", quantity.0));
        }
    };
    list("Limits", &resources.limits);
    list("Requests", &resources.requests);
}

/// A probe on one line; what the manifest leaves out is Kubernetes' default.
fn describe_probe(probe: &Probe) -> String {
    let attributes = format!(
        "delay={}s timeout={}s period={}s #success={} #failure={}",
        probe.initial_delay_seconds.unwrap_or(0),
        probe.timeout_seconds.unwrap_or(1),
        probe.period_seconds.unwrap_or(10),
        probe.success_threshold.unwrap_or(1),
        probe.failure_threshold.unwrap_or(3)
    );
    if let Some(exec) = &probe.exec {
        format!("exec [{}] {attributes}", exec.command.as_deref().unwrap_or_default().join(" "))
    } else if let Some(get) = &probe.http_get {
        format!("http-get {} {attributes}", url(get))
    } else if let Some(tcp) = &probe.tcp_socket {
        format!("tcp-socket {}:{} {attributes}", tcp.host.as_deref().unwrap_or_default(), port(&tcp.port))
    } else if let Some(grpc) = &probe.grpc {
        format!("grpc <pod>:{} {} {attributes}", grpc.port, grpc.service.as_deref().unwrap_or_default())
    } else {
        format!("unknown {attributes}")
    }
}

fn url(get: &HTTPGetAction) -> String {
    let scheme = get.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
    let host = get.host.as_deref().unwrap_or_default();
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let path = get.path.as_deref().unwrap_or("/");
    let slash = if path.is_empty() || path.starts_with('/') { "" } else { "/" };
    format!("{scheme}://{host}:{}{slash}{path}", port(&get.port))
}

fn port(port: &IntOrString) -> String {
    match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    }
}

/// `envFrom`.
fn sources(page: &mut Page, container: &Container) {
    let Some(sources) = container.env_from.as_ref().filter(|sources| !sources.is_empty()) else { return };
    page.line(2, "Environment Variables from:");
    for source in sources {
        let (name, kind, optional) = match (&source.config_map_ref, &source.secret_ref) {
            (Some(map), _) => (&*map.name, "ConfigMap", map.optional),
            (_, Some(secret)) => (&*secret.name, "Secret", secret.optional),
            _ => ("", "", None),
        };
        let prefix = source.prefix.as_deref().filter(|prefix| !prefix.is_empty());
        let prefix = prefix.map(|prefix| format!(" with prefix '{prefix}'")).unwrap_or_default();
        page.line(3, format!("{name}\t{kind}{prefix}\tOptional: {}", optional == Some(true)));
    }
}

fn environment(page: &mut Page, container: &Container, pod: &Pod) {
    let variables = container.env.as_deref().unwrap_or_default();
    page.line(2, if variables.is_empty() { "Environment:\t<none>" } else { "Environment:" });
    for EnvVar { name, value, value_from } in variables {
        let Some(from) = value_from else {
            let value = value.as_deref().unwrap_or_default();
            for (index, line) in value.split('\n').enumerate() {
                page.line(3, if index == 0 { format!("{name}:\t{line}") } else { format!("\t{line}") });
            }
            continue;
        };
        if let Some(field) = &from.field_ref {
            let version = field.api_version.as_deref().unwrap_or("v1");
            let value = of_pod(pod, &field.field_path).unwrap_or_default();
            page.line(3, format!("{name}:\t{value} ({version}:{})", field.field_path));
        } else if let Some(resource) = &from.resource_field_ref {
            let value = amount(container, resource);
            page.line(3, format!("{name}:\t{value} ({})", resource.resource));
        } else if let Some(key) = &from.secret_key_ref {
            let (of, optional) = (&key.name, key.optional == Some(true));
            let key = &key.key;
            page.line(3, format!("{name}:\t<set to the key '{key}' in secret '{of}'>\tOptional: {optional}"));
        } else if let Some(key) = &from.config_map_key_ref {
            let (of, optional) = (&key.name, key.optional == Some(true));
            let key = &key.key;
            page.line(
                3,
                format!("{name}:\t<set to the key '{key}' of config map '{of}'>\tOptional: {optional}"),
            );
        } else if let Some(file) = &from.file_key_ref {
            let FileKeySelector { key, optional, path, volume_name } = file;
            let optional = *optional == Some(true);
            page.line(
                3,
                format!(
                    "{name}:\t<set to the key '{key}' in file '{path}' of volume '{volume_name}'>\tOptional: {optional}"
                ),
            );
        }
    }
}

/// What a `resourceFieldRef` comes to, of the container itself as kubectl has it.
fn amount(container: &Container, selector: &ResourceFieldSelector) -> String {
    let (list, which) = selector.resource.split_once('.').unwrap_or_default();
    let of = container.resources.as_ref();
    let quantities =
        of.and_then(|of| if list == "limits" { of.limits.as_ref() } else { of.requests.as_ref() });
    let in_unit = |quantity: &Quantity| {
        let quantity = quantity.0.parse::<spec::quantity::Quantity>().ok()?;
        Some(if which == "cpu" { quantity.millis() } else { quantity.ceil() })
    };
    let one = if which == "cpu" { 1000 } else { 1 };
    let divisor = selector.divisor.as_ref().and_then(in_unit).filter(|divisor| *divisor > 0).unwrap_or(one);
    match quantities.and_then(|quantities| quantities.get(which)).and_then(in_unit).unwrap_or_default() {
        0 if list == "limits" && which != "ephemeral-storage" => "node allocatable".to_owned(),
        amount => amount.div_ceil(divisor).to_string(),
    }
}

/// A field of the pod, as the downward API gives it.
fn of_pod(pod: &Pod, path: &str) -> Option<String> {
    let (metadata, status) = (&pod.metadata, pod.status.as_ref());
    match path {
        "metadata.name" => metadata.name.clone(),
        "metadata.namespace" => metadata.namespace.clone(),
        "metadata.uid" => metadata.uid.clone(),
        "spec.nodeName" => pod.spec.as_ref()?.node_name.clone(),
        "spec.serviceAccountName" => pod.spec.as_ref()?.service_account_name.clone(),
        "status.podIP" => status?.pod_ip.clone(),
        "status.hostIP" => status?.host_ip.clone(),
        "status.podIPs" => Some(listed(status?.pod_ips.iter().flatten().map(|own| own.ip.as_str()))),
        "status.hostIPs" => Some(listed(status?.host_ips.iter().flatten().map(|own| own.ip.as_str()))),
        _ => {
            let (map, key) = path.strip_suffix("']")?.split_once("['")?;
            let map = match map {
                "metadata.labels" => metadata.labels.as_ref(),
                "metadata.annotations" => metadata.annotations.as_ref(),
                _ => None,
            };
            map?.get(key).cloned()
        }
    }
}

fn listed<'a>(addresses: impl Iterator<Item = &'a str>) -> String {
    addresses.collect::<Vec<_>>().join(",")
}

fn mounts(page: &mut Page, mounts: &[VolumeMount]) {
    page.line(2, if mounts.is_empty() { "Mounts:\t<none>" } else { "Mounts:" });
    let mut sorted: Vec<_> = mounts.iter().collect();
    sorted.sort_by_key(|mount| &mount.mount_path);
    for mount in sorted {
        let mut flags = if mount.read_only == Some(true) { "ro" } else { "rw" }.to_owned();
        if let Some(path) = mount.sub_path.as_ref().filter(|path| !path.is_empty()) {
            flags += &format!(",path={path:?}");
        }
        page.line(3, format!("{} from {} ({flags})", mount.mount_path, mount.name));
    }
}
