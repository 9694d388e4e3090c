//! The two streams of a connection in 0.2.
//!
//! The socket and its streams share the halves of the connection: `shutdown` on the socket closes a
//! stream, and a half goes when the socket does, as wasmtime-wasi has it.
//!
//! A write in 0.2 is all or nothing within the permit that `check-write` gave. On the memory plane
//! the permit is the room in the pipe, so that nearly every write is done when it returns. The kernel
//! does not say how much it will take: what is not taken at once is written by a task that the stream
//! owns, and the next permit waits for it.

use std::future::poll_fn;
use std::mem;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::runtime::AbortOnDropJoinHandle;
use wasmtime_wasi_io::poll::Pollable;
use wasmtime_wasi_io::streams::{InputStream, OutputStream, StreamError, StreamResult};

use crate::net::{Error, ReceiveHalf, SendHalf};
use crate::wasi::MAX_TRANSFER;

fn now() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn stream_error(error: Error) -> StreamError {
    match error {
        Error::ConnectionBroken => StreamError::Closed,
        error => StreamError::LastOperationFailed(error.into()),
    }
}

/// The input stream. Clones are the same stream.
#[derive(Clone)]
pub(super) struct Reader(Arc<Mutex<Option<ReceiveHalf>>>);

impl Reader {
    pub(super) fn new(half: ReceiveHalf) -> Self {
        Self(Arc::new(Mutex::new(Some(half))))
    }

    fn lock(&self) -> MutexGuard<'_, Option<ReceiveHalf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn shutdown(&self) {
        drop(self.lock().take());
    }
}

impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let mut half = self.lock();
        let Some(open) = &*half else { return Err(StreamError::Closed) };
        if size == 0 {
            return Ok(Bytes::new());
        }
        let closed = match open.poll_read_bytes(&mut now(), size.min(MAX_TRANSFER)) {
            Poll::Pending => return Ok(Bytes::new()),
            Poll::Ready(Ok(bytes)) if !bytes.is_empty() => return Ok(bytes),
            Poll::Ready(Ok(_)) => StreamError::Closed,
            Poll::Ready(Err(error)) => stream_error(error),
        };
        *half = None;
        Err(closed)
    }
}

#[async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {
        poll_fn(|cx| match &*self.lock() {
            Some(half) => half.poll_ready(cx),
            None => Poll::Ready(()),
        })
        .await;
    }
}

/// How long the rest of a write may take once the guest has dropped its stream.
const LINGER: Duration = Duration::from_secs(60);

enum Write {
    /// Exits: `Busy` when not all is taken at once, `Closed`.
    Open(SendHalf),
    /// The rest of a write is under way. Exits: `Open`, `Closed`.
    Busy(AbortOnDropJoinHandle<Result<SendHalf, Error>>),
    /// The same, and `shutdown` waits for it. Exit: `Closed`.
    Closing(AbortOnDropJoinHandle<Result<SendHalf, Error>>),
    /// The guest dropped the stream, and the rest of its last write goes on. Final.
    Lingering,
    /// The rest of a write failed. Exit: `Closed`, when the guest has been told.
    Failed(Error),
    /// Final.
    Closed,
}

/// The output stream. Clones are the same stream.
#[derive(Clone)]
pub(super) struct Writer(Arc<Mutex<Write>>);

impl Writer {
    pub(super) fn new(half: SendHalf) -> Self {
        Self(Arc::new(Mutex::new(Write::Open(half))))
    }

    fn lock(&self) -> MutexGuard<'_, Write> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what the guest wrote is still on its way, though it dropped the stream.
    pub(super) fn lingers(&self) -> bool {
        matches!(*self.lock(), Write::Lingering)
    }

    pub(super) fn shutdown(&self) {
        let mut state = self.lock();
        *state = match mem::replace(&mut *state, Write::Closed) {
            Write::Busy(task) | Write::Closing(task) => Write::Closing(task),
            Write::Lingering => Write::Lingering,
            Write::Open(_) | Write::Failed(_) | Write::Closed => Write::Closed,
        };
    }
}

impl Write {
    /// Waits for the rest of the last write.
    fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (Self::Busy(task) | Self::Closing(task)) = self else { return Poll::Ready(()) };
        let result = ready!(Pin::new(task).poll(cx));
        let closing = matches!(self, Self::Closing(_));
        *self = match result {
            Ok(half) if !closing => Self::Open(half),
            Ok(_) => Self::Closed,
            Err(error) => Self::Failed(error),
        };
        Poll::Ready(())
    }

    /// How much may be written now.
    fn poll_permit(&mut self, cx: &mut Context<'_>) -> Poll<StreamResult<usize>> {
        ready!(self.poll_settled(cx));
        let error = match self {
            Self::Open(half) => match ready!(half.poll_room(cx, MAX_TRANSFER)) {
                Ok(room) => return Poll::Ready(Ok(room)),
                Err(error) => error,
            },
            Self::Failed(error) => *error,
            Self::Busy(_) | Self::Closing(_) | Self::Lingering | Self::Closed => {
                return Poll::Ready(Err(StreamError::Closed));
            }
        };
        *self = Self::Closed;
        Poll::Ready(Err(stream_error(error)))
    }

    /// Waits until `check-write` would not say 0.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.poll_settled(cx));
        match self {
            Self::Open(half) => half.poll_ready(cx),
            _ => Poll::Ready(()),
        }
    }

    fn write(&mut self, mut bytes: Bytes) -> StreamResult<()> {
        let half = match self {
            Self::Open(half) => half,
            Self::Failed(_) | Self::Lingering | Self::Closed => return Err(StreamError::Closed),
            Self::Busy(_) | Self::Closing(_) => return Err(StreamError::trap("write without a permit")),
        };
        if bytes.len() > half.promised() {
            return Err(StreamError::trap("write of more bytes than permitted"));
        }
        half.promise(0);
        while !bytes.is_empty() {
            match half.poll_write_bytes(&mut now(), &mut bytes) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => {
                    *self = Self::Closed;
                    return Err(stream_error(error));
                }
                Poll::Pending => {
                    if let Self::Open(mut half) = mem::replace(self, Self::Closed) {
                        half.promise(bytes.len());
                        half.keep(bytes.clone());
                        *self = Self::Busy(wasmtime_wasi::runtime::spawn(write_all(half, bytes)));
                    }
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

async fn write_all(mut half: SendHalf, mut bytes: Bytes) -> Result<SendHalf, Error> {
    let mut ended = pin!(half.ended());
    while !bytes.is_empty() {
        poll_fn(|cx| match ended.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(Error::ConnectionAborted)),
            Poll::Pending => half.poll_write_bytes(cx, &mut bytes),
        })
        .await?;
        half.promise(bytes.len());
        half.keep(bytes.clone());
    }
    Ok(half)
}

#[async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.lock().write(bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        // Everything written is on its way; a write that is not done holds the next permit back.
        match &*self.lock() {
            Write::Failed(error) => Err(stream_error(*error)),
            Write::Lingering | Write::Closed => Err(StreamError::Closed),
            Write::Open(_) | Write::Busy(_) | Write::Closing(_) => Ok(()),
        }
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        match self.lock().poll_permit(&mut now()) {
            Poll::Ready(permit) => permit,
            Poll::Pending => Ok(0),
        }
    }

    /// The guest drops the stream: what it was told is written, goes on being written, as after close(2). It does
    /// not wait for a peer that does not read. An idle stream's half stays until the socket goes, which then
    /// decides between FIN and RST.
    async fn cancel(&mut self) {
        let mut state = self.lock();
        if let Write::Open(half) = &mut *state {
            half.promise(0);
            return;
        }
        if let Write::Busy(task) | Write::Closing(task) = mem::replace(&mut *state, Write::Closed) {
            *state = Write::Lingering;
            // Ends at the latest with the container.
            tokio::spawn(tokio::time::timeout(LINGER, task));
        }
    }
}

#[async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        poll_fn(|cx| self.lock().poll_ready(cx)).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::net::{Family, Stack, StackConfig};
    use crate::testing::needs_root;

    /// A container that ends right after a write that the kernel did not take at once.
    #[tokio::test]
    async fn what_was_written_arrives_after_the_containers_end() {
        // Beyond the system's limit a send buffer grows for root only.
        if !needs_root() {
            return;
        }
        let stack = Stack::new(StackConfig::default());
        let endpoint = stack.attach("a");
        let native = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let socket = endpoint.tcp_socket(Family::V4).expect("socket");
        socket.start_connect(native.local_addr().expect("address")).expect("start");
        poll_fn(|cx| socket.poll_connect(cx)).await.expect("connect");
        let (mut peer, _) = native.accept().await.expect("accept");
        let mut writer = Writer::new(socket.take_send_half().expect("half"));
        let mut written = 0;
        while !matches!(&*writer.lock(), Write::Busy(_)) {
            writer.ready().await;
            let permit = writer.check_write().expect("permit");
            OutputStream::write(&mut writer, vec![7; permit].into()).expect("write");
            written += permit;
        }
        endpoint.close();
        drop((writer, socket));
        let mut received = Vec::new();
        peer.read_to_end(&mut received).await.expect("no reset");
        assert_eq!(received.len(), written);
    }

    /// What a stream that the guest dropped has still to write to a peer that does not read.
    #[tokio::test]
    async fn nothing_lingers_beyond_the_containers_end() {
        let stack = Stack::new(StackConfig::default());
        let endpoint = stack.attach("a");
        let native = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let socket = endpoint.tcp_socket(Family::V4).expect("socket");
        socket.start_connect(native.local_addr().expect("address")).expect("start");
        poll_fn(|cx| socket.poll_connect(cx)).await.expect("connect");
        let (_peer, _) = native.accept().await.expect("accept");
        let mut writer = Writer::new(socket.take_send_half().expect("half"));
        while !matches!(&*writer.lock(), Write::Busy(_)) {
            writer.ready().await;
            let permit = writer.check_write().expect("permit");
            OutputStream::write(&mut writer, vec![7; permit].into()).expect("write");
        }
        writer.cancel().await;
        drop((writer, socket));
        tokio::task::yield_now().await;
        assert_eq!(endpoint.clone().socket_count(), 1, "it is being written");
        endpoint.close();
        let gone = async {
            while endpoint.socket_count() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LINGER / 2, gone).await.expect("at once");
    }
}
