//! Requests, as bytes.

use netlink_packet_core::NetlinkSerializable;

use super::{ACK, HEADER, REQUEST};

/// Requests that go out together.
#[derive(Debug, Default)]
pub struct Batch {
    pub(super) bytes: Vec<u8>,
    /// Names the request with sequence number `index + 1`.
    pub(super) steps: Vec<&'static str>,
    /// Where the last message begins.
    last: usize,
    /// The sequence number of the last message that is to be acknowledged; 0 when none is.
    pub(super) acknowledged: usize,
}

impl Batch {
    /// Adds a message of a netlink-packet crate. `step` completes "cannot …" in an error.
    pub fn push(&mut self, step: &'static str, message: &impl NetlinkSerializable, flags: u16) {
        let mut payload = vec![0; message.buffer_len()];
        message.serialize(&mut payload);
        self.push_raw(step, message.message_type(), flags | REQUEST | ACK, &payload);
    }

    /// The length of all messages, bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is no message.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Adds a message from its parts; an answer is expected when `flags` has [`ACK`].
    pub fn push_raw(&mut self, step: &'static str, kind: u16, flags: u16, payload: &[u8]) {
        self.steps.push(step);
        self.last = self.bytes.len();
        if flags & ACK != 0 {
            self.acknowledged = self.steps.len();
        }
        let length = HEADER + payload.len();
        self.bytes.extend((length as u32).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | REQUEST).to_ne_bytes());
        self.bytes.extend((self.steps.len() as u32).to_ne_bytes());
        self.bytes.extend(0u32.to_ne_bytes());
        self.bytes.extend(payload);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Has the last message of a batch acknowledged, whatever its flags were.
    pub fn acknowledge_last(&mut self) {
        // The flags of `struct nlmsghdr`.
        let Some(flags) = self.bytes.get_mut(self.last..).and_then(|last| last.get_mut(6..8)) else { return };
        flags.copy_from_slice(&(u16::from_ne_bytes([flags[0], flags[1]]) | ACK).to_ne_bytes());
        self.acknowledged = self.steps.len();
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CREATE, answers};
    use super::*;

    #[test]
    fn the_last_message_can_be_acknowledged_alone() {
        let mut batch = Batch::default();
        batch.acknowledge_last();
        batch.push_raw("begin", 16, 0, &[1, 2, 3]);
        batch.push_raw("change", 17, CREATE, &[4]);
        assert_eq!(batch.acknowledged, 0);
        batch.acknowledge_last();
        batch.push_raw("end", 18, 0, &[]);
        assert_eq!(batch.acknowledged, 2);
        let flags: Vec<_> = answers(&batch.bytes).map(|message| message.unwrap().flags).collect();
        assert_eq!(flags, [REQUEST, REQUEST | CREATE | ACK, REQUEST]);
    }
}
