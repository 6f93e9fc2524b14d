//! Reads the records from a store that others write, and publishes what they say.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use hallmark_core::{
    client::Client,
    ports::{ClientState, Clock, KeyStore, Snapshot, StoreError, SweepStore},
    time::Timestamp,
};
use tokio_util::sync::CancellationToken;

use super::{Standing, kept::Kept};
use crate::service::{publish::Publisher, registry::Registered, rules::Foresight};

#[cfg(test)]
mod tests;

/// What is read: records, and what verifiers were told.
pub trait Source: KeyStore + SweepStore {}

impl<T: KeyStore + SweepStore> Source for T {}

/// How the store is reached; tried until it is.
pub type Open = Box<dyn Fn() -> Opening + Send + Sync>;

/// The store, later.
pub type Opening = Pin<Box<dyn Future<Output = Result<Arc<dyn Source>, StoreError>> + Send>>;

/// What a reader works for.
pub struct Parts {
    /// What is served meanwhile is known already.
    pub publisher: Arc<Publisher>,
    pub standing: Arc<Standing>,
    pub clock: Arc<dyn Clock>,
    /// Its clients may be replaced while the reader runs.
    pub foresight: Arc<Foresight>,
    /// `None`: nothing is kept.
    pub kept: Option<Kept>,
}

/// Reads one store.
pub struct Reader {
    parts: Parts,
    open: Open,
    store: Option<Arc<dyn Source>>,
    published: Option<PublishedFrom>,
}

/// What the published set was made of.
struct PublishedFrom {
    generation: u64,
    registered: Arc<Registered>,
    records: Arc<Snapshot>,
    /// When a set is known to change next.
    next_change: Option<Timestamp>,
    /// When what verifiers were told was read.
    told: Instant,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

impl Reader {
    /// Nothing is read before [`Reader::run`].
    pub fn new(parts: Parts, open: Open) -> Self {
        parts.publisher.set_cut_off(true);
        Self { parts, open, store: None, published: None }
    }

    /// Connects now, rather than with the first reading.
    pub async fn connect(&mut self) -> Result<(), StoreError> {
        self.store().await.map(drop)
    }

    /// Reads until `end`, several times within the second that a change may take to be seen.
    pub async fn run(mut self, end: CancellationToken) {
        let mut failing = false;
        loop {
            let read = tokio::select! {
                read = self.read() => read,
                () = end.cancelled() => return,
            };
            match read {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(%error, "the key store can't be read; serving the last set, trying on");
                }
                Err(_) => {}
            }
            if end.run_until_cancelled(tokio::time::sleep(READ_EVERY)).await.is_none() {
                return;
            }
        }
    }

    /// Asks once, publishes what is new, and has the disk keep it.
    pub async fn read(&mut self) -> Result<(), StoreError> {
        let answered = tokio::time::timeout(READ_TIMEOUT, self.publish_news()).await;
        let silent = |_| Err(StoreError::Unavailable("it did not answer in time".to_owned()));
        let read = answered.unwrap_or_else(silent);
        let Parts { publisher, standing, clock, kept, .. } = &mut self.parts;
        publisher.set_cut_off(read.is_err());
        standing.connected(read.is_ok());
        read?;
        let now = clock.now();
        standing.heard_at(now);
        if let Some(kept) = kept {
            kept.keep(publisher, standing, now).await;
        }
        Ok(())
    }

    async fn publish_news(&mut self) -> Result<(), StoreError> {
        let store = self.store().await?;
        let pulse = store.pulse().await?;
        let registered = self.parts.foresight.registered();
        let is_current = |published: &PublishedFrom| {
            published.generation == pulse.generation
                && Arc::ptr_eq(&published.registered, &registered)
                && (published.told.elapsed() < RECOUNT_EVERY)
        };
        if self.published.as_ref().is_some_and(is_current) {
            return Ok(());
        }
        let states = store.client_states(Duration::ZERO).await?;
        // Observed time moves no generation: where a foreseen change has not come, the records say why.
        let is_known = |published: &&PublishedFrom| {
            published.generation == pulse.generation && published.next_change.is_none_or(|at| at > pulse.now)
        };
        let records = match self.published.as_ref().filter(is_known) {
            Some(published) => published.records.clone(),
            None => Arc::new(store.records().await?),
        };
        let ahead_ms = pulse.now.millis().saturating_sub(self.parts.clock.now().millis());
        let Parts { publisher, foresight, .. } = &self.parts;
        let (publisher, foresight, of) = (publisher.clone(), foresight.clone(), (registered.clone(), records.clone()));
        // Ten thousand clients take a while, which whoever asks for a set need not wait for.
        let work = move || publish(&publisher, &foresight, states, &of.0, &of.1, pulse.now, ahead_ms);
        let next_change = tokio::task::spawn_blocking(work).await;
        let next_change = next_change.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let (generation, told) = (records.generation, Instant::now());
        self.published = Some(PublishedFrom { generation, registered, records, next_change, told });
        Ok(())
    }

    async fn store(&mut self) -> Result<Arc<dyn Source>, StoreError> {
        if let Some(store) = &self.store {
            return Ok(store.clone());
        }
        let store = (self.open)().await?;
        self.store = Some(store.clone());
        Ok(store)
    }
}

/// Publishes the records; gives when a set is known to change next.
fn publish(
    publisher: &Publisher,
    foresight: &Foresight,
    states: Vec<ClientState>,
    registered: &Registered,
    read: &Snapshot,
    now: Timestamp,
    ahead_ms: i64,
) -> Option<Timestamp> {
    let clients: Vec<Client> = registered.clients.values().cloned().collect();
    let named = read.records.iter().filter_map(|record| record.client.as_ref());
    // Before the set that might be promised for longer.
    publisher.set_longest(foresight.told(states, named));
    publisher.set_ahead(ahead_ms);
    let next = foresight.next_changes(&read.records, now);
    publisher.remember_paths(&read.paths);
    publisher.rebuild_until(&clients, &read.records, &next);
    next.values().min().copied()
}

/// A store that takes longer is as good as gone.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
const READ_EVERY: Duration = Duration::from_millis(400);
/// How often to read what moves no generation. Well within the time after which a high water is lowered.
const RECOUNT_EVERY: Duration = Duration::from_secs(10);
