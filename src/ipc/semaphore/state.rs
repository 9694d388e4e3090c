//! What a semaphore is, without anybody who waits: pure.
//!
//! ```text
//! acquire ─ there are permits and nobody waits ─► taken
//!    └─► enqueue ─► waiting, in turn ── release ──► granted ── take ─► taken
//!                      └──────── cancel ◄──────────────┘ (gives back)
//! ```

use std::collections::{BTreeMap, VecDeque};

use crate::ipc::{Errno, Result};

/// The largest value (`SEM_VALUE_MAX`).
pub(super) const VALUE_MAX: u32 = i32::MAX as u32;

/// Somebody's turn.
pub(super) type Ticket = u64;

/// The permits and the queue for them.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Permits that are there.
    value: u32,
    /// Who waits, and for how many. The pod's limit on waits bounds it.
    waiting: VecDeque<(Ticket, u32)>,
    /// Who has got permits and does not know yet.
    granted: BTreeMap<Ticket, u32>,
    next: Ticket,
}

impl State {
    /// A semaphore with so many permits, at most [`VALUE_MAX`].
    pub(super) fn new(value: u32) -> Self {
        Self { value, ..Self::default() }
    }

    /// Permits that are there for somebody who comes now.
    pub(super) fn free(&self) -> u32 {
        if self.waiting.is_empty() { self.value } else { 0 }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes permits if they are there for somebody who comes now.
    pub(super) fn acquire(&mut self, permits: u32) -> bool {
        let enough = permits <= self.free();
        if enough {
            self.value -= permits;
        }
        enough
    }

    /// Queues for permits, behind all others.
    pub(super) fn enqueue(&mut self, permits: u32) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        self.waiting.push_back((ticket, permits));
        self.grant();
        ticket
    }

    /// Whether it is the ticket's turn; it is used up then.
    pub(super) fn take(&mut self, ticket: Ticket) -> bool {
        self.granted.remove(&ticket).is_some()
    }

    /// Ends a wait, wherever it is; what was granted is given back.
    pub(super) fn cancel(&mut self, ticket: Ticket) {
        match self.granted.remove(&ticket) {
            Some(permits) => self.give_back(permits),
            None => {
                self.waiting.retain(|(waiting, _)| *waiting != ticket);
                self.grant();
            }
        }
    }

    /// # Errors
    /// [`Errno::Overflow`].
    pub(super) fn release(&mut self, permits: u32) -> Result<()> {
        let value = self.value.checked_add(permits).filter(|value| *value <= VALUE_MAX);
        self.value = value.ok_or(Errno::Overflow)?;
        self.grant();
        Ok(())
    }

    /// Releases as many as there is room for: an undo has nobody to fail to.
    pub(super) fn give_back(&mut self, permits: u32) {
        self.value = self.value.saturating_add(permits).min(VALUE_MAX);
        self.grant();
    }

    /// Those whose turn it is get theirs; the first one for whom there is not enough holds up the rest.
    fn grant(&mut self) {
        while let Some(&(ticket, permits)) = self.waiting.front()
            && permits <= self.value
        {
            self.value -= permits;
            self.granted.insert(ticket, permits);
            self.waiting.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Acquire(u32),
        Enqueue(u32),
        Release(u32),
        /// By position among those who wait or have been granted.
        Cancel(usize),
        Take(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1..4u32).prop_map(Step::Acquire),
            (1..4u32).prop_map(Step::Enqueue),
            (1..4u32).prop_map(Step::Release),
            (0..8usize).prop_map(Step::Cancel),
            (0..8usize).prop_map(Step::Take),
        ]
    }

    proptest! {
        /// Permits are neither made nor lost, and turns are kept, over any history.
        #[test]
        fn permits_are_kept_and_turns_too(initial in 0..5u32, steps in prop::collection::vec(step(), 0..80)) {
            let mut state = State::new(initial);
            // The model: all permits that are out, and who waits in which order.
            let (mut total, mut taken) = (initial, 0);
            let mut queue: Vec<(Ticket, u32)> = Vec::new();
            let mut served: Option<Ticket> = None;
            for step in steps {
                match step {
                    Step::Acquire(n) => {
                        let waits = !state.waiting.is_empty();
                        let got = state.acquire(n);
                        prop_assert!(!(got && waits), "overtaken");
                        taken += if got { n } else { 0 };
                    }
                    Step::Enqueue(n) => {
                        let ticket = state.enqueue(n);
                        queue.push((ticket, n));
                    }
                    Step::Release(n) => {
                        state.release(n).unwrap();
                        total += n;
                    }
                    Step::Cancel(at) if at < queue.len() => {
                        let (ticket, _) = queue.remove(at);
                        state.cancel(ticket);
                    }
                    Step::Take(at) if at < queue.len() => {
                        let (ticket, n) = queue[at];
                        if state.take(ticket) {
                            taken += n;
                            queue.remove(at);
                        }
                    }
                    Step::Cancel(_) | Step::Take(_) => {}
                }
                // Turns are granted in order: whoever is granted came before all who wait.
                let last = state.granted.keys().last().copied();
                served = served.max(last);
                if let (Some(last), Some((first, _))) = (served, state.waiting.front()) {
                    prop_assert!(last < *first);
                }
                let granted: u32 = state.granted.values().sum();
                prop_assert_eq!(state.value + granted + taken, total);
                // Nobody waits for what is there.
                if let Some((_, permits)) = state.waiting.front() {
                    prop_assert!(*permits > state.value);
                }
                prop_assert_eq!(state.waiting.len() + state.granted.len(), queue.len());
            }
        }
    }

    #[test]
    fn the_value_has_a_maximum() {
        let mut state = State::new(VALUE_MAX);
        assert_eq!(state.release(1), Err(Errno::Overflow));
        assert!(state.acquire(2));
        assert_eq!(state.release(3), Err(Errno::Overflow));
        state.give_back(3);
        assert_eq!(state.free(), VALUE_MAX);
    }
}
