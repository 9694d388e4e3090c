//! An open bucket, and what containers do with it.

use std::sync::Arc;

use super::database::{Changes, Page, Refused, Versioned};
use super::store::Store;
use super::{Error, MAX_BATCH_BYTES, MAX_BATCH_KEYS, MAX_KEY_BYTES, MAX_VALUE_BYTES, Result};

/// An open bucket. Clones are cheap.
#[derive(Debug, Clone)]
pub struct Bucket {
    store: Arc<Store>,
    name: Arc<str>,
}

/// A compare-and-swap that was begun: it succeeds if the pair does not change from now on.
#[derive(Debug, Clone)]
pub struct Cas {
    bucket: Bucket,
    key: Arc<str>,
    /// The version of the pair; `None`: there is none.
    version: Option<u64>,
}

/// How a compare-and-swap ended.
#[derive(Debug)]
pub enum Swap {
    /// The value is the new one.
    Done,
    /// The pair was changed meanwhile; from here it can be tried again.
    Changed(Cas),
}

/// Whether `found` is within its bound.
pub(super) fn within(what: &'static str, found: usize, most: usize) -> Result<()> {
    if found > most { Err(Error::TooLarge { what, found, most }) } else { Ok(()) }
}

fn key_fits(key: &str) -> Result<()> {
    within("bytes of a key", key.len(), MAX_KEY_BYTES)
}

fn value_fits(value: &[u8]) -> Result<()> {
    within("bytes of a value", value.len(), MAX_VALUE_BYTES)
}

impl Bucket {
    pub(super) fn new(store: Arc<Store>, name: Arc<str>) -> Self {
        Self { store, name }
    }

    /// The value of a key.
    ///
    /// # Errors
    /// The key is too long; the file cannot be read.
    pub async fn get(&self, key: String) -> Result<Option<Vec<u8>>> {
        Ok(self.versioned(key.into()).await?.map(|(_, value)| value))
    }

    /// Whether there is such a key.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn exists(&self, key: String) -> Result<bool> {
        Ok(self.versioned(key.into()).await?.is_some())
    }

    /// Sets a value, of a new key or one that is there.
    ///
    /// # Errors
    /// Key or value are too long; the file cannot be written.
    pub async fn set(&self, key: String, value: Vec<u8>) -> Result<()> {
        key_fits(&key)?;
        value_fits(&value)?;
        self.change(move |changes| changes.set(&key, &value)).await
    }

    /// Deletes a key, if it is there.
    ///
    /// # Errors
    /// The key is too long; the file cannot be written.
    pub async fn delete(&self, key: String) -> Result<()> {
        key_fits(&key)?;
        self.change(move |changes| changes.delete(&key)).await
    }

    /// The first keys, or those after the `cursor` of a page before.
    ///
    /// # Errors
    /// The cursor is longer than any key; the file cannot be read.
    pub async fn list(&self, cursor: Option<String>) -> Result<Page> {
        key_fits(cursor.as_deref().unwrap_or_default())?;
        let name = Arc::clone(&self.name);
        self.store.read(move |database| database.list(&name, cursor.as_deref())).await
    }

    /// The values of many keys as they are at one moment, in the order of `keys`.
    ///
    /// # Errors
    /// There are too many keys, or too much would be returned; a key is too long; the file cannot be read.
    pub async fn get_many(&self, keys: Vec<String>) -> Result<Vec<(String, Option<Vec<u8>>)>> {
        within("keys of a batch", keys.len(), MAX_BATCH_KEYS)?;
        keys.iter().try_for_each(|key| key_fits(key))?;
        let name = Arc::clone(&self.name);
        self.store.read(move |database| database.get_many(&name, keys)).await
    }

    /// Sets many values, all or none; of the same key the last one counts.
    ///
    /// # Errors
    /// There are too many; a key or a value is too long, or all are together; the file cannot be written.
    pub async fn set_many(&self, pairs: Vec<(String, Vec<u8>)>) -> Result<()> {
        within("keys of a batch", pairs.len(), MAX_BATCH_KEYS)?;
        within(
            "bytes of a batch",
            pairs.iter().map(|(key, value)| key.len() + value.len()).sum(),
            MAX_BATCH_BYTES,
        )?;
        for (key, value) in &pairs {
            key_fits(key)?;
            value_fits(value)?;
        }
        self.change(move |changes| pairs.iter().try_for_each(|(key, value)| changes.set(key, value))).await
    }

    /// Deletes many keys, all that are there or none.
    ///
    /// # Errors
    /// There are too many; a key is too long; the file cannot be written.
    pub async fn delete_many(&self, keys: Vec<String>) -> Result<()> {
        within("keys of a batch", keys.len(), MAX_BATCH_KEYS)?;
        keys.iter().try_for_each(|key| key_fits(key))?;
        self.change(move |changes| keys.iter().try_for_each(|key| changes.delete(key))).await
    }

    /// Adds to a number, which is 0 where it is not there; returns the sum. A number is kept as its decimal digits, so
    /// that who reads the value can read it.
    ///
    /// # Errors
    /// The value is no number, or would be none; the key is too long; the file cannot be written.
    pub async fn increment(&self, key: String, delta: i64) -> Result<i64> {
        key_fits(&key)?;
        self.change(move |changes| {
            let number = match changes.get(&key)? {
                Some((_, value)) => number(&value).ok_or_else(|| Error::NoNumber { key: key.clone() })?,
                None => 0,
            };
            let sum = number.checked_add(delta).ok_or_else(|| Error::Overflow { key: key.clone() })?;
            changes.set(&key, sum.to_string().as_bytes())?;
            Ok(sum)
        })
        .await
    }

    /// Begins a compare-and-swap of a key's value.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn cas(&self, key: String) -> Result<Cas> {
        let key: Arc<str> = key.into();
        let version = self.versioned(Arc::clone(&key)).await?.map(|(version, _)| version);
        Ok(Cas { bucket: self.clone(), key, version })
    }

    async fn versioned(&self, key: Arc<str>) -> Result<Option<Versioned>> {
        key_fits(&key)?;
        let name = Arc::clone(&self.name);
        self.store.read(move |database| database.get(&name, &key)).await
    }

    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Changes<'_, '_>) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T> {
        let name = Arc::clone(&self.name);
        self.store.write(move |database| database.write(&name, change)).await
    }
}

impl Cas {
    /// The value as it is now; from here on it must not change.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn current(&mut self) -> Result<Option<Vec<u8>>> {
        let found = self.bucket.versioned(Arc::clone(&self.key)).await?;
        self.version = found.as_ref().map(|(version, _)| *version);
        Ok(found.map(|(_, value)| value))
    }

    /// Sets the value, if it is still the one that it was.
    ///
    /// # Errors
    /// The value is too long; the file cannot be written.
    pub async fn swap(self, value: Vec<u8>) -> Result<Swap> {
        value_fits(&value)?;
        let (bucket, expected, key) = (self.bucket.clone(), self.version, Arc::clone(&self.key));
        let found = bucket.change(move |changes| {
            let found = changes.get(&key)?.map(|(version, _)| version);
            if found == expected {
                changes.set(&key, &value)?;
            }
            Ok(found)
        });
        let found = found.await?;
        Ok(if found == expected { Swap::Done } else { Swap::Changed(Self { version: found, ..self }) })
    }
}

fn number(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}
