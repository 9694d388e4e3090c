//! When the steps of a container's start happened.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// The moments of one run that only its runner knows, each kept the first time. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Marks(Arc<Moments>);

#[derive(Debug, Default)]
struct Moments {
    instantiate: OnceLock<Instant>,
    instantiated: OnceLock<Instant>,
    first_host_call: OnceLock<Instant>,
}

impl Marks {
    /// Its component begins to be instantiated.
    pub(super) fn instantiate(&self) {
        let _ = self.0.instantiate.set(Instant::now());
    }

    /// Its entry point is about to be called.
    pub(super) fn instantiated(&self) {
        let _ = self.0.instantiated.set(Instant::now());
    }

    /// The guest has called the host.
    pub(super) fn host_call(&self) {
        let _ = self.0.first_host_call.set(Instant::now());
    }

    /// From when to when it was instantiated, as far as it has come.
    pub fn instantiation(&self) -> Option<(Instant, Instant)> {
        Some((*self.0.instantiate.get()?, *self.0.instantiated.get()?))
    }

    /// When its guest first called the host: for WASI, peapod's part or wasmtime's.
    pub fn first_host_call(&self) -> Option<Instant> {
        self.0.first_host_call.get().copied()
    }
}
