//! Who waits on which address of a segment: pure.

use std::collections::{BTreeSet, VecDeque};

/// Somebody who waits.
pub(super) type Ticket = u64;

/// Those who wait, in the order in which they came. The pod's limits on waits and handles bound them.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    waiting: VecDeque<(Ticket, u64)>,
    /// Who was notified and does not know yet.
    notified: BTreeSet<Ticket>,
    next: Ticket,
}

impl Addresses {
    /// Waits on an offset.
    pub(super) fn enqueue(&mut self, offset: u64) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        self.waiting.push_back((ticket, offset));
        ticket
    }

    /// Notifies up to `count` of those who wait on an offset, in turn; how many.
    pub(super) fn notify(&mut self, offset: u64, count: u32) -> u32 {
        let mut notified = 0;
        let ended = &mut self.notified;
        self.waiting.retain(|&(ticket, waits_on)| {
            let woken = waits_on == offset && notified < count;
            if woken {
                notified += 1;
                ended.insert(ticket);
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
            self.waiting.retain(|(waiting, _)| *waiting != ticket);
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_notified_in_turn_and_by_address() {
        let mut addresses = Addresses::default();
        let [a, b, c, d] = [8, 16, 8, 8].map(|offset| addresses.enqueue(offset));
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
    }
}
