//! `wasi:keyvalue` 0.2.0-draft, which wasmtime itself has, on the same buckets: for components that were built for it.
//! Against draft2 it has no compare-and-swap, cursors that are numbers, and increments without a sign.

use wasmtime::component::{Linker, Resource};

use self::bindings::wasi::keyvalue as wit;
use super::{Bucket, Error, KeyValueCtxView, KeyValueHost, KeyValueView, Result};
use crate::keyvalue::Page;

/// Generated from `wit/wasi-keyvalue-draft`.
#[allow(missing_docs, reason = "generated; the WIT documents it")]
mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/wasi-keyvalue-draft",
        world: "wasi:keyvalue/imports",
        imports: { default: async | trappable },
        trappable_error_type: {
            "wasi:keyvalue/store.error" => crate::wasi::keyvalue::Error,
        },
        require_store_data_send: true,
        with: {
            "wasi:keyvalue/store.bucket": crate::wasi::keyvalue::Bucket,
        },
    });
}

type This = Resource<Bucket>;

pub(super) fn add_to_linker<T: KeyValueView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    wit::store::add_to_linker::<T, KeyValueHost>(linker, T::key_value)?;
    wit::atomics::add_to_linker::<T, KeyValueHost>(linker, T::key_value)?;
    wit::batch::add_to_linker::<T, KeyValueHost>(linker, T::key_value)
}

impl wit::store::Host for KeyValueCtxView<'_> {
    async fn open(&mut self, identifier: String) -> Result<This> {
        let bucket = self.ctx.key_value.open(&identifier).await?;
        self.push(bucket)
    }

    fn convert_error(&mut self, error: Error) -> wasmtime::Result<wit::store::Error> {
        use super::wit::store::Error as Newer;
        match error {
            Error::Returned(Newer::NoSuchStore) => Ok(wit::store::Error::NoSuchStore),
            Error::Returned(Newer::AccessDenied) => Ok(wit::store::Error::AccessDenied),
            Error::Returned(Newer::Other(text)) => Ok(wit::store::Error::Other(text)),
            Error::Trap(error) => Err(error),
        }
    }
}

impl wit::store::HostBucket for KeyValueCtxView<'_> {
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

    /// A cursor is the number of keys before it; each page is looked up from the first key on.
    async fn list_keys(&mut self, this: This, cursor: Option<u64>) -> Result<wit::store::KeyResponse> {
        let bucket = KeyValueCtxView::get(self, &this)?;
        let (mut before, wanted) = (0, cursor.unwrap_or_default());
        let mut next = None;
        loop {
            let Page { keys, cursor } = bucket.list(next).await?;
            let after = before + keys.len() as u64;
            if after > wanted || cursor.is_none() {
                let skipped = wanted.saturating_sub(before).min(keys.len() as u64);
                let keys = keys.into_iter().skip(usize::try_from(skipped).unwrap_or(usize::MAX)).collect();
                return Ok(wit::store::KeyResponse { keys, cursor: cursor.map(|_| after) });
            }
            (before, next) = (after, cursor);
        }
    }

    async fn drop(&mut self, this: This) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl wit::atomics::Host for KeyValueCtxView<'_> {
    async fn increment(&mut self, bucket: This, key: String, delta: u64) -> Result<u64> {
        let out_of_range = |_| {
            let text = "a number that 0.2.0-draft and 0.2.0-draft2 share has 63 bits and no sign".to_owned();
            Error::Returned(super::wit::store::Error::Other(text))
        };
        let delta = i64::try_from(delta).map_err(out_of_range)?;
        let number = self.get(&bucket)?.increment(key, delta).await?;
        u64::try_from(number).map_err(out_of_range)
    }
}

impl wit::batch::Host for KeyValueCtxView<'_> {
    async fn get_many(&mut self, this: This, keys: Vec<String>) -> Result<Vec<Option<(String, Vec<u8>)>>> {
        let found = self.get(&this)?.get_many(keys).await?;
        Ok(found.into_iter().map(|(key, value)| value.map(|value| (key, value))).collect())
    }

    async fn set_many(&mut self, this: This, pairs: Vec<(String, Vec<u8>)>) -> Result<()> {
        Ok(self.get(&this)?.set_many(pairs).await?)
    }

    async fn delete_many(&mut self, this: This, keys: Vec<String>) -> Result<()> {
        Ok(self.get(&this)?.delete_many(keys).await?)
    }
}
