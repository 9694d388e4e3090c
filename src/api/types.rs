//! What the API says beyond Kubernetes' own types. Fields may be added; none changes its meaning.

use std::net::SocketAddr;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use crate::{ipc, net};

/// `apiVersion` of peapod's own kinds.
pub const API_VERSION: &str = "peapod.dev/v1alpha1";

/// The network of a running pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodNetwork {
    /// [`API_VERSION`].
    pub api_version: String,
    /// `PodNetwork`.
    pub kind: String,
    /// The pod's name, namespace and uid.
    pub metadata: ObjectMeta,
    /// The containers' sockets.
    pub sockets: Vec<Socket>,
    /// How many more sockets there are than an answer can hold.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: u64,
    /// The counters of every container that was ever started, over all its runs.
    pub containers: Vec<Container>,
    /// What the kernel denied by the pod's NetworkPolicies.
    #[serde(default)]
    pub denied_packets: DeniedPackets,
}

/// Packets that the kernel denied by the pod's NetworkPolicies, as of some seconds ago.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeniedPackets {
    /// To the pod: to its containers and to native processes.
    pub ingress: u64,
    /// Of native processes; what containers want is denied before there is a packet.
    pub egress: u64,
}

/// When the steps of a pod's start happened, on one axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// [`API_VERSION`].
    pub api_version: String,
    /// `PodTimeline`.
    pub kind: String,
    /// The pod's name, namespace and uid.
    pub metadata: ObjectMeta,
    /// Where the axis begins, by the wall clock: the start of `peapod run`.
    pub began: Timestamp,
    /// The supervisor's steps, in the order in which they began.
    pub supervisor: Vec<TimelineStep>,
    /// The pod process's steps before its containers.
    pub pod: Vec<TimelineStep>,
    /// The containers that were ever started, by name.
    pub containers: Vec<ContainerTimeline>,
}

/// One step, or one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TimelineStep {
    /// What it is.
    pub name: String,
    /// When it began, microseconds on the axis.
    pub at_micros: u64,
    /// How long it took, microseconds; 0 for a moment.
    #[serde(default)]
    pub took_micros: u64,
    /// More for a human.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// One container's part of a [`Timeline`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerTimeline {
    /// Its name.
    pub name: String,
    /// How its image came to be machine code, before the pod began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<TimelineStep>,
    /// Its first run, and its latest when that is another.
    pub runs: Vec<RunTimeline>,
}

/// One run of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunTimeline {
    /// Which restart it is: 0 for the first start.
    pub restart: u32,
    /// `start` (ordered), `instantiate`, `first host call`, `started`, `ready`, `ended`: what has happened of them, in
    /// the order of time.
    pub steps: Vec<TimelineStep>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// TCP or UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP.
    #[serde(rename = "TCP")]
    Tcp,
    /// UDP.
    #[serde(rename = "UDP")]
    Udp,
}

/// Which way a socket's data takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Plane {
    /// Between containers of the pod, without the kernel.
    Memory,
    /// A kernel socket.
    Kernel,
    /// Both, as a listener.
    Both,
}

/// A socket of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Socket {
    /// Whose it is.
    pub container: String,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Which way its data takes.
    pub plane: Plane,
    /// As ss(8) names it: `LISTEN`, `ESTAB`, `CLOSE-WAIT`, …
    pub state: String,
    /// Its own address and port; `0.0.0.0:0` or `[::]:0` before the kernel has chosen.
    pub local: SocketAddr,
    /// The peer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<SocketAddr>,
    /// The peer's container, if it is one of this pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_container: Option<String>,
    /// Bytes to read; of a listener: connections to accept.
    pub recv_queue: u64,
    /// Bytes that the peer has not taken; of a listener: its backlog.
    pub send_queue: u64,
    /// Bytes read by the container.
    pub bytes_in: u64,
    /// Bytes written by the container.
    pub bytes_out: u64,
}

impl From<net::Socket> for Socket {
    fn from(socket: net::Socket) -> Self {
        let net::Socket {
            container,
            transport,
            plane,
            state,
            local,
            peer,
            peer_container,
            recv_queue,
            send_queue,
            bytes_in,
            bytes_out,
        } = socket;
        Self {
            container,
            protocol: match transport {
                net::Transport::Tcp => Protocol::Tcp,
                net::Transport::Udp => Protocol::Udp,
            },
            plane: match plane {
                Some(net::Plane::Memory) => Plane::Memory,
                Some(net::Plane::Kernel) => Plane::Kernel,
                None => Plane::Both,
            },
            state: state.as_str().to_owned(),
            local,
            peer,
            peer_container,
            recv_queue,
            send_queue,
            bytes_in,
            bytes_out,
        }
    }
}

/// The counters of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Its name.
    pub name: String,
    /// What the network policy denied it.
    pub denied: u64,
    /// The memory plane.
    pub memory: Counters,
    /// The kernel plane.
    pub kernel: Counters,
}

impl From<net::Counters> for Container {
    fn from(counters: net::Counters) -> Self {
        let net::Counters { container, denied, planes: [memory, kernel] } = counters;
        Self { name: container, denied, memory: memory.into(), kernel: kernel.into() }
    }
}

/// The counters of one container on one plane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    /// TCP.
    pub tcp: Tcp,
    /// UDP.
    pub udp: Udp,
}

impl From<net::PlaneCounters> for Counters {
    fn from(counters: net::PlaneCounters) -> Self {
        let net::PlaneCounters { tcp, udp } = counters;
        Self { tcp: tcp.into(), udp: udp.into() }
    }
}

/// TCP of one container on one plane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tcp {
    /// Listeners now; those on both planes are counted on the kernel's.
    pub listening: u64,
    /// Connections now, in every state.
    pub open: u64,
    /// Connections that the container opened.
    pub opened: u64,
    /// Connections that it accepted.
    pub accepted: u64,
    /// Connections that it wanted and was refused.
    pub refused: u64,
    /// RST to the peer; 0 on the kernel plane, where it is not known.
    pub resets_sent: u64,
    /// RST from the peer.
    pub resets_received: u64,
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
}

impl From<net::TcpCounters> for Tcp {
    fn from(counters: net::TcpCounters) -> Self {
        let net::TcpCounters {
            listening,
            open,
            opened,
            accepted,
            refused,
            resets_sent,
            resets_received,
            bytes_in,
            bytes_out,
        } = counters;
        Self { listening, open, opened, accepted, refused, resets_sent, resets_received, bytes_in, bytes_out }
    }
}

/// UDP of one container on one plane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Udp {
    /// Bound sockets now; those on both planes are counted on the kernel's.
    pub open: u64,
    /// Datagrams received.
    pub datagrams_in: u64,
    /// Datagrams sent.
    pub datagrams_out: u64,
    /// Datagrams for the container that were dropped; 0 on the kernel plane, where it is not known.
    pub dropped: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
}

impl From<net::UdpCounters> for Udp {
    fn from(counters: net::UdpCounters) -> Self {
        let net::UdpCounters { open, datagrams_in, datagrams_out, dropped, bytes_in, bytes_out } = counters;
        Self { open, datagrams_in, datagrams_out, dropped, bytes_in, bytes_out }
    }
}

/// What the containers of a running pod share by `peapod:ipc`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodIpc {
    /// [`API_VERSION`].
    pub api_version: String,
    /// `PodIpc`.
    pub kind: String,
    /// The pod's name, namespace and uid.
    pub metadata: ObjectMeta,
    /// The objects, by kind and name.
    pub objects: Vec<IpcObject>,
}

/// What a shared object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum IpcKind {
    /// A message queue.
    Queue,
    /// A shared memory segment.
    Memory,
    /// A semaphore.
    Semaphore,
    /// A channel.
    Channel,
}

impl IpcKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Queue, Self::Memory, Self::Semaphore, Self::Channel];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Memory => "memory",
            Self::Semaphore => "semaphore",
            Self::Channel => "channel",
        }
    }
}

impl From<ipc::Kind> for IpcKind {
    fn from(kind: ipc::Kind) -> Self {
        match kind {
            ipc::Kind::Queue => Self::Queue,
            ipc::Kind::Memory => Self::Memory,
            ipc::Kind::Semaphore => Self::Semaphore,
            ipc::Kind::Channel => Self::Channel,
        }
    }
}

impl From<IpcKind> for ipc::Kind {
    fn from(kind: IpcKind) -> Self {
        match kind {
            IpcKind::Queue => Self::Queue,
            IpcKind::Memory => Self::Memory,
            IpcKind::Semaphore => Self::Semaphore,
            IpcKind::Channel => Self::Channel,
        }
    }
}

/// A shared object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpcObject {
    /// What it is.
    pub kind: IpcKind,
    /// With its slash.
    pub name: String,
    /// Messages in a queue or a channel; bytes of a segment; free permits of a semaphore.
    pub used: u64,
    /// Messages that fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Bytes of a message at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_size: Option<u64>,
    /// The containers that have it open. Native processes are not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<String>,
    /// Who holds it and who waits, for people.
    pub note: String,
}

impl From<ipc::Object> for IpcObject {
    fn from(object: ipc::Object) -> Self {
        let ipc::Object { kind, name, used, limit, message_size, containers, note } = object;
        Self { kind: kind.into(), name, used, limit, message_size, containers, note }
    }
}
