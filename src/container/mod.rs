//! One container of the pod: a component instance in a store of its own.
//!
//! ```text
//! image ─► Program ──────────┐             ┌─► log (stdout, stderr)
//!          (linked before    ├─► runner ───┼─► net::Endpoint (sockets)
//!           the pod exists)  │   one Store └─► preopens (volumes)
//! spec, volumes ─► Setup ────┘      │
//! the pod's worker ─► stop ─────────┤
//!                                   ▼
//!                                  Exit ◄─ message (the container's last words)
//! ```
//!
//! What it uses of memory and CPU is charged to its [`account`].

pub mod about;
pub mod account;
pub mod cpu;
pub mod log;
pub mod message;
pub mod runner;
pub mod state;
pub mod stop;
pub mod user;
pub mod words;
