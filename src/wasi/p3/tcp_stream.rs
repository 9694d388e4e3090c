//! The three streams of TCP in 0.3: accepted sockets, bytes received, bytes sent.
//!
//! Bytes are read and written straight in the guest's memory. A stream that ends resolves the future
//! that goes with it; one that the guest drops closes its direction of the connection.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::oneshot;
use tokio::time::Sleep;
use wasmtime::component::{Destination, Resource, Source, StreamConsumer, StreamProducer, StreamResult};
use wasmtime::{AsContextMut as _, StoreContextMut};

use super::bindings::wasi::sockets::types::ErrorCode;
use crate::net::{Acceptor, Error, ReceiveHalf, SendHalf, TcpSocket};
use crate::wasi::SocketsCtxView;

/// Bytes asked from the host at once when the reader is not a guest with a buffer of its own.
const HOST_READ: usize = 8 * 1024;

/// How long accepting rests after the host ran out of sockets or memory. The stream has no way to
/// tell the guest, and trying again at once would fail again.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// What a pending poll answers when the guest wants its call back.
fn unless_finishing(finish: bool) -> Poll<wasmtime::Result<StreamResult>> {
    if finish { Poll::Ready(Ok(StreamResult::Cancelled)) } else { Poll::Pending }
}

pub(super) struct Accepting<T: 'static> {
    pub(super) acceptor: Acceptor,
    pub(super) getter: for<'a> fn(&'a mut T) -> SocketsCtxView<'a>,
    pub(super) rest: Option<Pin<Box<Sleep>>>,
}

impl<T> Accepting<T> {
    /// `None` is the end: the socket no longer listens.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<TcpSocket>> {
        loop {
            if let Some(rest) = &mut self.rest {
                ready!(rest.as_mut().poll(cx));
                self.rest = None;
            }
            // Without room for a socket accepting fails at once; that matters only when there is someone.
            ready!(self.acceptor.poll_ready(cx));
            match ready!(self.acceptor.poll_accept(cx)) {
                Ok(socket) => return Poll::Ready(Some(socket)),
                Err(Error::InvalidArgument) => return Poll::Ready(None),
                Err(_) => self.rest = Some(Box::pin(tokio::time::sleep(ACCEPT_REST))),
            }
        }
    }
}

impl<D: 'static> StreamProducer<D> for Accepting<D> {
    type Item = Resource<TcpSocket>;
    type Buffer = Option<Self::Item>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, D>,
        mut destination: Destination<'a, Self::Item, Self::Buffer>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        if destination.remaining(&mut store) == Some(0) {
            // A read of nothing asks whether there is something.
            return match self.acceptor.poll_ready(cx) {
                Poll::Ready(()) => Poll::Ready(Ok(StreamResult::Completed)),
                Poll::Pending => unless_finishing(finish),
            };
        }
        match self.poll_accept(cx) {
            Poll::Ready(Some(socket)) => {
                let resource = (self.getter)(store.data_mut()).table.push(socket)?;
                destination.set_buffer(Some(resource));
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Poll::Ready(None) => Poll::Ready(Ok(StreamResult::Dropped)),
            Poll::Pending => unless_finishing(finish),
        }
    }
}

type Done = oneshot::Sender<Result<(), ErrorCode>>;

/// One half of a connection until its stream ends, and whom to tell.
struct Half<H>(Option<(H, Done)>);

impl<H> Half<H> {
    fn end(&mut self, result: Result<(), Error>) -> Poll<wasmtime::Result<StreamResult>> {
        if let Some((half, done)) = self.0.take() {
            drop(half);
            // The guest may have dropped the future.
            let _ = done.send(result.map_err(ErrorCode::from));
        }
        Poll::Ready(Ok(StreamResult::Dropped))
    }
}

impl<H> Drop for Half<H> {
    fn drop(&mut self) {
        let _ = self.end(Ok(()));
    }
}

pub(super) struct Receiving(Half<ReceiveHalf>);

impl Receiving {
    pub(super) fn new(half: ReceiveHalf, done: Done) -> Self {
        Self(Half(Some((half, done))))
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
        let Some((half, _)) = &self.0.0 else { return Poll::Ready(Ok(StreamResult::Dropped)) };
        if destination.remaining(store.as_context_mut()) == Some(0) {
            return match half.poll_ready(cx) {
                Poll::Ready(()) => Poll::Ready(Ok(StreamResult::Completed)),
                Poll::Pending => unless_finishing(finish),
            };
        }
        let mut direct = destination.as_direct(store, HOST_READ);
        match half.poll_read(cx, direct.remaining()) {
            Poll::Ready(Ok(0)) => self.0.end(Ok(())),
            Poll::Ready(Ok(n)) => {
                direct.mark_written(n);
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Poll::Ready(Err(error)) => self.0.end(Err(error)),
            Poll::Pending => unless_finishing(finish),
        }
    }
}

pub(super) struct Sending(Half<SendHalf>);

impl Sending {
    pub(super) fn new(half: SendHalf, done: Done) -> Self {
        Self(Half(Some((half, done))))
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
        let Some((half, _)) = &self.0.0 else { return Poll::Ready(Ok(StreamResult::Dropped)) };
        let mut source = source.as_direct(store);
        if source.remaining().is_empty() {
            return match half.poll_ready(cx) {
                Poll::Ready(()) => Poll::Ready(Ok(StreamResult::Completed)),
                Poll::Pending => unless_finishing(finish),
            };
        }
        match half.poll_write(cx, source.remaining()) {
            Poll::Ready(Ok(n)) => {
                source.mark_read(n);
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Poll::Ready(Err(error)) => self.0.end(Err(error)),
            Poll::Pending => unless_finishing(finish),
        }
    }
}
