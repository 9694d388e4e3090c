//! Who waits on which address of a segment: pure.
//!
//! ```text
//!  enqueue ─► waiting ─► notify: in turn                                          ─► notified
//!                └─────► changed: the number is not what they expect (native wake) ─► notified
//! ```
//!
//! An address that somebody waits on is *watched*: a thread waits on it for what native processes do
//! (`super::watch`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::sys::futex::Control;

/// Somebody who waits.
pub(super) type Ticket = u64;

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    offset: u64,
    expected: u32,
}

/// Where the thread that watches an address is.
#[derive(Debug)]
enum Watched {
    /// It is told of the address, or looks at it.
    Known,
    /// It waits in the kernel, as native processes do, or is about to.
    Queued(Arc<Control>),
    /// `notify` has taken it out of the kernel's queue, in place of a native process.
    Taken,
}

/// Those who wait, in the order in which they came. The pod's limits on waits and handles bound them.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    waiting: VecDeque<Waiting>,
    /// Who was notified and does not know yet.
    notified: BTreeSet<Ticket>,
    watched: BTreeMap<u64, Watched>,
    next: Ticket,
}

impl Addresses {
    /// Waits on an offset, where the number is the expected one now.
    pub(super) fn enqueue(&mut self, offset: u64, expected: u32) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        self.waiting.push_back(Waiting { ticket, offset, expected });
        ticket
    }

    /// Notifies up to `count` of those who wait on an offset, in turn; how many.
    pub(super) fn notify(&mut self, offset: u64, count: u32) -> u32 {
        self.notify_where(count, |waiting| waiting.offset == offset)
    }

    /// The number is this now: notifies those who expect another one; how many.
    pub(super) fn changed(&mut self, offset: u64, number: u32) -> u32 {
        self.notify_where(u32::MAX, |waiting| waiting.offset == offset && waiting.expected != number)
    }

    fn notify_where(&mut self, count: u32, ends: impl Fn(&Waiting) -> bool) -> u32 {
        let mut notified = 0;
        let ended = &mut self.notified;
        self.waiting.retain(|waiting| {
            let woken = notified < count && ends(waiting);
            if woken {
                notified += 1;
                ended.insert(waiting.ticket);
            }
            !woken
        });
        notified
    }

    /// Whether it was notified.
    pub(super) fn is_notified(&self, ticket: Ticket) -> bool {
        self.notified.contains(&ticket)
    }

    /// Ends a wait, notified or not.
    pub(super) fn remove(&mut self, ticket: Ticket) {
        if !self.notified.remove(&ticket) {
            self.waiting.retain(|waiting| waiting.ticket != ticket);
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether somebody waits on an offset.
    pub(super) fn is_waited_on(&self, offset: u64) -> bool {
        self.waiting.iter().any(|waiting| waiting.offset == offset)
    }

    /// Watches an offset from now on; whether it was not watched.
    pub(super) fn watch(&mut self, offset: u64) -> bool {
        let is_new = !self.watched.contains_key(&offset);
        self.watched.entry(offset).or_insert(Watched::Known);
        is_new
    }

    /// Watches it no more.
    pub(super) fn unwatch(&mut self, offset: u64) {
        self.watched.remove(&offset);
    }

    /// Whether anything is watched.
    pub(super) fn is_watched(&self) -> bool {
        !self.watched.is_empty()
    }

    /// Whoever watches an offset is about to wait in the kernel.
    pub(super) fn queue(&mut self, offset: u64, control: &Arc<Control>) {
        self.watched.insert(offset, Watched::Queued(Arc::clone(control)));
    }

    /// Whether whoever watches an offset waits in the kernel: a FUTEX_WAKE for native processes that follows takes it
    /// out of there. If it was only about to, it does not.
    pub(super) fn take(&mut self, offset: u64) -> bool {
        match self.watched.get_mut(&offset) {
            Some(watched @ Watched::Queued(_)) => {
                if let Watched::Queued(control) = std::mem::replace(watched, Watched::Taken) {
                    control.outdate();
                }
                true
            }
            _ => false,
        }
    }

    /// Whoever watches an offset is back from the kernel; whether `notify` has taken it out of there.
    pub(super) fn is_back(&mut self, offset: u64) -> bool {
        matches!(self.watched.insert(offset, Watched::Known), Some(Watched::Taken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_notified_in_turn_and_by_address() {
        let mut addresses = Addresses::default();
        let [a, b, c, d] = [8, 16, 8, 8].map(|offset| addresses.enqueue(offset, 0));
        assert_eq!(addresses.notify(8, 0), 0);
        addresses.remove(a);
        assert_eq!(addresses.notify(8, 1), 1);
        assert!(addresses.is_notified(c) && !addresses.is_notified(d) && !addresses.is_notified(b));
        assert_eq!(addresses.notify(8, 5), 1);
        assert_eq!(addresses.notify(24, 5), 0);
        addresses.remove(c);
        addresses.remove(d);
        assert_eq!(addresses.len(), 1);
        assert!(addresses.notified.is_empty());
        assert!(addresses.is_waited_on(16) && !addresses.is_waited_on(8));
    }

    #[test]
    fn a_change_wakes_those_who_expect_something_else() {
        let mut addresses = Addresses::default();
        let [a, b, c] =
            [(8, 0), (8, 1), (16, 0)].map(|(offset, expected)| addresses.enqueue(offset, expected));
        assert_eq!(addresses.changed(8, 1), 1);
        assert!(addresses.is_notified(a) && !addresses.is_notified(b) && !addresses.is_notified(c));
        assert_eq!(addresses.changed(8, 1), 0);
        assert_eq!(addresses.changed(8, 2), 1);
        assert!(addresses.is_notified(b) && !addresses.is_notified(c));
    }

    #[test]
    fn who_watches_is_taken_once_and_only_from_the_kernel() {
        let mut addresses = Addresses::default();
        assert!(!addresses.take(8));
        assert!(addresses.watch(8) && !addresses.watch(8));
        assert!(!addresses.take(8));
        assert!(!addresses.is_back(8));
        let control = Arc::<Control>::default();
        let before = control.value();
        addresses.queue(8, &control);
        assert!(addresses.take(8) && !addresses.take(8));
        assert_ne!(control.value(), before, "it does not begin to wait any more");
        assert!(addresses.is_back(8) && !addresses.is_back(8));
        addresses.queue(8, &control);
        assert!(!addresses.is_back(8), "by a native process");
        addresses.unwatch(8);
        assert!(!addresses.is_watched());
    }
}
