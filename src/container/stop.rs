//! How a container is asked to end, and what it is told.
//!
//! ```text
//!  Action::Hook (preStop)       the hook runs; the guest knows nothing of it
//!     │
//!  Action::Stop ─┬─► StopSender ─► StopSignal ─► peapod:pod/lifecycle: `stopping` is ready, `wait` returns
//!                ├─► Endpoint::stop_listening ─► blocked accepts return, streams of connections end;
//!                │                               serving UDP sockets fail one receive
//!                └─► exec sessions ────────────► their standard input ends
//!     │            connections, clients' sockets, files and timers go on
//!     ▼
//!  the guest ends by itself ─► its exit code
//!     │ or
//!  Action::Kill, at the deadline: the runner's future is dropped ─► 137
//! ```
//!
//! The order is documented for guests in `wit/peapod-pod/pod.wit`. The deadline only ever moves closer: a later
//! one is ignored here, whoever asks.
//!
//! ## What a kill interrupts
//!
//! A guest that computes is interrupted at its next epoch tick, one that waits for a host call at once: the
//! call's future is dropped. A file operation that a thread of the blocking pool has begun cannot be: its
//! system call ends in its own time, after the container has ended. So what a killed container was writing,
//! at most 64 KiB for each file stream, may still reach the file, and a container that is restarted sees it as
//! it would another process's. Operations hold a file handle of their own and nothing of the store. At
//! most as many are under way as the pool has threads (`pod::launch::BLOCKING_THREADS`); of those that wait for
//! one, 0.2's are taken back and 0.3's, one for each stream, run. Where a file system hangs, as a
//! network's may, so do they, and the pod's other containers wait for a thread once all hang. None of
//! them outlives the pod: its process does not wait for them.
//!
//! ## WASI 0.3
//!
//! The component model lets a caller cancel a call (`subtask.cancel`), and the callee hears of it where it
//! waits. The host is the caller of `run`, but wasmtime 48 has no way to say so
//! (<https://github.com/bytecodealliance/wasmtime/issues/11833>): a task that the host started can only be
//! ended with its store. Calls that the guest has made, a sleep or a receive, are the guest's own subtasks:
//! only the guest may cancel them, the host could but make them fail, which most have no word for. So a guest
//! of 0.3 hears of its stop by the end of its streams of connections and by `lifecycle-async`, and cancels
//! its own calls.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::pod::actions::StopReason;

/// That a container is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// When it will be killed, on the pod's monotonic clock.
    pub deadline: Duration,
    /// Why it is asked.
    pub reason: StopReason,
}

/// Asks one run of a container to end.
#[derive(Debug)]
pub struct StopSender(watch::Sender<Option<Stop>>);

/// Hears that one run of a container is asked to end. Clones hear the same.
#[derive(Debug, Clone)]
pub struct StopSignal {
    receiver: watch::Receiver<Option<Stop>>,
    /// The zero of the pod's monotonic clock.
    epoch: Instant,
}

/// The two ends for one run of a container, of a pod whose monotonic clock began at `epoch`.
pub fn channel(epoch: Instant) -> (StopSender, StopSignal) {
    let (sender, receiver) = watch::channel(None);
    (StopSender(sender), StopSignal { receiver, epoch })
}

impl StopSender {
    /// Asks the container to end, or moves the deadline of an earlier request closer. A later deadline, and
    /// another reason, change nothing: the first reason stays. Whether it was the first request.
    pub fn ask(&self, stop: Stop) -> bool {
        let is_first = self.0.borrow().is_none();
        self.0.send_if_modified(|asked| match asked {
            None => {
                *asked = Some(stop);
                true
            }
            Some(asked) if stop.deadline < asked.deadline => {
                asked.deadline = stop.deadline;
                true
            }
            Some(_) => false,
        });
        is_first
    }
}

impl StopSignal {
    /// A container that nobody ever asks to end.
    pub fn never() -> Self {
        channel(Instant::now()).1
    }

    /// The time on the pod's monotonic clock.
    pub fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// The request, if there is one.
    pub fn stop(&self) -> Option<Stop> {
        *self.receiver.borrow()
    }

    /// Waits for the request. Never ends when whoever could ask is gone.
    pub async fn stopping(&self) -> Stop {
        let mut receiver = self.receiver.clone();
        let asked = receiver.wait_for(Option::is_some).await.ok().and_then(|asked| *asked);
        match asked {
            Some(stop) => stop,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop(seconds: u64, reason: StopReason) -> Stop {
        Stop { deadline: Duration::from_secs(seconds), reason }
    }

    #[tokio::test]
    async fn the_deadline_moves_only_closer_and_the_reason_stays() {
        let (sender, signal) = channel(Instant::now());
        assert_eq!(signal.stop(), None);
        assert!(sender.ask(stop(30, StopReason::PodEnds)));
        assert_eq!(signal.stopping().await, stop(30, StopReason::PodEnds));
        for (asked, then) in [(40, 30), (30, 30), (5, 5), (20, 5)] {
            assert!(!sender.ask(stop(asked, StopReason::Resized)));
            assert_eq!(signal.stop(), Some(stop(then, StopReason::PodEnds)));
        }
        drop(sender);
        assert_eq!(signal.clone().stopping().await, stop(5, StopReason::PodEnds));
    }

    #[tokio::test]
    async fn nobody_hears_of_a_stop_that_nobody_can_ask_for() {
        let signal = StopSignal::never();
        let waited = tokio::time::timeout(Duration::from_millis(1), signal.stopping()).await;
        assert!(waited.is_err());
    }
}
