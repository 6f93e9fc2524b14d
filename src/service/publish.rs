//! The key sets as authorization servers see them, in memory and ready to send.
//!
//! [`Publisher::rebuild`] makes all documents from the records, [`Publisher::take`] takes those that another process made;
//! [`Publisher::lookup`] costs the same for one client or ten thousand, and goes on when HSM and store are gone.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use hallmark_core::{
    client::{Client, default_jwks_path, pem_path},
    key::{ClientName, KeyRecord, Purpose},
    ports::PublishedPath,
    time::Timestamp,
};
use tokio::sync::watch;

use super::followers::Wanted;

mod index;
mod set;
mod shown;

pub use set::{Changes, Kind, Published, PublishedSet, Slot};
pub use shown::Shown;

use index::Found;

/// Holds the documents of all clients.
#[derive(Debug)]
pub struct Publisher {
    public_url: String,
    max_age: Duration,
    set: ArcSwap<PublishedSet>,
    /// One replacement at a time. Holds where each client was last published that this process knew as configured.
    replacing: Mutex<HashMap<ClientName, String>>,
    generation: watch::Sender<u64>,
    /// Whether the source of the documents is out of reach.
    cut_off: AtomicBool,
    /// The clock by which [`Slot::next_change`] goes, minus our own.
    ahead_ms: AtomicI64,
    /// What nobody is told more than, in milliseconds.
    longest_ms: AtomicU64,
    shown: Shown,
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
    /// A copy: to count who has it would cost more than the few hundred bytes, and keep more for a slow reader.
    pub published: Published,
    /// At most the configured time, and not beyond the next change of the set; whole seconds.
    pub max_age: Duration,
    /// Nobody may keep it at all: [`Slot::only_here`].
    pub no_store: bool,
}

/// When the published set of a client is known to change next.
pub type NextChanges = HashMap<ClientName, Timestamp>;

/// The longest time that verifiers are told to keep a set while its source is out of reach: news must spread fast once
/// there are any. Not shorter, for real verifiers keep a set for a minute whatever they are told.
pub const CUT_OFF_MAX_AGE: Duration = Duration::from_secs(60);

impl Publisher {
    /// Without clients. `public_url` is how the outside reaches the listener, without a slash at the end; `max_age` is
    /// the longest time that a verifier may keep a set.
    pub fn new(public_url: &str, max_age: Duration) -> Self {
        Self {
            public_url: public_url.trim_end_matches('/').to_owned(),
            max_age,
            set: ArcSwap::default(),
            replacing: Mutex::default(),
            generation: watch::Sender::new(0),
            cut_off: AtomicBool::new(false),
            ahead_ms: AtomicI64::new(0),
            longest_ms: AtomicU64::new(u64::MAX),
            shown: Shown::default(),
        }
    }

    /// How the outside reaches the listener.
    pub fn public_url(&self) -> &str {
        &self.public_url
    }

    /// The URL of a client's key set, as an authorization server is given it.
    pub fn url(&self, client: &Client) -> String {
        self.public_url.clone() + &client.jwks_path()
    }

    /// [`Publisher::rebuild_until`] without a known change ahead.
    pub fn rebuild<'a>(&self, clients: impl IntoIterator<Item = &'a Client>, records: &[KeyRecord]) -> u64 {
        self.rebuild_until(clients, records, &NextChanges::new())
    }

    /// [`Publisher::rebuild_where`] for everyone.
    pub fn rebuild_until<'a>(
        &self,
        clients: impl IntoIterator<Item = &'a Client>,
        records: &[KeyRecord],
        next_changes: &NextChanges,
    ) -> u64 {
        self.rebuild_where(|_| true, clients, records, next_changes)
    }

    /// Makes the documents of clients that `changed` anew, and swaps all in at once; takes over what there is of the
    /// others, whose configuration and records must be those of the rebuild before. Verifiers are told to keep a set no longer than to its next
    /// change. Gives the generation that is published from now on: the same as before where nothing changed.
    ///
    /// A client that has records but is no longer configured stays published, where it was when it last was, else at the
    /// default path: taking it out of the configuration must not break assertions that are still valid. Where two claim
    /// one path, a configured client goes before one that is not, a key set before a PEM.
    pub fn rebuild_where<'a>(
        &self,
        changed: impl Fn(&ClientName) -> bool,
        clients: impl IntoIterator<Item = &'a Client>,
        records: &[KeyRecord],
        next_changes: &NextChanges,
    ) -> u64 {
        let mut paths = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut by_client: BTreeMap<&ClientName, Vec<&KeyRecord>> = BTreeMap::new();
        for record in records.iter().filter(|record| record.purpose == Purpose::Assertion) {
            if let Some(client) = &record.client {
                by_client.entry(client).or_default().push(record);
            }
        }
        let before = self.set.load();
        let mut slots = Vec::new();
        for client in clients {
            let records = by_client.remove(&client.name).unwrap_or_default();
            let (path, next) = (client.jwks_path(), next_changes.get(&client.name).copied());
            let kept = if changed(&client.name) { None } else { before.of_client(&client.name, &path, next) };
            slots.push((path.clone(), kept.unwrap_or_else(|| set::of_client(client, &records, next))));
            paths.insert(client.name.clone(), path);
        }
        for (name, records) in by_client {
            let path = paths.get(name).cloned().unwrap_or_else(|| default_jwks_path(name));
            slots.push((path, set::of_unconfigured(name, &records, next_changes.get(name).copied())));
        }
        let mut by_path = HashMap::new();
        let (sets, pems): (Vec<_>, Vec<_>) =
            slots.into_iter().map(|(path, [jwks, pem])| ((path.clone(), jwks), (pem_path(&path), pem))).unzip();
        for (path, slot) in sets.into_iter().chain(pems) {
            by_path.entry(path.into_boxed_str()).or_insert(slot);
        }
        self.replace(self.max_age, by_path)
    }

    /// Says where clients were published that are no longer configured, as far as this process does not know by itself.
    pub fn remember_paths(&self, known: &[PublishedPath]) {
        let mut paths = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        for PublishedPath { client, path } in known {
            let path = || path.clone().unwrap_or_else(|| default_jwks_path(client));
            paths.entry(client.clone()).or_insert_with(path);
        }
    }

    /// Publishes what another process made, each at its path. `max_age` is that process's; the shorter one holds.
    pub fn take(&self, max_age: Duration, documents: HashMap<Box<str>, Slot>) -> u64 {
        let _one = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        self.replace(self.max_age.min(max_age), documents)
    }

    /// Says whether the source of the documents is out of reach. While it is, nobody is told to keep a set for longer
    /// than [`CUT_OFF_MAX_AGE`].
    pub fn set_cut_off(&self, cut_off: bool) {
        self.cut_off.store(cut_off, Ordering::Relaxed);
    }

    /// Says by how much the clock of [`Slot::next_change`] is ahead of the one that [`Self::lookup`] is asked by.
    pub fn set_ahead(&self, ms: i64) {
        self.ahead_ms.store(ms, Ordering::Relaxed);
    }

    /// By how much that clock is ahead, as last said.
    pub fn ahead_ms(&self) -> i64 {
        self.ahead_ms.load(Ordering::Relaxed)
    }

    /// Says for how long anybody may be told to keep a set, where that is less than [`PublishedSet::max_age`].
    pub fn set_longest(&self, longest: Duration) {
        self.longest_ms.store(u64::try_from(longest.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What is at `path` (of a URL, without query) at `now`.
    pub fn lookup(&self, path: &str, now: Timestamp) -> Answer {
        let set = self.set.load();
        let Some(Found { kind, only_here, next_change, document }) = set.find(path) else { return Answer::NotFound };
        let Some((etag, body)) = document else { return Answer::NoKeyYet };
        let now = Timestamp::from_millis(now.millis().saturating_add(self.ahead_ms.load(Ordering::Relaxed)));
        let longest = set.max_age.min(Duration::from_millis(self.longest_ms.load(Ordering::Relaxed)));
        let max_age = max_age(longest, next_change, now, self.cut_off.load(Ordering::Relaxed));
        let published = Published { body: Bytes::copy_from_slice(body), etag: Bytes::copy_from_slice(etag) };
        Answer::Document(Document { kind, published, max_age, no_store: only_here })
    }

    /// The key set of `client`, once it has its first key.
    pub fn document(&self, client: &Client) -> Option<Arc<Published>> {
        self.set.load().slot(&client.jwks_path())?.published.clone()
    }

    /// Everything that is published now.
    pub fn current(&self) -> Arc<PublishedSet> {
        self.set.load_full()
    }

    /// Which generation is published now. It grows with each change of any document, from 0 at the start of the process.
    pub fn generation(&self) -> u64 {
        self.set.load().generation
    }

    /// Which generations of the store are shown.
    pub fn shown(&self) -> &Shown {
        &self.shown
    }

    /// What followers are to serve by now.
    pub fn wanted(&self) -> Wanted {
        Wanted { published: self.generation(), stored: self.shown.due() }
    }

    /// Wakes when another generation is published.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    fn replace(&self, max_age: Duration, mut documents: HashMap<Box<str>, Slot>) -> u64 {
        let before = self.set.load();
        let generation = before.generation + 1;
        let changed = before.adopt(&mut documents, generation);
        if !changed && before.max_age == max_age {
            return before.generation;
        }
        self.set.store(Arc::new(PublishedSet::new(generation, max_age, documents)));
        self.generation.send_replace(generation);
        generation
    }
}

/// Counted down to the next change. A source that is out of reach can't say whether that change came: once it is due,
/// the set is old or about to be, and is kept as shortly as any other that nobody vouches for.
fn max_age(longest: Duration, next_change: Timestamp, now: Timestamp, cut_off: bool) -> Duration {
    let until_change = next_change.since(now);
    let counted = match cut_off {
        false => longest.min(until_change),
        true if until_change.is_zero() => longest.min(CUT_OFF_MAX_AGE),
        true => longest.min(CUT_OFF_MAX_AGE).min(until_change),
    };
    Duration::from_secs(counted.as_secs())
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::sample_record;
