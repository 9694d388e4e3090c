//! Where a guest's standard input comes from and where its output goes.
//!
//! ```text
//! a container ────────► Log:     no input, its log
//! a command in it ────► Streams: input from a pipe, output to a Sink ─┬─ bounded ─► Pump ─► a pipe
//!                                                                     └─ capture: the first bytes are kept
//! ```

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::unix::pipe;

use crate::container::log::ContainerLog;
use crate::container::stop::{Stop, StopSignal};

/// What a sink holds that its pump has not taken yet, bytes: a pipe's default capacity (pipe(7)).
const BUFFER_BYTES: usize = 64 * 1024;

/// How many tasks can wait for room in one sink. One is usual; a waiting task beyond that displaces the first, which
/// is woken and polls again.
const MAX_WAITERS: usize = 16;

/// A guest's standard input, output and error.
pub enum Stdio {
    /// A container's: no input, and its log.
    Log(ContainerLog),
    /// A command's own.
    Streams(Streams),
}

/// The streams of a command.
pub struct Streams {
    /// Standard input; empty when there is none.
    pub stdin: Option<pipe::Receiver>,
    /// Standard output.
    pub stdout: Sink,
    /// Standard error.
    pub stderr: Sink,
}

impl Stdio {
    /// Writes to standard output.
    pub(super) fn print(&self, text: &str) {
        match self {
            Self::Log(log) => log.stdout().write(Bytes::copy_from_slice(text.as_bytes())),
            Self::Streams(streams) => streams.stdout.write(text.as_bytes()),
        }
    }

    /// Writes to standard error.
    pub(super) fn error(&self, text: &str) {
        match self {
            Self::Log(log) => log.stderr().write(Bytes::copy_from_slice(text.as_bytes())),
            Self::Streams(streams) => streams.stderr.write(text.as_bytes()),
        }
    }

    /// A message of peapod's own.
    pub(super) fn system(&self, text: &str) {
        match self {
            Self::Log(log) => log.system(text),
            Self::Streams(streams) => streams.stderr.write(format!("{}\n", text.trim_end()).as_bytes()),
        }
    }
}

/// Where a command's output goes. Clones are the same.
#[derive(Clone)]
pub struct Sink(Arc<Mutex<Buffer>>);

struct Buffer {
    bytes: Vec<u8>,
    kind: Kind,
    waiters: Vec<Waker>,
    pump: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Emptied by a pump.
    Pumped,
    /// Nothing more comes; what is there is still pumped.
    Finished,
    /// Keeps this many bytes, and discards what comes after them.
    Capture(usize),
}

impl Sink {
    fn new(kind: Kind) -> Self {
        Self(Arc::new(Mutex::new(Buffer { bytes: Vec::new(), kind, waiters: Vec::new(), pump: None })))
    }

    /// A sink, and what empties it into a pipe.
    pub fn pumped(to: pipe::Sender) -> (Self, Pump) {
        let sink = Self::new(Kind::Pumped);
        let pump = Pump { from: sink.clone(), to };
        (sink, pump)
    }

    /// A sink that keeps the first `limit` bytes.
    pub fn capture(limit: usize) -> Self {
        Self::new(Kind::Capture(limit))
    }

    /// A sink that keeps nothing.
    pub fn discard() -> Self {
        Self::capture(0)
    }

    /// What a sink of [`Self::capture`] kept.
    pub fn captured(&self) -> Vec<u8> {
        std::mem::take(&mut self.lock().bytes)
    }

    /// How many bytes there is room for, at least 1; pending while it is full.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<usize> {
        let mut buffer = self.lock();
        let room = match buffer.kind {
            Kind::Pumped => BUFFER_BYTES.saturating_sub(buffer.bytes.len()),
            Kind::Finished | Kind::Capture(_) => BUFFER_BYTES,
        };
        if room > 0 {
            return Poll::Ready(room);
        }
        if !buffer.waiters.iter().any(|waiter| waiter.will_wake(cx.waker())) {
            if buffer.waiters.len() == MAX_WAITERS {
                buffer.waiters.remove(0).wake();
            }
            buffer.waiters.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Takes bytes, no more than [`Self::poll_ready`] allowed: beyond it the bound is one allowance per stream.
    pub fn write(&self, bytes: &[u8]) {
        let mut buffer = self.lock();
        match buffer.kind {
            Kind::Pumped => buffer.bytes.extend_from_slice(bytes),
            Kind::Finished => {}
            Kind::Capture(limit) => {
                let room = limit.saturating_sub(buffer.bytes.len());
                buffer.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
        }
        let pump = buffer.pump.take();
        drop(buffer);
        pump.into_iter().for_each(Waker::wake);
    }

    /// Nothing more comes; the pump ends when it has passed on what there is.
    pub fn finish(&self) {
        let mut buffer = self.lock();
        if buffer.kind == Kind::Pumped {
            buffer.kind = Kind::Finished;
        }
        let woken: Vec<_> =
            std::mem::take(&mut buffer.waiters).into_iter().chain(buffer.pump.take()).collect();
        drop(buffer);
        woken.into_iter().for_each(Waker::wake);
    }

    /// What there is; nothing at the end.
    fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Vec<u8>> {
        let mut buffer = self.lock();
        if buffer.bytes.is_empty() && buffer.kind == Kind::Pumped {
            buffer.pump = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let bytes = std::mem::take(&mut buffer.bytes);
        let waiters = std::mem::take(&mut buffer.waiters);
        drop(buffer);
        waiters.into_iter().for_each(Waker::wake);
        Poll::Ready(bytes)
    }

    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Empties a [`Sink`] into a pipe.
pub struct Pump {
    from: Sink,
    to: pipe::Sender,
}

impl Pump {
    /// Until the sink is finished. When nobody reads the pipe any more, the rest is discarded.
    pub async fn run(mut self) {
        loop {
            let bytes = poll_fn(|cx| self.from.poll_take(cx)).await;
            if bytes.is_empty() || self.to.write_all(&bytes).await.is_err() {
                self.from.finish();
                return;
            }
        }
    }
}

/// Standard input that ends when its container is asked to stop, whatever could still be read: a command that reads
/// to the end, as most do, comes to its own end.
pub(super) struct UntilStop {
    input: pipe::Receiver,
    stopping: Pin<Box<dyn Future<Output = Stop> + Send + Sync>>,
    has_ended: bool,
}

impl UntilStop {
    pub(super) fn new(input: pipe::Receiver, stop: StopSignal) -> Self {
        Self { input, stopping: Box::pin(async move { stop.stopping().await }), has_ended: false }
    }
}

impl AsyncRead for UntilStop {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.has_ended || self.stopping.as_mut().poll(cx).is_ready() {
            self.has_ended = true;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.input).poll_read(cx, buffer)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[test]
    fn a_capture_keeps_the_beginning_and_never_waits() {
        let sink = Sink::capture(5);
        for _ in 0..3 {
            assert!(sink.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready());
            sink.write(b"abc");
        }
        assert_eq!(sink.captured(), b"abcab");
    }

    #[tokio::test]
    async fn input_ends_when_its_container_is_asked_to_stop() {
        use std::time::{Duration, Instant};
        let (mut to, from) = pipe::pipe().unwrap();
        let (sender, signal) = crate::container::stop::channel(Instant::now());
        let mut input = UntilStop::new(from, signal);
        to.write_all(b"before").await.unwrap();
        let mut buffer = [0; 6];
        input.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"before");
        let reason = crate::pod::actions::StopReason::PodEnds;
        let stop = async {
            tokio::task::yield_now().await;
            sender.ask(Stop { deadline: Duration::MAX, reason });
        };
        assert_eq!(tokio::join!(input.read(&mut buffer), stop).0.unwrap(), 0);
        to.write_all(b"after").await.unwrap();
        assert_eq!(input.read(&mut buffer).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_pump_passes_everything_on_and_a_full_sink_waits_for_it() {
        let (to, mut from) = pipe::pipe().unwrap();
        let (sink, pump) = Sink::pumped(to);
        let write = async {
            for _ in 0..64 {
                let room = poll_fn(|cx| sink.poll_ready(cx)).await;
                assert!(room <= BUFFER_BYTES);
                sink.write(&vec![b'x'; room]);
            }
            sink.finish();
            64 * BUFFER_BYTES
        };
        let read = async {
            let mut all = Vec::new();
            from.read_to_end(&mut all).await.unwrap();
            all.len()
        };
        let (written, read, ()) = tokio::join!(write, read, pump.run());
        assert!(read > BUFFER_BYTES && read <= written);
        // Nobody waits for a sink without a pump.
        assert!(sink.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready());
    }
}
