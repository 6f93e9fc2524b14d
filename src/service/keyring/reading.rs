//! One reading of the store: what it says of each key, and the keys that sign, parsed.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
    slice,
    sync::Arc,
};

use hallmark_core::{
    certificate::Validity,
    client::{Client, Custody},
    evidence::{kept, roots::Roots},
    key::{ClientName, HsmName, KeyId, KeyLine, KeyRecord, KeyState, KeyTimes, Purpose},
    ports::{PublishedPath, RegistrationResult, Snapshot},
    time::Timestamp,
};

use crate::{pool::PoolKey, service::registry::Registered};

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

impl Reading {
    /// What `before` had parsed already is taken over.
    pub(in crate::service) fn new(snapshot: Snapshot, registered: &Registered, before: Option<&Self>) -> Self {
        let mut reading = Self::without_keys(snapshot, registered, before);
        for record in reading.records.iter().filter(|record| record.state == KeyState::Active) {
            let client = record.client.as_ref().and_then(|name| registered.clients.get(name));
            let floor = client.map_or(Custody::Local, |client| client.custody);
            let line = record.line();
            let known = before.and_then(|before| before.parsed(record, floor));
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

    /// Without the keys that sign.
    fn without_keys(snapshot: Snapshot, registered: &Registered, before: Option<&Self>) -> Self {
        let Snapshot { mut records, generation, paths, registrations } = snapshot;
        // Stable: within a client they stay in the order of creation.
        records.sort_by(|a, b| a.client.cmp(&b.client));
        let confirmed = |when: fn(&KeyTimes) -> Option<Timestamp>| {
            let confirmed = records.iter().filter(|record| when(&record.times).is_some());
            confirmed.map(|record| record.id).collect::<BTreeSet<_>>()
        };
        let certificates = certificates(&records, before);
        let (registered_keys, rehearsed) = (confirmed(|times| times.registered), confirmed(|times| times.rehearsed));
        Self {
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
        }
    }

    /// The active key of `record`, if it was ready to sign as it would be now.
    fn parsed(&self, record: &KeyRecord, floor: Custody) -> Option<Arc<PoolKey>> {
        let key = match &record.line() {
            Some(line) => self.active(line),
            None => self.custody(&record.hsm),
        };
        let is_same = |key: &&Arc<PoolKey>| {
            key.id == record.id && key.custody() == floor && key.has_certificates(&record.certificate_chain)
        };
        key.filter(is_same).cloned()
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

    /// Any one of the clients' keys that sign on `hsm`: the same one, as long as they are the same.
    pub fn any_active(&self, hsm: &HsmName) -> Option<&Arc<PoolKey>> {
        let here = self.active.iter().filter(|(line, _)| line.hsm == *hsm);
        here.map(|(_, key)| key).min_by_key(|key| key.id)
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
    pub fn of_client<'a>(&'a self, client: &Client) -> slice::Iter<'a, KeyRecord> {
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
