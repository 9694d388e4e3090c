//! The pod's virtual network, owned by the host. Knows nothing of wasmtime; [`crate::wasi`] puts
//! `wasi:sockets` 0.2 and 0.3 on top of it.
//!
//! ```text
//!  container a          container b           native process in the pod, other pods, the world
//!  Endpoint             Endpoint                              │
//!    │ TcpSocket          │ UdpSocket        │ a name         │
//!    ▼                    ▼                  ▼                │
//!  ┌───────────────── Stack: one per pod ─────────────────┐   │
//!  │ policy ─► addr ─► ports ─┬─► memory plane            │   │
//!  │   │                      │   TCP: pipe, memory, pipe │   │
//!  │   │                      │   UDP: table, inbox       │   │
//!  │   │                      └─► kernel plane ───────────┼───┤
//!  │   └─► names: hosts, cluster, upstream ──────────────┼───┘
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
//!
//! | module | what it is |
//! |---|---|
//! | `endpoint` | one container's handle, or the host's, by which it is ended with all its sockets |
//! | `stack` | what a pod's containers share; which plane a connection takes |
//! | [`policy`] | whether a container may |
//! | `addr`, [`ports`] | what addresses are; who has which port |
//! | `tcp`, `listener`, `stream` | TCP sockets, on either plane |
//! | `memory`, `pipe` | a TCP connection of the memory plane |
//! | `udp` | UDP sockets, on both planes, with table and inboxes of the memory plane |
//! | `kernel`, `options`, `files` | kernel sockets, what is set on them, how many there may be |
//! | [`names`] | what the pod and this machine know, and nameservers for the rest |
//! | `budget`, `wakes` | the memory plane's memory; wakers, called when no lock is held |
//! | `meter`, `observe` | counters of every container and plane; a walk over the sockets that there are |
//! | `capture` | what the memory plane carries, written as the packets that it would have been |
//! | `error`, `tell` | errors as errno has them; lines for the user |
//!
//! Sockets are polled: `poll_*` functions take a [`std::task::Context`] and keep its waker when they
//! return `Pending`. As with tokio's sockets, each direction of a socket remembers one waker, the
//! last. Everything is `Send + Sync`; a lock is never held across an await, and wakers are called
//! after it is released.
//!
//! A lock is taken before those to its right, and never with another of its column:
//!
//! ```text
//! socket ─┬─► the container's sockets (endpoint)
//!         ├─► listener ─► connection ─┬─► port table
//!         │                           ├─► capture
//!         ├─► inbox, table of bound UDP sockets
//!         └─► what the policy has learned, whom its selectors stand for, its lines
//! ```
//!
//! The cache of names and the roll of containers are locked alone; counters and the budget are atomic.

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
pub use endpoint::{Endpoint, HOST, MAX_SOCKETS};
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
