//! The key records as last read from the store, made ready for signing: read without a lock, replaced as one.
//!
//! A replica signs under the store's lease: every successful read renews it, and past it nothing is signed, for
//! another replica may have revoked a key meanwhile.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use hallmark_core::{
    client::{Client, Custody},
    error::{Error, Reason},
    key::{HsmName, KeyId, KeyLine, KeyRecord, KeyState, Purpose},
    ports::{KeyStore, StoreError},
};

use super::registry::{Registered, Registry};
use crate::pool::PoolKey;

/// The reading in force, and where the next one comes from.
pub struct Keyring {
    store: Arc<dyn KeyStore>,
    lease: Duration,
    current: ArcSwap<Reading>,
}

/// One reading of the store.
#[derive(Debug)]
pub struct Reading {
    pub records: Vec<KeyRecord>,
    active: HashMap<KeyLine, Arc<PoolKey>>,
    custody: HashMap<HsmName, Arc<PoolKey>>,
    read_at: Instant,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keyring")
    }
}

impl Keyring {
    /// Reads the store for the first time.
    pub async fn open(store: Arc<dyn KeyStore>, lease: Duration, registry: &Registry) -> Result<Self, StoreError> {
        let asked = Instant::now();
        let keys = Reading::new(store.records().await?.records, &registry.load_full(), asked);
        Ok(Self { store, lease, current: ArcSwap::from_pointee(keys) })
    }

    /// Reads the store again, which renews the lease. One at a time, or an older reading could replace a newer one:
    /// [`super::keys::Keys::reload`], its only caller, sees to that.
    pub async fn refresh(&self, registered: &Registered) -> Result<(), StoreError> {
        // The lease runs from before the question: what was true then is what the answer shows.
        let asked = Instant::now();
        let records = self.store.records().await?.records;
        self.current.store(Arc::new(Reading::new(records, registered, asked)));
        Ok(())
    }

    /// The last reading, however old.
    pub fn keys(&self) -> arc_swap::Guard<Arc<Reading>> {
        self.current.load()
    }

    /// The keys, while the lease holds.
    pub fn leased(&self) -> Result<arc_swap::Guard<Arc<Reading>>, Error> {
        let keys = self.current.load();
        if keys.read_at.elapsed() <= self.lease {
            return Ok(keys);
        }
        let text = "the key store has not answered for longer than its lease; signing goes on when it does";
        Err(Error::new(Reason::StoreUnavailable, text).retry_after(Duration::from_secs(1)))
    }

    /// Where records are changed. A [`Self::refresh`] afterwards makes it seen.
    pub fn store(&self) -> &Arc<dyn KeyStore> {
        &self.store
    }
}

impl Reading {
    fn new(records: Vec<KeyRecord>, registered: &Registered, read_at: Instant) -> Self {
        let (mut active, mut custody) = (HashMap::new(), HashMap::new());
        for record in records.iter().filter(|record| record.state == KeyState::Active) {
            let client = record.client.as_ref().and_then(|name| registered.clients.get(name));
            let floor = client.map_or(Custody::Local, |client| client.custody);
            let Some(key) = ready(record, floor) else { continue };
            match (record.purpose, &record.client) {
                (Purpose::Assertion, Some(client)) => {
                    let line = KeyLine { client: client.clone(), alg: record.alg, hsm: record.hsm.clone() };
                    active.insert(line, Arc::new(key));
                }
                (Purpose::Custody, _) => {
                    custody.insert(record.hsm.clone(), Arc::new(key));
                }
                (Purpose::Assertion, None) => tracing::error!(key = %record.id, "a key without a client"),
            }
        }
        Self { records, active, custody, read_at }
    }

    /// The key that signs for `line`.
    pub fn active(&self, line: &KeyLine) -> Option<&Arc<PoolKey>> {
        self.active.get(line)
    }

    /// The key that signs for Hallmark itself on `hsm`.
    pub fn custody(&self, hsm: &HsmName) -> Option<&Arc<PoolKey>> {
        self.custody.get(hsm)
    }

    /// Whether `key` is still the one that signs.
    pub fn is_active(&self, line: &KeyLine, key: KeyId) -> bool {
        self.active.get(line).is_some_and(|active| active.id == key)
    }

    /// All of the client's records, in any state.
    pub fn of_client<'a>(&'a self, client: &'a Client) -> impl Iterator<Item = &'a KeyRecord> {
        self.records.iter().filter(|record| record.client.as_ref() == Some(&client.name))
    }
}

fn ready(record: &KeyRecord, floor: Custody) -> Option<PoolKey> {
    let public = record.public.as_ref()?;
    match PoolKey::new(record, public, floor) {
        Ok(key) => Some(key),
        Err(error) => {
            tracing::error!(kid = %public.kid, %error, "a key record that can't be used");
            None
        }
    }
}
