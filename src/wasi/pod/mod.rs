//! `peapod:pod`: what the pod tells the guest. That it is asked to end comes in both forms: a pollable for WASI 0.2, an
//! async function for 0.3.
//!
//! ```text
//!  pod worker ─► StopSender ─► StopSignal ─┬─ lifecycle ───────► guest of WASI 0.2
//!                                          └─ lifecycle-async ─► guest of WASI 0.3
//!             ─► About, LivePod ────────────── identity ────────► guests of both
//! ```
//!
//! A deadline is an instant of the guest's own monotonic clock, which is the [signal's](StopSignal::now).

pub mod bindings;
mod identity;

use wasmtime::component::{Accessor, HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::{HostMonotonicClock, async_trait};
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};

use self::bindings::peapod::pod::types::{self, StopReason, StopRequest};
use self::bindings::peapod::pod::{identity as identity_wit, lifecycle, lifecycle_async};
use crate::container::about::About;
use crate::container::stop::{Stop, StopSignal};
use crate::pod::actions;
use crate::spec::ProbeKind;

/// What a guest's `peapod:pod` needs, for the time of one call.
pub struct PodCtxView<'a> {
    /// Whether it was asked to end.
    pub stop: &'a StopSignal,
    /// Who it is.
    pub about: &'a About,
    /// Where the guest's resources are.
    pub table: &'a mut ResourceTable,
}

/// A store's data that knows of its pod.
pub trait PodView: Send {
    /// Access to it.
    fn pod(&mut self) -> PodCtxView<'_>;
}

/// Tells wasmtime's linker that the host of `peapod:pod` is a [`PodCtxView`].
struct Pod;

impl HasData for Pod {
    type Data<'a> = PodCtxView<'a>;
}

/// Adds `peapod:pod` to the linker, but for `lifecycle-async`.
///
/// # Errors
/// When the linker has one of the interfaces already.
pub fn add_to_linker<T: PodView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    types::add_to_linker::<T, Pod>(linker, T::pod)?;
    lifecycle::add_to_linker::<T, Pod>(linker, T::pod)?;
    identity_wit::add_to_linker::<T, Pod>(linker, T::pod)
}

/// Adds `lifecycle-async` to the linker.
///
/// # Errors
/// When the linker has it already, or its engine has no concurrency.
pub fn add_async_to_linker<T: PodView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    lifecycle_async::add_to_linker::<T, Pod>(linker, T::pod)
}

/// The guest's monotonic clock: the pod's, so that a deadline and the guest's own time can be compared.
pub struct PodClock(pub StopSignal);

impl HostMonotonicClock for PodClock {
    fn resolution(&self) -> u64 {
        // clock_getres(2) of CLOCK_MONOTONIC, on every kernel with high-resolution timers.
        1
    }

    fn now(&self) -> u64 {
        nanoseconds(self.0.now())
    }
}

/// Saturates after 584 years.
fn nanoseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl From<Stop> for StopRequest {
    fn from(stop: Stop) -> Self {
        let reason = match stop.reason {
            actions::StopReason::PodEnds => StopReason::PodEnds,
            actions::StopReason::ProbeFailed(ProbeKind::Startup) => StopReason::StartupProbeFailed,
            // A readiness probe ends nothing.
            actions::StopReason::ProbeFailed(ProbeKind::Liveness | ProbeKind::Readiness) => {
                StopReason::LivenessProbeFailed
            }
            actions::StopReason::PostStartFailed => StopReason::PostStartHookFailed,
            actions::StopReason::Resized => StopReason::Resized,
        };
        Self { deadline: nanoseconds(stop.deadline), reason }
    }
}

/// What the pollable of `stopping` waits for.
struct Stopping(StopSignal);

#[async_trait]
impl Pollable for Stopping {
    async fn ready(&mut self) {
        self.0.stopping().await;
    }
}

impl types::Host for PodCtxView<'_> {}

impl lifecycle::Host for PodCtxView<'_> {
    fn stopping(&mut self) -> wasmtime::Result<Resource<DynPollable>> {
        // The guest never sees the resource itself; it goes with its pollable.
        let stopping = self.table.push(Stopping(self.stop.clone()))?;
        subscribe(self.table, stopping)
    }

    fn stop(&mut self) -> wasmtime::Result<Option<StopRequest>> {
        Ok(self.stop.stop().map(StopRequest::from))
    }
}

impl lifecycle_async::Host for PodCtxView<'_> {
    fn stop(&mut self) -> wasmtime::Result<Option<StopRequest>> {
        Ok(self.stop.stop().map(StopRequest::from))
    }
}

impl<T> lifecycle_async::HostWithStore<T> for Pod {
    async fn wait(store: &Accessor<T, Self>) -> wasmtime::Result<StopRequest> {
        let signal = store.with(|mut view| view.get().stop.clone());
        Ok(signal.stopping().await.into())
    }
}
