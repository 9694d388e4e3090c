//! Time as the pod's state machine sees it: always an argument, never read.

use std::time::Duration;

use jiff::Timestamp;

/// One instant of a pod's life, read from two clocks at once.
///
/// Decisions (back-off, grace, deadlines) use `mono` only, so that setting the host's clock neither
/// skips nor stretches them. `wall` is what is reported in the status and may jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// `CLOCK_MONOTONIC` since an origin that the pod's owner chose once, such as the pod's start.
    pub mono: Duration,
    /// The wall clock at that instant.
    pub wall: Timestamp,
}
