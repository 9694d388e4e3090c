//! `atomics`.

use wasmtime::component::Resource;

use super::bindings::wasi::keyvalue::atomics::{CasError, Host, HostCas};
use super::{Bucket, Cas, Error, Handle, KeyValueCtxView, Result};
use crate::keyvalue::Swap;

type This = Resource<Cas>;

impl Host for KeyValueCtxView<'_> {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: i64) -> Result<i64> {
        Ok(self.get(&bucket)?.increment(key, delta).await?)
    }

    async fn swap(
        &mut self,
        this: This,
        value: Vec<u8>,
    ) -> wasmtime::Result<std::result::Result<(), CasError>> {
        // Its place goes to the next one.
        let Handle { value: cas, _place: place } = self.table.delete(this)?;
        match cas.swap(value).await {
            Ok(Swap::Done) => Ok(Ok(())),
            Ok(Swap::Changed(cas)) => {
                let next = self.table.push(Handle { value: cas, _place: place })?;
                Ok(Err(CasError::CasFailed(next)))
            }
            Err(error) => Ok(Err(CasError::StoreError(error.into()))),
        }
    }
}

impl HostCas for KeyValueCtxView<'_> {
    async fn new(&mut self, bucket: Resource<Bucket>, key: String) -> Result<This> {
        let cas = self.get(&bucket)?.cas(key).await?;
        self.push(cas)
    }

    async fn current(&mut self, this: This) -> Result<Option<Vec<u8>>> {
        let mut cas = self.get(&this)?;
        let value = cas.current().await?;
        self.table.get_mut(&this).map_err(Error::from)?.value = cas;
        Ok(value)
    }

    async fn drop(&mut self, this: This) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
