//! How long an ended container waits before it is started again (CrashLoopBackOff).
//!
//! The rules are the kubelet's (`doBackOff` in `pkg/kubelet/kuberuntime/kuberuntime_manager.go` over
//! `flowcontrol.Backoff` of client-go): the first restart is immediate, then the delays are 10 s, 20 s,
//! 40 s, … up to 5 min, each counted from the moment the container ended. A run longer than 10 min
//! forgets them. See <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy>.

use std::time::Duration;

/// The delays of one node. All containers share them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffPolicy {
    /// The delay of the second restart in a row.
    pub base: Duration,
    /// The longest delay.
    pub max: Duration,
    /// A container that ran longer than this starts over with no delay.
    pub reset_after: Duration,
}

impl BackoffPolicy {
    /// The kubelet's values: `backOffPeriod` 10 s and `MaxCrashLoopBackOff` 300 s in
    /// `pkg/kubelet/kubelet.go`; client-go forgets a delay after twice the longest one.
    pub const KUBELET: Self = Self {
        base: Duration::from_secs(10),
        max: Duration::from_secs(300),
        reset_after: Duration::from_secs(600),
    };

    /// The kubelet's with another base. A base beyond the longest delay is the longest itself; zero is no delay at all.
    pub fn with_base(base: Duration) -> Self {
        Self { base, max: Self::KUBELET.max.max(base), ..Self::KUBELET }
    }
}

impl Default for BackoffPolicy {
    fn default() -> Self {
        Self::KUBELET
    }
}

/// The back-off of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    policy: BackoffPolicy,
    last: Option<LastRestart>,
}

/// The most recent restart and what the next one has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LastRestart {
    at: Duration,
    next_delay: Duration,
}

impl Backoff {
    /// The back-off of a container that was never restarted.
    pub fn new(policy: BackoffPolicy) -> Self {
        Self { policy, last: None }
    }

    /// How long after its end at `ended` (monotonic) the container waits.
    pub fn delay(&self, ended: Duration) -> Duration {
        self.valid(ended).map_or(Duration::ZERO, |last| last.next_delay)
    }

    /// The monotonic time from which a container that ended at `ended` may be started again.
    pub fn ready_at(&self, ended: Duration) -> Duration {
        ended.saturating_add(self.delay(ended))
    }

    /// Notes that the container that ended at `ended` is being started again at `now`.
    pub fn restarted(&mut self, ended: Duration, now: Duration) {
        let next_delay = match self.valid(ended) {
            None => self.policy.base,
            Some(last) => last.next_delay.saturating_mul(2).min(self.policy.max),
        };
        self.last = Some(LastRestart { at: now, next_delay });
    }

    /// The last restart, unless the run since then was long enough to forget it.
    fn valid(&self, ended: Duration) -> Option<LastRestart> {
        self.last.filter(|last| ended.saturating_sub(last.at) <= self.policy.reset_after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn delays_are_those_of_the_kubelet() {
        let mut backoff = Backoff::new(BackoffPolicy::KUBELET);
        let mut now = s(100);
        let mut delays = Vec::new();
        for _ in 0..8 {
            delays.push(backoff.delay(now).as_secs());
            let start = backoff.ready_at(now);
            backoff.restarted(now, start);
            now = start + s(1);
        }
        assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn another_base_is_doubled_as_well_and_zero_stays_zero() {
        let delays = |base| {
            let mut backoff = Backoff::new(BackoffPolicy::with_base(base));
            let mut now = s(100);
            (0..4)
                .map(|_| {
                    let start = backoff.ready_at(now);
                    let delay = start - now;
                    backoff.restarted(now, start);
                    now = start + s(1);
                    delay
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(delays(Duration::ZERO), [s(0); 4]);
        assert_eq!(delays(s(2)), [s(0), s(2), s(4), s(8)]);
        assert_eq!(delays(s(400)), [s(0), s(400), s(400), s(400)]);
    }

    #[test]
    fn ten_minutes_of_running_forget_the_delay() {
        let mut backoff = Backoff::new(BackoffPolicy::KUBELET);
        backoff.restarted(s(0), s(0));
        backoff.restarted(s(1), s(11));
        assert_eq!(backoff.delay(s(11 + 600)), s(20));
        assert_eq!(backoff.delay(s(11 + 601)), s(0));
        backoff.restarted(s(11 + 601), s(11 + 601));
        assert_eq!(backoff.delay(s(11 + 602)), s(10));
    }
}
