//! The streams of files in 0.2, on threads of the container's user. What is in memory is read at once.

use std::io;
use std::mem;

use bytes::Bytes;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::runtime::AbortOnDropJoinHandle;
use wasmtime_wasi_io::poll::Pollable;
use wasmtime_wasi_io::streams::{InputStream, OutputStream, StreamError, StreamResult};

use super::reader::Reader;
use super::writer::Writer;
use crate::wasi::MAX_TRANSFER;

/// Bytes that are read for a guest that waits for the stream without saying how many it wants.
const READ_AHEAD: usize = 4096;

/// A file that is read from an offset on.
pub(super) struct FileReader {
    reader: Reader,
    state: State,
}

enum State {
    Idle,
    /// A thread reads.
    Reading(AbortOnDropJoinHandle<io::Result<Bytes>>),
    /// Read and not yet asked for: never empty.
    Read(Bytes),
    Failed(io::Error),
    /// At the end of the file, or failed.
    Closed,
}

impl From<io::Result<Bytes>> for State {
    fn from(read: io::Result<Bytes>) -> Self {
        match read {
            Ok(bytes) if bytes.is_empty() => Self::Closed,
            Ok(bytes) => Self::Read(bytes),
            Err(error) => Self::Failed(error),
        }
    }
}

impl FileReader {
    pub(super) fn new(reader: Reader) -> Self {
        Self { reader, state: State::Idle }
    }

    /// Begins to read where nothing is read: what is in memory has been by then.
    fn begin(&mut self, size: usize) {
        if size == 0 || !matches!(self.state, State::Idle) {
            return;
        }
        let size = size.min(MAX_TRANSFER);
        self.state = match self.reader.read_cached(size) {
            Some(bytes) => Ok(bytes).into(),
            None => State::Reading(self.reader.user.spawn(self.reader.reading(size)).into()),
        };
    }

    /// What has been read, up to `size`.
    fn take(&mut self, size: usize) -> StreamResult<Bytes> {
        match mem::replace(&mut self.state, State::Closed) {
            State::Read(mut bytes) => {
                let taken = bytes.split_to(size.min(bytes.len()));
                self.reader.position += taken.len() as u64;
                self.state = if bytes.is_empty() { State::Idle } else { State::Read(bytes) };
                Ok(taken)
            }
            State::Failed(error) => Err(StreamError::LastOperationFailed(error.into())),
            State::Closed => Err(StreamError::Closed),
            unread => {
                self.state = unread;
                Ok(Bytes::new())
            }
        }
    }
}

#[async_trait]
impl InputStream for FileReader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.begin(size);
        self.take(size)
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.begin(size);
        if let State::Reading(task) = &mut self.state {
            self.state = task.await.into();
        }
        self.take(size)
    }

    async fn cancel(&mut self) {
        // As wasmtime-wasi has it: it waits for the thread, so that a guest has no more of them than streams.
        if let State::Reading(task) = mem::replace(&mut self.state, State::Closed) {
            task.cancel().await;
        }
    }
}

#[async_trait]
impl Pollable for FileReader {
    async fn ready(&mut self) {
        self.begin(READ_AHEAD);
        if let State::Reading(task) = &mut self.state {
            self.state = task.await.into();
        }
    }
}

/// A file that is written to.
pub(super) struct FileWriter {
    writer: Writer,
    state: Written,
}

enum Written {
    /// All of it.
    All,
    /// Not these, so many bytes, which a thread writes.
    AllBut(usize, AbortOnDropJoinHandle<io::Result<()>>),
    Failed(io::Error),
    Closed,
}

impl FileWriter {
    pub(super) fn new(writer: Writer) -> Self {
        Self { writer, state: Written::All }
    }

    /// Nothing, or what went wrong, once.
    fn check(&mut self) -> StreamResult<()> {
        match mem::replace(&mut self.state, Written::Closed) {
            Written::Failed(error) => Err(StreamError::LastOperationFailed(error.into())),
            Written::Closed => Err(StreamError::Closed),
            open => {
                self.state = open;
                Ok(())
            }
        }
    }
}

#[async_trait]
impl OutputStream for FileWriter {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        match &self.state {
            Written::All if bytes.len() > MAX_TRANSFER => {
                Err(StreamError::trap("write of more bytes than permitted"))
            }
            Written::All => {
                let count = bytes.len();
                let writing = self.writer.user.spawn(self.writer.writing(bytes));
                self.state = Written::AllBut(count, writing.into());
                Ok(())
            }
            Written::Closed => Err(StreamError::Closed),
            Written::AllBut(..) | Written::Failed(_) => {
                Err(StreamError::trap("write without check-write's permission"))
            }
        }
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.ready().await;
        self.check()?;
        self.write(bytes)?;
        self.ready().await;
        self.check()
    }

    /// Nothing is held back.
    fn flush(&mut self) -> StreamResult<()> {
        self.check()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.check()?;
        Ok(if matches!(self.state, Written::All) { MAX_TRANSFER } else { 0 })
    }

    async fn cancel(&mut self) {
        // As a reader's.
        if let Written::AllBut(_, task) = mem::replace(&mut self.state, Written::Closed) {
            task.cancel().await;
        }
    }
}

#[async_trait]
impl Pollable for FileWriter {
    async fn ready(&mut self) {
        if let Written::AllBut(count, task) = &mut self.state {
            self.state = match task.await {
                Ok(()) => {
                    self.writer.wrote(*count);
                    Written::All
                }
                Err(error) => Written::Failed(error),
            };
        }
    }
}
