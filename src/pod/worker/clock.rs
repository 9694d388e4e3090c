//! The worker's time.

use std::time::{Duration, Instant};

use crate::pod::time::Time;

/// The two clocks that the pure machine is told the time by.
pub(super) struct Clock(pub(super) Instant);

impl Clock {
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(&self) -> Time {
        Time { mono: self.0.elapsed(), wall: jiff::Timestamp::now() }
    }

    /// Ends at `at` on the monotonic clock, or never.
    pub(super) fn sleep_until(&self, at: Option<Duration>) -> impl Future<Output = ()> + use<> {
        let at = at.map(|at| tokio::time::Instant::from_std(self.0 + at));
        async move {
            match at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        }
    }
}
