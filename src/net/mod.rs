//! The pod's virtual network, owned by the host. Knows nothing of wasmtime; [`crate::wasi`] puts
//! `wasi:sockets` 0.2 and 0.3 on top of it.
//!
//! ```text
//!  container a          container b           native process in the pod, other pods, the world
//!  Endpoint             Endpoint                              │
//!    │ TcpSocket          │ TcpSocket                         │
//!    ▼                    ▼                                   │
//!  ┌───────────────── Stack: one per pod ─────────────────┐   │
//!  │ policy ─► addr ─► ports ─┬─► memory plane            │   │
//!  │                          │   pipe ⇄ memory ⇄ pipe    │   │
//!  │                          └─► kernel plane ───────────┼───┘
//!  │                              kernel: real sockets    │
//!  └──────────────────────────────────────────────────────┘
//! ```
//!
//! * **Memory plane.** A TCP connection to a loopback or own address of the pod, on a port where a
//!   container of the pod listens, is two bounded byte pipes. A UDP datagram to such an address, on a
//!   port that a container's socket is bound to, is put into that socket's bounded queue. The kernel
//!   never sees either.
//! * **Kernel plane.** Everything else is a real non-blocking socket in the process's network
//!   namespace.
//! * **One port space.** Every bind holds a real kernel socket on the real port, so EADDRINUSE is
//!   the kernel's judgement, between containers as well as with native processes. A listener
//!   accepts, and a UDP socket receives, from both planes. The planes' ephemeral ports come from disjoint ranges.
//! * **Names.** [`names`] answers what the pod and this machine know, and asks nameservers for the rest.
//! * **To be seen.** Every container has a `meter`; `observe` walks over the sockets that there are;
//!   `capture` writes down what the memory plane carries as the packets that it would have been.
//!
//! Sockets are polled: `poll_*` functions take a [`std::task::Context`] and keep its waker when they
//! return `Pending`. As with tokio's sockets, each direction of a socket remembers one waker, the
//! last. Everything is `Send + Sync`; a lock is never held across an await, and wakers are called
//! after it is released. Lock order: socket, listener, connection, port table; for UDP: socket, table of
//! bound sockets; socket, inbox.

mod addr;
mod budget;
mod capture;
mod endpoint;
mod error;
mod files;
mod kernel;
mod listener;
mod memory;
mod meter;
pub mod names;
mod observe;
mod options;
mod pipe;
pub mod policy;
pub mod ports;
mod stack;
mod stream;
mod tcp;
mod tell;
mod udp;
mod wakes;

#[cfg(test)]
mod tests;

pub use addr::Family;
pub use capture::{Capture, Recording, Summary};
pub use endpoint::{Endpoint, MAX_SOCKETS};
pub use error::{Error, Result};
pub use meter::{Counters, Plane, PlaneCounters, TcpCounters, UdpCounters};
pub use names::NamesConfig;
pub use observe::{Socket, SocketState, Transport, Walk};
pub use options::DEFAULT_BUFFER;
pub use policy::Policy;
pub use stack::{PlaneConfig, Stack, StackConfig};
pub use tcp::{Acceptor, ReceiveHalf, SendHalf, TcpSocket};
pub use tell::Tell;
pub use udp::{MAX_DATAGRAM, UdpSocket};
