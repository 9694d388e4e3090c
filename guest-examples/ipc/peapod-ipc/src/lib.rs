//! `peapod:ipc` for Rust guests: named message queues, shared memory, semaphores and channels, which the containers of
//! a pod share.
//!
//! ```no_run
//! use peapod_ipc::{Channel, Semaphore};
//!
//! let lock = Semaphore::create("/lock", 1)?;
//! {
//!     let _held = lock.acquire()?;
//!     // Released here; also if this container is killed.
//! }
//! let jobs = Channel::new("/jobs").receiver()?;
//! for job in jobs {
//!     println!("{:?}", job?);
//! }
//! # Ok::<(), peapod_ipc::Error>(())
//! ```
//!
//! The operations are those of the WIT, `wit/peapod-ipc`, which says how each behaves. Every method that may wait has a
//! form with a timeout and one that does not wait (`try_…`); [`bindings`] has the rest, such as pollables.

pub mod bindings;
mod channel;
mod error;
mod memory;
mod queue;
mod semaphore;

pub use channel::{Channel, Receiver, Sender};
pub use error::{Error, Result};
pub use memory::{SharedMemory, SharedU32, SharedU64};
pub use queue::{Message, Queue};
pub use semaphore::{Permits, Semaphore};

use std::time::Duration;

/// A timeout for the WIT.
fn nanoseconds(timeout: Duration) -> Option<u64> {
    Some(timeout.as_nanos().try_into().unwrap_or(u64::MAX))
}
