//! Which containers have an object open.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The containers that have an object open, each with its number of handles. The pod's limit on handles bounds it.
#[derive(Debug, Default)]
pub(super) struct Holders(Mutex<BTreeMap<Arc<str>, usize>>);

impl Holders {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, container: &Arc<str>) {
        *self.lock().entry(Arc::clone(container)).or_default() += 1;
    }

    pub(super) fn remove(&self, container: &Arc<str>) {
        let mut handles = self.lock();
        if let Some(count) = handles.get_mut(container) {
            *count -= 1;
            if *count == 0 {
                handles.remove(container);
            }
        }
    }

    /// By name.
    pub(super) fn names(&self) -> Vec<String> {
        self.lock().keys().map(|name| name.to_string()).collect()
    }
}
