//! One generation of everything that is published.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use hallmark_core::{
    client::{Client, JwksHost, pem_path},
    jwk::{self, JwkSet},
    key::{ClientName, KeyRecord, KeyState},
    time::Timestamp,
};
use x509_cert::der::pem::{self, LineEnding};

use super::index::{Found, Index};

/// All documents, by path.
#[derive(Debug, Default)]
pub struct PublishedSet {
    /// Grows with each change.
    pub generation: u64,
    /// The longest time that a verifier may keep a document.
    pub max_age: Duration,
    slots: HashMap<Box<str>, Slot>,
    index: Index,
}

/// What is at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    pub kind: Kind,
    pub client: ClientName,
    /// `None` before the client's first key.
    pub published: Option<Arc<Published>>,
    /// When it is known to change next.
    pub next_change: Option<Timestamp>,
    /// How long a cache between Hallmark and the verifiers may hold it, as configured. `None`: the client is no
    /// longer configured.
    pub edge_ttl: Option<Duration>,
    /// Its verifiers take the first RSA key of the set, so that signer and set change at one instant: nobody may keep it,
    /// and nobody else serve it.
    pub only_here: bool,
    /// Who answers at its URL, as configured, where that is known.
    pub host: Option<JwksHost>,
    /// The generation that brought it, as it is.
    pub since: u64,
}

/// One document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    pub body: Bytes,
    /// A strong entity tag, quotes included (RFC 9110 §8.8.3).
    pub etag: Bytes,
}

/// What is asked for about a client's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A JWK Set.
    Jwks,
    /// The active key as SubjectPublicKeyInfo in PEM (RFC 7468 §13).
    Pem,
}

/// What leads from one generation to another.
#[derive(Debug, Default)]
pub struct Changes<'a> {
    /// New, or other than before; in the order of their paths.
    pub documents: Vec<(&'a str, &'a Slot, &'a Arc<Published>)>,
    /// Paths at which there is nothing any more.
    pub withdrawn: Vec<&'a str>,
}

impl PublishedSet {
    pub(super) fn new(generation: u64, max_age: Duration, slots: HashMap<Box<str>, Slot>) -> Self {
        Self { generation, max_age, index: Index::new(&slots), slots }
    }

    /// What is at `path`, for an answer.
    pub(super) fn find(&self, path: &str) -> Option<Found<'_>> {
        self.index.find(path)
    }

    /// What is at `path`.
    pub fn slot(&self, path: &str) -> Option<&Slot> {
        self.slots.get(path)
    }

    /// The clients whose documents are nobody else's to serve.
    pub fn only_here(&self) -> BTreeSet<&ClientName> {
        self.slots.values().filter(|slot| slot.only_here).map(|slot| &slot.client).collect()
    }

    /// Every document, with its path.
    pub fn documents(&self) -> impl Iterator<Item = (&str, &Slot, &Arc<Published>)> {
        self.slots.iter().filter_map(|(path, slot)| Some((&**path, slot, slot.published.as_ref()?)))
    }

    /// What is other here than in `before`, an earlier generation of the same process; everything where there is none.
    pub fn changes_since<'a>(&'a self, before: Option<&'a Self>) -> Changes<'a> {
        let known = before.map(|before| before.generation);
        let is_new = |slot: &Slot| known.is_none_or(|known| slot.since > known);
        let mut documents: Vec<_> = self.documents().filter(|(_, slot, _)| is_new(slot)).collect();
        documents.sort_unstable_by_key(|(path, ..)| *path);
        let is_gone = |path: &str| self.slots.get(path).is_none_or(|slot| slot.published.is_none());
        let withdrawn = before.into_iter().flat_map(|before| before.documents().map(|(path, ..)| path));
        Changes { documents, withdrawn: withdrawn.filter(|path| is_gone(path)).collect() }
    }

    /// Both slots of the client that is at `path`, with another time of their next change. `None` where either is
    /// another's, or is not there.
    pub(super) fn of_client(&self, client: &ClientName, path: &str, next: Option<Timestamp>) -> Option<[Slot; 2]> {
        let slot = |path: &str, kind| {
            let slot = self.slot(path).filter(|slot| slot.client == *client && slot.kind == kind)?;
            Some(Slot { next_change: next, ..slot.clone() })
        };
        Some([slot(path, Kind::Jwks)?, slot(&pem_path(path), Kind::Pem)?])
    }

    /// Has what did not change keep its bytes and its generation; gives the others `generation`. Says whether anything
    /// changed.
    pub(super) fn adopt(&self, slots: &mut HashMap<Box<str>, Slot>, generation: u64) -> bool {
        let mut changed = self.slots.keys().any(|path| !slots.contains_key(path));
        for (path, slot) in slots {
            let before = self.slots.get(path);
            slot.since = before.map_or(generation, |before| before.since);
            match before.filter(|before| *before == slot) {
                // The very bytes of before: who compares by address sees that nothing changed.
                Some(before) => slot.clone_from(before),
                None => (slot.since, changed) = (generation, true),
            }
        }
        changed
    }
}

impl Published {
    /// With the entity tag that its bytes give.
    pub fn new(body: &[u8]) -> Self {
        let hash = digest::digest(&digest::SHA256, body);
        let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(&hash.as_ref()[..16]));
        Self { body: Bytes::copy_from_slice(body), etag: etag.into() }
    }

    /// The entity tag as text.
    pub fn etag(&self) -> &str {
        std::str::from_utf8(&self.etag).unwrap_or_default()
    }
}

/// The key set and the PEM of a configured client.
pub(super) fn of_client(client: &Client, records: &[&KeyRecord], next_change: Option<Timestamp>) -> [Slot; 2] {
    let set = JwkSet::by_line(&client.hsms, records.iter().copied());
    let preferred = active(records, |record| Some(record.alg) != client.default_alg());
    slots(&client.name, records, &set, preferred, next_change).map(|slot| Slot {
        edge_ttl: Some(client.edge_ttl),
        only_here: client.profile.jwks.first_rsa_key,
        host: Some(client.jwks_host),
        ..slot
    })
}

/// The same for one that has keys and is no longer configured.
pub(super) fn of_unconfigured(name: &ClientName, records: &[&KeyRecord], next_change: Option<Timestamp>) -> [Slot; 2] {
    slots(name, records, &JwkSet::of(records.iter().copied()), active(records, |_| false), next_change)
}

fn slots(
    client: &ClientName,
    records: &[&KeyRecord],
    set: &JwkSet,
    active: Option<&KeyRecord>,
    next_change: Option<Timestamp>,
) -> [Slot; 2] {
    // A set whose last key was revoked is published, and empty: a verifier must see that the key is gone.
    let began = records.iter().any(|record| record.public.is_some() && record.times.published.is_some());
    let jwks = began.then(|| json(set));
    let slot = |kind, body: Option<Bytes>| Slot {
        kind,
        client: client.clone(),
        published: body.map(|body| Arc::new(Published::new(&body))),
        next_change,
        edge_ttl: None,
        only_here: false,
        host: None,
        since: 0,
    };
    [slot(Kind::Jwks, jwks), slot(Kind::Pem, active.and_then(pem_of))]
}

#[expect(clippy::unwrap_used, reason = "`Unwrap safety` below")]
fn json(set: &JwkSet) -> Bytes {
    // Unwrap safety: strings and vectors of them; such a value always has a JSON form.
    serde_json::to_vec(set).unwrap().into()
}

/// The active key that is the least `other`, else the first in the set's order.
fn active<'a>(records: &[&'a KeyRecord], other: impl Fn(&KeyRecord) -> bool) -> Option<&'a KeyRecord> {
    let active = records.iter().filter(|record| record.state == KeyState::Active && jwk::is_published(record));
    active.copied().min_by_key(|record| (other(record), record.alg, record.times.created, record.id))
}

fn pem_of(record: &KeyRecord) -> Option<Bytes> {
    let public = record.public.as_ref()?;
    let pem = pem::encode_string("PUBLIC KEY", LineEnding::LF, public.key.spki());
    pem.map(Bytes::from).ok()
}
