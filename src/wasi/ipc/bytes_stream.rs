//! A channel's messages as a `stream<u8>`, in both directions.
//!
//! ```text
//!  guest's memory ─ a message at a time ─► Sending ─► channel ─► Receiving ─ what is left of it ─► guest's memory
//! ```
//!
//! What waits is a future of the channel, kept between the polls of the stream.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::oneshot;
use wasmtime::component::{Destination, Source, StreamConsumer, StreamProducer, StreamResult};
use wasmtime::{AsContextMut as _, StoreContextMut};

use super::bindings::peapod::ipc::types::Errno;
use crate::ipc::{self, Receiver, Sender};
use crate::wasi::MAX_TRANSFER;

/// Bytes asked from the host at once when the reader is not a guest with a buffer of its own.
const HOST_READ: usize = 8 * 1024;

/// What a pending poll answers when the guest wants its call back.
fn unless_finishing(finish: bool) -> Poll<wasmtime::Result<StreamResult>> {
    if finish { Poll::Ready(Ok(StreamResult::Cancelled)) } else { Poll::Pending }
}

type Done = oneshot::Sender<Result<(), Errno>>;

/// An end of a channel until its stream ends, and whom to tell.
struct End<E>(Option<(E, Done)>);

impl<E> End<E> {
    fn end(&mut self, result: ipc::Result<()>) -> Poll<wasmtime::Result<StreamResult>> {
        if let Some((end, done)) = self.0.take() {
            drop(end);
            // The guest may have dropped the future.
            let _ = done.send(result.map_err(Errno::from));
        }
        Poll::Ready(Ok(StreamResult::Dropped))
    }
}

impl<E> Drop for End<E> {
    fn drop(&mut self) {
        let _ = self.end(Ok(()));
    }
}

type Waiting = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(super) struct Receiving {
    end: End<Receiver>,
    /// What is left of the last message.
    rest: Bytes,
    waiting: Option<Waiting>,
}

impl Receiving {
    pub(super) fn new(receiver: Receiver, done: Done) -> Self {
        Self { end: End(Some((receiver, done))), rest: Bytes::new(), waiting: None }
    }

    /// Waits for bytes; `None` when there will be none.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<ipc::Result<Option<()>>> {
        while self.rest.is_empty() {
            let Some((receiver, _)) = &self.end.0 else { return Poll::Ready(Ok(None)) };
            match receiver.try_receive() {
                Ok(Some(message)) => {
                    self.waiting = None;
                    self.rest = message;
                }
                Ok(None) => return Poll::Ready(Ok(None)),
                Err(ipc::Errno::Again) => {
                    let receiver = receiver.clone();
                    let waiting =
                        self.waiting.get_or_insert_with(|| Box::pin(async move { receiver.ready().await }));
                    ready!(waiting.as_mut().poll(cx));
                    self.waiting = None;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(Some(())))
    }
}

impl<D> StreamProducer<D> for Receiving {
    type Item = u8;
    type Buffer = BytesMut;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, D>,
        destination: Destination<'a, Self::Item, Self::Buffer>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        match self.poll_rest(cx) {
            Poll::Ready(Ok(Some(()))) => {}
            Poll::Ready(Ok(None)) => {
                self.waiting = None;
                return self.end.end(Ok(()));
            }
            Poll::Ready(Err(error)) => {
                self.waiting = None;
                return self.end.end(Err(error));
            }
            Poll::Pending => return unless_finishing(finish),
        }
        if destination.remaining(store.as_context_mut()) == Some(0) {
            // A read of nothing asks whether there is something.
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let mut direct = destination.as_direct(store, HOST_READ);
        let place = direct.remaining();
        let count = place.len().min(self.rest.len());
        place[..count].copy_from_slice(&self.rest[..count]);
        self.rest.advance(count);
        direct.mark_written(count);
        Poll::Ready(Ok(StreamResult::Completed))
    }
}

pub(super) struct Sending {
    end: End<Sender>,
    /// Bytes of a message at most.
    message_size: usize,
    waiting: Option<Waiting>,
}

impl Sending {
    pub(super) fn new(sender: Sender, done: Done) -> Self {
        let message_size = (sender.attributes().message_size as usize).min(MAX_TRANSFER);
        Self { end: End(Some((sender, done))), message_size, waiting: None }
    }
}

impl<D> StreamConsumer<D> for Sending {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: StoreContextMut<'_, D>,
        source: Source<'_, Self::Item>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let this = &mut *self;
        let mut source = source.as_direct(store);
        loop {
            let Some((sender, _)) = &this.end.0 else { return Poll::Ready(Ok(StreamResult::Dropped)) };
            let count = source.remaining().len().min(this.message_size);
            let sent = match sender.check_room() {
                // A write of nothing asks whether there is room.
                Ok(()) if count == 0 => Ok(()),
                Ok(()) => sender.try_send(Bytes::copy_from_slice(&source.remaining()[..count])),
                Err(error) => Err(error),
            };
            match sent {
                Ok(()) => {
                    this.waiting = None;
                    source.mark_read(count);
                    return Poll::Ready(Ok(StreamResult::Completed));
                }
                Err(ipc::Errno::Again) => {
                    let sender = sender.clone();
                    let waiting =
                        this.waiting.get_or_insert_with(|| Box::pin(async move { sender.ready().await }));
                    if waiting.as_mut().poll(cx).is_pending() {
                        return unless_finishing(finish);
                    }
                    this.waiting = None;
                }
                Err(error) => {
                    this.waiting = None;
                    return this.end.end(Err(error));
                }
            }
        }
    }
}
