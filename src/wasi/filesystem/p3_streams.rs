//! The streams of files in 0.3, on threads of the container's user. What is in memory is read straight into the
//! guest's.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;
use wasmtime::component::{Destination, Source, StreamConsumer, StreamProducer, StreamResult};
use wasmtime::{AsContextMut as _, StoreContextMut};
use wasmtime_wasi::p3::bindings::filesystem::types::ErrorCode;
use wasmtime_wasi::runtime::spawn_blocking;

use super::reader::Reader;
use super::writer::Writer;
use crate::container::user::FileUser;
use crate::wasi::MAX_TRANSFER;

/// Most bytes that are read at once without a thread: they take a tenth of an epoch tick.
const MAX_CACHED: usize = 1 << 20;

/// Whom to tell how the stream ended.
pub(super) type Done = oneshot::Sender<Result<(), ErrorCode>>;

/// What a thread does, for as long as it is waited for.
type Work<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

fn on_thread<T: Send + 'static>(
    user: &FileUser,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Work<T> {
    let user = user.clone();
    Box::pin(async move { user.run(async { spawn_blocking(work).await }).await })
}

/// Tells how the stream ended, and ends it.
fn end(done: &mut Option<Done>, result: io::Result<()>) -> Poll<wasmtime::Result<StreamResult>> {
    if let Some(done) = done.take() {
        // The guest may have dropped the future.
        let _ = done.send(result.map_err(ErrorCode::from));
    }
    Poll::Ready(Ok(StreamResult::Dropped))
}

/// The bytes of a file.
pub(super) struct FileBytes {
    reader: Reader,
    reading: Option<Work<Bytes>>,
    done: Option<Done>,
}

impl FileBytes {
    pub(super) fn new(reader: Reader, done: Done) -> Self {
        Self { reader, reading: None, done: Some(done) }
    }

    /// Reads into the guest's buffer: so many bytes, 0 at the end of the file. Abandons what a thread reads when
    /// it is dropped: nothing has been read until it is here.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let Self { reader, reading, .. } = self;
        if reading.is_none() {
            let length = buffer.len().min(MAX_CACHED);
            if let Some(read) = reader.read_cached_into(&mut buffer[..length]) {
                return Poll::Ready(Ok(read));
            }
        }
        let work = reading.get_or_insert_with(|| {
            let read = reader.reading(buffer.len().min(MAX_TRANSFER));
            on_thread(&reader.user, read)
        });
        let bytes = ready!(work.as_mut().poll(cx));
        *reading = None;
        let bytes = bytes?;
        // The guest may have less room than when it first asked: what finds none is read again.
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }
}

impl<D: 'static> StreamProducer<D> for FileBytes {
    type Item = u8;
    type Buffer = BytesMut;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, D>,
        destination: Destination<'a, Self::Item, Self::Buffer>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        if destination.remaining(store.as_context_mut()) == Some(0) {
            // A read of nothing asks whether there is something: of a file, always.
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let mut direct = destination.as_direct(store, MAX_TRANSFER);
        match self.poll_read(cx, direct.remaining()) {
            Poll::Ready(Ok(0)) => end(&mut self.done, Ok(())),
            Poll::Ready(Ok(read)) => {
                direct.mark_written(read);
                self.reader.position += read as u64;
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Poll::Ready(Err(error)) => end(&mut self.done, Err(error)),
            Poll::Pending if finish => {
                self.reading = None;
                Poll::Ready(Ok(StreamResult::Cancelled))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for FileBytes {
    fn drop(&mut self) {
        let _ = end(&mut self.done, Ok(()));
    }
}

/// Takes the bytes of a file.
pub(super) struct FileSink {
    writer: Writer,
    /// So many bytes.
    writing: Option<(usize, Work<()>)>,
    done: Option<Done>,
}

impl FileSink {
    pub(super) fn new(writer: Writer, done: Done) -> Self {
        Self { writer, writing: None, done: Some(done) }
    }
}

impl<D: 'static> StreamConsumer<D> for FileSink {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: StoreContextMut<'_, D>,
        source: Source<'_, Self::Item>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let Self { writer, writing, done } = &mut *self;
        let mut source = source.as_direct(store);
        if writing.is_none() && source.remaining().is_empty() {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        // What has been begun cannot be taken back: also who finishes waits for it.
        let (count, work) = writing.get_or_insert_with(|| {
            let bytes = source.remaining();
            let bytes = Bytes::copy_from_slice(&bytes[..bytes.len().min(MAX_TRANSFER)]);
            (bytes.len(), on_thread(&writer.user, writer.writing(bytes)))
        });
        let (count, written) = (*count, ready!(work.as_mut().poll(cx)));
        *writing = None;
        match written {
            Ok(()) => {
                source.mark_read(count);
                writer.wrote(count);
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Err(error) => end(done, Err(error)),
        }
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        let _ = end(&mut self.done, Ok(()));
    }
}
