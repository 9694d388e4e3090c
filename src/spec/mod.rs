//! The validated pod: what the rest of peapod works with.
//!
//! Nothing here knows serde or the Kubernetes wire types but [`convert`]. A value of these types is
//! valid by construction: [`convert`] is the one place that makes them, and it reports every error of
//! a manifest together, each with its field path.

pub mod config;
pub mod container;
pub mod container_network;
pub mod convert;
pub mod dns;
pub mod environment;
pub mod expand;
pub mod ipc;
pub mod keyvalue;
pub mod lifecycle;
pub mod name;
pub mod network_policy;
pub mod pod;
pub mod probe;
pub mod qos;
pub mod quantity;
pub mod selector;
pub mod service;
pub mod storage;
pub mod user;
pub mod volume;

pub use config::{ConfigMap, Objects, Secret};
pub use container::{Container, HostPort, Mount, Port, Protocol, ResizePolicy, Resources, Role};
pub use container_network::ContainerNetwork;
pub use convert::{Converted, Options, load};
pub use dns::{CLUSTER_DOMAIN, Dns, DnsOption, DnsPolicy};
pub use environment::{Environment, Resolved};
pub use ipc::IpcLimits;
pub use keyvalue::KeyValueVolumes;
pub use lifecycle::{Hook, HookKind, Hooks, RestartRule, SetOperator, TerminationMessage};
pub use network_policy::{NetworkPolicy, NetworkRules};
pub use pod::{HostAlias, NetworkMode, Pod, RestartPolicy};
pub use probe::{HttpGet, Probe, ProbeHandler, ProbeKind, Probes, Scheme};
pub use qos::QosClass;
pub use service::{Service, ServicePort};
pub use storage::{AccessMode, Claim, PersistentVolume, PersistentVolumeKind, ReclaimPolicy, Storage};
pub use user::{FsGroup, User};
pub use volume::{HostPathType, Projection, Volume, VolumeSource};
