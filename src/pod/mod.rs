//! A pod's life: what is known of it, what is to be done next, and how it is reported.
//!
//! ```text
//! Event ──► State::apply ──► decide ──► Action ──► the worker carries it out ──► Event …
//!           (facts)          (pure)       └──────► State::record
//! ```
//!
//! [`time`], [`event`], [`backoff`], [`state`], [`actions`] and [`status`] are pure: `now` is an argument, and
//! there is no clock, no I/O and no runtime in them. Every rule of a pod's life can therefore be tested
//! over any history in microseconds.

pub mod actions;
pub mod backoff;
pub mod event;
mod record;
pub mod state;
pub mod status;
pub mod time;

#[cfg(test)]
mod model_tests;

pub use actions::{Action, decide};
pub use backoff::BackoffPolicy;
pub use event::{Event, Phase, StopCause};
pub use state::State;
pub use time::Time;
