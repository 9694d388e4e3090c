//! `store`.

use wasmtime::component::Resource;

use super::bindings::wasi::keyvalue::store::{self, Host, HostBucket, KeyResponse};
use super::{Bucket, Error, KeyValueCtxView, Result};
use crate::keyvalue::Page;

type This = Resource<Bucket>;

impl Host for KeyValueCtxView<'_> {
    async fn open(&mut self, identifier: String) -> Result<This> {
        let bucket = self.ctx.key_value.open(&identifier).await?;
        self.push(bucket)
    }

    fn convert_error(&mut self, error: Error) -> wasmtime::Result<store::Error> {
        match error {
            Error::Returned(error) => Ok(error),
            Error::Trap(error) => Err(error),
        }
    }
}

impl HostBucket for KeyValueCtxView<'_> {
    async fn get(&mut self, this: This, key: String) -> Result<Option<Vec<u8>>> {
        Ok(KeyValueCtxView::get(self, &this)?.get(key).await?)
    }

    async fn set(&mut self, this: This, key: String, value: Vec<u8>) -> Result<()> {
        Ok(KeyValueCtxView::get(self, &this)?.set(key, value).await?)
    }

    async fn delete(&mut self, this: This, key: String) -> Result<()> {
        Ok(KeyValueCtxView::get(self, &this)?.delete(key).await?)
    }

    async fn exists(&mut self, this: This, key: String) -> Result<bool> {
        Ok(KeyValueCtxView::get(self, &this)?.exists(key).await?)
    }

    async fn list_keys(&mut self, this: This, cursor: Option<String>) -> Result<KeyResponse> {
        let Page { keys, cursor } = KeyValueCtxView::get(self, &this)?.list(cursor).await?;
        Ok(KeyResponse { keys, cursor })
    }

    async fn drop(&mut self, this: This) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
