//! One container of a pod.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::lifecycle::{Hooks, RestartRule, TerminationMessage};
use super::probe::Probes;
use super::{Environment, RestartPolicy, User};
use crate::image::Reference;

/// A validated container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// `name`: a DNS label, unique in the pod.
    pub name: String,
    /// What part it plays in the pod's life.
    pub role: Role,
    /// `restartPolicy` of the container itself, where it overrides the pod's. Always `Some(Always)` for a
    /// [`Role::Sidecar`].
    pub restart_policy: Option<RestartPolicy>,
    /// `restartPolicyRules`, in order: the first that applies to an exit decides.
    pub restart_rules: Vec<RestartRule>,
    /// The image as the manifest spells it.
    pub image_name: String,
    /// `image`, parsed.
    pub image: Reference,
    /// `command`. Empty: the image's own entry point. `$(VAR)` is expanded at every start
    /// ([`super::environment::resolve`]).
    pub command: Vec<String>,
    /// `args`, likewise.
    pub args: Vec<String>,
    /// `env` and `envFrom`.
    pub environment: Environment,
    /// Whose its files are.
    pub user: User,
    /// `workingDir`: an absolute path, `/` or below a mount.
    pub working_dir: Option<String>,
    /// `volumeMounts`, in order.
    pub mounts: Vec<Mount>,
    /// `ports`, in order. Informational, as in Kubernetes.
    pub ports: Vec<Port>,
    /// `resources.limits` and `resources.requests`.
    pub resources: Resources,
    /// `resizePolicy`: what a change of these means while it runs.
    pub resize_policy: ResizePolicy,
    /// `startupProbe`, `livenessProbe`, `readinessProbe`.
    pub probes: Probes,
    /// `lifecycle`.
    pub hooks: Hooks,
    /// `terminationMessagePath` and `terminationMessagePolicy`.
    pub termination_message: TerminationMessage,
    /// `targetContainerName` of a [`Role::Ephemeral`].
    pub target: Option<String>,
}

impl Mount {
    /// Where `path` of the container lies below this mount, if it does.
    pub fn relative<'a>(&self, path: &'a str) -> Option<&'a Path> {
        Path::new(path).strip_prefix(&self.path).ok()
    }
}

impl Container {
    /// The mount that `path` of the container lies in, and where in it.
    pub fn mount_of<'a>(&self, path: &'a str) -> Option<(&Mount, &'a Path)> {
        let lying = self.mounts.iter().filter_map(|mount| Some((mount, mount.relative(path)?)));
        lying.max_by_key(|(mount, _)| mount.path.len())
    }
}

/// The part a container plays in the pod's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs to success before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always`: the next one starts once it has started; ends
    /// after the main containers.
    Sidecar,
    /// One of `spec.containers`.
    Main,
    /// Added to the running pod (`spec.ephemeralContainers`): started at once, never restarted, and the
    /// pod's life does not depend on it.
    Ephemeral,
}

/// One entry of `volumeMounts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The volume's name; it exists in the pod.
    pub volume: String,
    /// Where the container sees it: absolute, normalised, unique in the container.
    pub path: String,
    /// A relative path inside the volume, without `..`.
    pub sub_path: Option<PathBuf>,
    /// `subPathExpr`: becomes a `sub_path` at every start ([`super::environment::resolve`]).
    pub sub_path_expr: Option<String>,
    /// Whether writes are refused.
    pub read_only: bool,
}

/// One entry of `ports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// `name`: an IANA service name, unique in the container.
    pub name: Option<String>,
    /// `containerPort`, 1 to 65535.
    pub container_port: u16,
    /// `protocol`, TCP when absent.
    pub protocol: Protocol,
    /// `hostPort` and `hostIP`. On the host's network it says nothing new.
    pub host_port: Option<HostPort>,
}

/// A port of the host that leads to a container's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// `hostPort`, 1 to 65535.
    pub port: u16,
    /// `hostIP`: one of the host's addresses, or all of one family when unspecified. `None`: all of both.
    pub ip: Option<IpAddr>,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// `resources`: limits and requests. `None`: not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resources {
    /// `limits.cpu`, thousandths of a core.
    pub cpu_limit_millis: Option<u64>,
    /// `limits.memory`, bytes.
    pub memory_limit_bytes: Option<u64>,
    /// `requests.cpu`, thousandths of a core; the limit when absent, as in Kubernetes.
    pub cpu_request_millis: Option<u64>,
    /// `requests.memory`, bytes; the limit when absent, as in Kubernetes.
    pub memory_request_bytes: Option<u64>,
    /// `limits.ephemeral-storage`, bytes.
    pub storage_limit_bytes: Option<u64>,
    /// `requests.ephemeral-storage`, bytes; the limit when absent, as in Kubernetes.
    pub storage_request_bytes: Option<u64>,
}

/// `resizePolicy`: whether a container has to start anew when its resources change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResizePolicy {
    /// `RestartContainer` for `cpu`.
    pub cpu_restarts: bool,
    /// `RestartContainer` for `memory`.
    pub memory_restarts: bool,
}
