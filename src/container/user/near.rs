//! Where file operations run: on the CPU of the event loop while all that it does is wait for them.
//!
//! ```text
//! event loop has a file operation ─► did epoch ticks find it busy, with no sleep since?
//!     │ yes: guests compute                         │ no: it will wait
//!     ▼                                             ▼
//! a far thread, on any CPU            stay: the loop keeps its CPU, the near thread goes there
//!                                                   │
//!        any CPU again ◄─ leave ◄─ guests compute, or STAY is over
//! ```
//!
//! A file operation of some kilobytes takes the kernel a microsecond or two. To wake an idle CPU for it, and the event
//! loop's own when it is done, takes 10 to 40 where that is a virtual one (an interrupt through the hypervisor, twice),
//! and that is what the scheduler does: it prefers an idle CPU to one that is about to be idle. On one CPU the two
//! threads hand it to each other for a microsecond or two. It is not enough to move the thread of the pool: the loop,
//! too, would be woken elsewhere.
//!
//! Staying must never keep a CPU idle that has work. So only the first operation at a time is near; others run
//! beside it on far threads, anywhere. Where guests compute, `COMPUTES` epoch ticks find the loop busy without that it
//! has slept: it leaves, and operations are far and run beside the guests, until it sleeps. What remains: the
//! operation during which a guest began to compute may share the loop's CPU to its end; and a loop that is not busy may
//! for `STAY` share its CPU with another process, as each time that it is over the kernel places it anew.
//! That it has slept is not asked for by itself: on one CPU an operation is often done before the loop comes to it.
//!
//! Nothing is required: where affinity cannot be set, or there is one CPU, the kernel decides as ever. The CPUs that
//! the process was given are those it had when it first stayed; a cpuset that changes is the kernel's to follow.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::unistd::{Pid, gettid};

use crate::sys::affinity::{self, anywhere};

/// How long the event loop keeps its CPU before the kernel may place it anew: long beside the two system calls that
/// this takes (3 µs), short for who shares the CPU with another process while another CPU is idle.
const STAY: Duration = Duration::from_millis(100);

/// Epoch ticks that find a guest at work, without that the loop slept between: guests compute. One alone finds now and
/// then also a guest that only asks for files.
const COMPUTES: u8 = 2;

/// No CPU.
const NONE: usize = usize::MAX;

thread_local! {
    static EVENT_LOOP: EventLoop = const { EventLoop { ticks: Cell::new(COMPUTES), stay: Cell::new(None) } };
}

/// What is known of the event loop whose thread this is.
struct EventLoop {
    /// Epoch ticks that found a guest at work since it slept. It stays nowhere before it has told that it does.
    ticks: Cell<u8>,
    stay: Cell<Option<Stay>>,
}

/// The loop runs nowhere else.
#[derive(Clone, Copy)]
struct Stay {
    cpu: usize,
    until: Instant,
}

/// The event loop has nothing to do: for [`on_thread_park`](tokio::runtime::Builder::on_thread_park).
pub fn sleeps() {
    EVENT_LOOP.with(|event_loop| event_loop.ticks.set(0));
}

/// The event loop has something to do: for [`on_thread_unpark`](tokio::runtime::Builder::on_thread_unpark).
pub fn wakes() {
    EVENT_LOOP.with(|event_loop| {
        if event_loop.stay.get().is_some_and(|stay| stay.until <= Instant::now()) {
            event_loop.leave();
        }
    });
}

/// An epoch tick found a guest of this event loop at work.
pub fn tick() {
    EVENT_LOOP.with(|event_loop| {
        let ticks = event_loop.ticks.get().saturating_add(1);
        event_loop.ticks.set(ticks);
        if ticks >= COMPUTES {
            event_loop.leave();
        }
    });
}

/// Whether this event loop has nothing to do but to wait for the operation that it begins.
pub(super) fn is_idle() -> bool {
    EVENT_LOOP.with(|event_loop| event_loop.ticks.get() < COMPUTES)
}

impl EventLoop {
    /// Keeps the loop on its CPU, and says on which.
    fn stay(&self) -> Option<usize> {
        if let Some(stay) = self.stay.get() {
            if stay.until <= Instant::now() {
                self.leave();
            }
            return Some(stay.cpu);
        }
        let cpu = affinity::stay()?;
        self.stay.set(Some(Stay { cpu, until: Instant::now() + STAY }));
        Some(cpu)
    }

    fn leave(&self) {
        if self.stay.take().is_some() {
            anywhere();
        }
    }
}

/// The place of a near thread.
#[derive(Debug)]
pub(super) struct Seat {
    /// The CPU it is on.
    cpu: AtomicUsize,
    /// The thread, while there is one.
    thread: Mutex<Option<Pid>>,
}

impl Default for Seat {
    fn default() -> Self {
        Self { cpu: AtomicUsize::new(NONE), thread: Mutex::default() }
    }
}

impl Seat {
    /// Brings the event loop, whose thread this is, and the near thread together.
    pub(super) fn join(&self) {
        let Some(cpu) = EVENT_LOOP.with(EventLoop::stay) else { return };
        if self.cpu.swap(cpu, Relaxed) == cpu {
            return;
        }
        if let Some(thread) = *self.thread() {
            // It lives: it takes the lock before it ends.
            affinity::only(thread, cpu);
        }
    }

    /// This is the near thread.
    pub(super) fn taken(&self) {
        let mut thread = self.thread();
        *thread = Some(gettid());
        match self.cpu.load(Relaxed) {
            NONE => anywhere(),
            cpu => affinity::only(affinity::SELF, cpu),
        }
    }

    /// The near thread ends.
    pub(super) fn left(&self) {
        *self.thread() = None;
    }

    fn thread(&self) -> MutexGuard<'_, Option<Pid>> {
        // Valid whatever panicked: every change is one assignment.
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::sys::affinity::cpus;

    #[test]
    fn the_loop_stays_and_leaves_and_its_near_thread_follows() {
        let given = cpus();
        thread::spawn(move || {
            let seat = std::sync::Arc::new(Seat::default());
            sleeps();
            seat.join();
            let stays_on = cpus();
            assert_eq!(stays_on.len(), 1);
            // A thread that is made now is where it belongs, not where it was made.
            assert_eq!(
                thread::spawn(|| {
                    anywhere();
                    cpus()
                })
                .join()
                .unwrap(),
                given
            );
            let near = std::sync::Arc::clone(&seat);
            let sits_on = thread::spawn(move || {
                near.taken();
                let sits_on = cpus();
                near.left();
                sits_on
            });
            assert_eq!(sits_on.join().unwrap(), stays_on);
            for _ in 0..COMPUTES {
                assert_eq!(cpus(), stays_on);
                tick();
            }
            assert_eq!(cpus(), given);
            // It is over by itself, too.
            seat.join();
            assert_eq!(cpus().len(), 1);
            thread::sleep(STAY);
            wakes();
            assert_eq!(cpus(), given);
            // The thread that has left is not touched any more.
            assert!(seat.thread().is_none());
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_loop_that_does_not_sleep_computes() {
        thread::spawn(|| {
            assert!(!is_idle(), "not known");
            sleeps();
            tick();
            assert!(is_idle());
            tick();
            assert!(!is_idle());
            sleeps();
            assert!(is_idle());
        })
        .join()
        .unwrap();
    }
}
