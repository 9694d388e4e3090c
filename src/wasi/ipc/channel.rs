//! `channel`.

use bytes::Bytes;
use wasmtime::component::Resource;
use wasmtime_wasi_io::poll::DynPollable;

use super::bindings::peapod::ipc::channel::{Attributes, Delivery, Host, HostReceiver, HostSender};
use super::ready::Ready;
use super::{IpcCtxView, Result, timeout};
use crate::ipc::{self, ChannelAttributes, Name, Receiver, Sender};

impl From<Attributes> for ChannelAttributes {
    fn from(Attributes { delivery, max_messages, message_size }: Attributes) -> Self {
        let delivery = match delivery {
            Delivery::ToOne => ipc::Delivery::ToOne,
            Delivery::ToAll => ipc::Delivery::ToAll,
        };
        Self { delivery, max_messages, message_size }
    }
}

impl From<ChannelAttributes> for Attributes {
    fn from(ChannelAttributes { delivery, max_messages, message_size }: ChannelAttributes) -> Self {
        let delivery = match delivery {
            ipc::Delivery::ToOne => Delivery::ToOne,
            ipc::Delivery::ToAll => Delivery::ToAll,
        };
        Self { delivery, max_messages, message_size }
    }
}

impl Host for IpcCtxView<'_> {
    fn unlink(&mut self, name: String) -> Result<()> {
        Ok(self.handle.unlink_channel(&Name::new(&name)?)?)
    }
}

impl HostSender for IpcCtxView<'_> {
    fn open(&mut self, name: String, attributes: Option<Attributes>) -> Result<Resource<Sender>> {
        let sender = self.handle.open_sender(&Name::new(&name)?, attributes.map(Into::into))?;
        Ok(self.table.push(sender)?)
    }

    fn attributes(&mut self, this: Resource<Sender>) -> wasmtime::Result<Attributes> {
        Ok(self.table.get(&this)?.attributes().into())
    }

    fn try_send(&mut self, this: Resource<Sender>, message: Vec<u8>) -> Result<()> {
        Ok(self.table.get(&this)?.try_send(message.into())?)
    }

    async fn send(&mut self, this: Resource<Sender>, message: Vec<u8>, limit: Option<u64>) -> Result<()> {
        Ok(self.table.get(&this)?.send(message.into(), timeout(limit)).await?)
    }

    fn subscribe(&mut self, this: Resource<Sender>) -> wasmtime::Result<Resource<DynPollable>> {
        let sender = self.table.get(&this)?.clone();
        self.pollable(Ready::Sender(sender))
    }

    fn drop(&mut self, this: Resource<Sender>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl HostReceiver for IpcCtxView<'_> {
    fn open(&mut self, name: String, attributes: Option<Attributes>) -> Result<Resource<Receiver>> {
        let receiver = self.handle.open_receiver(&Name::new(&name)?, attributes.map(Into::into))?;
        Ok(self.table.push(receiver)?)
    }

    fn attributes(&mut self, this: Resource<Receiver>) -> wasmtime::Result<Attributes> {
        Ok(self.table.get(&this)?.attributes().into())
    }

    fn try_receive(&mut self, this: Resource<Receiver>) -> Result<Option<Vec<u8>>> {
        Ok(self.table.get(&this)?.try_receive()?.map(Bytes::into))
    }

    async fn receive(&mut self, this: Resource<Receiver>, limit: Option<u64>) -> Result<Option<Vec<u8>>> {
        Ok(self.table.get(&this)?.receive(timeout(limit)).await?.map(Bytes::into))
    }

    fn subscribe(&mut self, this: Resource<Receiver>) -> wasmtime::Result<Resource<DynPollable>> {
        let receiver = self.table.get(&this)?.clone();
        self.pollable(Ready::Receiver(receiver))
    }

    fn drop(&mut self, this: Resource<Receiver>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
