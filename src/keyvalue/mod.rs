//! The pod's key-value stores: buckets of pairs that all containers of the pod share. Knows nothing of wasmtime;
//! [`crate::wasi::keyvalue`] offers them to guests as `wasi:keyvalue`.
//!
//! ```text
//!  KeyValue, one for the pod ──open(bucket)──► Bucket ──get, set, …──► turns ──► blocking pool
//!   │ which bucket is in which volume            │ checks sizes                       │
//!   └─► Store, one for each volume  ◄────────────┘                                    ▼
//!        └─► place: .peapod/keyvalue.redb in the volume ──opened at the first use──► Database (redb)
//! ```
//!
//! Where a bucket is: in the volume that the pod's annotations name ([`KeyValueVolumes`]), and so as lasting as the
//! volume; without one in a directory of the pod's own, which outlives restarts of containers and ends with the pod.
//! All buckets of a volume are in one file. A bucket is there as soon as it is opened.
//!
//! ## Consistency
//!
//! Every operation is a transaction of its own: it happens as a whole or not at all, also where its container is
//! killed, and whoever asks after it has returned sees it. Writes of one store happen one after another; reads wait
//! for nobody. In a volume that outlives the pod a write is on the disk before it returns; what goes with the pod
//! anyway is not waited for.
//!
//! ## Files
//!
//! A file belongs to one process at a time (flock(2)): another pod that has the same volume is told so, and may try
//! again. What is no store, or a damaged one, is left as it is. A container that mounts the volume can write to the
//! file and so damage the store; it harms those who share the volume, as with any other file in it.

mod bucket;
mod database;
mod error;
mod place;
mod store;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Semaphore;

pub use bucket::{Bucket, Cas, Swap};
pub use database::Page;
pub use error::{Error, Result};

use self::place::Place;
use self::store::Store;
use crate::spec::{KeyValueVolumes, Pod, VolumeSource, keyvalue};
use crate::volume::Volumes;

/// Bytes of a key at most.
pub const MAX_KEY_BYTES: usize = 1024;

/// Bytes of a value at most: those of a ConfigMap, and what etcd takes with one request.
pub const MAX_VALUE_BYTES: usize = 1 << 20;

/// Keys of one batch at most.
pub const MAX_BATCH_KEYS: usize = 1024;

/// Bytes of keys and values of one batch at most, to write as well as to read.
pub const MAX_BATCH_BYTES: usize = 4 << 20;

/// Keys that one call lists at most.
pub const MAX_PAGE_KEYS: usize = 1024;

/// Operations of a pod that are carried out at the same time. Each holds up to [`MAX_BATCH_BYTES`] and one of the
/// pod's threads for file operations (`pod::launch`), and must leave most of both to others.
const MAX_OPERATIONS: usize = 4;

/// The key-value stores of one pod.
#[derive(Debug)]
pub struct KeyValue {
    buckets: KeyValueVolumes,
    volumes: BTreeMap<String, Arc<Store>>,
    own: Arc<Store>,
}

impl KeyValue {
    /// Those of `pod`, with its volumes ready. Nothing is opened or made yet. `own`: a directory of the pod's own, which
    /// need not be there.
    ///
    /// # Errors
    /// There are no descriptors left, or a volume for buckets is no directory.
    pub fn new(pod: &Pod, volumes: &Volumes, own: PathBuf) -> io::Result<Self> {
        let without = Self::without_volumes(own);
        let in_volume = |name: &str| {
            let no_directory = || io::Error::new(io::ErrorKind::NotADirectory, format!("volume {name:?}"));
            let directory = volumes.directory(name).ok_or_else(no_directory)?.try_clone()?;
            let source = pod.volumes.iter().find(|volume| volume.name == name).map(|volume| &volume.source);
            let goes_with_pod =
                matches!(source, Some(VolumeSource::EmptyDir { .. } | VolumeSource::Ephemeral { .. }));
            let place = Place::Volume { name: name.to_owned(), directory, durable: !goes_with_pod };
            Ok((name.to_owned(), without.own.beside(place)))
        };
        let volumes = pod.key_value.names().into_iter().map(in_volume).collect::<io::Result<_>>()?;
        Ok(Self { volumes, buckets: pod.key_value.clone(), ..without })
    }

    /// Those of a pod that has them all in `own`.
    pub fn without_volumes(own: PathBuf) -> Self {
        let own = Store::new(Place::Own(own), Arc::new(Semaphore::new(MAX_OPERATIONS)));
        Self { buckets: KeyValueVolumes::default(), volumes: BTreeMap::new(), own: Arc::new(own) }
    }

    /// Opens a bucket, which is made where it is not there.
    ///
    /// # Errors
    /// [`Error::NoSuchStore`] where it is no name of a bucket; its file cannot be opened.
    pub async fn open(&self, bucket: &str) -> Result<Bucket> {
        keyvalue::bucket(bucket).map_err(|_| Error::NoSuchStore)?;
        let store = self.buckets.of(bucket).and_then(|volume| self.volumes.get(volume)).unwrap_or(&self.own);
        store.open().await?;
        Ok(Bucket::new(Arc::clone(store), bucket.into()))
    }

    /// Where the buckets are that are in no volume; it need not be there.
    pub fn own_directory(&self) -> Option<&Path> {
        self.own.own_directory()
    }
}
