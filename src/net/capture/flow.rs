//! What happens to a connection → the segments that TCP would have sent for it. Pure.
//!
//! ```text
//!           accept                 finish, both ways
//!  Opening ────────► Established ───────────────────► (nothing but RST follows)
//!     │ refuse           │ reset, lost
//!     ▼                  ▼
//!    Over ◄──────────────┘
//! ```
//!
//! | event | segments |
//! |---|---|
//! | [`Flow::open`] | SYN |
//! | accept | SYN-ACK, ACK |
//! | refuse | RST |
//! | data | a window update when the peer had announced less room, data, ACK |
//! | lost | data, RST |
//! | finish | FIN, ACK |
//! | reset | RST |

use bytes::Bytes;

use super::super::memory::Side;

/// The most data in one segment, bytes: an IPv4 packet has at most 65,535 with 20 of header, and TCP's has 20.
pub(super) const MAX_SEGMENT: usize = 65_495;

/// By how many bits windows are shifted (RFC 7323, 2.2): enough for what the pipes can hold, 8 MiB.
pub(super) const WINDOW_SHIFT: u8 = 7;

/// The flags of a segment that are ever set, besides ACK, which [`Segment::ack`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Flags {
    pub(super) syn: bool,
    pub(super) psh: bool,
    pub(super) fin: bool,
    pub(super) rst: bool,
}

/// A TCP segment without its ports and checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) from: Side,
    pub(super) sequence: u32,
    pub(super) ack: Option<u32>,
    pub(super) flags: Flags,
    /// The window field as it is sent.
    pub(super) window: u16,
    pub(super) payload: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    Established,
    Over,
}

#[derive(Debug)]
struct End {
    /// The sequence number of what it sends next.
    next: u32,
    /// The room that it announced last, bytes.
    window: usize,
    finished: bool,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Flow {
    phase: Phase,
    ends: [End; 2],
}

impl Flow {
    /// The client asks for a connection. `sequence` and `room` (bytes that it can take) are the client's and the
    /// server's.
    pub(super) fn open(sequence: [u32; 2], room: [usize; 2], emit: &mut impl FnMut(Segment)) -> Self {
        let end = |side: usize| End { next: sequence[side], window: room[side], finished: false };
        let mut flow = Self { phase: Phase::Opening, ends: [end(0), end(1)] };
        let syn = Flags { syn: true, ..Flags::default() };
        let segment = Segment { ack: None, ..flow.segment(Side::Client, syn) };
        flow.send(segment, emit);
        flow
    }

    /// The server takes it.
    pub(super) fn accept(&mut self, emit: &mut impl FnMut(Segment)) {
        if self.phase == Phase::Opening {
            self.phase = Phase::Established;
            let syn = self.segment(Side::Server, Flags { syn: true, ..Flags::default() });
            self.send(syn, emit);
            self.acknowledge(Side::Client, emit);
        }
    }

    /// The server does not.
    pub(super) fn refuse(&mut self, emit: &mut impl FnMut(Segment)) {
        if self.phase == Phase::Opening {
            self.phase = Phase::Over;
            // RFC 9293, 3.10.7.1: <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>.
            let rst = self.segment(Side::Server, Flags { rst: true, ..Flags::default() });
            emit(Segment { sequence: 0, window: 0, ..rst });
        }
    }

    /// `payload` reaches the other end, which can take `room` bytes more after it.
    pub(super) fn data(&mut self, from: Side, payload: Bytes, room: usize, emit: &mut impl FnMut(Segment)) {
        if self.is_open(from) && !payload.is_empty() {
            let to = from.peer();
            if announced(self.end(to).window) < payload.len() {
                // Its container has read in the meantime.
                self.end(to).window = payload.len().saturating_add(room);
                self.acknowledge(to, emit);
            }
            self.end(to).window = room;
            self.send_data(from, payload, emit);
            self.acknowledge(to, emit);
        }
    }

    /// `payload` finds nobody, and RST comes back.
    pub(super) fn lost(&mut self, from: Side, payload: Bytes, emit: &mut impl FnMut(Segment)) {
        if self.is_open(from) {
            self.send_data(from, payload, emit);
        }
        self.reset(from.peer(), emit);
    }

    /// `from` sends no more.
    pub(super) fn finish(&mut self, from: Side, emit: &mut impl FnMut(Segment)) {
        if self.is_open(from) {
            self.end(from).finished = true;
            let fin = self.segment(from, Flags { fin: true, ..Flags::default() });
            self.send(fin, emit);
            self.acknowledge(from.peer(), emit);
        }
    }

    /// `from` wants to hear no more.
    pub(super) fn reset(&mut self, from: Side, emit: &mut impl FnMut(Segment)) {
        if self.phase == Phase::Established {
            self.phase = Phase::Over;
            let rst = self.segment(from, Flags { rst: true, ..Flags::default() });
            self.send(Segment { window: 0, ..rst }, emit);
        }
    }

    fn is_open(&mut self, from: Side) -> bool {
        self.phase == Phase::Established && !self.end(from).finished
    }

    fn end(&mut self, side: Side) -> &mut End {
        &mut self.ends[side as usize]
    }

    /// The next segment of `from`, empty.
    fn segment(&mut self, from: Side, flags: Flags) -> Segment {
        let window = self.end(from).window;
        // "The window field in a segment where the SYN bit is set MUST NOT be scaled" (RFC 7323, 2.2).
        let window = if flags.syn { window } else { window >> WINDOW_SHIFT };
        Segment {
            from,
            sequence: self.end(from).next,
            ack: Some(self.end(from.peer()).next),
            flags,
            window: u16::try_from(window).unwrap_or(u16::MAX),
            payload: Bytes::new(),
        }
    }

    fn send(&mut self, segment: Segment, emit: &mut impl FnMut(Segment)) {
        let Flags { syn, fin, .. } = segment.flags;
        // At most MAX_SEGMENT and two.
        let length = segment.payload.len() as u32 + u32::from(syn) + u32::from(fin);
        let end = self.end(segment.from);
        end.next = end.next.wrapping_add(length);
        emit(segment);
    }

    fn send_data(&mut self, from: Side, mut payload: Bytes, emit: &mut impl FnMut(Segment)) {
        while !payload.is_empty() {
            let part = payload.split_to(payload.len().min(MAX_SEGMENT));
            let flags = Flags { psh: payload.is_empty(), ..Flags::default() };
            let segment = Segment { payload: part, ..self.segment(from, flags) };
            self.send(segment, emit);
        }
    }

    fn acknowledge(&mut self, from: Side, emit: &mut impl FnMut(Segment)) {
        let ack = self.segment(from, Flags::default());
        self.send(ack, emit);
    }
}

/// What the peer makes of a window, bytes.
fn announced(window: usize) -> usize {
    usize::from(u16::try_from(window >> WINDOW_SHIFT).unwrap_or(u16::MAX)) << WINDOW_SHIFT
}

#[cfg(test)]
mod tests;
