//! `wasi:keyvalue` (0.2.0-draft2, and 0.2.0-draft in `draft`) for guests: the pod's [`crate::keyvalue`], bucket by
//! bucket.
//!
//! ```text
//!  guest ─ open ────────────► Bucket ┐ in the store's table
//!        ─ cas.new ─────────► Cas ───┘
//!        ─ get, set, swap, … ► a future over crate::keyvalue: blocks this guest alone
//! ```
//!
//! `no-such-store` is the answer to what cannot be the name of a bucket; everything else that goes wrong is `other`,
//! with words that say what to do. `access-denied` is never answered: the buckets are the whole pod's.

mod atomics;
mod batch;
pub mod bindings;
mod draft;
mod store;

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable, ResourceTableError};

use self::bindings::wasi::keyvalue as wit;
use crate::keyvalue::{self, KeyValue};

/// Buckets and compare-and-swaps that one instance of a guest has open at most.
const MAX_HANDLES: usize = 1024;

/// A guest's way to the pod's key-value stores.
pub struct KeyValueCtx {
    key_value: Arc<KeyValue>,
    handles: Arc<Semaphore>,
}

impl KeyValueCtx {
    /// For one instance of a guest.
    pub fn new(key_value: Arc<KeyValue>) -> Self {
        Self { key_value, handles: Arc::new(Semaphore::new(MAX_HANDLES)) }
    }
}

/// [`KeyValueCtx`] and the store's resources, for the time of one call.
pub struct KeyValueCtxView<'a> {
    /// What opens buckets.
    pub ctx: &'a KeyValueCtx,
    /// Where the guest's resources are.
    pub table: &'a mut ResourceTable,
}

/// A store's data that has `wasi:keyvalue`.
pub trait KeyValueView: Send {
    /// Access to it.
    fn key_value(&mut self) -> KeyValueCtxView<'_>;
}

/// Tells wasmtime's linker that the host of `wasi:keyvalue` is a [`KeyValueCtxView`].
struct KeyValueHost;

impl HasData for KeyValueHost {
    type Data<'a> = KeyValueCtxView<'a>;
}

/// Adds `wasi:keyvalue` to the linker.
///
/// # Errors
/// As [`crate::wasi::add_to_linker`].
pub fn add_to_linker<T: KeyValueView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    wit::store::add_to_linker::<T, KeyValueHost>(linker, T::key_value)?;
    wit::atomics::add_to_linker::<T, KeyValueHost>(linker, T::key_value)?;
    wit::batch::add_to_linker::<T, KeyValueHost>(linker, T::key_value)?;
    draft::add_to_linker(linker)
}

/// A resource of a guest. There is a bound on how many it has.
pub struct Handle<T> {
    value: T,
    _place: OwnedSemaphorePermit,
}

/// A guest's bucket.
pub type Bucket = Handle<keyvalue::Bucket>;

/// A guest's compare-and-swap.
pub type Cas = Handle<keyvalue::Cas>;

/// An error for the guest, or a trap.
#[derive(Debug)]
pub enum Error {
    /// Returned to the guest.
    Returned(wit::store::Error),
    /// The guest broke the rules of its resources.
    Trap(wasmtime::Error),
}

/// Result of a call.
pub type Result<T> = std::result::Result<T, Error>;

impl From<keyvalue::Error> for Error {
    fn from(error: keyvalue::Error) -> Self {
        Self::Returned(error.into())
    }
}

impl From<keyvalue::Error> for wit::store::Error {
    fn from(error: keyvalue::Error) -> Self {
        match error {
            keyvalue::Error::NoSuchStore => Self::NoSuchStore,
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<ResourceTableError> for Error {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

impl KeyValueCtxView<'_> {
    /// Puts a resource into the table.
    fn push<T: Send + 'static>(&mut self, value: T) -> Result<Resource<Handle<T>>> {
        let Ok(place) = Arc::clone(&self.ctx.handles).try_acquire_owned() else {
            let message =
                format!("too many buckets and compare-and-swaps are open: {MAX_HANDLES}; drop some");
            return Err(Error::Returned(wit::store::Error::Other(message)));
        };
        Ok(self.table.push(Handle { value, _place: place })?)
    }

    /// A copy to work with while the table is free.
    fn get<T: Clone + Send + 'static>(&self, handle: &Resource<Handle<T>>) -> Result<T> {
        Ok(self.table.get(handle)?.value.clone())
    }
}
