//! The pod as a whole.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::{
    Container, Dns, DnsPolicy, FsGroup, IpcLimits, KeyValueVolumes, NetworkRules, Objects, Resources,
    Service, Storage, User, Volume,
};

/// A validated Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// `metadata.name`: a DNS subdomain.
    pub name: String,
    /// `metadata.namespace`, `default` when absent: a DNS label.
    pub namespace: String,
    /// `metadata.uid`, or a fresh random UUID. Names the pod's cgroup and directories.
    pub uid: String,
    /// `metadata.generation`: 1, and one more with every change of the running pod's spec.
    pub generation: i64,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// The UTS hostname: `spec.hostnameOverride`, the FQDN with `spec.setHostnameAsFQDN`, else
    /// [`Dns::hostname`].
    pub hostname: String,
    /// `spec.subdomain`: a DNS label.
    pub subdomain: Option<String>,
    /// `spec.restartPolicy`, `Always` when absent.
    pub restart_policy: RestartPolicy,
    /// `spec.terminationGracePeriodSeconds`, 30 s when absent.
    pub termination_grace: Duration,
    /// `spec.activeDeadlineSeconds`.
    pub active_deadline: Option<Duration>,
    /// Which network the pod gets: `spec.hostNetwork`, or what the command line says.
    pub network: NetworkMode,
    /// The pod's name in DNS, and how it resolves names.
    pub dns: Dns,
    /// The NetworkPolicies that select the pod, and what its annotations allow single containers.
    pub network_rules: NetworkRules,
    /// How much `peapod:ipc` it may use: annotations `peapod.dev/ipc.<limit>`.
    pub ipc: IpcLimits,
    /// The ConfigMaps that containers find in `wasi:config`, by container, the later ones over the earlier:
    /// annotations `peapod.dev/config.<container>`.
    pub config_sources: BTreeMap<String, Vec<String>>,
    /// The volumes that its `wasi:keyvalue` is in.
    pub key_value: KeyValueVolumes,
    /// `spec.hostAliases`.
    pub host_aliases: Vec<HostAlias>,
    /// `spec.initContainers`, in order: [`super::Role::Init`] and [`super::Role::Sidecar`].
    pub init_containers: Vec<Container>,
    /// `spec.containers`, in order: [`super::Role::Main`]. At least one.
    pub containers: Vec<Container>,
    /// `spec.ephemeralContainers`, in the order in which they were added: [`super::Role::Ephemeral`].
    pub ephemeral_containers: Vec<Container>,
    /// `spec.readinessGates`: conditions that have to hold besides, for the pod to be ready.
    pub readiness_gates: Vec<String>,
    /// `spec.resources`: requests and limits of the pod as a whole.
    pub resources: Resources,
    /// `spec.volumes`, in order.
    pub volumes: Vec<Volume>,
    /// `spec.securityContext`: whose the files are of containers that say nothing else.
    pub user: User,
    /// `spec.securityContext.fsGroup`.
    pub fs_group: Option<FsGroup>,
    /// What variables and volumes come from.
    pub objects: Objects,
    /// What the claims among the volumes ask for: the PersistentVolumeClaims and PersistentVolumes that stand
    /// beside the Pod.
    pub storage: Storage,
    /// The Services that stand beside the Pod: for variables.
    pub services: Vec<Service>,
    /// `spec.enableServiceLinks`: whether containers get variables of Services.
    pub service_links: bool,
    /// `spec.serviceAccountName`.
    pub service_account: String,
}

impl Pod {
    /// Every container: init containers and sidecars first, in the manifest's order; ephemeral ones last, so
    /// that the place of a container never changes.
    pub fn all_containers(&self) -> impl Iterator<Item = &Container> {
        self.init_containers.iter().chain(&self.containers).chain(&self.ephemeral_containers)
    }

    /// The container of this name.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.all_containers().find(|container| container.name == name)
    }

    /// Whether the pod knows names of the cluster: not on the host's network, unless it says so
    /// (`getPodDNSType` in `pkg/kubelet/network/dns/dns.go`).
    pub fn knows_cluster(&self) -> bool {
        match self.dns.policy {
            DnsPolicy::ClusterFirst => self.network != NetworkMode::Host,
            DnsPolicy::ClusterFirstWithHostNet => true,
            DnsPolicy::Default | DnsPolicy::None => false,
        }
    }

    /// What the pod itself is called in its `/etc/hosts`, the canonical name first: the FQDN and the
    /// hostname, or `spec.hostnameOverride` alone (`GeneratePodHostNameAndDomain` in
    /// `pkg/kubelet/kubelet_pods.go`).
    pub fn own_names(&self) -> Vec<String> {
        let short = &self.dns.hostname;
        match self.dns.fqdn() {
            Some(fqdn) if self.hostname == fqdn || self.hostname == *short => vec![fqdn, short.clone()],
            _ => vec![self.hostname.clone()],
        }
    }
}

/// When an ended container is started again
/// (<https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RestartPolicy {
    /// After every exit.
    #[default]
    Always,
    /// After an exit with a code other than 0.
    OnFailure,
    /// Never.
    Never,
}

/// The pod's network namespace and what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NetworkMode {
    /// A namespace of its own with an address that the host, and other pods, reach.
    #[default]
    Pod,
    /// A namespace of its own with loopback only.
    None,
    /// The host's network namespace.
    Host,
}

/// One entry of `spec.hostAliases`: names that resolve to an address inside the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAlias {
    /// The address.
    pub ip: IpAddr,
    /// Its names.
    pub hostnames: Vec<String>,
}
