//! `shared-memory`.

use wasmtime::component::Resource;
use wasmtime_wasi_io::poll::DynPollable;

use super::bindings::peapod::ipc::shared_memory::{Host, HostSegment, WaitResult};
use super::bindings::peapod::ipc::types::{Access, OpenFlags};
use super::ready::Ready;
use super::{IpcCtxView, Result, how, timeout};
use crate::ipc::{self, Name, Segment};

impl From<ipc::WaitResult> for WaitResult {
    fn from(result: ipc::WaitResult) -> Self {
        match result {
            ipc::WaitResult::Notified => Self::Notified,
            ipc::WaitResult::Mismatch => Self::Mismatch,
        }
    }
}

impl Host for IpcCtxView<'_> {
    fn unlink(&mut self, name: String) -> Result<()> {
        Ok(self.handle.unlink_segment(&Name::new(&name)?)?)
    }
}

impl HostSegment for IpcCtxView<'_> {
    async fn open(
        &mut self,
        name: String,
        access: Access,
        flags: OpenFlags,
        size: Option<u64>,
    ) -> Result<Resource<Segment>> {
        let name = Name::new(&name)?;
        let segment = self.handle.open_segment(&name, access.into(), how(flags)?, size).await?;
        Ok(self.table.push(segment)?)
    }

    fn size(&mut self, this: Resource<Segment>) -> Result<u64> {
        Ok(self.table.get(&this)?.size()?)
    }

    async fn resize(&mut self, this: Resource<Segment>, size: u64) -> Result<()> {
        Ok(self.table.get(&this)?.resize(size).await?)
    }

    fn read(&mut self, this: Resource<Segment>, offset: u64, length: u64) -> Result<Vec<u8>> {
        Ok(self.table.get(&this)?.read(offset, length)?)
    }

    fn write(&mut self, this: Resource<Segment>, offset: u64, data: Vec<u8>) -> Result<()> {
        Ok(self.table.get(&this)?.write(offset, &data)?)
    }

    fn copy_from(
        &mut self,
        this: Resource<Segment>,
        offset: u64,
        source: Resource<Segment>,
        source_offset: u64,
        length: u64,
    ) -> Result<()> {
        let source = self.table.get(&source)?;
        Ok(self.table.get(&this)?.copy_from(offset, source, source_offset, length)?)
    }

    fn load_u32(&mut self, this: Resource<Segment>, offset: u64) -> Result<u32> {
        Ok(self.table.get(&this)?.load_u32(offset)?)
    }

    fn load_u64(&mut self, this: Resource<Segment>, offset: u64) -> Result<u64> {
        Ok(self.table.get(&this)?.load_u64(offset)?)
    }

    fn store_u32(&mut self, this: Resource<Segment>, offset: u64, value: u32) -> Result<()> {
        Ok(self.table.get(&this)?.store_u32(offset, value)?)
    }

    fn store_u64(&mut self, this: Resource<Segment>, offset: u64, value: u64) -> Result<()> {
        Ok(self.table.get(&this)?.store_u64(offset, value)?)
    }

    fn fetch_add_u32(&mut self, this: Resource<Segment>, offset: u64, value: u32) -> Result<u32> {
        Ok(self.table.get(&this)?.fetch_add_u32(offset, value)?)
    }

    fn fetch_add_u64(&mut self, this: Resource<Segment>, offset: u64, value: u64) -> Result<u64> {
        Ok(self.table.get(&this)?.fetch_add_u64(offset, value)?)
    }

    fn compare_and_swap_u32(
        &mut self,
        this: Resource<Segment>,
        offset: u64,
        expected: u32,
        new: u32,
    ) -> Result<u32> {
        Ok(self.table.get(&this)?.compare_and_swap_u32(offset, expected, new)?)
    }

    fn compare_and_swap_u64(
        &mut self,
        this: Resource<Segment>,
        offset: u64,
        expected: u64,
        new: u64,
    ) -> Result<u64> {
        Ok(self.table.get(&this)?.compare_and_swap_u64(offset, expected, new)?)
    }

    async fn wait(
        &mut self,
        this: Resource<Segment>,
        offset: u64,
        expected: u32,
        limit: Option<u64>,
    ) -> Result<WaitResult> {
        Ok(self.table.get(&this)?.wait(offset, expected, timeout(limit)).await?.into())
    }

    fn subscribe(
        &mut self,
        this: Resource<Segment>,
        offset: u64,
        expected: u32,
    ) -> Result<Resource<DynPollable>> {
        let wait = self.table.get(&this)?.begin_wait(offset, expected)?;
        self.pollable(Ready::Address(wait)).map_err(super::Error::Trap)
    }

    fn notify(&mut self, this: Resource<Segment>, offset: u64, count: u32) -> Result<u32> {
        Ok(self.table.get(&this)?.notify(offset, count)?)
    }

    fn drop(&mut self, this: Resource<Segment>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
