//! The containers that wait for a message of a queue: pure.
//!
//! ```text
//!  receive ─ the kernel has none ─► waiting, in turn ── a container sends ──► handed ── take ─► received
//!                                      └─────────────── leave ◄─────────────────┘ (gives it back)
//! ```
//!
//! A message for one who waits does not go through the queue, as the kernel's own do not: mq_send(3) copies a message to
//! a process that waits in mq_receive(3).

use std::collections::{BTreeMap, VecDeque};

/// Somebody's turn.
pub(super) type Ticket = u64;

/// A message and its priority.
pub(super) type Message = (Vec<u8>, u32);

/// Who waits, and what is for whom. The pod's limit on waits bounds it.
#[derive(Debug)]
pub(super) struct Receivers<S> {
    waiting: VecDeque<Ticket>,
    /// With who has sent it.
    handed: BTreeMap<Ticket, (Message, S)>,
    /// Given back while the kernel had no room for it: for whoever receives next.
    kept: VecDeque<Message>,
    next: Ticket,
}

impl<S> Default for Receivers<S> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), handed: BTreeMap::new(), kept: VecDeque::new(), next: 0 }
    }
}

impl<S> Receivers<S> {
    /// Waits, behind all others.
    pub(super) fn enqueue(&mut self) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        self.waiting.push_back(ticket);
        ticket
    }

    /// Whether somebody waits who was not handed a message.
    pub(super) fn is_awaited(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Hands a message to the one who has waited longest; gives it back where nobody does.
    pub(super) fn hand(&mut self, message: Message, sender: S) -> Option<(Message, S)> {
        let Some(ticket) = self.waiting.pop_front() else { return Some((message, sender)) };
        self.handed.insert(ticket, (message, sender));
        None
    }

    /// The message that was handed to a ticket, which is used up then.
    pub(super) fn take(&mut self, ticket: Ticket) -> Option<Message> {
        self.handed.remove(&ticket).map(|(message, _)| message)
    }

    /// Whether a ticket was handed a message that it has not taken.
    pub(super) fn is_handed(&self, ticket: Ticket) -> bool {
        self.handed.contains_key(&ticket)
    }

    /// Ends a wait, wherever it is; a message that was handed goes to the next one who waits, or back to its sender.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<(Message, S)> {
        match self.handed.remove(&ticket) {
            Some((message, sender)) => self.hand(message, sender),
            None => {
                self.waiting.retain(|waiting| *waiting != ticket);
                None
            }
        }
    }

    /// Keeps a message that the kernel has no room for.
    pub(super) fn keep(&mut self, message: Message) {
        self.kept.push_back(message);
    }

    /// A message that was kept.
    pub(super) fn take_kept(&mut self) -> Option<Message> {
        self.kept.pop_front()
    }

    /// How many were kept.
    pub(super) fn kept(&self) -> usize {
        self.kept.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        (text.into(), 0)
    }

    #[test]
    fn messages_are_handed_in_turn() {
        let mut receivers = Receivers::default();
        assert_eq!(receivers.hand(message("early"), 'a'), Some((message("early"), 'a')));
        let [one, two] = [receivers.enqueue(), receivers.enqueue()];
        assert!(receivers.is_awaited());
        assert_eq!(receivers.hand(message("1"), 'a'), None);
        assert_eq!(receivers.hand(message("2"), 'b'), None);
        assert!(!receivers.is_awaited());
        assert_eq!(receivers.take(two), Some(message("2")));
        assert_eq!(receivers.take(two), None);
        assert_eq!(receivers.take(one), Some(message("1")));
        assert_eq!(receivers.leave(one), None);
    }

    #[test]
    fn what_nobody_takes_goes_to_the_next_or_back() {
        let mut receivers = Receivers::default();
        let [one, two, three] = [receivers.enqueue(), receivers.enqueue(), receivers.enqueue()];
        assert_eq!(receivers.leave(two), None);
        assert_eq!(receivers.hand(message("1"), 'a'), None);
        assert!(receivers.is_handed(one) && !receivers.is_handed(three));
        assert_eq!(receivers.leave(one), None);
        assert!(receivers.is_handed(three) && !receivers.is_awaited());
        assert_eq!(receivers.leave(three), Some((message("1"), 'a')));
        receivers.keep(message("1"));
        assert_eq!(receivers.kept(), 1);
        assert_eq!((receivers.take_kept(), receivers.take_kept()), (Some(message("1")), None));
    }
}
