//! The streams of files in 0.3, on threads of the container's user. What is in memory is read straight into the
//! guest's.

use std::fs::File;
use std::future::Future;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use rustix::io::{ReadWriteFlags, pwritev2};
use tokio::sync::oneshot;
use wasmtime::component::{Destination, Source, StreamConsumer, StreamProducer, StreamResult};
use wasmtime::{AsContextMut as _, StoreContextMut};
use wasmtime_wasi::p3::bindings::filesystem::types::ErrorCode;
use wasmtime_wasi::runtime::spawn_blocking;

use super::reader::Reader;
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

/// Where bytes are written to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// Behind what is there.
    End,
    /// At this offset.
    At(u64),
}

impl Place {
    fn write(self, file: &File, bytes: &[u8]) -> io::Result<usize> {
        let written = match self {
            Self::At(offset) => file.write_at(bytes, offset)?,
            Self::End => pwritev2(file, &[IoSlice::new(bytes)], 0, ReadWriteFlags::APPEND)?,
        };
        // The caller would try for ever.
        if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) }
    }
}

/// Takes the bytes of a file.
pub(super) struct FileSink {
    file: Arc<File>,
    place: Place,
    user: FileUser,
    writing: Option<Work<usize>>,
    done: Option<Done>,
}

impl FileSink {
    pub(super) fn new(file: Arc<File>, place: Place, user: FileUser, done: Done) -> Self {
        Self { file, place, user, writing: None, done: Some(done) }
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
        let Self { file, place, user, writing, .. } = &mut *self;
        let mut source = source.as_direct(store);
        if writing.is_none() && source.remaining().is_empty() {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        // What has been begun cannot be taken back: also who finishes waits for it.
        let work = writing.get_or_insert_with(|| {
            let bytes = source.remaining();
            let bytes = Bytes::copy_from_slice(&bytes[..bytes.len().min(MAX_TRANSFER)]);
            let (file, place) = (Arc::clone(file), *place);
            on_thread(user, move || place.write(&file, &bytes))
        });
        let written = ready!(work.as_mut().poll(cx));
        *writing = None;
        match written {
            Ok(written) => {
                source.mark_read(written);
                if let Place::At(offset) = place {
                    *offset = offset.saturating_add(written as u64);
                }
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Err(error) => end(&mut self.done, Err(error)),
        }
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        let _ = end(&mut self.done, Ok(()));
    }
}
