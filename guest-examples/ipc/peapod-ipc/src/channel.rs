//! Channels: streams of messages between containers.

use std::time::Duration;

use crate::bindings::peapod::ipc::channel::{self, Attributes, Delivery};
use crate::bindings::peapod::ipc::types::Errno;
use crate::{Result, nanoseconds};

/// A channel to open an end of.
pub struct Channel<'a> {
    name: &'a str,
    attributes: Option<Attributes>,
}

impl<'a> Channel<'a> {
    /// The channel of this name: as it is, or as the defaults are.
    pub fn new(name: &'a str) -> Self {
        Self { name, attributes: None }
    }

    /// A channel that delivers each message to one of the receivers, for so many messages of so many bytes where it is
    /// not there yet.
    pub fn to_one(name: &'a str, max_messages: u32, message_size: u32) -> Self {
        let attributes = Attributes { delivery: Delivery::ToOne, max_messages, message_size };
        Self { name, attributes: Some(attributes) }
    }

    /// A channel that delivers each message to all receivers.
    pub fn to_all(name: &'a str, max_messages: u32, message_size: u32) -> Self {
        let attributes = Attributes { delivery: Delivery::ToAll, max_messages, message_size };
        Self { name, attributes: Some(attributes) }
    }

    /// Opens the end that messages go in.
    pub fn sender(&self) -> Result<Sender> {
        Ok(Sender(channel::Sender::open(self.name, self.attributes)?))
    }

    /// Opens the end that messages come out of.
    pub fn receiver(&self) -> Result<Receiver> {
        Ok(Receiver(channel::Receiver::open(self.name, self.attributes)?))
    }
}

/// The end that messages go in. The stream ends with the last of them.
pub struct Sender(channel::Sender);

impl Sender {
    /// Sends a message, waits for room.
    pub fn send(&self, message: &[u8]) -> Result<()> {
        // Not to wait is the quicker call.
        match self.0.try_send(message) {
            Err(Errno::Eagain) => Ok(self.0.send(message, None)?),
            sent => Ok(sent?),
        }
    }

    /// Sends a message, waits for room, but not longer.
    pub fn send_timeout(&self, message: &[u8], timeout: Duration) -> Result<()> {
        Ok(self.0.send(message, nanoseconds(timeout))?)
    }

    /// Sends a message if there is room.
    pub fn try_send(&self, message: &[u8]) -> Result<()> {
        Ok(self.0.try_send(message)?)
    }

    /// The resource, for pollables and streams.
    pub fn into_resource(self) -> channel::Sender {
        self.0
    }
}

/// The end that messages come out of: an iterator that ends with the stream.
pub struct Receiver(channel::Receiver);

impl Receiver {
    /// Receives a message, waits for one; `None` at the end of the stream.
    pub fn receive(&self) -> Result<Option<Vec<u8>>> {
        Ok(self.0.receive(None)?)
    }

    /// Receives a message, waits for one, but not longer.
    pub fn receive_timeout(&self, timeout: Duration) -> Result<Option<Vec<u8>>> {
        Ok(self.0.receive(nanoseconds(timeout))?)
    }

    /// Receives a message if there is one.
    pub fn try_receive(&self) -> Result<Option<Vec<u8>>> {
        Ok(self.0.try_receive()?)
    }

    /// The resource, for pollables and streams.
    pub fn into_resource(self) -> channel::Receiver {
        self.0
    }
}

impl Iterator for Receiver {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.receive().transpose()
    }
}
