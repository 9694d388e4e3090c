//! When a probe is due, and what its answers come to. Pure.
//!
//! ```text
//! a run begins ─► Probing::default ─► due: initialDelay from the start, then every period
//!                     ▲                 │ Action::Probe
//!                     └── answered ◄────┘ ProbeEnded: as many in a row as the threshold says ─► verdict
//! ```
//!
//! The kubelet's `doProbe` (`pkg/kubelet/prober/worker.go`): nothing but startup is probed before the
//! container has started; what has failed for good is on hold until the restart; while the container ends,
//! readiness goes on and the others do not (`StopLivenessAndStartup`).

use std::time::Duration;

use super::record::ContainerRecord;
use crate::container::state::{ContainerState, Stopping};
use crate::spec::{Probe, ProbeKind};

/// What one probe of one run of a container has come to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Probing {
    /// Whether it passes, as of the last time that a threshold was reached. `None`: never yet, which is
    /// "not ready" for readiness, "alive" for liveness and "not started" for startup.
    pub verdict: Option<bool>,
    /// The last answer, and how many like it came in a row.
    last: Option<(bool, u32)>,
    /// When the last one was ordered, monotonic.
    ordered_at: Option<Duration>,
    under_way: bool,
}

impl Probing {
    /// It is being done.
    pub(super) fn ordered(&mut self, now: Duration) {
        self.ordered_at = Some(now);
        self.under_way = true;
    }

    /// It was done. An answer that nobody waits for changes nothing.
    pub(super) fn answered(&mut self, probe: &Probe, succeeded: bool) {
        if !std::mem::take(&mut self.under_way) {
            return;
        }
        let in_a_row = match self.last {
            Some((last, count)) if last == succeeded => count.saturating_add(1),
            _ => 1,
        };
        self.last = Some((succeeded, in_a_row));
        let threshold = if succeeded { probe.success_threshold } else { probe.failure_threshold };
        if in_a_row >= threshold {
            self.verdict = Some(succeeded);
        }
    }

    /// Whether it is being done.
    #[cfg(test)]
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way
    }
}

/// When `probe` of the container is to be done next (monotonic, perhaps in the past); `None` while it is
/// being done, on hold, or not wanted. `ends`: the container shall end.
pub(super) fn due(kind: ProbeKind, probe: &Probe, record: &ContainerRecord, ends: bool) -> Option<Duration> {
    let ContainerState::Running { started_at, stopping } = record.state else { return None };
    let probing = record.run.probe(kind);
    let wanted = match kind {
        ProbeKind::Startup => !ends && probing.verdict.is_none(),
        ProbeKind::Liveness => !ends && probing.verdict != Some(false),
        ProbeKind::Readiness => stopping != Stopping::Killed,
    };
    if probing.under_way || !wanted {
        return None;
    }
    let since = match kind {
        ProbeKind::Startup => record.run.shown_since?,
        ProbeKind::Liveness | ProbeKind::Readiness => record.run.started_since?,
    };
    let first = || started_at.mono.saturating_add(probe.initial_delay).max(since);
    Some(probing.ordered_at.map_or_else(first, |last| last.saturating_add(probe.period)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::ProbeHandler;

    fn probe(success_threshold: u32, failure_threshold: u32) -> Probe {
        Probe {
            handler: ProbeHandler::Exec(vec![]),
            initial_delay: Duration::ZERO,
            period: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            success_threshold,
            failure_threshold,
            termination_grace: None,
        }
    }

    #[test]
    fn a_threshold_counts_answers_in_a_row() {
        let probe = probe(2, 3);
        let mut probing = Probing::default();
        let verdicts: Vec<_> = "+-+ + -- + --- + +"
            .split("")
            .filter(|answer| matches!(*answer, "+" | "-"))
            .map(|answer| {
                probing.ordered(Duration::ZERO);
                probing.answered(&probe, answer == "+");
                probing.verdict
            })
            .collect();
        let (unknown, passes, fails) = (None, Some(true), Some(false));
        assert_eq!(
            verdicts,
            [unknown, unknown, unknown, passes, passes, passes, passes, passes, passes, fails, fails, passes]
        );
    }

    #[test]
    fn an_answer_that_nobody_waits_for_does_not_count() {
        let mut probing = Probing::default();
        probing.answered(&probe(1, 1), true);
        assert_eq!(probing.verdict, None);
    }
}
