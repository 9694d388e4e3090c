//! The pod's life.
//!
//! ```text
//!          supervisor                         │            pod process
//!  launch ── sandbox::create ────── clone3 ───┼──► worker ── decide(spec, state, now) ─► actions
//!     ▲                                       │      ▲  └──► container::runner, one task a container
//!     └── Report ◄── control socket ◄─────────┼──────┘  ◄── exits, requests, timers
//! ```
//!
//! [`state`], [`actions`], [`status`] and [`backoff`] decide and are pure; [`worker`] is the one task
//! that owns the state and acts; [`control`] is what the two processes say to each other.

pub mod control;
