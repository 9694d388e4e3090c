//! What a channel is, without anybody who waits: pure.
//!
//! Each message knows how many receivers have yet to get it. Of a channel to one that is 1; of a channel to all, those
//! that there are when it is sent, each of which has a cursor.

use std::collections::{BTreeMap, VecDeque};

use super::{Attributes, Delivery};
use crate::ipc::{Errno, Result};

/// A receiver of a channel.
pub(super) type Id = u64;

/// The messages and the ends.
#[derive(Debug)]
pub(super) struct State<M> {
    attributes: Attributes,
    /// Messages, each with the number of receivers who have yet to get it. At most `max_messages`.
    messages: VecDeque<(M, usize)>,
    /// The number of the front message, counted from the channel's beginning.
    first: u64,
    senders: usize,
    /// The next message of each receiver. Those of a channel to one have none in particular.
    receivers: BTreeMap<Id, u64>,
    next_id: Id,
    had_sender: bool,
    had_receiver: bool,
}

impl<M: Clone> State<M> {
    pub(super) fn new(attributes: Attributes) -> Self {
        Self {
            attributes,
            messages: VecDeque::new(),
            first: 0,
            senders: 0,
            receivers: BTreeMap::new(),
            next_id: 0,
            had_sender: false,
            had_receiver: false,
        }
    }

    pub(super) fn attributes(&self) -> Attributes {
        self.attributes
    }

    /// Messages in it.
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Senders and receivers.
    pub(super) fn ends(&self) -> (usize, usize) {
        (self.senders, self.receivers.len())
    }

    pub(super) fn add_sender(&mut self) {
        self.senders += 1;
        self.had_sender = true;
    }

    pub(super) fn remove_sender(&mut self) {
        self.senders -= 1;
    }

    /// A receiver of what is sent from now on; the first one gets what was sent before.
    pub(super) fn add_receiver(&mut self) -> Id {
        let id = self.next_id;
        self.next_id += 1;
        let begin = if self.had_receiver { self.end() } else { self.first };
        self.receivers.insert(id, begin);
        self.had_receiver = true;
        id
    }

    pub(super) fn remove_receiver(&mut self, id: Id) {
        let Some(cursor) = self.receivers.remove(&id) else { return };
        if self.attributes.delivery == Delivery::ToAll {
            let passed = (cursor - self.first) as usize;
            self.messages.iter_mut().skip(passed).for_each(|(_, left)| *left -= 1);
            self.forget_delivered();
        }
    }

    /// # Errors
    /// [`Errno::Pipe`], [`Errno::Again`].
    pub(super) fn check_writable(&self) -> Result<()> {
        if self.had_receiver && self.receivers.is_empty() {
            return Err(Errno::Pipe);
        }
        let full = self.messages.len() >= self.attributes.max_messages as usize;
        if full { Err(Errno::Again) } else { Ok(()) }
    }

    /// # Errors
    /// As [`Self::check_writable`].
    pub(super) fn send(&mut self, message: M) -> Result<()> {
        self.check_writable()?;
        let receivers = match self.attributes.delivery {
            Delivery::ToOne => 1,
            // The first one gets what was sent before it came.
            Delivery::ToAll => self.receivers.len().max(1),
        };
        self.messages.push_back((message, receivers));
        Ok(())
    }

    /// # Errors
    /// [`Errno::Again`].
    pub(super) fn check_readable(&self, id: Id) -> Result<()> {
        let ended = self.senders == 0 && self.had_sender;
        if self.has_message(id) || ended { Ok(()) } else { Err(Errno::Again) }
    }

    fn has_message(&self, id: Id) -> bool {
        match self.attributes.delivery {
            Delivery::ToOne => !self.messages.is_empty(),
            Delivery::ToAll => self.receivers.get(&id).is_some_and(|cursor| *cursor < self.end()),
        }
    }

    /// The next message; `None` at the end of the stream.
    ///
    /// # Errors
    /// [`Errno::Again`].
    pub(super) fn receive(&mut self, id: Id) -> Result<Option<M>> {
        self.check_readable(id)?;
        if !self.has_message(id) {
            return Ok(None);
        }
        if self.attributes.delivery == Delivery::ToOne {
            self.first += 1;
            let cursors = self.receivers.values_mut();
            cursors.for_each(|cursor| *cursor = (*cursor).max(self.first));
            return Ok(self.messages.pop_front().map(|(message, _)| message));
        }
        let Some(cursor) = self.receivers.get_mut(&id) else { return Ok(None) };
        let at = (*cursor - self.first) as usize;
        *cursor += 1;
        let Some((message, left)) = self.messages.get_mut(at) else { return Ok(None) };
        *left -= 1;
        if *left > 0 {
            return Ok(Some(message.clone()));
        }
        // Whoever gets a message last gets it without a copy. Those before it were delivered already.
        if at == 0 {
            self.first += 1;
            return Ok(self.messages.pop_front().map(|(message, _)| message));
        }
        Ok(Some(message.clone()))
    }

    fn forget_delivered(&mut self) {
        while self.messages.front().is_some_and(|(_, left)| *left == 0) {
            self.messages.pop_front();
            self.first += 1;
        }
    }

    /// The number of the message that comes next.
    fn end(&self) -> u64 {
        self.first + self.messages.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        AddSender,
        RemoveSender,
        AddReceiver,
        RemoveReceiver(usize),
        Send,
        Receive(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            1 => Just(Step::AddSender),
            1 => Just(Step::RemoveSender),
            1 => Just(Step::AddReceiver),
            1 => (0..4usize).prop_map(Step::RemoveReceiver),
            5 => Just(Step::Send),
            5 => (0..4usize).prop_map(Step::Receive),
        ]
    }

    /// What a channel has to do, in the plainest way: every receiver has a list of its own.
    #[derive(Default)]
    struct Model {
        senders: usize,
        had_sender: bool,
        had_receiver: bool,
        /// To one, or to the first receiver of all.
        common: VecDeque<u32>,
        receivers: Vec<(Id, VecDeque<u32>)>,
    }

    impl Model {
        /// Messages that somebody has yet to get.
        fn waiting(&self) -> usize {
            let mut all: Vec<u32> =
                self.receivers.iter().flat_map(|(_, list)| list.iter().copied()).collect();
            all.extend(&self.common);
            all.sort_unstable();
            all.dedup();
            all.len()
        }
    }

    proptest! {
        #[test]
        fn a_channel_is_what_the_model_says(
            to_all in any::<bool>(),
            capacity in 1..4u32,
            steps in prop::collection::vec(step(), 0..120),
        ) {
            let delivery = if to_all { Delivery::ToAll } else { Delivery::ToOne };
            let mut state =
                State::new(Attributes { delivery, max_messages: capacity, message_size: 1 });
            let mut model = Model::default();
            let mut number = 0;
            for step in steps {
                match step {
                    Step::AddSender => {
                        state.add_sender();
                        model.senders += 1;
                        model.had_sender = true;
                    }
                    Step::RemoveSender if model.senders > 0 => {
                        state.remove_sender();
                        model.senders -= 1;
                    }
                    Step::AddReceiver if model.receivers.len() < 4 => {
                        let id = state.add_receiver();
                        let mut list = VecDeque::new();
                        if to_all && !model.had_receiver {
                            list = std::mem::take(&mut model.common);
                        }
                        model.receivers.push((id, list));
                        model.had_receiver = true;
                    }
                    Step::RemoveReceiver(at) if at < model.receivers.len() => {
                        let (id, _) = model.receivers.remove(at);
                        state.remove_receiver(id);
                    }
                    Step::Send => {
                        number += 1;
                        let expected = if model.had_receiver && model.receivers.is_empty() {
                            Err(Errno::Pipe)
                        } else if model.waiting() >= capacity as usize {
                            Err(Errno::Again)
                        } else {
                            match to_all && !model.receivers.is_empty() {
                                true => model.receivers.iter_mut().for_each(|(_, list)| list.push_back(number)),
                                false => model.common.push_back(number),
                            }
                            Ok(())
                        };
                        prop_assert_eq!(state.send(number), expected);
                    }
                    Step::Receive(at) if at < model.receivers.len() => {
                        let (id, list) = &mut model.receivers[at];
                        let next = if to_all { list.pop_front() } else { model.common.pop_front() };
                        let expected = match next {
                            Some(message) => Ok(Some(message)),
                            None if model.had_sender && model.senders == 0 => Ok(None),
                            None => Err(Errno::Again),
                        };
                        prop_assert_eq!(state.check_readable(*id), expected.map(drop));
                        prop_assert_eq!(state.receive(*id), expected);
                    }
                    _ => {}
                }
                prop_assert_eq!(state.len(), model.waiting());
                prop_assert_eq!(state.ends(), (model.senders, model.receivers.len()));
            }
        }
    }
}
