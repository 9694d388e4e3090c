//! A container's standard output and error: from WASI's streams into its log.
//!
//! ```text
//!  guest ─ wasi:io output-stream (0.2), stream<u8> (0.3) ─► LogOutput ─► LogSink (the container's log)
//! ```
//!
//! The sink is bounded: when it is full, the guest's next write waits, and only that guest's. In 0.2 a
//! stream's permit is a promise that the sink keeps later; a guest may have thousands of streams, so that
//! each permit is no more than its stream's share.
//! Standard input is closed; wasmtime-wasi's default is that already.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi_io::poll::Pollable;
use wasmtime_wasi_io::streams::{OutputStream, StreamError, StreamResult};

use super::MAX_TRANSFER;

/// Where output goes. Clones are the same sink.
///
/// Several streams may write to one sink, and several tasks may wait for it at once.
pub trait LogSink: Clone + Send + Sync + 'static {
    /// How many bytes (at least 1) the next [`Self::write`] may have; `Pending` while there is no room.
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<usize>;

    /// Takes the bytes, which are no more than [`Self::poll_ready`] last permitted (another stream of
    /// the sink may have written in between: the sink must take them all the same). Never blocks.
    fn write(&self, bytes: Bytes);
}

impl LogSink for crate::container::log::LogStream {
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<usize> {
        self.poll_ready(cx)
    }

    fn write(&self, bytes: Bytes) {
        self.write(bytes);
    }
}

impl LogSink for crate::container::runner::Sink {
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<usize> {
        self.poll_ready(cx)
    }

    fn write(&self, bytes: Bytes) {
        self.write(&bytes);
    }
}

/// Standard output or error of a container, for
/// [`WasiCtxBuilder::stdout`](wasmtime_wasi::WasiCtxBuilder::stdout) and `stderr`.
#[derive(Debug, Clone)]
pub struct LogOutput<S> {
    sink: S,
    /// Counted: one for this, one for each open stream.
    streams: Arc<()>,
}

impl<S: LogSink> LogOutput<S> {
    /// Output into the sink.
    pub fn new(sink: S) -> Self {
        Self { sink, streams: Arc::default() }
    }

    fn stream(&self) -> LogStream<S> {
        LogStream { sink: self.sink.clone(), permit: 0, streams: Arc::clone(&self.streams) }
    }
}

impl<S: LogSink> IsTerminal for LogOutput<S> {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl<S: LogSink> StdoutStream for LogOutput<S> {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.stream())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.stream())
    }
}

struct LogStream<S> {
    sink: S,
    /// Bytes that the last `check-write` allowed.
    permit: usize,
    streams: Arc<()>,
}

#[async_trait]
impl<S: LogSink> Pollable for LogStream<S> {
    async fn ready(&mut self) {
        poll_fn(|cx| self.sink.poll_ready(cx)).await;
    }
}

impl<S: LogSink> OutputStream for LogStream<S> {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > self.permit {
            return Err(StreamError::trap("write of more bytes than permitted"));
        }
        self.permit = 0;
        if !bytes.is_empty() {
            self.sink.write(bytes);
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.permit = match self.sink.poll_ready(&mut Context::from_waker(Waker::noop())) {
            // One reference is the output's own. All permits together grow with the logarithm of the
            // streams' number only.
            Poll::Ready(room) => {
                let streams = Arc::strong_count(&self.streams).saturating_sub(1).max(1);
                (room / streams).clamp(1, MAX_TRANSFER)
            }
            Poll::Pending => 0,
        };
        Ok(self.permit)
    }
}

impl<S: LogSink> AsyncWrite for LogStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room = ready!(self.sink.poll_ready(cx));
        let n = buf.len().min(room).min(MAX_TRANSFER);
        self.sink.write(Bytes::copy_from_slice(&buf[..n]));
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A sink of 64 KiB that nobody empties.
    #[derive(Clone, Default)]
    struct Full(Arc<Mutex<usize>>);

    impl LogSink for Full {
        fn poll_ready(&self, _: &mut Context<'_>) -> Poll<usize> {
            match (64 * 1024_usize).saturating_sub(*self.0.lock().unwrap()) {
                0 => Poll::Pending,
                room => Poll::Ready(room),
            }
        }

        fn write(&self, bytes: Bytes) {
            *self.0.lock().unwrap() += bytes.len();
        }
    }

    #[test]
    fn a_thousand_streams_have_no_thousand_buffers() {
        let sink = Full::default();
        let output = LogOutput::new(sink.clone());
        let mut streams: Vec<_> = Vec::new();
        for _ in 0..1000 {
            let mut stream = output.p2_stream();
            let permit = stream.check_write().unwrap();
            streams.push((stream, permit));
        }
        assert_eq!(streams[0].1, 64 * 1024, "one alone has all the room");
        for (stream, permit) in &mut streams {
            stream.write(vec![b'x'; *permit].into()).unwrap();
        }
        let written = *sink.0.lock().unwrap();
        assert!(written < 8 * 64 * 1024, "{written}");
        assert_eq!(streams[0].0.check_write().unwrap(), 0);
    }
}
