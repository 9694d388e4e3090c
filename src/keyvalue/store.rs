//! One file with buckets, and who may use it when.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::database::Database;
use super::place::Place;
use super::{Error, Result};

/// One file with buckets. It is opened at the first use.
#[derive(Debug)]
pub(super) struct Store {
    place: Place,
    database: Mutex<Option<Arc<Database>>>,
    /// One for who writes: those who wait for their turn hold no thread.
    writer: Arc<Semaphore>,
    /// Operations of the whole pod.
    operations: Arc<Semaphore>,
}

impl Store {
    pub(super) fn new(place: Place, operations: Arc<Semaphore>) -> Self {
        Self { place, database: Mutex::new(None), writer: Arc::new(Semaphore::new(1)), operations }
    }

    /// Another one of the same pod.
    pub(super) fn beside(&self, place: Place) -> Arc<Self> {
        Arc::new(Self::new(place, Arc::clone(&self.operations)))
    }

    /// Opens the file if it is not open.
    pub(super) async fn open(self: &Arc<Self>) -> Result<()> {
        if self.slot().is_some() {
            return Ok(());
        }
        self.read(|_| Ok(())).await
    }

    /// Carries out an operation that only reads.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        operation: impl FnOnce(&Database) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run(None, operation).await
    }

    /// Carries out an operation that writes, one at a time.
    pub(super) async fn write<T: Send + 'static>(
        self: &Arc<Self>,
        operation: impl FnOnce(&Database) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run(Some(&self.writer), operation).await
    }

    /// On the blocking pool. Who stops waiting for it does not stop it: it happens as a whole.
    async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        turn: Option<&Arc<Semaphore>>,
        operation: impl FnOnce(&Database) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut held = Vec::new();
        for semaphore in turn.into_iter().chain([&self.operations]) {
            let permit = Arc::clone(semaphore).acquire_owned().await;
            held.push(permit.map_err(|_| Error::GivenUp("the pod ends".to_owned()))?);
        }
        let store = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let _held = held;
            let database = store.database()?;
            let result = operation(&database);
            if result.as_ref().is_err_and(Error::ends_use) {
                *store.slot() = None;
            }
            result
        });
        match done.await {
            Ok(result) => result,
            // redb trusts what its checksums cover: a file that was tampered with can make it panic.
            Err(error) if error.is_panic() => {
                *self.slot() = None;
                Err(Error::Damaged {
                    file: self.place.file(),
                    why: "its content contradicts itself".to_owned(),
                })
            }
            Err(error) => Err(Error::GivenUp(error.to_string())),
        }
    }

    fn database(&self) -> Result<Arc<Database>> {
        // Those who come meanwhile wait for it, no more than there are operations.
        let mut slot = self.slot();
        if let Some(database) = &*slot {
            return Ok(Arc::clone(database));
        }
        let database = Arc::new(Database::open(&self.place)?);
        *slot = Some(Arc::clone(&database));
        Ok(database)
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Arc<Database>>> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn own_directory(&self) -> Option<&Path> {
        self.place.own_directory()
    }
}
