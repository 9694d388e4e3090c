//! Pollables over the readiness of objects.

use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};

use super::IpcCtxView;
use crate::ipc;

/// What a pollable waits for. It has the object too, so that the guest may drop that first.
pub(super) enum Ready {
    QueueReadable(ipc::Queue),
    QueueWritable(ipc::Queue),
    Address(ipc::AddressWait),
    Semaphore(ipc::Semaphore),
    Sender(ipc::Sender),
    Receiver(ipc::Receiver),
}

#[async_trait]
impl Pollable for Ready {
    async fn ready(&mut self) {
        match self {
            Self::QueueReadable(queue) => queue.readable().await,
            Self::QueueWritable(queue) => queue.writable().await,
            Self::Address(wait) => wait.ready().await,
            Self::Semaphore(semaphore) => semaphore.ready().await,
            Self::Sender(sender) => sender.ready().await,
            Self::Receiver(receiver) => receiver.ready().await,
        }
    }
}

impl IpcCtxView<'_> {
    pub(super) fn pollable(&mut self, ready: Ready) -> wasmtime::Result<Resource<DynPollable>> {
        let ready = self.table.push(ready)?;
        subscribe(self.table, ready)
    }
}
