use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use hallmark_core::{
    key::{KeyId, KeyRecord},
    ports::{
        BegunChange, ChangeState, ClientState, KeyChange, Lead, MaxAge, Pending, PublishedPath, Pulse, RecordUpdate,
        RegistrationResult,
    },
};

use super::*;
use crate::{
    follow::disk::StateDir,
    service::{publish::Answer, rules::RuleSettings},
};

/// A store whose answer the test decides.
#[derive(Default)]
struct Told {
    records: Mutex<Vec<KeyRecord>>,
    high_water: Mutex<u64>,
    gone: AtomicBool,
}

impl Told {
    fn answer<T: Send + 'static>(&self, answer: T) -> Pending<'_, T> {
        let gone = self.gone.load(Ordering::Relaxed);
        Box::pin(async move { if gone { Err(StoreError::Unavailable("gone".to_owned())) } else { Ok(answer) } })
    }
}

impl KeyStore for Told {
    fn records(&self) -> Pending<'_, Snapshot> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.answer(Snapshot { records, generation: 1, paths: Vec::new(), registrations: Vec::new() })
    }

    fn apply<'a>(&'a self, _: &'a [KeyRecord], _: &'a [RecordUpdate]) -> Pending<'a, ()> {
        unreachable!("it only reads")
    }

    fn begin_change<'a>(&'a self, _: &'a KeyChange) -> Pending<'a, BegunChange> {
        unreachable!("it only reads")
    }

    fn end_change<'a>(&'a self, _: &'a str, _: ChangeState, _: &'a [KeyId]) -> Pending<'a, ()> {
        unreachable!("it only reads")
    }

    fn record_registration<'a>(&'a self, _: &'a RegistrationResult, _: Option<&'a str>) -> Pending<'a, ()> {
        unreachable!("it only reads")
    }

    fn pulse(&self) -> Pending<'_, Pulse> {
        self.answer(Pulse { generation: 1, now: NOW })
    }
}

impl SweepStore for Told {
    fn try_lead(&self) -> Pending<'_, Option<Box<dyn Lead>>> {
        unreachable!("it only reads")
    }

    fn client_states(&self, _: Duration) -> Pending<'_, Vec<ClientState>> {
        let max_age_high_water_ms = *self.high_water.lock().unwrap_or_else(PoisonError::into_inner);
        let client = "c".parse().unwrap();
        self.answer(vec![ClientState { client, max_age_high_water_ms, lowered_at: None }])
    }

    fn raise_max_age<'a>(&'a self, _: &'a [MaxAge]) -> Pending<'a, ()> {
        unreachable!("it only reads")
    }

    fn publish_at<'a>(&'a self, _: &'a [PublishedPath]) -> Pending<'a, ()> {
        unreachable!("it only reads")
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
const PATH: &str = "/clients/c/jwks.json";

struct Process {
    publisher: Arc<Publisher>,
    standing: Arc<Standing>,
    reader: Reader,
}

fn process(store: &Arc<Told>, folder: Option<&std::path::Path>) -> Process {
    let publisher = Arc::new(Publisher::new("https://keys.example", MAX_AGE));
    let standing = Arc::new(Standing::new(Duration::from_secs(3600)));
    let settings = RuleSettings::new(MAX_AGE, Duration::from_secs(60));
    let registered = Registered::new(Vec::new(), Vec::new(), Vec::new());
    let kept = folder.map(|folder| Kept::open(StateDir::open(folder).unwrap(), &publisher, &standing).unwrap());
    let parts = Parts {
        publisher: publisher.clone(),
        standing: standing.clone(),
        clock: Arc::new(Still),
        foresight: Arc::new(Foresight::new(registered, settings)),
        kept,
    };
    let store = store.clone();
    let open: Open = Box::new(move || {
        let store = store.clone();
        Box::pin(async move {
            store.pulse().await?;
            Ok(store as Arc<dyn Source>)
        })
    });
    Process { publisher, standing, reader: Reader::new(parts, open) }
}

impl Process {
    fn max_age(&self) -> u64 {
        match self.publisher.lookup(PATH, NOW) {
            Answer::Document(document) => document.max_age.as_secs(),
            other => panic!("{other:?}"),
        }
    }
}

const MAX_AGE: Duration = Duration::from_secs(300);

fn store(high_water: u64) -> Arc<Told> {
    let store = Told::default();
    *store.high_water.lock().unwrap() = high_water;
    *store.records.lock().unwrap() = vec![crate::service::publish::sample_record("c", 1)];
    Arc::new(store)
}

#[tokio::test]
async fn a_store_that_is_gone_leaves_what_was_read() {
    let store = store(300_000);
    store.gone.store(true, Ordering::Relaxed);
    let mut process = process(&store, None);
    process.reader.read().await.unwrap_err();
    assert!(matches!(process.publisher.lookup(PATH, NOW), Answer::NotFound));

    store.gone.store(false, Ordering::Relaxed);
    process.reader.read().await.unwrap();
    assert_eq!((process.max_age(), process.standing.figures(NOW).connected), (300, true));
    store.gone.store(true, Ordering::Relaxed);
    process.reader.read().await.unwrap_err();
    assert_eq!((process.max_age(), process.standing.figures(NOW).connected), (60, false));
    let later = NOW.plus(Duration::from_secs(3601));
    assert!(!process.standing.figures(NOW).stale && process.standing.figures(later).stale);
}

#[tokio::test]
async fn the_disk_serves_while_the_store_is_gone() {
    let (store, folder) = (store(300_000), tempfile::tempdir().unwrap());
    let mut before = process(&store, Some(folder.path()));
    before.reader.read().await.unwrap();
    let body = |process: &Process| match process.publisher.lookup(PATH, NOW) {
        Answer::Document(document) => document.published.body.clone(),
        other => panic!("{other:?}"),
    };
    let served = body(&before);
    drop(before);

    store.gone.store(true, Ordering::Relaxed);
    let mut after = process(&store, Some(folder.path()));
    assert_eq!((body(&after), after.max_age()), (served, 60), "from its first moment on");
    after.reader.read().await.unwrap_err();
    let figures = after.standing.figures(NOW.plus(Duration::from_secs(3601)));
    assert!(figures.stale && !figures.connected);
    store.gone.store(false, Ordering::Relaxed);
    after.reader.read().await.unwrap();
    assert_eq!(after.max_age(), 300);
}

/// What counts for leads is what the signers promised; this process must not promise more.
#[tokio::test]
async fn nobody_is_told_more_than_leads_count_with() {
    for (high_water, told) in [(0, 60), (120_000, 120), (86_400_000, 300)] {
        let mut process = process(&store(high_water), None);
        process.reader.read().await.unwrap();
        assert_eq!(process.max_age(), told, "{high_water}");
    }
}
