//! `message-queue`.

use wasmtime::component::Resource;
use wasmtime_wasi_io::poll::DynPollable;

use super::bindings::peapod::ipc::message_queue::{Attributes, Host, HostQueue, Message, Status};
use super::bindings::peapod::ipc::types::{Access, OpenFlags};
use super::ready::Ready;
use super::{IpcCtxView, Result, how, timeout};
use crate::ipc::{Name, Queue, QueueAttributes};

impl Host for IpcCtxView<'_> {
    fn unlink(&mut self, name: String) -> Result<()> {
        Ok(self.handle.unlink_queue(&Name::new(&name)?)?)
    }
}

impl HostQueue for IpcCtxView<'_> {
    fn open(
        &mut self,
        name: String,
        access: Access,
        flags: OpenFlags,
        attributes: Option<Attributes>,
    ) -> Result<Resource<Queue>> {
        let attributes = attributes
            .map(|Attributes { max_messages, message_size }| QueueAttributes { max_messages, message_size });
        let queue = self.handle.open_queue(&Name::new(&name)?, access.into(), how(flags)?, attributes)?;
        Ok(self.table.push(queue)?)
    }

    fn status(&mut self, this: Resource<Queue>) -> Result<Status> {
        let status = self.table.get(&this)?.status()?;
        let attributes = Attributes { max_messages: status.max_messages, message_size: status.message_size };
        Ok(Status { attributes, messages: status.messages })
    }

    fn try_send(&mut self, this: Resource<Queue>, data: Vec<u8>, priority: u32) -> Result<()> {
        Ok(self.table.get(&this)?.try_send(&data, priority)?)
    }

    async fn send(
        &mut self,
        this: Resource<Queue>,
        data: Vec<u8>,
        priority: u32,
        limit: Option<u64>,
    ) -> Result<()> {
        Ok(self.table.get(&this)?.send(&data, priority, timeout(limit)).await?)
    }

    fn subscribe_writable(&mut self, this: Resource<Queue>) -> wasmtime::Result<Resource<DynPollable>> {
        let queue = self.table.get(&this)?.clone();
        self.pollable(Ready::QueueWritable(queue))
    }

    fn try_receive(&mut self, this: Resource<Queue>) -> Result<Message> {
        Ok(self.table.get(&this)?.try_receive()?.into())
    }

    async fn receive(&mut self, this: Resource<Queue>, limit: Option<u64>) -> Result<Message> {
        Ok(self.table.get(&this)?.receive(timeout(limit)).await?.into())
    }

    fn subscribe_readable(&mut self, this: Resource<Queue>) -> wasmtime::Result<Resource<DynPollable>> {
        let queue = self.table.get(&this)?.clone();
        self.pollable(Ready::QueueReadable(queue))
    }

    fn drop(&mut self, this: Resource<Queue>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl From<(Vec<u8>, u32)> for Message {
    fn from((data, priority): (Vec<u8>, u32)) -> Self {
        Self { data, priority }
    }
}
