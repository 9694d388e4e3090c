//! The CPU limit of one container: a budget on the polls of its instances.
//!
//! ```text
//! poll of a guest ─► is there budget? ─ yes ─► poll; charge the thread's CPU time that it took
//! (run, exec)              │                            │
//!                          no                           ▼
//!                          │                        Bandwidth: + limit × time, at most BURST ahead
//!                          └─► not polled; a timer until the debt is paid ◄┘
//! ```
//!
//! The kernel's bandwidth control is for threads, and all containers of a pod share one. Guest code gives the
//! thread back at every [`EPOCH_TICK`](crate::engine::EPOCH_TICK), so that a poll overdraws the budget by a tick
//! at most; what is overdrawn is owed. A container of 100m that spins therefore runs for 1 ms of every 10: over a
//! second it gets what the kernel would give it, with shorter pauses than the kernel's period of 100 ms.
//!
//! A guest that is not polled misses nothing: what became ready meanwhile it finds when it is polled again, and
//! whoever drops its future need not wait for that. An instance without a limit pays nothing for this. Work that
//! the host does for a guest on other threads (files) is bounded by the pod's cgroup only.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use tokio::time::Sleep;

/// The budget that a container which has not used it keeps: what it gets in this time. Half a period of the
/// kernel's bandwidth control, so that the use over any second is at most 5 % and a tick above the limit.
pub const BURST: Duration = Duration::from_millis(50);

/// The longest pause before a throttled container looks at its budget again: its limit may have been raised.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Thousandths of a core from which on a limit never binds: all instances of a container run on one thread.
const WHOLE_CORE: u64 = 1000;

/// Thousandths: what budgets are counted in, so that no fraction of a nanosecond is lost.
const PER_NANO: i128 = 1000;

/// A budget of CPU time that fills at a steady rate. Pure: times are arguments, on one monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bandwidth {
    /// Thousandths of a core: also thousandths of a nanosecond of CPU time for each nanosecond.
    millis: u64,
    /// What may be used, in thousandths of a nanosecond; below 0, what is owed.
    balance: i128,
    /// Up to when it has been filled.
    at: Duration,
}

impl Bandwidth {
    /// A full budget of `millis` thousandths of a core. At least 1: nothing could ever run with less.
    pub fn new(millis: u64, now: Duration) -> Self {
        let millis = millis.max(1);
        Self { millis, balance: capacity(millis), at: now }
    }

    /// Changes the rate. What is owed stays owed.
    pub fn set_rate(&mut self, millis: u64, now: Duration) {
        self.fill(now);
        self.millis = millis.max(1);
        self.balance = self.balance.min(capacity(self.millis));
    }

    /// How long it takes until something may be used; `None`: now.
    pub fn wait(&mut self, now: Duration) -> Option<Duration> {
        self.fill(now);
        if self.balance > 0 {
            return None;
        }
        // One more than what is owed: a balance of 0 allows nothing.
        let nanos = (1 - self.balance).div_euclid(i128::from(self.millis)) + 1;
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    /// Charges CPU time that was used.
    pub fn spend(&mut self, used: Duration, now: Duration) {
        self.fill(now);
        self.balance = self.balance.saturating_sub(nanos(used).saturating_mul(PER_NANO));
    }

    fn fill(&mut self, now: Duration) {
        let passed = nanos(now.saturating_sub(self.at));
        let filled = self.balance.saturating_add(passed.saturating_mul(i128::from(self.millis)));
        self.balance = filled.min(capacity(self.millis));
        self.at = self.at.max(now);
    }
}

fn capacity(millis: u64) -> i128 {
    nanos(BURST) * i128::from(millis)
}

fn nanos(duration: Duration) -> i128 {
    i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX)
}

/// The CPU time of one container: of all instances that run for it, over all its runs.
#[derive(Debug)]
pub struct CpuAccount {
    begin: Instant,
    limited: AtomicBool,
    bandwidth: Mutex<Option<Bandwidth>>,
}

impl CpuAccount {
    /// An account of `limit` thousandths of a core; `None`: no limit.
    pub fn new(limit: Option<u64>) -> Self {
        let account =
            Self { begin: Instant::now(), limited: AtomicBool::new(false), bandwidth: Mutex::new(None) };
        account.set_limit(limit);
        account
    }

    /// Changes the limit, within `LOOK_AGAIN` also for an instance that is throttled.
    pub fn set_limit(&self, limit: Option<u64>) {
        let now = self.begin.elapsed();
        let mut bandwidth = self.bandwidth();
        match (limit.filter(|millis| *millis < WHOLE_CORE), bandwidth.as_mut()) {
            (None, _) => *bandwidth = None,
            (Some(millis), None) => *bandwidth = Some(Bandwidth::new(millis, now)),
            (Some(millis), Some(bandwidth)) => bandwidth.set_rate(millis, now),
        }
        self.limited.store(bandwidth.is_some(), SeqCst);
    }

    /// Runs an instance of the container: `guest` is polled while there is budget.
    pub async fn run<F: Future>(&self, guest: F) -> F::Output {
        let mut guest = pin!(guest);
        let mut pause = None;
        poll_fn(|cx| {
            if !self.limited.load(SeqCst) {
                return guest.as_mut().poll(cx);
            }
            ready!(self.poll_budget(cx, &mut pause));
            let before = thread_cpu_time();
            let polled = guest.as_mut().poll(cx);
            let used = thread_cpu_time().saturating_sub(before);
            if let Some(bandwidth) = self.bandwidth().as_mut() {
                bandwidth.spend(used, self.begin.elapsed());
            }
            polled
        })
        .await
    }

    /// Ready while there is budget.
    fn poll_budget(&self, cx: &mut Context<'_>, pause: &mut Option<Pin<Box<Sleep>>>) -> Poll<()> {
        loop {
            if let Some(sleep) = pause {
                ready!(sleep.as_mut().poll(cx));
                *pause = None;
            }
            let wait = self.bandwidth().as_mut().and_then(|bandwidth| bandwidth.wait(self.begin.elapsed()));
            match wait {
                None => return Poll::Ready(()),
                Some(wait) => *pause = Some(Box::pin(tokio::time::sleep(wait.min(LOOK_AGAIN)))),
            }
        }
    }

    fn bandwidth(&self) -> MutexGuard<'_, Option<Bandwidth>> {
        // Valid whatever panicked: every change is one assignment.
        self.bandwidth.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The CPU time that the calling thread has used; clock_gettime(2) takes some 200 ns. It cannot fail for this
/// clock, and if it did, nothing would be charged.
fn thread_cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Waker;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const TICK: Duration = Duration::from_millis(1);

    /// What a guest does next: waits for something, then computes in slices of these many microseconds.
    fn history() -> impl Strategy<Value = Vec<(u64, Vec<u64>)>> {
        let idle = prop_oneof![Just(0), 1..20_000_u64, 1..3_000_000_u64];
        vec((idle, vec(1..=1000_u64, 1..60)), 1..40)
    }

    proptest! {
        #[test]
        fn over_any_second_the_use_is_bounded_and_nobody_starves(millis in 1..1000_u64, history in history()) {
            let mut now = Duration::from_secs(7);
            let mut bandwidth = Bandwidth::new(millis, now);
            // When each slice ended, and how long it was.
            let mut used: Vec<(Duration, Duration)> = Vec::new();
            for (idle, slices) in history {
                now += Duration::from_micros(idle);
                for slice in slices {
                    if let Some(wait) = bandwidth.wait(now) {
                        // Owed is a slice at most, whatever came before.
                        prop_assert!(wait <= TICK * 1000 / u32::try_from(millis).unwrap() + TICK, "{wait:?}");
                        now += wait;
                        prop_assert_eq!(bandwidth.wait(now), None, "the wait was too short");
                    }
                    let slice = Duration::from_micros(slice);
                    now += slice;
                    bandwidth.spend(slice, now);
                    used.push((now, slice));
                }
            }
            let share = |time: Duration| time * u32::try_from(millis).unwrap() / 1000;
            let bound = share(SECOND) + share(BURST) + TICK;
            let mut first = 0;
            let mut sum = Duration::ZERO;
            for &(end, slice) in &used {
                sum += slice;
                while used[first].0 + SECOND <= end {
                    sum -= used[first].1;
                    first += 1;
                }
                // A slice that began before the second counts in full.
                prop_assert!(sum <= bound + TICK, "{sum:?} of {bound:?}");
            }
        }

        #[test]
        fn one_that_always_wants_gets_its_share(millis in 1..1000_u64, late in 0..2000_u64) {
            let mut now = Duration::ZERO;
            let mut bandwidth = Bandwidth::new(millis, now);
            let mut used = Duration::ZERO;
            while now < 20 * SECOND {
                if let Some(wait) = bandwidth.wait(now) {
                    // A timer is late, and its turn may be.
                    now += wait + Duration::from_micros(late);
                }
                now += TICK;
                bandwidth.spend(TICK, now);
                used += TICK;
            }
            let share = now * u32::try_from(millis).unwrap() / 1000;
            // Where it is slow enough for timers to be late.
            if millis <= 300 {
                prop_assert!(used + TICK >= share, "{used:?} of {share:?}");
            }
            prop_assert!(used <= share + BURST + TICK, "{used:?} of {share:?}");
        }
    }

    #[test]
    fn another_rate_counts_from_then_on_and_debts_stay() {
        let mut bandwidth = Bandwidth::new(100, Duration::ZERO);
        bandwidth.spend(Duration::from_millis(15), Duration::ZERO);
        assert_eq!(bandwidth.wait(Duration::ZERO).map(|wait| wait.as_millis()), Some(100));
        bandwidth.set_rate(500, Duration::ZERO);
        assert_eq!(bandwidth.wait(Duration::ZERO).map(|wait| wait.as_millis()), Some(20));
        bandwidth.set_rate(1, Duration::from_secs(60));
        assert_eq!(bandwidth.balance, capacity(1), "no more is kept than the new rate allows");
        // A clock that stands still or jumps changes nothing for the worse.
        bandwidth.spend(Duration::MAX, Duration::MAX);
        assert!(bandwidth.wait(Duration::ZERO).is_some());
    }

    /// Computes for a tick and gives way, `turns` times.
    async fn spin(turns: u32) {
        for _ in 0..turns {
            let begin = thread_cpu_time();
            while thread_cpu_time() - begin < TICK {}
            tokio::task::yield_now().await;
        }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
    }

    #[test]
    fn instances_share_the_budget_and_one_without_a_limit_is_not_held_up() {
        runtime().block_on(async {
            let account = Arc::new(CpuAccount::new(Some(100)));
            let begin = Instant::now();
            // 40 ms together: 5 of them at once, the others at 10 ms each.
            let (one, other) = (Arc::clone(&account), Arc::clone(&account));
            let one = tokio::spawn(async move { one.run(spin(20)).await });
            let other = tokio::spawn(async move { other.run(spin(20)).await });
            CpuAccount::new(None).run(spin(1)).await;
            CpuAccount::new(Some(1500)).run(spin(1)).await;
            assert!(!one.is_finished());
            one.await.unwrap();
            other.await.unwrap();
            assert!(begin.elapsed() >= Duration::from_millis(300), "{:?}", begin.elapsed());
        });
    }

    #[test]
    fn a_wake_up_while_throttled_is_not_lost_and_a_raised_limit_is_seen() {
        runtime().block_on(async {
            let account = Arc::new(CpuAccount::new(Some(1)));
            let (sender, receiver) = tokio::sync::oneshot::channel();
            let running = Arc::clone(&account);
            let guest = tokio::spawn(async move {
                running
                    .run(async {
                        spin(20).await;
                        receiver.await
                    })
                    .await
            });
            tokio::time::sleep(Duration::from_millis(20)).await;
            sender.send("ready").unwrap();
            tokio::task::yield_now().await;
            assert!(!guest.is_finished(), "it owes 20 s by now");
            account.set_limit(None);
            assert_eq!(guest.await.unwrap(), Ok("ready"));
        });
    }

    #[test]
    fn one_that_waits_sets_no_timer() {
        let account = CpuAccount::new(Some(1));
        // Outside a runtime a timer would panic.
        let mut guest = pin!(account.run(async {
            let begin = thread_cpu_time();
            while thread_cpu_time() - begin < TICK {}
            std::future::pending::<()>().await;
        }));
        assert!(guest.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert!(account.bandwidth().as_mut().unwrap().wait(account.begin.elapsed()).is_some(), "it owes");
    }
}
