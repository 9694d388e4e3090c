//! A pod's life: what is known of it, what is to be done next, and how it is reported.
//!
//! ```text
//!      supervisor             │          pod process
//!  launch ── sandbox::create ─┼─► worker ◄─────────────── Event: exits, requests, timers
//!     ▲                       │     └► State::apply ──► decide ──► Action ──► carried out
//!     └── control::Report ◄───┼─────── (facts)          (pure)       └─► State::record
//! ```
//!
//! [`time`], [`event`], [`backoff`], [`conditions`], [`state`] and what it is made of (`record`, `outcome`),
//! [`actions`] and what it asks (`stop`, `probe`) and [`status`] are pure: `now` is an argument, and there is
//! no clock, no I/O and no runtime in them. Every rule of a pod's life can therefore be tested over any
//! history in microseconds. [`worker`] is the one task that owns the state and acts. What it has done for a container's
//! run ends with that: hooks and probes ([`probing`], held by `attend`) and commands ([`exec`]). Beside the machine
//! it [changes resources](resize), takes in ephemeral containers (`additions`), watches the [disk's use](storage),
//! keeps a [`timeline`] and [`answers`] questions. [`control`] is what the two processes say to each other;
//! [`network`] makes the pod's network of its files, its policies and what it knows of the other pods; [`launch`]
//! brings it all together.

pub mod actions;
mod additions;
pub mod answers;
mod attend;
pub mod backoff;
pub mod conditions;
pub mod control;
pub mod death;
pub mod event;
pub mod exec;
pub mod launch;
pub mod network;
pub mod node;
pub mod outcome;
mod probe;
pub mod probing;
mod record;
mod reports;
pub mod resize;
pub mod state;
pub mod status;
mod stop;
pub mod storage;
pub mod time;
pub mod timeline;
pub mod worker;

#[cfg(test)]
mod model_tests;

pub use actions::{Action, decide};
pub use backoff::BackoffPolicy;
pub use event::{Event, Phase, StopCause};
pub use state::State;
pub use time::Time;
