//! A file's output stream of 0.2 that takes no more than it permits: wasmtime-wasi's takes, and keeps until the disk
//! has it, whatever one call brings.

use bytes::Bytes;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::DynOutputStream;
use wasmtime_wasi_io::poll::Pollable;
use wasmtime_wasi_io::streams::{OutputStream, StreamError, StreamResult};

/// The stream, and what `check-write` last permitted.
pub(super) struct Permitted {
    stream: DynOutputStream,
    permit: usize,
}

impl Permitted {
    pub(super) fn new(stream: DynOutputStream) -> Self {
        Self { stream, permit: 0 }
    }
}

#[async_trait]
impl Pollable for Permitted {
    async fn ready(&mut self) {
        self.stream.ready().await;
    }
}

#[async_trait]
impl OutputStream for Permitted {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > std::mem::take(&mut self.permit) {
            return Err(StreamError::trap("write of more bytes than permitted"));
        }
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.stream.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.permit = self.stream.check_write()?;
        Ok(self.permit)
    }

    /// The host's own bound on the bytes is small.
    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.permit = 0;
        self.stream.blocking_write_and_flush(bytes).await
    }

    async fn cancel(&mut self) {
        self.stream.cancel().await;
    }
}
