//! One address, as the thread that watches it for native processes sees it: pure.
//!
//! ```text
//!  look ─► in the kernel's queue ─ woken, by anybody ─► look: who waits is notified, where a native process did it
//!   ▲                                                    │ or the number is another one now
//!   └── paused: containers notify it themselves ◄────────┤
//!                                                        └─► left: nobody waits on it any more
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::addresses::Addresses;
use crate::sys::futex::Control;

/// How long an address that a container has notified stays out of the kernel's queue: containers that notify each
/// other all the time wake the thread once in so long. A native process's wake-up takes as long then.
pub(super) const PAUSE: Duration = Duration::from_millis(1);

/// How long an address is watched that nobody waits on: whoever waits on it again is spared a call to the thread.
pub(super) const LINGER: Duration = Duration::from_millis(100);

/// What ended the thread's last wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// No wake-up: a number was another one than expected, or the time was over.
    Nothing,
    /// A wake-up of another address. The kernel tells of one, even if this one was woken too.
    Other,
    /// A wake-up of this address.
    This,
}

/// What the thread does with an address next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It waits on it, where the number is still this one; and looks again at this time at the latest.
    Queue(u32, Option<Instant>),
    /// It looks again at this time.
    Pause(Instant),
    /// It does not watch it any more.
    Leave,
}

/// What comes of a look at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// Somebody's wait is over.
    pub(super) notified: bool,
    /// A native process's wake-up that no container has taken: native processes that wait here may have it.
    pub(super) pass_on: bool,
    pub(super) next: Next,
}

/// An address that is watched.
#[derive(Debug)]
pub(super) struct Watch {
    /// The thread's.
    control: Arc<Control>,
    /// The number that the thread has waited on it with.
    queued: Option<u32>,
    paused: Option<Instant>,
    idle: Option<Instant>,
}

impl Watch {
    pub(super) fn new(control: &Arc<Control>) -> Self {
        Self { control: Arc::clone(control), queued: None, paused: None, idle: None }
    }

    /// Looks at the address, between two waits of the thread. `number`: what is there; none behind the segment's end.
    pub(super) fn look(
        &mut self,
        addresses: &mut Addresses,
        offset: u64,
        number: Option<u32>,
        heard: Heard,
        now: Instant,
    ) -> Look {
        let queued = self.queued.take();
        let by_container = addresses.is_back(offset);
        let Some(number) = number else {
            // What it waits on is gone, which it has to see itself.
            let notified = addresses.notify(offset, u32::MAX) > 0;
            addresses.unwatch(offset);
            return Look { notified, pass_on: false, next: Next::Leave };
        };
        let by_native = queued.is_some() && heard == Heard::This && !by_container;
        let notified = if by_native {
            addresses.notify(offset, u32::MAX) > 0
        } else {
            addresses.changed(offset, number) > 0
        };
        // Who changes a number and wakes may have woken this thread in place of a native process.
        let maybe_native = heard != Heard::Nothing && queued.is_some_and(|queued| queued != number);
        let pass_on = !notified && (by_native || maybe_native);
        if by_container {
            self.paused = Some(now + PAUSE);
        }
        self.paused = self.paused.filter(|end| *end > now);
        let idle = if addresses.is_waited_on(offset) { None } else { Some(self.idle.unwrap_or(now)) };
        self.idle = idle;
        let next = match (idle.map(|idle| idle + LINGER), self.paused) {
            (Some(end), _) if end <= now || pass_on => {
                addresses.unwatch(offset);
                Next::Leave
            }
            (_, Some(end)) => Next::Pause(end),
            (end, None) => {
                addresses.queue(offset, &self.control);
                self.queued = Some(number);
                Next::Queue(number, end)
            }
        };
        Look { notified, pass_on, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: u64 = 8;

    /// An address with one who waits for it to be something else than 0, and a watch of it in the kernel's queue.
    fn queued() -> (Addresses, Watch, Instant) {
        let (mut addresses, mut watch, now) =
            (Addresses::default(), Watch::new(&Arc::default()), Instant::now());
        addresses.enqueue(AT, 0);
        addresses.watch(AT);
        let look = watch.look(&mut addresses, AT, Some(0), Heard::Nothing, now);
        assert_eq!(look, Look { notified: false, pass_on: false, next: Next::Queue(0, None) });
        (addresses, watch, now)
    }

    #[test]
    fn a_native_wake_notifies_all_whether_or_not_the_number_has_changed() {
        for number in [0, 1] {
            let (mut addresses, mut watch, now) = queued();
            addresses.enqueue(AT, 0);
            let look = watch.look(&mut addresses, AT, Some(number), Heard::This, now);
            assert!(look.notified && !look.pass_on);
            assert_eq!((addresses.len(), look.next), (0, Next::Queue(number, Some(now + LINGER))));
        }
    }

    #[test]
    fn a_change_is_seen_whatever_was_heard() {
        for heard in [Heard::Nothing, Heard::Other] {
            let (mut addresses, mut watch, now) = queued();
            let look = watch.look(&mut addresses, AT, Some(1), heard, now);
            assert!(look.notified && !look.pass_on);
            assert_eq!(look.next, Next::Queue(1, Some(now + LINGER)));
        }
        let (mut addresses, mut watch, now) = queued();
        let look = watch.look(&mut addresses, AT, Some(0), Heard::Other, now);
        assert_eq!(look, Look { notified: false, pass_on: false, next: Next::Queue(0, None) });
    }

    #[test]
    fn a_wake_that_nobody_takes_is_passed_on() {
        // The kernel tells of this one, or of another while the number has changed.
        for (heard, number, passed) in [
            (Heard::This, 0, true),
            (Heard::Other, 1, true),
            (Heard::Other, 0, false),
            (Heard::Nothing, 1, false),
        ] {
            let (mut addresses, mut watch, now) = queued();
            addresses.remove(0);
            let look = watch.look(&mut addresses, AT, Some(number), heard, now);
            assert_eq!((look.notified, look.pass_on), (false, passed), "{heard:?} {number}");
            assert_eq!(look.next == Next::Leave, passed, "not in the way of the next one");
        }
    }

    #[test]
    fn a_containers_notify_pauses_and_wakes_nobody_else() {
        let (mut addresses, mut watch, now) = queued();
        assert_eq!(addresses.notify(AT, 1), 1);
        assert!(addresses.take(AT));
        // It waits again before the thread looks.
        addresses.enqueue(AT, 0);
        let look = watch.look(&mut addresses, AT, Some(0), Heard::This, now);
        assert_eq!(look, Look { notified: false, pass_on: false, next: Next::Pause(now + PAUSE) });
        assert!(!addresses.take(AT), "not in the kernel");
        let half = now + PAUSE / 2;
        let look = watch.look(&mut addresses, AT, Some(0), Heard::Other, half);
        assert_eq!(look.next, Next::Pause(now + PAUSE));
        let look = watch.look(&mut addresses, AT, Some(0), Heard::Nothing, now + PAUSE);
        assert_eq!(look.next, Next::Queue(0, None));
    }

    #[test]
    fn an_address_is_left_when_nobody_has_waited_on_it_for_a_while() {
        let (mut addresses, mut watch, now) = queued();
        addresses.remove(0);
        let mut look =
            |addresses: &mut Addresses, at| watch.look(addresses, AT, Some(0), Heard::Nothing, at).next;
        assert_eq!(look(&mut addresses, now), Next::Queue(0, Some(now + LINGER)));
        let later = now + LINGER / 2;
        let ticket = addresses.enqueue(AT, 0);
        assert_eq!(look(&mut addresses, later), Next::Queue(0, None));
        addresses.remove(ticket);
        assert_eq!(look(&mut addresses, later), Next::Queue(0, Some(later + LINGER)));
        assert_eq!(look(&mut addresses, later + LINGER), Next::Leave);
        assert!(!addresses.is_watched());
    }

    #[test]
    fn who_waits_behind_the_end_is_told() {
        let (mut addresses, mut watch, now) = queued();
        let look = watch.look(&mut addresses, AT, None, Heard::Nothing, now);
        assert_eq!(look, Look { notified: true, pass_on: false, next: Next::Leave });
    }
}
