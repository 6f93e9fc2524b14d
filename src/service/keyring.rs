//! The key records as last read from the store, made ready for signing: read without a lock, replaced as one.
//!
//! A replica signs under the store's lease: every answer of the store that shows the records to be current renews it, and
//! past it nothing is signed, for another replica may have revoked a key meanwhile.

mod pauses;
mod reading;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use hallmark_core::{
    error::{Error, Reason},
    key::{KeyId, KeyState},
    ports::{KeyStore, Pulse, Snapshot, StoreError},
    time::Timestamp,
};

pub use self::{pauses::Pauses, reading::Reading};
use super::registry::{Registered, Registry};

/// The reading in force, and where the next one comes from.
pub struct Keyring {
    store: Arc<dyn KeyStore>,
    lease: Duration,
    current: ArcSwap<Reading>,
    /// What renewed the lease last, in milliseconds since `began`.
    renewed_ms: AtomicU64,
    began: Instant,
    /// By how much the store's clock is ahead of ours, in milliseconds.
    store_ahead_ms: AtomicI64,
    /// Keys that were revoked while the store could not be written.
    barred: Mutex<HashMap<KeyId, Timestamp>>,
    pauses: Pauses,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring")
    }
}

impl Keyring {
    /// Reads the store for the first time.
    pub async fn open(store: Arc<dyn KeyStore>, lease: Duration, registry: &Registry) -> Result<Self, StoreError> {
        let began = Instant::now();
        let snapshot = store.records().await?;
        let keys = Reading::new(snapshot, &registry.load_full(), None);
        Ok(Self {
            store,
            lease,
            current: ArcSwap::from_pointee(keys),
            renewed_ms: AtomicU64::new(0),
            began,
            store_ahead_ms: AtomicI64::new(0),
            barred: Mutex::default(),
            pauses: Pauses::default(),
        })
    }

    /// Reads the store again, which renews the lease. One at a time, or an older reading could replace a newer one:
    /// [`super::keys::Keys::reload`], its only caller, sees to that.
    pub async fn refresh(&self, registered: &Registered) -> Result<(), StoreError> {
        // The lease runs from before the question: what was true then is what the answer shows.
        let asked = Instant::now();
        let snapshot = self.store.records().await?;
        self.exchange(snapshot, registered);
        self.renew(asked);
        Ok(())
    }

    /// Asks the store for its generation and time. `false` where the reading in force is not of that generation any more;
    /// else its lease is renewed. `local` is our own time.
    pub async fn is_current(&self, local: impl Fn() -> Timestamp) -> Result<bool, StoreError> {
        let asked = Instant::now();
        let Pulse { generation, now } = self.store.pulse().await?;
        self.store_ahead_ms.store(now.millis().saturating_sub(local().millis()), Ordering::Relaxed);
        let current = self.current.load().generation == generation;
        if current {
            self.renew(asked);
        }
        Ok(current)
    }

    /// What time it is by the store's clock, which is the one that counts, when it is `local` here.
    pub fn store_time(&self, local: Timestamp) -> Timestamp {
        Timestamp::from_millis(local.millis().saturating_add(self.store_ahead_ms.load(Ordering::Relaxed)))
    }

    /// The last reading, however old.
    pub fn keys(&self) -> arc_swap::Guard<Arc<Reading>> {
        self.current.load()
    }

    /// The keys, while the lease holds.
    pub fn leased(&self) -> Result<arc_swap::Guard<Arc<Reading>>, Error> {
        // Loaded after the look at the lease: what is newer than it is as good.
        let renewed = self.began + Duration::from_millis(self.renewed_ms.load(Ordering::Acquire));
        if renewed.elapsed() <= self.lease {
            return Ok(self.current.load());
        }
        let text = "the key store has not answered for longer than its lease; signing goes on when it does";
        Err(Error::new(Reason::StoreUnavailable, text).retry_after(Duration::from_secs(1)))
    }

    /// Clients for which signing pauses.
    pub fn pauses(&self) -> &Pauses {
        &self.pauses
    }

    /// For how long to sign on without news from the store.
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// Where records are changed. A [`Self::refresh`] afterwards makes it seen.
    pub fn store(&self) -> &Arc<dyn KeyStore> {
        &self.store
    }

    /// Counts `key` as revoked from now on in this process, until the store says so: it could not be written.
    pub fn bar(&self, key: KeyId, at: Timestamp, registered: &Registered) {
        self.barred().insert(key, at);
        let old = self.current.load_full();
        let (records, paths) = (old.records.clone(), old.paths.clone());
        let registrations = old.registrations.values().cloned().collect();
        self.exchange(Snapshot { records, generation: old.generation, paths, registrations }, registered);
    }

    /// The keys of [`Self::bar`] that the store does not know of yet.
    pub fn barred_keys(&self) -> Vec<KeyId> {
        self.barred().keys().copied().collect()
    }

    /// The store says so now.
    pub fn unbar(&self, key: KeyId) {
        self.barred().remove(&key);
    }

    fn exchange(&self, mut snapshot: Snapshot, registered: &Registered) {
        // Held to the end, so that no key is barred in between and then forgotten.
        let barred = self.barred();
        for record in snapshot.records.iter_mut().filter(|record| record.state != KeyState::Compromised) {
            if let Some(at) = barred.get(&record.id) {
                record.state = KeyState::Compromised;
                record.times.compromised = Some(*at);
            }
        }
        let reading = Reading::new(snapshot, registered, Some(&self.current.load()));
        self.current.store(Arc::new(reading));
    }

    fn barred(&self) -> MutexGuard<'_, HashMap<KeyId, Timestamp>> {
        self.barred.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn renew(&self, asked: Instant) {
        let asked = asked.duration_since(self.began).as_millis();
        self.renewed_ms.fetch_max(u64::try_from(asked).unwrap_or(u64::MAX), Ordering::AcqRel);
    }
}
