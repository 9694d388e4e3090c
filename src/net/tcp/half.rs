//! The two directions of a connection.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::super::budget::Budget;
use super::super::memory::Data;
use super::super::meter::{Count, Plane};
use super::super::stream::Stream;
use super::super::{Error, Result};
use super::Inner;

/// The receiving direction of a connection. Dropping it is `shutdown(SHUT_RD)`.
pub struct ReceiveHalf {
    pub(super) stream: Stream,
    pub(super) socket: Arc<Inner>,
}

impl ReceiveHalf {
    /// Waits until a read has an answer.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_read_ready(cx)
    }

    /// Up to `max` bytes as they came, without copying on the memory plane. Empty is the end.
    ///
    /// # Errors
    /// [`ConnectionReset`](crate::net::Error::ConnectionReset) and what else the kernel reports.
    pub fn poll_read_bytes(&self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Bytes>> {
        if max == 0 {
            return Poll::Ready(Ok(Bytes::new()));
        }
        let read = self.stream.poll_read_bytes(cx, max);
        self.received(&read, Bytes::len);
        read
    }

    /// Fills the front of the buffer. 0 is the end (or an empty buffer).
    ///
    /// # Errors
    /// As [`Self::poll_read_bytes`].
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<Result<usize>> {
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let read = self.stream.poll_read(cx, buffer);
        self.received(&read, |n| *n);
        read
    }

    fn received<T>(&self, read: &Poll<Result<T>>, len: impl FnOnce(&T) -> usize) {
        match read {
            Poll::Ready(Ok(data)) => self.socket.traffic.received(self.stream.plane(), len(data)),
            Poll::Ready(Err(error)) => count_reset(&self.socket, &self.stream, *error),
            Poll::Pending => {}
        }
    }
}

impl Drop for ReceiveHalf {
    fn drop(&mut self) {
        self.stream.shutdown_read();
    }
}

/// The kernel tells of an RST by the one call that fails with it; the memory plane counts its own.
fn count_reset(socket: &Inner, stream: &Stream, error: Error) {
    if stream.plane() == Plane::Kernel && error == Error::ConnectionReset {
        socket.endpoint.meter.count(Plane::Kernel, Count::TcpResetsReceived);
    }
}

/// The sending direction of a connection. Dropping it is `shutdown(SHUT_WR)`.
pub struct SendHalf {
    stream: Stream,
    socket: Arc<Inner>,
    /// Bytes that the writer was promised, in its container's [`budget`](super::super::budget).
    promised: usize,
}

impl SendHalf {
    pub(super) fn new(stream: Stream, socket: Arc<Inner>) -> Self {
        Self { stream, socket, promised: 0 }
    }

    /// Waits until a write takes something or fails.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_write_ready(cx)
    }

    /// How many bytes, at least 1 and at most `max`, the writer may part with now: on the memory plane as many as
    /// [`Self::poll_write_bytes`] will take at once, unless other connections of the pod use up its memory
    /// meanwhile. The kernel does not say, and what neither takes the writer keeps: it is counted as held from now
    /// until [`Self::promise`] changes it, so that no number of writers keeps much.
    ///
    /// # Errors
    /// As [`Self::poll_write_bytes`].
    pub fn poll_room(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<usize>> {
        self.promise(0);
        let room = match &self.stream {
            Stream::Memory(stream) => ready!(stream.poll_writable(cx))?,
            Stream::Kernel(stream) => {
                ready!(stream.poll_write_ready(cx));
                max
            }
        };
        self.promise(self.budget().capacity(room.min(max)));
        Poll::Ready(Ok(self.promised))
    }

    /// Bytes that the writer may part with, by the last [`Self::poll_room`].
    pub fn promised(&self) -> usize {
        self.promised
    }

    /// The writer keeps so many bytes from now on; 0 when it has written what it may.
    pub fn promise(&mut self, bytes: usize) {
        if self.promised != bytes {
            self.budget().replace(self.promised, bytes);
            self.promised = bytes;
        }
    }

    /// What was taken from the writer and is not written yet, so that it outlives the container, as what a program wrote
    /// outlives the program. On the memory plane everything that is taken is written.
    pub fn keep(&self, rest: Bytes) {
        if let Stream::Kernel(stream) = &self.stream {
            stream.keep(rest);
        }
    }

    /// Waits for the end of the container, which has closed the connection by then. Make it before writing.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        self.socket.endpoint.ended()
    }

    fn budget(&self) -> &Budget {
        &self.socket.endpoint.budget
    }

    /// Takes bytes from the front of `data` (not empty), without copying on the memory plane.
    ///
    /// # Errors
    /// [`ConnectionBroken`](crate::net::Error::ConnectionBroken), [`ConnectionReset`](crate::net::Error::ConnectionReset), and what else the kernel reports.
    pub fn poll_write_bytes(&self, cx: &mut Context<'_>, data: &mut Bytes) -> Poll<Result<usize>> {
        let written = self.stream.poll_write(cx, Data::Bytes(data));
        self.sent(&written);
        written
    }

    /// Copies from the front of `data` (not empty).
    ///
    /// # Errors
    /// As [`Self::poll_write_bytes`].
    pub fn poll_write(&self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize>> {
        let written = self.stream.poll_write(cx, Data::Slice(data));
        self.sent(&written);
        written
    }

    fn sent(&self, written: &Poll<Result<usize>>) {
        match written {
            Poll::Ready(Ok(n)) => self.socket.traffic.sent(self.stream.plane(), *n),
            Poll::Ready(Err(error)) => count_reset(&self.socket, &self.stream, *error),
            Poll::Pending => {}
        }
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        self.promise(0);
        self.stream.shutdown_write();
    }
}
