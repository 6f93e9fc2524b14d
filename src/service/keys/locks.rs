//! One lock for each name, as long as somebody wants it.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex as StdMutex, PoisonError},
};

use tokio::sync::{Mutex, OwnedMutexGuard};

/// Locks by name. A name that nobody holds or waits for costs nothing.
#[derive(Debug)]
pub(super) struct Locks<K>(StdMutex<HashMap<K, Arc<Mutex<()>>>>);

impl<K> Default for Locks<K> {
    fn default() -> Self {
        Self(StdMutex::default())
    }
}

impl<K: Eq + Hash + Clone> Locks<K> {
    /// Waits for its turn.
    pub(super) async fn lock(&self, name: &K) -> OwnedMutexGuard<()> {
        self.of(name).lock_owned().await
    }

    /// `None` while somebody has it.
    pub(super) fn try_lock(&self, name: &K) -> Option<OwnedMutexGuard<()>> {
        self.of(name).try_lock_owned().ok()
    }

    fn of(&self, name: &K) -> Arc<Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        locks.entry(name.clone()).or_default().clone()
    }
}
