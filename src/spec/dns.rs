//! What a pod says about names: its own, and whom it asks about others'.

use std::net::IpAddr;

/// The domain that pods and services are in. The kubelet's default (`clusterDomain`).
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// The pod's own name, `spec.dnsPolicy` and `spec.dnsConfig`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    /// The pod's name in DNS, below [`Self::domain`]: `spec.hostname`, else the pod's name cut to 63 bytes.
    pub hostname: String,
    /// `<subdomain>.<namespace>.svc.cluster.local`, where the pod has a subdomain.
    pub domain: Option<String>,
    /// `spec.dnsPolicy`.
    pub policy: DnsPolicy,
    /// `spec.dnsConfig.nameservers`.
    pub nameservers: Vec<IpAddr>,
    /// `spec.dnsConfig.searches`, without the dot at the end.
    pub searches: Vec<String>,
    /// `spec.dnsConfig.options`.
    pub options: Vec<DnsOption>,
}

impl Dns {
    /// `<hostname>.<domain>`.
    pub fn fqdn(&self) -> Option<String> {
        self.domain.as_ref().map(|domain| format!("{}.{domain}", self.hostname))
    }
}

/// `spec.dnsPolicy` (<https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DnsPolicy {
    /// Names of the cluster first; as [`Self::Default`] for a pod on the host's network.
    #[default]
    ClusterFirst,
    /// Names of the cluster first, on the host's network too.
    ClusterFirstWithHostNet,
    /// As the host resolves names.
    Default,
    /// As `dnsConfig` alone says.
    None,
}

/// One of the `options` of resolv.conf(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsOption {
    /// Its name.
    pub name: String,
    /// What follows the colon.
    pub value: Option<String>,
}
