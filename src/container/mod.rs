//! One container of the pod: a component instance in a store of its own.
//!
//! ```text
//! image ─► Program ──────────┐             ┌─► log (stdout, stderr)
//!          (linked before    ├─► runner ───┼─► net::Endpoint (sockets)
//!           the pod exists)  │   one Store └─► preopens (volumes)
//! spec, volumes ─► Setup ────┘      │
//!                                   ▼
//!                                  Exit
//! ```
//!
//! What it uses of memory and CPU is charged to its [`account`].

pub mod account;
pub mod cpu;
pub mod log;
pub mod runner;
pub mod state;
