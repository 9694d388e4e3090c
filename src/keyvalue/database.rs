//! The pairs in a file: what each operation does, as one transaction. Blocks.
//!
//! | table | key | value |
//! |---|---|---|
//! | `pairs` | bucket, key | version, value |
//! | `state` | `version` | the last version that was given |
//!
//! A commit is on the disk when it has returned, also of a process that is killed afterwards. Whoever opens the file of
//! one that was killed has it scanned once: by measurement a second for each GiB that is in the page cache. Redb's
//! quick-repair would halve that, at the price of a second fsync(2) in every commit, which doubles what a commit takes.
//!
//! Every write gives its pair a version that no pair of the file had before, so that a compare-and-swap sees each
//! change, also to what was there before and back.

use std::fmt;
use std::io;
use std::ops::Bound;

use redb::backends::FileBackend;
use redb::{
    Builder, ReadableDatabase, ReadableTable, StorageBackend, StorageError, Table, TableDefinition,
    TableError,
};

use super::place::Place;
use super::{Error, MAX_BATCH_BYTES, MAX_PAGE_KEYS, Result};

const PAIRS: TableDefinition<(&str, &str), (u64, &[u8])> = TableDefinition::new("pairs");
const STATE: TableDefinition<&str, u64> = TableDefinition::new("state");
const VERSION: &str = "version";

/// Memory that an open file takes at most for its pages, bytes: part of what the pod's cgroup has for the runtime
/// (`sandbox::cgroup::RUNTIME_MEMORY_BYTES`).
const CACHE_BYTES: usize = 4 << 20;

/// An open file.
pub(super) struct Database {
    redb: redb::Database,
    file: String,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("file", &self.file).finish_non_exhaustive()
    }
}

/// Some of the keys of a bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// In order.
    pub keys: Vec<String>,
    /// Where to go on: `None` at the end. It stays good whatever is written or deleted meanwhile.
    pub cursor: Option<String>,
}

/// A pair's version and value.
pub(super) type Versioned = (u64, Vec<u8>);

impl Database {
    pub(super) fn open(place: &Place) -> Result<Self> {
        let file = place.file();
        let of = |error: redb::Error| Error::of(&file, error);
        let backend = place.open().map_err(|error| of(error.into()))?;
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE_BYTES);
        let redb = match place.is_durable() {
            true => builder.create_file(backend),
            false => FileBackend::new(backend).map(Unsynced).and_then(|own| builder.create_with_backend(own)),
        };
        Ok(Self { redb: redb.map_err(|error| of(error.into()))?, file })
    }

    pub(super) fn get(&self, bucket: &str, key: &str) -> Result<Option<Versioned>> {
        self.read(|pairs| {
            let Some(found) = pairs.get((bucket, key))? else { return Ok(None) };
            let (version, value) = found.value();
            Ok(Some((version, value.to_owned())))
        })
    }

    /// The pairs of these keys, in their order, as they were at one moment.
    pub(super) fn get_many(&self, bucket: &str, keys: Vec<String>) -> Result<Vec<(String, Option<Vec<u8>>)>> {
        let mut bytes = 0;
        let found = self.read(|pairs| {
            let mut found = Vec::with_capacity(keys.len());
            for key in keys {
                let value = pairs.get((bucket, key.as_str()))?;
                bytes += key.len() + value.as_ref().map_or(0, |value| value.value().1.len());
                if bytes > MAX_BATCH_BYTES {
                    break;
                }
                let value = value.map(|value| value.value().1.to_owned());
                found.push((key, value));
            }
            Ok(found)
        })?;
        super::bucket::within("bytes of a batch", bytes, MAX_BATCH_BYTES)?;
        Ok(found)
    }

    /// The keys after `cursor`.
    pub(super) fn list(&self, bucket: &str, cursor: Option<&str>) -> Result<Page> {
        let from = match cursor {
            Some(last) => Bound::Excluded((bucket, last)),
            None => Bound::Included((bucket, "")),
        };
        self.read(|pairs| {
            let mut page = Page::default();
            for pair in pairs.range((from, Bound::Unbounded))? {
                let (found, _) = pair?;
                let (its, key) = found.value();
                if its != bucket {
                    break;
                }
                if page.keys.len() == MAX_PAGE_KEYS {
                    page.cursor = page.keys.last().cloned();
                    break;
                }
                page.keys.push(key.to_owned());
            }
            Ok(page)
        })
    }

    /// Carries out `change` as a whole, or not at all where it fails or changes nothing.
    pub(super) fn write<T>(
        &self,
        bucket: &str,
        change: impl FnOnce(&mut Changes<'_, '_>) -> Result<T, Refused>,
    ) -> Result<T> {
        let of = |error: redb::Error| Error::of(&self.file, error);
        let failed = |refused| match refused {
            Refused::Redb(error) => of(error),
            Refused::Asked(error) => error,
        };
        let transaction = self.redb.begin_write().map_err(|error| of(error.into()))?;
        let (result, changed) = {
            let open = || Ok::<_, Refused>((transaction.open_table(PAIRS)?, transaction.open_table(STATE)?));
            let (pairs, state) = open().map_err(failed)?;
            let mut changes = Changes { pairs, state, bucket, changed: false };
            let result = change(&mut changes).map_err(failed)?;
            (result, changes.changed)
        };
        if changed {
            transaction.commit().map_err(|error| of(error.into()))?;
        } else {
            transaction.abort().map_err(|error| of(error.into()))?;
        }
        Ok(result)
    }

    /// Reads from one state of the file; a file that nothing was written to has no pairs.
    fn read<T: Default>(
        &self,
        look: impl FnOnce(
            redb::ReadOnlyTable<(&'static str, &'static str), (u64, &'static [u8])>,
        ) -> Result<T, redb::Error>,
    ) -> Result<T> {
        let result = || -> Result<T, redb::Error> {
            match self.redb.begin_read()?.open_table(PAIRS) {
                Ok(pairs) => look(pairs),
                Err(TableError::TableDoesNotExist(_)) => Ok(T::default()),
                Err(error) => Err(error.into()),
            }
        };
        result().map_err(|error| Error::of(&self.file, error))
    }
}

/// Why a change is not carried out.
pub(super) enum Refused {
    /// The file.
    Redb(redb::Error),
    /// What was asked for.
    Asked(Error),
}

impl From<StorageError> for Refused {
    fn from(error: StorageError) -> Self {
        Self::Redb(error.into())
    }
}

impl From<TableError> for Refused {
    fn from(error: TableError) -> Self {
        Self::Redb(error.into())
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Asked(error)
    }
}

/// What a transaction does to a bucket.
pub(super) struct Changes<'t, 'b> {
    pairs: Table<'t, (&'static str, &'static str), (u64, &'static [u8])>,
    state: Table<'t, &'static str, u64>,
    bucket: &'b str,
    changed: bool,
}

impl Changes<'_, '_> {
    pub(super) fn get(&self, key: &str) -> Result<Option<Versioned>, Refused> {
        let found = self.pairs.get((self.bucket, key))?;
        Ok(found.map(|found| (found.value().0, found.value().1.to_owned())))
    }

    pub(super) fn set(&mut self, key: &str, value: &[u8]) -> Result<(), Refused> {
        let last = self.state.get(VERSION)?.map_or(0, |last| last.value());
        // Half a million years of a million writes a second; only a file that was tampered with ends there.
        let version = last.wrapping_add(1);
        self.state.insert(VERSION, version)?;
        self.pairs.insert((self.bucket, key), (version, value))?;
        self.changed = true;
        Ok(())
    }

    pub(super) fn delete(&mut self, key: &str) -> Result<(), Refused> {
        self.changed |= self.pairs.remove((self.bucket, key))?.is_some();
        Ok(())
    }
}

/// A file that goes with the pod: what is written need not reach the disk.
#[derive(Debug)]
struct Unsynced(FileBackend);

impl StorageBackend for Unsynced {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, redb::BackendError> {
        self.0.try_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), redb::BackendError> {
        self.0.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, redb::BackendError> {
        self.0.query_lock_range(start, end)
    }
}
