//! The key records as last read from the store, made ready for signing: read without a lock, replaced as one.
//!
//! A replica signs under the store's lease: every answer of the store that shows the records to be current renews it, and
//! past it nothing is signed, for another replica may have revoked a key meanwhile.

mod pauses;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use hallmark_core::{
    certificate::Validity,
    client::{Client, Custody},
    error::{Error, Reason},
    evidence::{kept, roots::Roots},
    key::{ClientName, HsmName, KeyId, KeyLine, KeyRecord, KeyState, KeyTimes, Purpose},
    ports::{KeyStore, PublishedPath, Pulse, RegistrationResult, Snapshot, StoreError},
    time::Timestamp,
};

pub use self::pauses::Pauses;
use super::registry::{Registered, Registry};
use crate::pool::PoolKey;

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

/// One reading of the store.
#[derive(Debug)]
pub struct Reading {
    /// In the order of creation within each client.
    pub records: Vec<KeyRecord>,
    /// Which state of the store it shows.
    pub generation: u64,
    /// Every HSM that a record names.
    pub hsms: BTreeSet<HsmName>,
    /// What operators have confirmed of keys.
    pub registered: BTreeSet<KeyId>,
    pub rehearsed: BTreeSet<KeyId>,
    /// Where clients are published that are not at their default path.
    pub paths: Vec<PublishedPath>,
    certificates: HashMap<KeyId, Certified>,
    /// What registering clients gave.
    pub registrations: BTreeMap<ClientName, RegistrationResult>,
    by_client: HashMap<ClientName, Range<usize>>,
    active: HashMap<KeyLine, Arc<PoolKey>>,
    /// Lines whose active key falls short of the client's custody, and why.
    too_weak: HashMap<KeyLine, String>,
    /// What attestations were checked against.
    roots: Arc<Roots>,
    custody: HashMap<HsmName, Arc<PoolKey>>,
}

/// A leaf, and when it holds: read once.
#[derive(Debug, Clone)]
struct Certified {
    leaf: Vec<u8>,
    validity: Validity,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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

    fn barred(&self) -> std::sync::MutexGuard<'_, HashMap<KeyId, Timestamp>> {
        self.barred.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn renew(&self, asked: Instant) {
        let asked = asked.duration_since(self.began).as_millis();
        self.renewed_ms.fetch_max(u64::try_from(asked).unwrap_or(u64::MAX), Ordering::AcqRel);
    }
}

impl Reading {
    /// What `before` had parsed already is taken over.
    pub(super) fn new(snapshot: Snapshot, registered: &Registered, before: Option<&Self>) -> Self {
        let Snapshot { mut records, generation, paths, registrations } = snapshot;
        // Stable: within a client they stay in the order of creation.
        records.sort_by(|a, b| a.client.cmp(&b.client));
        let confirmed = |when: fn(&KeyTimes) -> Option<Timestamp>| {
            let confirmed = records.iter().filter(|record| when(&record.times).is_some());
            confirmed.map(|record| record.id).collect::<BTreeSet<_>>()
        };
        let certificates = certificates(&records, before);
        let (registered_keys, rehearsed) = (confirmed(|times| times.registered), confirmed(|times| times.rehearsed));
        let mut reading = Self {
            by_client: by_client(&records),
            hsms: records.iter().map(|record| record.hsm.clone()).collect(),
            registered: registered_keys,
            rehearsed,
            paths,
            certificates,
            registrations: registrations.into_iter().map(|result| (result.client.clone(), result)).collect(),
            records,
            generation,
            active: HashMap::new(),
            too_weak: HashMap::new(),
            roots: registered.roots.clone(),
            custody: HashMap::new(),
        };
        for record in reading.records.iter().filter(|record| record.state == KeyState::Active) {
            let client = record.client.as_ref().and_then(|name| registered.clients.get(name));
            let floor = client.map_or(Custody::Local, |client| client.custody);
            let line = record.line();
            let known = before.and_then(|before| match &line {
                Some(line) => before.active(line),
                None => before.custody(&record.hsm),
            });
            let is_same = |key: &&Arc<PoolKey>| {
                key.id == record.id && key.custody() == floor && key.has_certificates(&record.certificate_chain)
            };
            let known = known.filter(is_same).cloned();
            let same_roots = before.is_some_and(|before| before.roots == registered.roots);
            // What was found good enough before is, and checking an attestation takes its time.
            if !(same_roots && known.is_some())
                && let (Err(why), Some(line)) = (kept::check(record, floor, &registered.roots), &line)
            {
                if before.and_then(|before| before.too_weak(line)) != Some(&why) {
                    let kid = record.public.as_ref().map_or("", |public| public.kid.as_str());
                    tracing::error!(%line, kid, why, "a key does not sign: it falls short of the client's custody");
                }
                reading.too_weak.insert(line.clone(), why);
                continue;
            }
            let Some(key) = known.or_else(|| ready(record, floor).map(Arc::new)) else { continue };
            match (record.purpose, line) {
                (Purpose::Assertion, Some(line)) => {
                    reading.active.insert(line, key);
                }
                (Purpose::Custody, _) => {
                    reading.custody.insert(record.hsm.clone(), key);
                }
                (Purpose::Assertion, None) => tracing::error!(key = %record.id, "a key without a client"),
            }
        }
        reading
    }

    /// Why the active key of `line` does not sign, where it falls short of the client's custody.
    pub fn too_weak(&self, line: &KeyLine) -> Option<&str> {
        self.too_weak.get(line).map(String::as_str)
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

    /// The client as it signs: where the configuration has no `client_id`, with the one that registering it gave.
    pub fn completed<'a>(&self, client: &'a Client) -> Cow<'a, Client> {
        match (&client.client_id, self.registrations.get(&client.name)) {
            (None, Some(result)) => Cow::Owned(Client { client_id: Some(result.client_id.clone()), ..client.clone() }),
            _ => Cow::Borrowed(client),
        }
    }

    /// All of the client's records, in any state.
    pub fn of_client<'a>(&'a self, client: &Client) -> std::slice::Iter<'a, KeyRecord> {
        self.of(&client.name).iter()
    }

    /// All records of the client of that name, configured or not.
    pub fn of(&self, client: &ClientName) -> &[KeyRecord] {
        self.by_client.get(client).map_or(&[], |range| &self.records[range.clone()])
    }

    /// When the certificates of keys hold, of keys that have one and have not ended.
    pub fn certificates(&self) -> impl Iterator<Item = (KeyId, Validity)> {
        self.certificates.iter().map(|(key, certified)| (*key, certified.validity))
    }

    /// The keys with a certificate that holds at `now`.
    pub fn certified(&self, now: Timestamp) -> BTreeSet<KeyId> {
        self.certificates().filter(|(_, validity)| validity.holds(now)).map(|(key, _)| key).collect()
    }

    /// Every client that has records.
    pub fn clients(&self) -> impl Iterator<Item = &ClientName> {
        self.by_client.keys()
    }

    /// Whether the line has, or had, a key that someone could know of.
    pub fn has_lived(&self, line: &KeyLine) -> bool {
        let mut records = self.of(&line.client).iter().filter(|record| record.line().as_ref() == Some(line));
        records.any(|record| record.state != KeyState::PreActive || record.times.published.is_some())
    }

    /// The record of that id.
    pub fn find(&self, key: KeyId) -> Option<&KeyRecord> {
        self.records.iter().find(|record| record.id == key)
    }

    /// The record with that `kid`.
    pub fn by_kid(&self, kid: &str) -> Option<&KeyRecord> {
        self.records.iter().find(|record| record.public.as_ref().is_some_and(|public| public.kid.as_str() == kid))
    }
}

/// `records` are sorted by client.
fn by_client(records: &[KeyRecord]) -> HashMap<ClientName, Range<usize>> {
    let mut ranges = HashMap::new();
    let mut start = 0;
    for group in records.chunk_by(|a, b| a.client == b.client) {
        let end = start + group.len();
        if let Some(client) = group.first().and_then(|record| record.client.clone()) {
            ranges.insert(client, start..end);
        }
        start = end;
    }
    ranges
}

/// What `before` has read of the same leaf is taken over.
fn certificates(records: &[KeyRecord], before: Option<&Reading>) -> HashMap<KeyId, Certified> {
    let read = |record: &KeyRecord| {
        let leaf = record.certificate_chain.first().filter(|_| !record.state.is_over())?;
        let known = before.and_then(|before| before.certificates.get(&record.id)).filter(|known| known.leaf == *leaf);
        let validity = known.map(|known| known.validity).or_else(|| Validity::of_leaf(&record.certificate_chain))?;
        Some((record.id, Certified { leaf: leaf.clone(), validity }))
    };
    records.iter().filter_map(read).collect()
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
