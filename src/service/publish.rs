//! The key sets as authorization servers see them, in memory and ready to send.
//!
//! [`Publisher::rebuild`] makes all documents from the records; [`Publisher::lookup`] costs the same for one client or
//! ten thousand, and goes on when HSM and store are gone.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use hallmark_core::{
    client::{Client, default_jwks_path, pem_path},
    jwk::{self, JwkSet},
    key::{ClientName, KeyRecord, KeyState, Purpose},
    time::Timestamp,
};
use x509_cert::der::pem::{self, LineEnding};

/// Holds the documents of all clients.
#[derive(Debug)]
pub struct Publisher {
    public_url: String,
    max_age: Duration,
    sets: ArcSwap<Sets>,
}

/// What a path leads to.
#[derive(Clone, Debug)]
pub enum Answer {
    /// No client's path.
    NotFound,
    /// A client's path, before its first key was published.
    NoKeyYet,
    Document(Document),
}

/// Bytes to send, and for how long they may be kept.
#[derive(Clone, Debug)]
pub struct Document {
    pub kind: Kind,
    pub published: Arc<Published>,
    /// At most the configured time, and not beyond the next change of the set; whole seconds.
    pub max_age: Duration,
}

/// One document.
#[derive(Debug, PartialEq, Eq)]
pub struct Published {
    pub body: Bytes,
    /// A strong entity tag, quotes included (RFC 9110 §8.8.3).
    pub etag: String,
}

/// What is asked for about a client's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A JWK Set.
    Jwks,
    /// The active key as SubjectPublicKeyInfo in PEM (RFC 7468 §13).
    Pem,
}

/// When the published set of a client is known to change next.
pub type NextChanges = HashMap<ClientName, Timestamp>;

impl Publisher {
    /// Without clients. `public_url` is how the outside reaches the listener, without a slash at the end; `max_age` is
    /// the longest time that a verifier may keep a set.
    pub fn new(public_url: &str, max_age: Duration) -> Self {
        Self { public_url: public_url.trim_end_matches('/').to_owned(), max_age, sets: ArcSwap::default() }
    }

    /// The URL of a client's key set, as an authorization server is given it.
    pub fn url(&self, client: &Client) -> String {
        self.public_url.clone() + &client.jwks_path()
    }

    /// [`Publisher::rebuild_until`] without a known change ahead.
    pub fn rebuild(&self, clients: &[Client], records: &[KeyRecord]) {
        self.rebuild_until(clients, records, &NextChanges::new());
    }

    /// Makes all documents anew, and swaps them in at once. Verifiers are told to keep a set no longer than to its next
    /// change.
    ///
    /// A client that has records but is no longer configured stays published, at the default path: taking it out of the
    /// configuration must not break assertions that are still valid. Where two claim one path, a configured client
    /// goes before one that is not, a key set before a PEM.
    pub fn rebuild_until(&self, clients: &[Client], records: &[KeyRecord], next_changes: &NextChanges) {
        let mut by_client: BTreeMap<&ClientName, Vec<&KeyRecord>> = BTreeMap::new();
        for record in records.iter().filter(|record| record.purpose == Purpose::Assertion) {
            if let Some(client) = &record.client {
                by_client.entry(client).or_default().push(record);
            }
        }
        let mut published = Vec::new();
        for client in clients {
            let records = by_client.remove(&client.name).unwrap_or_default();
            let set = Set::new(Some(client), &records, next_changes.get(&client.name).copied());
            published.push((client.jwks_path(), Arc::new(set)));
        }
        for (name, records) in by_client {
            let set = Set::new(None, &records, next_changes.get(name).copied());
            published.push((default_jwks_path(name), Arc::new(set)));
        }
        let mut sets = Sets::new();
        for (path, set) in &published {
            sets.entry(path.as_str().into()).or_insert((Kind::Jwks, Arc::clone(set)));
        }
        for (path, set) in published {
            sets.entry(pem_path(&path).into()).or_insert((Kind::Pem, set));
        }
        self.sets.store(Arc::new(sets));
    }

    /// What is at `path` (of a URL, without query) at `now`.
    pub fn lookup(&self, path: &str, now: Timestamp) -> Answer {
        let sets = self.sets.load();
        let Some((kind, set)) = sets.get(path) else { return Answer::NotFound };
        let document = match kind {
            Kind::Jwks => &set.jwks,
            Kind::Pem => &set.pem,
        };
        let Some(published) = document.clone() else { return Answer::NoKeyYet };
        Answer::Document(Document { kind: *kind, published, max_age: self.max_age(set, now) })
    }

    /// The key set of `client`, once it has its first key.
    pub fn document(&self, client: &Client) -> Option<Arc<Published>> {
        self.sets.load().get(client.jwks_path().as_str())?.1.jwks.clone()
    }

    fn max_age(&self, set: &Set, now: Timestamp) -> Duration {
        let until_change = set.next_change.map_or(self.max_age, |next| next.since(now));
        Duration::from_secs(self.max_age.min(until_change).as_secs())
    }
}

type Sets = HashMap<Box<str>, (Kind, Arc<Set>)>;

/// One client's documents.
#[derive(Debug)]
struct Set {
    jwks: Option<Arc<Published>>,
    pem: Option<Arc<Published>>,
    next_change: Option<Timestamp>,
}

impl Set {
    fn new(client: Option<&Client>, records: &[&KeyRecord], next_change: Option<Timestamp>) -> Self {
        // A set whose last key was revoked is published, and empty: a verifier must see that the key is gone.
        let began = records.iter().any(|record| record.public.is_some() && record.times.published.is_some());
        let jwks = began.then(|| publish(jwks(records)));
        let pem = active(client, records).and_then(pem_of).map(publish);
        Self { jwks, pem, next_change }
    }
}

#[expect(clippy::unwrap_used, reason = "`Unwrap safety` below")]
fn jwks(records: &[&KeyRecord]) -> Bytes {
    // Unwrap safety: strings and vectors of them; such a value always has a JSON form.
    serde_json::to_vec(&JwkSet::of(records.iter().copied())).unwrap().into()
}

/// The active key of the client's preferred algorithm, else the first in the set's order.
fn active<'a>(client: Option<&Client>, records: &[&'a KeyRecord]) -> Option<&'a KeyRecord> {
    let preferred = client.and_then(Client::default_alg);
    let active = records.iter().filter(|record| record.state == KeyState::Active && jwk::is_published(record));
    active.copied().min_by_key(|record| (Some(record.alg) != preferred, record.alg, record.times.created, record.id))
}

fn pem_of(record: &KeyRecord) -> Option<Bytes> {
    let public = record.public.as_ref()?;
    let pem = pem::encode_string("PUBLIC KEY", LineEnding::LF, public.key.spki());
    pem.map(Bytes::from).ok()
}

fn publish(body: Bytes) -> Arc<Published> {
    let hash = digest::digest(&digest::SHA256, &body);
    let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(&hash.as_ref()[..16]));
    Arc::new(Published { body, etag })
}

#[cfg(test)]
mod tests;
