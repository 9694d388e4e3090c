//! The interfaces `…-async`: what waits, without blocking more than the task that calls.

use bytes::Bytes;
use tokio::sync::oneshot;
use wasmtime::component::{Access, Accessor, FutureReader, Resource, StreamReader};

use super::bindings::peapod::ipc::message_queue::Message;
use super::bindings::peapod::ipc::shared_memory::WaitResult;
use super::bindings::peapod::ipc::types::Errno;
use super::bindings::peapod::ipc::{
    channel_async, message_queue_async, semaphore_async, shared_memory_async,
};
use super::bytes_stream::{Receiving, Sending};
use super::{IpcCtxView, IpcHost, Result, timeout};
use crate::ipc::{Queue, Receiver, Segment, Semaphore, Sender};

impl message_queue_async::Host for IpcCtxView<'_> {}
impl shared_memory_async::Host for IpcCtxView<'_> {}
impl semaphore_async::Host for IpcCtxView<'_> {}
impl channel_async::Host for IpcCtxView<'_> {}

/// The object behind a resource.
fn get<T: 'static, O: Clone + Send + 'static>(store: &Accessor<T, IpcHost>, this: &Resource<O>) -> Result<O> {
    Ok(store.with(|mut view| view.get().table.get(this).cloned())?)
}

impl<T: Send + 'static> message_queue_async::HostWithStore<T> for IpcHost {
    async fn send(
        store: &Accessor<T, Self>,
        queue: Resource<Queue>,
        data: Vec<u8>,
        priority: u32,
        limit: Option<u64>,
    ) -> Result<()> {
        Ok(get(store, &queue)?.send(&data, priority, timeout(limit)).await?)
    }

    async fn receive(
        store: &Accessor<T, Self>,
        queue: Resource<Queue>,
        limit: Option<u64>,
    ) -> Result<Message> {
        Ok(get(store, &queue)?.receive(timeout(limit)).await?.into())
    }
}

impl<T: Send + 'static> shared_memory_async::HostWithStore<T> for IpcHost {
    async fn wait(
        store: &Accessor<T, Self>,
        segment: Resource<Segment>,
        offset: u64,
        expected: u32,
        limit: Option<u64>,
    ) -> Result<WaitResult> {
        Ok(get(store, &segment)?.wait(offset, expected, timeout(limit)).await?.into())
    }
}

impl<T: Send + 'static> semaphore_async::HostWithStore<T> for IpcHost {
    async fn acquire(
        store: &Accessor<T, Self>,
        semaphore: Resource<Semaphore>,
        permits: u32,
        limit: Option<u64>,
    ) -> Result<()> {
        Ok(get(store, &semaphore)?.acquire(permits, timeout(limit)).await?)
    }
}

impl<T: Send + 'static> channel_async::HostWithStore<T> for IpcHost {
    async fn send(
        store: &Accessor<T, Self>,
        sender: Resource<Sender>,
        message: Vec<u8>,
        limit: Option<u64>,
    ) -> Result<()> {
        Ok(get(store, &sender)?.send(message.into(), timeout(limit)).await?)
    }

    async fn receive(
        store: &Accessor<T, Self>,
        receiver: Resource<Receiver>,
        limit: Option<u64>,
    ) -> Result<Option<Vec<u8>>> {
        Ok(get(store, &receiver)?.receive(timeout(limit)).await?.map(Bytes::into))
    }

    fn send_bytes(
        mut store: Access<'_, T, Self>,
        sender: Resource<Sender>,
        data: StreamReader<u8>,
    ) -> wasmtime::Result<FutureReader<std::result::Result<(), Errno>>> {
        let sender = store.get().table.delete(sender)?;
        let (done, result) = oneshot::channel();
        data.pipe(&mut store, Sending::new(sender, done))?;
        FutureReader::new(&mut store, result)
    }

    fn receive_bytes(
        mut store: Access<'_, T, Self>,
        receiver: Resource<Receiver>,
    ) -> wasmtime::Result<(StreamReader<u8>, FutureReader<std::result::Result<(), Errno>>)> {
        let receiver = store.get().table.delete(receiver)?;
        let (done, result) = oneshot::channel();
        let stream = StreamReader::new(&mut store, Receiving::new(receiver, done))?;
        Ok((stream, FutureReader::new(&mut store, result)?))
    }
}
