//! How much interprocess communication a pod may have: annotations `peapod.dev/ipc.<limit>`.

/// The limits of a pod's IPC. Each has a default for a pod of a few containers, and a maximum that keeps the pod
/// process's own memory bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpcLimits {
    /// Message queues that containers have made.
    pub queues: u64,
    /// Messages in a queue (`mq_maxmsg`).
    pub queue_messages: u64,
    /// Bytes of a message in a queue (`mq_msgsize`).
    pub queue_message_size: u64,
    /// Bytes of all queues when they are full.
    pub queue_bytes: u64,
    /// Shared memory segments; their bytes are bounded by the size of `/dev/shm`.
    pub segments: u64,
    /// Semaphores.
    pub semaphores: u64,
    /// Channels.
    pub channels: u64,
    /// Bytes of a message in a channel.
    pub channel_message_size: u64,
    /// Bytes of all channels when they are full.
    pub channel_bytes: u64,
    /// Handles of one container, on objects of any kind.
    pub handles: u64,
    /// Waits in the whole pod at the same time.
    pub waits: u64,
}

/// A limit by its name in annotations, with its default, its maximum and what it is.
struct Limit {
    name: &'static str,
    default: u64,
    maximum: u64,
    field: fn(&mut IpcLimits) -> &mut u64,
}

/// All of them. The kernel's own bounds on queues are 65,536 messages (`HARD_MSGMAX`) of 16 MiB (`HARD_MSGSIZEMAX`).
const LIMITS: [Limit; 11] = [
    Limit { name: "queues", default: 64, maximum: 4096, field: |l| &mut l.queues },
    Limit { name: "queue-messages", default: 1024, maximum: 65_536, field: |l| &mut l.queue_messages },
    Limit {
        name: "queue-message-size",
        default: 64 << 10,
        maximum: 16 << 20,
        field: |l| &mut l.queue_message_size,
    },
    Limit { name: "queue-bytes", default: 16 << 20, maximum: 1 << 30, field: |l| &mut l.queue_bytes },
    Limit { name: "segments", default: 256, maximum: 65_536, field: |l| &mut l.segments },
    Limit { name: "semaphores", default: 256, maximum: 65_536, field: |l| &mut l.semaphores },
    Limit { name: "channels", default: 256, maximum: 65_536, field: |l| &mut l.channels },
    Limit {
        name: "channel-message-size",
        default: 64 << 10,
        maximum: 16 << 20,
        field: |l| &mut l.channel_message_size,
    },
    Limit { name: "channel-bytes", default: 16 << 20, maximum: 1 << 30, field: |l| &mut l.channel_bytes },
    Limit { name: "handles", default: 1024, maximum: 65_536, field: |l| &mut l.handles },
    Limit { name: "waits", default: 4096, maximum: 65_536, field: |l| &mut l.waits },
];

impl Default for IpcLimits {
    fn default() -> Self {
        let mut limits = Self {
            queues: 0,
            queue_messages: 0,
            queue_message_size: 0,
            queue_bytes: 0,
            segments: 0,
            semaphores: 0,
            channels: 0,
            channel_message_size: 0,
            channel_bytes: 0,
            handles: 0,
            waits: 0,
        };
        for limit in &LIMITS {
            *(limit.field)(&mut limits) = limit.default;
        }
        limits
    }
}

impl IpcLimits {
    /// The names of the limits.
    pub fn names() -> impl Iterator<Item = &'static str> {
        LIMITS.iter().map(|limit| limit.name)
    }

    /// Sets the limit of this name. 0 forbids; a value beyond the maximum, or none at all, is an error that says so.
    ///
    /// # Errors
    /// What is wrong.
    pub fn set(&mut self, name: &str, value: u64) -> Result<(), String> {
        let limit = LIMITS.iter().find(|limit| limit.name == name).ok_or("unknown limit")?;
        if value > limit.maximum {
            return Err(format!("{value} is more than the maximum, {}", limit.maximum));
        }
        *(limit.field)(self) = value;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_has_a_field_of_its_own() {
        for name in IpcLimits::names() {
            let mut limits = IpcLimits::default();
            limits.set(name, 1).unwrap();
            assert_ne!(limits, IpcLimits::default(), "{name}");
            assert!(limits.set(name, u64::MAX).is_err());
        }
        assert!(IpcLimits::default().set("queue", 1).is_err());
    }
}
