//! `ports` of a container.

use std::collections::HashSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as wire;

use super::report::{Report, is_set};
use crate::manifest::FieldPath;
use crate::spec::{HostPort, Port, Protocol, Role, name};

/// The host ports that the pod's containers have so far.
#[derive(Debug)]
pub(super) struct HostPorts {
    host_network: bool,
    taken: Vec<Taken>,
}

/// A host port that a container has.
#[derive(Debug)]
struct Taken {
    host: HostPort,
    protocol: Protocol,
    container_port: u16,
    role: Role,
    path: String,
}

/// Converts `list`, the ports of a container with this role.
pub(super) fn convert(
    list: &[wire::ContainerPort],
    role: Role,
    path: &FieldPath,
    host_ports: &mut HostPorts,
    report: &mut Report,
) -> Vec<Port> {
    let mut ports = Vec::new();
    let mut names = HashSet::new();
    let mut numbers = HashSet::new();
    for (index, port) in list.iter().enumerate() {
        let path = path.index(index);
        let wire::ContainerPort { container_port, host_ip, host_port, name, protocol } = port;
        let container_port = match container_port {
            // As it is when it is not there.
            0 => {
                report.error(&path.field("containerPort"), "required; a number between 1 and 65535");
                None
            }
            _ => number(*container_port, &path.field("containerPort"), report),
        };
        if let Some(name) = name
            && report.check(&path.field("name"), name::port(name))
            && !names.insert(name.as_str())
        {
            report.error(&path.field("name"), format_args!("duplicate value {name:?}: another port has it"));
        }
        let protocol_path = path.field("protocol");
        let protocols = [("TCP", Some(Protocol::Tcp)), ("UDP", Some(Protocol::Udp)), ("SCTP", None)];
        let protocol = report.choice(&protocol_path, protocol.as_deref().unwrap_or("TCP"), &protocols);
        report.unsupported(protocol == Some(None), &protocol_path, "WASI has TCP and UDP only");
        let host_port = convert_host_port(*host_port, host_ip.as_deref(), &path, report);
        let (Some(container_port), Some(Some(protocol))) = (container_port, protocol) else { continue };
        // Legal in Kubernetes: several ports of the host, or addresses of it, lead to the same port.
        if !numbers.insert((container_port, protocol, host_port)) && host_port.is_none() {
            let message = format_args!("no effect: the container has port {container_port} already");
            report.warn(&path.field("containerPort"), message);
        }
        if let Some(host) = host_port {
            host_ports.take(host, protocol, container_port, role, &path, report);
        }
        ports.push(Port { name: name.clone(), container_port, protocol, host_port });
    }
    ports
}

/// A port's number, 1 to 65535.
pub(super) fn number(number: i32, path: &FieldPath, report: &mut Report) -> Option<u16> {
    let valid = u16::try_from(number).ok().filter(|number| *number > 0);
    if valid.is_none() {
        report.error(path, format_args!("invalid value {number}: must be between 1 and 65535"));
    }
    valid
}

fn convert_host_port(
    port: Option<i32>,
    ip: Option<&str>,
    path: &FieldPath,
    report: &mut Report,
) -> Option<HostPort> {
    let ip = ip.filter(|ip| !ip.is_empty());
    let ip_path = path.field("hostIP");
    if !is_set(&port) {
        // As in Kubernetes, 0 is none.
        report.ignored(ip.is_some(), &ip_path, "there is no hostPort");
        return None;
    }
    let port = number(port.unwrap_or_default(), &path.field("hostPort"), report)?;
    let parsed = ip.map(str::parse::<IpAddr>).transpose();
    if parsed.is_err() {
        let ip = ip.unwrap_or_default();
        report.error(&ip_path, format_args!("invalid value {ip:?}: must be an IPv4 or IPv6 address"));
    }
    Some(HostPort { port, ip: parsed.ok()? })
}

impl HostPorts {
    /// None yet; with `host_network` every port is the host's.
    pub(super) fn new(host_network: bool) -> Self {
        Self { host_network, taken: Vec::new() }
    }

    /// As Kubernetes has it (`checkHostPortConflicts` in pkg/apis/core/validation): each is there once, and on the
    /// host's network it is the container's own. Forwarded for as long as the pod lives, they are the pod's rather than
    /// one container's: an init container may only restate what another has.
    fn take(
        &mut self,
        host: HostPort,
        protocol: Protocol,
        container_port: u16,
        role: Role,
        path: &FieldPath,
        report: &mut Report,
    ) {
        let host_path = path.field("hostPort");
        if self.host_network {
            if host.port != container_port {
                report.error(
                    &host_path,
                    format_args!("must match containerPort {container_port} when hostNetwork is true"),
                );
            }
            return;
        }
        let taken = self.taken.iter().find(|taken| taken.protocol == protocol && overlap(taken.host, host));
        match taken {
            Some(taken)
                if taken.host == host
                    && taken.container_port == container_port
                    && [taken.role, role].contains(&Role::Init) => {}
            Some(taken) => {
                let port = host.port;
                report
                    .error(&host_path, format_args!("duplicate value {port}: {} has this port", taken.path));
            }
            None => {
                self.taken.push(Taken { host, protocol, container_port, role, path: path.to_string() });
            }
        }
    }
}

/// Whether a packet could be for both.
fn overlap(one: HostPort, other: HostPort) -> bool {
    let addresses = match (one.ip, other.ip) {
        (Some(one), Some(other)) => {
            let any = one.is_unspecified() || other.is_unspecified();
            one == other || (any && one.is_ipv4() == other.is_ipv4())
        }
        _ => true,
    };
    one.port == other.port && addresses
}
