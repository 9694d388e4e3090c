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
    /// The containers that have it open, by name.
    pub containers: Vec<String>,
    /// What else there is to say: who holds it, who waits.
    pub note: String,
}

impl Ipc {
    /// All objects, by kind and name; also the queues and segments of native processes.
    pub fn list(&self) -> Vec<Object> {
        let queues = queue::list(&self.queues, MAX_LISTED).into_iter().map(|queue| {
            let status = queue.status.as_ref().ok();
            Object {
                kind: Kind::Queue,
                name: queue.name.as_str().to_owned(),
                used: status.map_or(0, |status| status.messages.into()),
                limit: status.map(|status| status.max_messages.into()),
                message_size: status.map(|status| status.message_size.into()),
                containers: queue.containers,
                note: queue.status.err().map_or_else(String::new, |error| error.to_string()),
            }
        });
        let segments = memory::list(&self.memory, MAX_LISTED).into_iter().map(|segment| Object {
            kind: Kind::Memory,
            name: segment.name,
            used: segment.size,
            limit: None,
            message_size: None,
            containers: segment.containers,
            note: waits(segment.waiting),
        });
        let semaphores = semaphore::list(&self.semaphores).into_iter().map(|semaphore| {
            let held =
                semaphore.held.iter().map(|(container, permits)| format!("{container} holds {permits}"));
            let waits = Some(waits(semaphore.waiting)).filter(|waits| !waits.is_empty());
            Object {
                kind: Kind::Semaphore,
                name: semaphore.name.as_str().to_owned(),
                used: semaphore.value.into(),
                limit: None,
                message_size: None,
                containers: semaphore.containers,
                note: held.chain(waits).collect::<Vec<_>>().join(", "),
            }
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
                containers: channel.containers,
                note: format!("{delivery}, {} senders, {} receivers", channel.senders, channel.receivers),
            }
        });
        let of_a_kind = |objects: Vec<Object>| objects.into_iter().take(MAX_LISTED);
        queues
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

fn waits(waiting: usize) -> String {
    match waiting {
        0 => String::new(),
        1 => "1 waits".to_owned(),
        waiting => format!("{waiting} wait"),
    }
}
