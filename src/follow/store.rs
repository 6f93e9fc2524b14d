//! Reads the records from a store that others write, and publishes what they say.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::{ArcSwap, ArcSwapOption};
use hallmark_core::{
    client::Client,
    key::KeyRecord,
    ports::{Clock, KeyStore, Snapshot, StoreError},
    time::Timestamp,
};
use tokio_util::sync::CancellationToken;

use super::Standing;
use crate::service::publish::{NextChanges, Publisher};

/// Says when each client's set is known to change next, by the records and the time.
pub type Foresee = Box<dyn Fn(&[Client], &[KeyRecord], Timestamp) -> NextChanges + Send + Sync>;

/// Reads one store.
pub struct Reader {
    store: Arc<dyn KeyStore>,
    clients: Arc<ArcSwap<Vec<Client>>>,
    publisher: Arc<Publisher>,
    standing: Arc<Standing>,
    clock: Arc<dyn Clock>,
    foresee: Foresee,
    /// What of.
    published: ArcSwapOption<(u64, Arc<Vec<Client>>)>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

impl Reader {
    /// `clients` may be replaced while it runs.
    pub fn new(
        store: Arc<dyn KeyStore>,
        clients: Arc<ArcSwap<Vec<Client>>>,
        publisher: Arc<Publisher>,
        standing: Arc<Standing>,
        clock: Arc<dyn Clock>,
        foresee: Foresee,
    ) -> Self {
        publisher.set_cut_off(true);
        Self { store, clients, publisher, standing, clock, foresee, published: ArcSwapOption::empty() }
    }

    /// Reads until `end`, several times within the second that a change may take to be seen.
    pub async fn run(self, end: CancellationToken) {
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

    /// Asks once, and publishes what is new.
    pub async fn read(&self) -> Result<(), StoreError> {
        let answered = tokio::time::timeout(READ_TIMEOUT, self.news()).await;
        let silent = |_| Err(StoreError::Unavailable("it did not answer in time".to_owned()));
        let news = answered.unwrap_or_else(silent).inspect_err(|_| {
            self.publisher.set_cut_off(true);
            self.standing.connected(false);
        })?;
        let now = self.clock.now();
        if let Some(Snapshot { records, generation, paths }) = news {
            let clients = self.clients.load_full();
            self.publisher.remember_paths(&paths);
            self.publisher.rebuild_until(&clients, &records, &(self.foresee)(&clients, &records, now));
            self.published.store(Some(Arc::new((generation, clients))));
        }
        self.publisher.set_cut_off(false);
        self.standing.connected(true);
        self.standing.heard_at(now);
        Ok(())
    }
}

impl Reader {
    /// The records, where they or the clients changed since they were published last.
    async fn news(&self) -> Result<Option<Snapshot>, StoreError> {
        if let Some(published) = self.published.load_full() {
            let (generation, clients) = &*published;
            if Arc::ptr_eq(clients, &self.clients.load()) && self.store.pulse().await?.generation == *generation {
                return Ok(None);
            }
        }
        self.store.records().await.map(Some)
    }
}

/// A store that takes longer is as good as gone.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
const READ_EVERY: Duration = Duration::from_millis(400);

#[cfg(test)]
mod tests {
    use hallmark_core::ports::{BegunChange, ChangeState, KeyChange, Pending, Pulse, RecordUpdate};
    use std::sync::{Mutex, PoisonError};

    use super::*;
    use crate::service::publish::Answer;

    /// A store whose answer the test decides.
    #[derive(Default)]
    struct Told(Mutex<Option<Vec<KeyRecord>>>);

    impl KeyStore for Told {
        fn records(&self) -> Pending<'_, Snapshot> {
            let records = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let snapshot = records.map(|records| Snapshot { records, generation: 1, paths: Vec::new() });
            Box::pin(async { snapshot.ok_or_else(|| StoreError::Unavailable("gone".to_owned())) })
        }

        fn apply<'a>(&'a self, _: &'a [KeyRecord], _: &'a [RecordUpdate]) -> Pending<'a, ()> {
            unreachable!("it only reads")
        }

        fn begin_change<'a>(&'a self, _: &'a KeyChange) -> Pending<'a, BegunChange> {
            unreachable!("it only reads")
        }

        fn end_change<'a>(&'a self, _: &'a str, _: ChangeState, _: &'a [hallmark_core::key::KeyId]) -> Pending<'a, ()> {
            unreachable!("it only reads")
        }

        fn pulse(&self) -> Pending<'_, Pulse> {
            let records = self.records();
            Box::pin(async { records.await.map(|read| Pulse { generation: read.generation, now: NOW }) })
        }
    }

    #[derive(Debug)]
    struct Still;

    impl Clock for Still {
        fn now(&self) -> Timestamp {
            NOW
        }
    }

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    #[tokio::test]
    async fn a_store_that_is_gone_leaves_what_was_read() {
        let (store, clients) = (Arc::new(Told::default()), Arc::new(ArcSwap::from_pointee(Vec::new())));
        let publisher = Arc::new(Publisher::new("https://keys.example", Duration::from_secs(300)));
        let standing = Arc::new(Standing::new(Duration::from_secs(3600)));
        let reader = Reader::new(
            store.clone(),
            clients,
            publisher.clone(),
            standing.clone(),
            Arc::new(Still),
            Box::new(|_, _, _| NextChanges::new()),
        );
        reader.read().await.unwrap_err();
        assert!(matches!(publisher.lookup(PATH, NOW), Answer::NotFound));

        *store.0.lock().unwrap() = Some(vec![crate::service::publish::sample_record("c", 1)]);
        reader.read().await.unwrap();
        let max_age = |publisher: &Publisher| match publisher.lookup(PATH, NOW) {
            Answer::Document(document) => document.max_age.as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!((max_age(&publisher), standing.figures(NOW).connected), (300, true));
        *store.0.lock().unwrap() = None;
        reader.read().await.unwrap_err();
        assert_eq!((max_age(&publisher), standing.figures(NOW).connected), (60, false));
        let later = NOW.plus(Duration::from_secs(3601));
        assert!(!standing.figures(NOW).stale && standing.figures(later).stale);
    }

    const PATH: &str = "/clients/c/jwks.json";
}
