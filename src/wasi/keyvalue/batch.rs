//! `batch`: unlike the interface asks, each of its functions is atomic.

use wasmtime::component::Resource;

use super::bindings::wasi::keyvalue::batch::Host;
use super::{Bucket, KeyValueCtxView, Result};

type This = Resource<Bucket>;

impl Host for KeyValueCtxView<'_> {
    async fn get_many(&mut self, this: This, keys: Vec<String>) -> Result<Vec<(String, Option<Vec<u8>>)>> {
        Ok(self.get(&this)?.get_many(keys).await?)
    }

    async fn set_many(&mut self, this: This, pairs: Vec<(String, Vec<u8>)>) -> Result<()> {
        Ok(self.get(&this)?.set_many(pairs).await?)
    }

    async fn delete_many(&mut self, this: This, keys: Vec<String>) -> Result<()> {
        Ok(self.get(&this)?.delete_many(keys).await?)
    }
}
