//! Services that stand beside the Pod (`ValidateService` in `pkg/apis/core/validation/validation.go`): what its
//! variables are made from.
//!
//! Nothing here gives a Service an address, and nothing forwards to one. Where a manifest gives a `clusterIP`, the
//! variables tell it; a Service without one is where the pod itself answers, if it selects it.

use std::collections::HashSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as wire;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::port;
use super::report::{Report, is_set, items};
use crate::manifest::{FieldPath, Numbered};
use crate::spec::{Pod, Protocol, Role, Service, ServicePort, name};

/// `type` of a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServiceType {
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalName,
}

/// What `clusterIP` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClusterIp {
    /// Nothing: a cluster would give it one.
    Unset,
    /// `None`.
    Headless,
    Given(IpAddr),
}

/// Converts those of the namespace of `pod`. A Service without variables, such as a headless one, is checked and left
/// out.
pub(super) fn convert_all(
    services: &[Numbered<wire::Service>],
    pod: &Pod,
    report: &mut Report,
) -> Vec<Service> {
    let mut converted: Vec<Service> = Vec::new();
    let mut names = HashSet::new();
    for (number, service) in services {
        let mut own = Report::default();
        let path = FieldPath::root().field("metadata");
        let metadata = &service.metadata;
        let own_name = metadata.name.clone().unwrap_or_default();
        own.check(&path.field("name"), name::label(&own_name));
        let namespace = metadata.namespace.as_deref().filter(|own| !own.is_empty()).unwrap_or("default");
        let service = convert(&own_name, service.spec.as_ref(), pod, &mut own);
        if namespace != pod.namespace {
            let message = format_args!(
                "ignored: the pod is in {:?}, and has variables of Services of its namespace only",
                pod.namespace
            );
            own.warn(&path.field("namespace"), message);
        } else if !own_name.is_empty() && !names.insert(own_name.clone()) {
            let message = format_args!("duplicate value {own_name:?}: another document has it");
            own.error(&path.field("name"), message);
        } else {
            converted.extend(service);
        }
        report.of_document(*number, own);
    }
    converted
}

/// Converts one Service; `None` when there are no variables of it.
fn convert(name: &str, spec: Option<&wire::ServiceSpec>, pod: &Pod, report: &mut Report) -> Option<Service> {
    let path = FieldPath::root().field("spec");
    let no_spec = wire::ServiceSpec::default();
    let wire::ServiceSpec {
        cluster_ip,
        cluster_ips,
        external_ips,
        external_name,
        load_balancer_class,
        load_balancer_ip,
        load_balancer_source_ranges,
        ports,
        selector,
        type_,
        // How a cluster brings packets to a Service, which nothing does here.
        allocate_load_balancer_node_ports: _,
        external_traffic_policy: _,
        health_check_node_port: _,
        internal_traffic_policy: _,
        ip_families: _,
        ip_family_policy: _,
        publish_not_ready_addresses: _,
        session_affinity: _,
        session_affinity_config: _,
        traffic_distribution: _,
    } = spec.unwrap_or(&no_spec);
    for (set, field) in [
        (is_set(external_ips), "externalIPs"),
        (is_set(load_balancer_class), "loadBalancerClass"),
        (is_set(load_balancer_ip), "loadBalancerIP"),
        (is_set(load_balancer_source_ranges), "loadBalancerSourceRanges"),
    ] {
        report.ignored(set, &path.field(field), "there is no load balancer; publish a port with hostPort");
    }
    let service_type = service_type(type_.as_deref(), &path.field("type"), report);
    let cluster_ip = convert_cluster_ip(cluster_ip.as_deref(), items(cluster_ips), &path, report);
    let selector = selector.clone().unwrap_or_default();
    for (key, value) in &selector {
        let path = path.field("selector").field(key);
        report.check(&path, name::qualified(key));
        report.check(&path, name::label_value(value));
    }
    if service_type == ServiceType::ExternalName {
        if cluster_ip != ClusterIp::Unset {
            report.error(&path.field("clusterIP"), "may not be set when `type` is 'ExternalName'");
        }
        let external_name = external_name.as_deref().unwrap_or_default();
        report.check(&path.field("externalName"), name::subdomain(external_name.trim_end_matches('.')));
        return None;
    }
    let ports_path = path.field("ports");
    if items(ports).is_empty() && cluster_ip != ClusterIp::Headless {
        report.error(&ports_path, "required; such as {port: 80}");
    }
    let selects =
        !selector.is_empty() && selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value));
    let own = (selects && cluster_ip == ClusterIp::Unset).then_some(pod);
    let ports = convert_ports(items(ports), own, &ports_path, report);
    let cluster_ip = match cluster_ip {
        ClusterIp::Headless => return None,
        ClusterIp::Given(address) => Some(address),
        ClusterIp::Unset => None,
    };
    if cluster_ip.is_none() && !selects && pod.service_links {
        report.warn(
            &path.field("selector"),
            "there are no variables of it: it does not select the pod, and nothing gives it an address; write spec.clusterIP",
        );
    }
    Some(Service { name: name.to_owned(), cluster_ip, selector, ports })
}

fn service_type(text: Option<&str>, path: &FieldPath, report: &mut Report) -> ServiceType {
    let types = [
        ("", ServiceType::ClusterIp),
        ("ClusterIP", ServiceType::ClusterIp),
        ("NodePort", ServiceType::NodePort),
        ("LoadBalancer", ServiceType::LoadBalancer),
        ("ExternalName", ServiceType::ExternalName),
    ];
    let chosen = report.choice(path, text.unwrap_or_default(), &types).unwrap_or(ServiceType::ClusterIp);
    let is_outside = matches!(chosen, ServiceType::NodePort | ServiceType::LoadBalancer);
    report.ignored(is_outside, path, "nothing forwards to a Service; publish a port with hostPort");
    chosen
}

fn convert_cluster_ip(one: Option<&str>, all: &[String], spec: &FieldPath, report: &mut Report) -> ClusterIp {
    let path = spec.field("clusterIP");
    let one = one.unwrap_or_default();
    let first = all.first().map_or("", String::as_str);
    if !one.is_empty() && !first.is_empty() && one != first {
        report.error(&spec.field("clusterIPs").index(0), "first value must match `clusterIP`");
    }
    match if one.is_empty() { first } else { one } {
        "" => ClusterIp::Unset,
        "None" => ClusterIp::Headless,
        text => match text.parse() {
            Ok(address) => ClusterIp::Given(address),
            Err(_) => {
                report.error(
                    &path,
                    format_args!("invalid value {text:?}: must be empty, 'None', or a valid IP address"),
                );
                ClusterIp::Unset
            }
        },
    }
}

/// `own`: the pod whose ports they lead to.
fn convert_ports(
    list: &[wire::ServicePort],
    own: Option<&Pod>,
    path: &FieldPath,
    report: &mut Report,
) -> Vec<ServicePort> {
    let mut ports = Vec::new();
    let (mut names, mut numbers) = (HashSet::new(), HashSet::new());
    for (index, wire) in list.iter().enumerate() {
        let path = path.index(index);
        let wire::ServicePort { app_protocol: _, name, node_port, port: number, protocol, target_port } =
            wire;
        report.ignored(
            is_set(node_port),
            &path.field("nodePort"),
            "nothing forwards to a Service; publish a port with hostPort",
        );
        let name = name.clone().filter(|name| !name.is_empty());
        match &name {
            Some(name) => {
                let known = report.check(&path.field("name"), name::label(name));
                if known && !names.insert(name.clone()) {
                    let message = format_args!("duplicate value {name:?}: another port has it");
                    report.error(&path.field("name"), message);
                }
            }
            None if list.len() > 1 => {
                report.error(&path.field("name"), "required, as there are several ports")
            }
            None => {}
        }
        let number = port::number(*number, &path.field("port"), report);
        let protocols = [("TCP", Some(Protocol::Tcp)), ("UDP", Some(Protocol::Udp)), ("SCTP", None)];
        let protocol_path = path.field("protocol");
        let protocol = protocol.as_deref().filter(|text| !text.is_empty()).unwrap_or("TCP");
        let protocol = report.choice(&protocol_path, protocol, &protocols);
        report.unsupported(protocol == Some(None), &protocol_path, "WASI has TCP and UDP only");
        let (Some(number), Some(Some(protocol))) = (number, protocol) else { continue };
        if !numbers.insert((number, protocol)) {
            report.error(
                &path,
                format_args!("duplicate value: there is port {number} with this protocol already"),
            );
        }
        let target = convert_target(target_port, number, protocol, own, &path.field("targetPort"), report);
        ports.extend(target.map(|target_port| ServicePort { name, protocol, port: number, target_port }));
    }
    ports
}

/// `targetPort` as a number; `None` when it is wrong, or the name of a port that `own` does not have.
fn convert_target(
    target: &Option<IntOrString>,
    port: u16,
    protocol: Protocol,
    own: Option<&Pod>,
    path: &FieldPath,
    report: &mut Report,
) -> Option<u16> {
    match target {
        None | Some(IntOrString::Int(0)) => Some(port),
        Some(IntOrString::Int(number)) => port::number(*number, path, report),
        Some(IntOrString::String(name)) if name.is_empty() => Some(port),
        Some(IntOrString::String(name)) => {
            if !report.check(path, name::port(name)) {
                return None;
            }
            let Some(pod) = own else { return Some(port) };
            let found = named_port(pod, name, protocol);
            if found.is_none() {
                let message =
                    format_args!("there are no variables of it: no container has a port named {name:?}");
                report.warn(path, message);
            }
            found
        }
    }
}

/// `FindPort` in `pkg/api/v1/pod/util.go`.
fn named_port(pod: &Pod, name: &str, protocol: Protocol) -> Option<u16> {
    let sidecars = pod.init_containers.iter().filter(|container| container.role == Role::Sidecar);
    let mut ports = pod.containers.iter().chain(sidecars).flat_map(|container| &container.ports);
    let found = ports.find(|port| port.name.as_deref() == Some(name) && port.protocol == protocol);
    found.map(|port| port.container_port)
}
