//! A container's variables, and what is made of them when it starts.
//!
//! ```text
//! env_from, env of the container ──┐
//! Services (service) ──────────────┤
//! ConfigMaps, Secrets ─────────────┼─► resolve ─► Resolved: variables, command, args, mounts
//! the pod itself (field, resource) ┤    (scope: `$(VAR)`, and how much may come of it)
//! files of fileKeyRef (env_file) ──┘
//! ```
//!
//! Pure. Variables are looked up at every start of the container, as the kubelet does
//! (`makeEnvironmentVariables` in `pkg/kubelet/kubelet_pods.go`): a changed ConfigMap is seen by the next run.

mod env_file;
mod field;
mod resolve;
mod resource;
pub(super) mod scope;
mod service;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::Mount;

pub use field::field_text;
pub use resolve::resolve;
pub use resource::resource_text;

/// The longest single variable, argument or command, bytes: Linux' own limit (`MAX_ARG_STRLEN`, execve(2)).
pub const MAX_STRING_BYTES: usize = 128 << 10;

/// Bytes of a container's variables, command and arguments after `$(VAR)` was expanded, and of all containers of a
/// manifest together: values that repeat one another would grow without bound.
pub const MAX_EXPANSION_BYTES: usize = 16 << 20;

/// `env` and `envFrom` as the manifest has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `envFrom`, in order. Variables of a later one replace those of an earlier one.
    pub from: Vec<EnvFrom>,
    /// `env`, in order; they replace those of `envFrom`. Names may be there twice: the later one counts.
    pub variables: Vec<Variable>,
}

/// One entry of `envFrom`: every key of an object that is a name of a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvFrom {
    /// `prefix`: goes before every key.
    pub prefix: String,
    /// The object.
    pub object: ObjectRef,
}

/// A ConfigMap or Secret of the pod's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRef {
    /// Which of the two.
    pub kind: ObjectKind,
    /// `name`.
    pub name: String,
    /// `optional`: it, or the key of it, may be missing.
    pub optional: bool,
}

/// What configuration comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

impl ObjectKind {
    /// `kind` of the object.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
}

/// One entry of `env`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// `name`.
    pub name: String,
    /// Where its value comes from.
    pub value: Value,
}

/// Where a variable's value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `value`: text in which `$(VAR)` stands for variables before it.
    Text(String),
    /// `valueFrom.configMapKeyRef` and `secretKeyRef`.
    Key {
        /// The object.
        object: ObjectRef,
        /// `key`.
        key: String,
    },
    /// `valueFrom.fieldRef`.
    Field(Field),
    /// `valueFrom.resourceFieldRef`.
    Resource(ResourceField),
    /// `valueFrom.fileKeyRef`: a variable in a file of an emptyDir, written by an init container.
    File {
        /// `volumeName`.
        volume: String,
        /// `path`: relative, inside of the volume.
        path: PathBuf,
        /// `key`: a variable of the file.
        key: String,
        /// `optional`: the file or the key may be missing.
        optional: bool,
    },
}

/// A field of the pod (<https://kubernetes.io/docs/concepts/workloads/pods/downward-api/#available-fields>).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// `metadata.name`.
    Name,
    /// `metadata.namespace`.
    Namespace,
    /// `metadata.uid`.
    Uid,
    /// `metadata.labels`: in volumes only.
    Labels,
    /// `metadata.annotations`: in volumes only.
    Annotations,
    /// `metadata.labels['<key>']`.
    Label(String),
    /// `metadata.annotations['<key>']`.
    Annotation(String),
    /// `spec.nodeName`.
    NodeName,
    /// `spec.serviceAccountName`.
    ServiceAccountName,
    /// `status.hostIP`.
    HostIp,
    /// `status.hostIPs`.
    HostIps,
    /// `status.podIP`.
    PodIp,
    /// `status.podIPs`.
    PodIps,
}

/// A container's resource, in units of a divisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceField {
    /// `containerName`. `None`: the container itself.
    pub container: Option<String>,
    /// `resource`.
    pub resource: ResourceName,
    /// `divisor` in the resource's own unit (thousandths of a core, bytes); the value is rounded up.
    pub divisor: u64,
}

/// `resource` of a `resourceFieldRef`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceName {
    /// `limits.cpu`: without a limit, what the node has.
    LimitsCpu,
    /// `limits.memory`: without a limit, what the node has.
    LimitsMemory,
    /// `limits.ephemeral-storage`: without a limit, what the node has.
    LimitsEphemeralStorage,
    /// `requests.cpu`.
    RequestsCpu,
    /// `requests.memory`.
    RequestsMemory,
    /// `requests.ephemeral-storage`.
    RequestsEphemeralStorage,
}

/// What the pod does not say of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The pod's addresses; the first is `status.podIP`.
    pub pod_ips: Vec<IpAddr>,
    /// The host's addresses; the first is `status.hostIP`.
    pub host_ips: Vec<IpAddr>,
    /// `spec.nodeName`.
    pub node_name: String,
    /// What a container without limits may use.
    pub allocatable: Allocatable,
}

/// What the node has for pods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allocatable {
    /// Thousandths of a core.
    pub cpu_millis: u64,
    /// Bytes.
    pub memory_bytes: u64,
    /// Bytes.
    pub storage_bytes: u64,
}

/// What one run of a container is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Variables, in order, each name once.
    pub env: Vec<(String, String)>,
    /// `command`, with `$(VAR)` expanded.
    pub command: Vec<String>,
    /// `args`, with `$(VAR)` expanded.
    pub args: Vec<String>,
    /// The container's mounts with `subPathExpr` expanded to a `subPath`.
    pub mounts: Vec<Mount>,
}

/// Why a container cannot be started as it is configured: the message of its `CreateContainerConfigError`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// What [`resolve`] reads of volumes.
pub trait Files {
    /// The file `path` of `volume`; `None` when it is not there.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn read(&self, volume: &str, path: &Path) -> Result<Option<String>, String>;
}
