//! Services: names and ports that variables tell of.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Protocol;

/// A validated Service of the pod's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// `metadata.name`: a DNS label.
    pub name: String,
    /// `spec.clusterIP` where the manifest gives one. `None`: the address of a pod that it selects.
    pub cluster_ip: Option<IpAddr>,
    /// `spec.selector`.
    pub selector: BTreeMap<String, String>,
    /// `spec.ports`, in order.
    pub ports: Vec<ServicePort>,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// `name`.
    pub name: Option<String>,
    /// `protocol`.
    pub protocol: Protocol,
    /// `port`.
    pub port: u16,
    /// `targetPort`, as a number of the selected pod's.
    pub target_port: u16,
}
