//! What there is to see of a pod's objects, and their removal from outside: ipcs(1) and ipcrm(1).

use super::{Delivery, Ipc, Name, Result, channel, memory, queue, semaphore};

/// Objects of one kind in an answer at most: more than the default limits allow.
const MAX_LISTED: usize = 4096;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A message queue.
    Queue,
    /// A shared memory segment.
    Memory,
    /// A semaphore.
    Semaphore,
    /// A channel.
    Channel,
}

/// An object as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// With its slash.
    pub name: String,
    /// Messages in it; of a semaphore the permits that are there; bytes of a segment.
    pub used: u64,
    /// Messages that fit; none of a semaphore and a segment.
    pub limit: Option<u64>,
    /// Bytes of a message at most.
    pub message_size: Option<u64>,
    /// What else there is to say: who has it open, who waits.
    pub note: String,
}

impl Ipc {
    /// All objects, by kind and name. Queues: those that containers have made.
    pub fn list(&self) -> Vec<Object> {
        let queues = queue::list(&self.queues).into_iter().filter_map(|(name, status)| {
            let status = status?;
            Some(Object {
                kind: Kind::Queue,
                name: name.as_str().to_owned(),
                used: status.messages.into(),
                limit: Some(status.max_messages.into()),
                message_size: Some(status.message_size.into()),
                note: String::new(),
            })
        });
        let segments = memory::list(&self.memory, MAX_LISTED).into_iter().map(|segment| Object {
            kind: Kind::Memory,
            name: segment.name,
            used: segment.size,
            limit: None,
            message_size: None,
            note: match segment.waiting {
                0 => format!("{} handles", segment.handles),
                waiting => format!("{} handles, {waiting} wait", segment.handles),
            },
        });
        let semaphores = semaphore::list(&self.semaphores).into_iter().map(|(name, value, handles)| Object {
            kind: Kind::Semaphore,
            name: name.as_str().to_owned(),
            used: value.into(),
            limit: None,
            message_size: None,
            note: format!("{handles} handles"),
        });
        let channels = channel::list(&self.channels).into_iter().map(|channel| {
            let delivery = match channel.attributes.delivery {
                Delivery::ToOne => "to one",
                Delivery::ToAll => "to all",
            };
            Object {
                kind: Kind::Channel,
                name: channel.name.as_str().to_owned(),
                used: channel.messages as u64,
                limit: Some(channel.attributes.max_messages.into()),
                message_size: Some(channel.attributes.message_size.into()),
                note: format!("{delivery}, {} senders, {} receivers", channel.senders, channel.receivers),
            }
        });
        let of_a_kind = |objects: Vec<Object>| objects.into_iter().take(MAX_LISTED);
        of_a_kind(queues.collect())
            .chain(segments)
            .chain(of_a_kind(semaphores.collect()))
            .chain(of_a_kind(channels.collect()))
            .collect()
    }

    /// Removes an object's name, whoever has it open.
    ///
    /// # Errors
    /// [`super::Errno::Invalid`], [`super::Errno::NameTooLong`], [`super::Errno::NoEntry`], and what the kernel says.
    pub fn remove(&self, kind: Kind, name: &str) -> Result<()> {
        let name = Name::new(name)?;
        match kind {
            Kind::Queue => queue::unlink(&self.queues, &name),
            Kind::Memory => memory::unlink(&self.memory, &name),
            Kind::Semaphore => semaphore::unlink(&self.semaphores, &name),
            Kind::Channel => channel::unlink(&self.channels, &name),
        }
    }
}
