//! Where a memory-plane connection is looked at: counts its resets, and records it where there is a capture.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::super::memory::{Data, Side};
use super::super::meter::{Count, Meter, Plane};
use super::Capture;
use super::encode::Body;
use super::flow::{Flow, Segment};

/// What is about to be written, kept until it is known how much of it was.
pub(in crate::net) enum Kept<'a> {
    Bytes(Bytes),
    Slice(&'a [u8]),
}

impl<'a> Kept<'a> {
    pub(in crate::net) fn of(data: &Data<'a>) -> Self {
        match data {
            Data::Bytes(bytes) => Self::Bytes((**bytes).clone()),
            Data::Slice(slice) => Self::Slice(slice),
        }
    }

    /// The first `n` bytes.
    pub(in crate::net) fn first(self, n: usize) -> Bytes {
        match self {
            Self::Bytes(bytes) if bytes.len() <= n => bytes,
            // A part of it must not keep the memory of the whole.
            Self::Bytes(bytes) => Bytes::copy_from_slice(&bytes[..n]),
            Self::Slice(slice) => Bytes::copy_from_slice(&slice[..slice.len().min(n)]),
        }
    }
}

/// Both ends of one connection, as seen from outside.
#[derive(Debug)]
pub(in crate::net) struct Tap {
    /// Of the client's and of the server's container.
    meters: [Arc<Meter>; 2],
    was_reset: bool,
    /// Boxed: almost no connection has one.
    recorder: Option<Box<Recorder>>,
}

#[derive(Debug)]
struct Recorder {
    capture: Capture,
    /// The client's and the server's.
    addresses: [SocketAddr; 2],
    flow: Flow,
}

impl Recorder {
    fn record(&mut self, event: impl FnOnce(&mut Flow, &mut dyn FnMut(Segment))) {
        let Self { capture, addresses, flow } = self;
        event(flow, &mut |segment| emit(capture, *addresses, segment));
    }
}

fn emit(capture: &Capture, addresses: [SocketAddr; 2], segment: Segment) {
    let source = addresses[segment.from as usize];
    let destination = addresses[segment.from.peer() as usize];
    let payload = segment.payload.clone();
    capture.push(source, destination, Body::Tcp(segment.into()), payload);
}

impl Tap {
    /// The client asks for a connection. `room`: what the client and the server can take, bytes.
    pub(in crate::net) fn open(
        meters: [Arc<Meter>; 2],
        capture: Option<&Capture>,
        addresses: [SocketAddr; 2],
        room: [usize; 2],
    ) -> Self {
        let recorder = capture.map(|capture| {
            let mut emit = |segment| emit(capture, addresses, segment);
            let flow = Flow::open(capture.initial_sequence(), room, &mut emit);
            Box::new(Recorder { capture: capture.clone(), addresses, flow })
        });
        Self { meters, was_reset: false, recorder }
    }

    /// The container at that end.
    pub(in crate::net) fn container(&self, side: Side) -> &str {
        self.meters[side as usize].container()
    }

    pub(in crate::net) fn admitted(&mut self) {
        if let Some(recorder) = &mut self.recorder {
            recorder.record(|flow, mut emit| flow.accept(&mut emit));
        }
    }

    pub(in crate::net) fn refused(&mut self) {
        if let Some(recorder) = &mut self.recorder {
            recorder.record(|flow, mut emit| flow.refuse(&mut emit));
        }
    }

    /// Whether anybody wants [`Self::wrote`] and [`Self::lost`].
    pub(in crate::net) fn is_recording(&self) -> bool {
        self.recorder.is_some()
    }

    /// `side` wrote `data`; the other end can take `room` bytes more.
    pub(in crate::net) fn wrote(&mut self, side: Side, data: Bytes, room: usize) {
        if let Some(recorder) = &mut self.recorder {
            recorder.record(|flow, mut emit| flow.data(side, data, room, &mut emit));
        }
    }

    /// `side` wrote what the other end does not take; [`Self::reset`] follows.
    pub(in crate::net) fn lost(&mut self, side: Side, data: Bytes) {
        if let Some(recorder) = &mut self.recorder {
            recorder.record(|flow, mut emit| flow.lost(side, data, &mut emit));
        }
    }

    /// `side` writes no more.
    pub(in crate::net) fn finished(&mut self, side: Side) {
        if let Some(recorder) = &mut self.recorder {
            recorder.record(|flow, mut emit| flow.finish(side, &mut emit));
        }
    }

    /// RST arrives at `side`.
    pub(in crate::net) fn reset(&mut self, side: Side) {
        if let Some(recorder) = &mut self.recorder {
            recorder.record(|flow, mut emit| flow.reset(side.peer(), &mut emit));
        }
        self.count_reset(side);
    }

    /// Once: nothing follows an RST.
    fn count_reset(&mut self, side: Side) {
        if !std::mem::replace(&mut self.was_reset, true) {
            self.meters[side as usize].count(Plane::Memory, Count::TcpResetsReceived);
            self.meters[side.peer() as usize].count(Plane::Memory, Count::TcpResetsSent);
        }
    }
}
