//! Message queues: the pod's POSIX queues, which native processes share.

use std::time::Duration;

use crate::bindings::peapod::ipc::message_queue::{self, Access, Attributes, OpenFlags};
pub use crate::bindings::peapod::ipc::message_queue::Message;
use crate::bindings::peapod::ipc::types::Errno;
use crate::{Result, nanoseconds};

/// An open message queue, to send and to receive.
pub struct Queue(message_queue::Queue);

impl Queue {
    /// Opens a queue that is there.
    pub fn open(name: &str) -> Result<Self> {
        Ok(Self(message_queue::Queue::open(name, Access::ReadWrite, OpenFlags::empty(), None)?))
    }

    /// Opens a queue; makes it with room for so many messages of so many bytes where it is not there.
    pub fn create(name: &str, max_messages: u32, message_size: u32) -> Result<Self> {
        let attributes = Attributes { max_messages, message_size };
        Ok(Self(message_queue::Queue::open(name, Access::ReadWrite, OpenFlags::CREATE, Some(attributes))?))
    }

    /// Removes a queue's name.
    pub fn unlink(name: &str) -> Result<()> {
        Ok(message_queue::unlink(name)?)
    }

    /// Sends a message, waits for room.
    pub fn send(&self, data: &[u8], priority: u32) -> Result<()> {
        // Not to wait is the quicker call.
        match self.0.try_send(data, priority) {
            Err(Errno::Eagain) => Ok(self.0.send(data, priority, None)?),
            sent => Ok(sent?),
        }
    }

    /// Sends a message, waits for room, but not longer.
    pub fn send_timeout(&self, data: &[u8], priority: u32, timeout: Duration) -> Result<()> {
        Ok(self.0.send(data, priority, nanoseconds(timeout))?)
    }

    /// Sends a message if there is room.
    pub fn try_send(&self, data: &[u8], priority: u32) -> Result<()> {
        Ok(self.0.try_send(data, priority)?)
    }

    /// Receives the next message, waits for one.
    pub fn receive(&self) -> Result<Message> {
        Ok(self.0.receive(None)?)
    }

    /// Receives the next message, waits for one, but not longer.
    pub fn receive_timeout(&self, timeout: Duration) -> Result<Message> {
        Ok(self.0.receive(nanoseconds(timeout))?)
    }

    /// Receives a message if there is one.
    pub fn try_receive(&self) -> Result<Message> {
        Ok(self.0.try_receive()?)
    }

    /// Messages in it.
    pub fn len(&self) -> Result<u32> {
        Ok(self.0.status()?.messages)
    }

    /// Whether it has no messages.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// The resource, for pollables.
    pub fn as_resource(&self) -> &message_queue::Queue {
        &self.0
    }
}
