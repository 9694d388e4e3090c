//! `semaphore`.

use wasmtime::component::Resource;
use wasmtime_wasi_io::poll::DynPollable;

use super::bindings::peapod::ipc::semaphore::{Host, HostSemaphore};
use super::bindings::peapod::ipc::types::OpenFlags;
use super::ready::Ready;
use super::{IpcCtxView, Result, how, timeout};
use crate::ipc::{Name, Semaphore};

impl Host for IpcCtxView<'_> {
    fn unlink(&mut self, name: String) -> Result<()> {
        Ok(self.handle.unlink_semaphore(&Name::new(&name)?)?)
    }
}

impl HostSemaphore for IpcCtxView<'_> {
    fn open(
        &mut self,
        name: String,
        flags: OpenFlags,
        initial: u32,
        undo: bool,
    ) -> Result<Resource<Semaphore>> {
        let semaphore = self.handle.open_semaphore(&Name::new(&name)?, how(flags)?, initial, undo)?;
        Ok(self.table.push(semaphore)?)
    }

    fn value(&mut self, this: Resource<Semaphore>) -> wasmtime::Result<u32> {
        Ok(self.table.get(&this)?.value())
    }

    fn try_acquire(&mut self, this: Resource<Semaphore>, permits: u32) -> Result<()> {
        Ok(self.table.get(&this)?.try_acquire(permits)?)
    }

    async fn acquire(&mut self, this: Resource<Semaphore>, permits: u32, limit: Option<u64>) -> Result<()> {
        Ok(self.table.get(&this)?.acquire(permits, timeout(limit)).await?)
    }

    fn subscribe(&mut self, this: Resource<Semaphore>) -> wasmtime::Result<Resource<DynPollable>> {
        let semaphore = self.table.get(&this)?.clone();
        self.pollable(Ready::Semaphore(semaphore))
    }

    fn release(&mut self, this: Resource<Semaphore>, permits: u32) -> Result<()> {
        Ok(self.table.get(&this)?.release(permits)?)
    }

    fn drop(&mut self, this: Resource<Semaphore>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
