//! A rotation on fake HSMs, a store in memory, and clocks that tests set.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hallmark_core::{
    client::Client,
    key::{HsmName, KeyId, KeyRecord, KeyState},
    ports::{
        BegunChange, ChangeState, ClientPolicy, ClientState, Clock, HsmReport, KeyChange, KeyStore, Lead, MaxAge,
        Pending, PublishedPath, Pulse, RecordUpdate, RegistrationResult, ReplicaStore, Replicas, Snapshot, StoreError,
        SweepStore,
    },
    profile::Profile,
    time::Timestamp,
};
use hallmark_testkit::fake_hsm::FakeToken;

use super::super::{Cause, Look, Monotonic, Parts, PublicView, Rotation};
use crate::{
    service::{
        fixture::{PATIENCE, Rig, client},
        keys::Approvals,
        rules::RuleSettings,
    },
    store::SqliteStore,
    telemetry::Metrics,
};

/// Of the profile `smart-v2` with a `max_age` of five minutes.
pub(super) const LEAD: Duration = Duration::from_secs(330);
pub(super) const EVERY: Duration = Duration::from_secs(10);
pub(super) const ROTATE: Duration = Duration::from_secs(7 * 24 * 3600);
/// `keep_for` is zero: the lease, the longest assertion, the skew and `max_age`.
pub(super) const KEEP: Duration = Duration::from_secs(20 + 300 + 300 + 300);

/// Both clocks.
#[derive(Debug)]
pub(super) struct TestClock {
    wall: AtomicI64,
    monotonic_ms: AtomicU64,
}

impl TestClock {
    fn new() -> Arc<Self> {
        Arc::new(Self { wall: AtomicI64::new(1_800_000_000_000), monotonic_ms: AtomicU64::new(0) })
    }

    /// Time passes.
    pub(super) fn advance(&self, by: Duration) {
        self.set_wall(i64::try_from(by.as_secs()).unwrap());
        self.monotonic_ms.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// Somebody sets the wall clock, by so many seconds.
    pub(super) fn set_wall(&self, secs: i64) {
        self.wall.fetch_add(secs * 1000, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.wall.load(Ordering::SeqCst))
    }
}

impl Monotonic for TestClock {
    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.monotonic_ms.load(Ordering::SeqCst))
    }
}

/// A store in memory that goes by the test's clock, and can be made to fail.
pub(super) struct TestStore {
    inner: SqliteStore,
    clock: Arc<TestClock>,
    pub(super) down: AtomicBool,
    /// After so many writes it is down: as for a process that dies.
    writes_left: AtomicUsize,
    /// The last of those is written, and its answer is lost.
    last_is_written: AtomicBool,
    pub(super) writes: AtomicUsize,
    /// What another replica writes just before the next update of the same key.
    pub(super) cut_in: Mutex<Option<RecordUpdate>>,
}

impl TestStore {
    async fn new(clock: &Arc<TestClock>) -> Arc<Self> {
        Arc::new(Self {
            inner: SqliteStore::open("sqlite::memory:").await.unwrap(),
            clock: clock.clone(),
            down: AtomicBool::new(false),
            writes_left: AtomicUsize::new(usize::MAX),
            last_is_written: AtomicBool::new(false),
            writes: AtomicUsize::new(0),
            cut_in: Mutex::new(None),
        })
    }

    /// Dies at the write after the next `n`, before or after it is done.
    pub(super) fn die_after(&self, n: usize, done: bool) {
        self.last_is_written.store(done, Ordering::SeqCst);
        self.writes_left.store(n, Ordering::SeqCst);
    }

    /// A new process finds it well.
    pub(super) fn revive(&self) {
        self.die_after(usize::MAX, false);
        self.down.store(false, Ordering::SeqCst);
    }

    fn check(&self) -> Result<(), StoreError> {
        match self.down.load(Ordering::SeqCst) {
            true => Err(StoreError::Unavailable("as if it were gone".into())),
            false => Ok(()),
        }
    }

    async fn write(&self, act: Pending<'_, ()>) -> Result<(), StoreError> {
        self.check()?;
        let left = self.writes_left.load(Ordering::SeqCst);
        if left == 0 {
            self.down.store(true, Ordering::SeqCst);
            if self.last_is_written.load(Ordering::SeqCst) {
                act.await?;
            }
            return self.check();
        }
        self.writes_left.store(left - 1, Ordering::SeqCst);
        self.writes.fetch_add(1, Ordering::SeqCst);
        act.await
    }
}

impl KeyStore for TestStore {
    fn records(&self) -> Pending<'_, Snapshot> {
        Box::pin(async {
            self.check()?;
            self.inner.records().await
        })
    }

    fn apply<'a>(&'a self, insert: &'a [KeyRecord], update: &'a [RecordUpdate]) -> Pending<'a, ()> {
        Box::pin(async move {
            let before = self.cut_in.lock().unwrap().take_if(|cut| update.iter().any(|u| u.record.id == cut.record.id));
            if let Some(before) = before {
                self.inner.apply(&[], &[before]).await?;
            }
            self.write(self.inner.apply(insert, update)).await
        })
    }

    fn begin_change<'a>(&'a self, change: &'a KeyChange) -> Pending<'a, BegunChange> {
        Box::pin(async {
            self.check()?;
            self.inner.begin_change(change).await
        })
    }

    fn end_change<'a>(&'a self, id: &'a str, state: ChangeState, keys: &'a [KeyId]) -> Pending<'a, ()> {
        Box::pin(self.write(self.inner.end_change(id, state, keys)))
    }

    fn record_registration<'a>(&'a self, result: &'a RegistrationResult, before: Option<&'a str>) -> Pending<'a, ()> {
        Box::pin(self.write(self.inner.record_registration(result, before)))
    }

    fn pulse(&self) -> Pending<'_, Pulse> {
        Box::pin(async {
            self.check()?;
            Ok(Pulse { now: self.clock.now(), ..self.inner.pulse().await? })
        })
    }
}

impl SweepStore for TestStore {
    fn try_lead(&self) -> Pending<'_, Option<Box<dyn Lead>>> {
        self.inner.try_lead()
    }

    fn client_states(&self, above: Duration) -> Pending<'_, Vec<ClientState>> {
        self.inner.client_states(above)
    }

    fn raise_max_age<'a>(&'a self, served: &'a [MaxAge]) -> Pending<'a, ()> {
        self.inner.raise_max_age(served)
    }

    fn publish_at<'a>(&'a self, paths: &'a [PublishedPath]) -> Pending<'a, ()> {
        self.inner.publish_at(paths)
    }
}

impl ReplicaStore for TestStore {
    fn announce<'a>(&'a self, instance: &'a str, policies: &'a [ClientPolicy]) -> Pending<'a, ()> {
        self.inner.announce(instance, policies)
    }

    fn heartbeat<'a>(&'a self, instance: &'a str, serving: u64) -> Pending<'a, bool> {
        self.inner.heartbeat(instance, serving)
    }

    fn replicas(&self, within: Duration) -> Pending<'_, Replicas> {
        self.inner.replicas(within)
    }

    fn report<'a>(&'a self, instance: &'a str, hsms: &'a [HsmReport]) -> Pending<'a, ()> {
        self.inner.report(instance, hsms)
    }

    fn reports<'a>(&'a self, besides: &'a str, within: Duration) -> Pending<'a, Vec<(String, HsmReport)>> {
        self.inner.reports(besides, within)
    }
}

/// What outlives a process.
pub(super) struct World {
    pub(super) clock: Arc<TestClock>,
    pub(super) store: Arc<TestStore>,
    pub(super) tokens: HashMap<HsmName, Arc<FakeToken>>,
    pub(super) clients: Vec<Client>,
    pub(super) settings: RuleSettings,
    pub(super) host: Arc<TestHost>,
    pub(super) approvals: Option<Approvals>,
}

/// What a static host answers.
#[derive(Default)]
pub(super) struct TestHost(Mutex<Option<String>>);

impl TestHost {
    /// `None`: nothing.
    pub(super) fn serves(&self, document: Option<String>) {
        *self.0.lock().unwrap() = document;
    }
}

impl PublicView for TestHost {
    fn fetch<'a>(&'a self, url: &'a str) -> Look<'a> {
        assert_eq!(url, "https://keys.example/clients/c/jwks.json");
        let document = self.0.lock().unwrap().clone();
        Box::pin(async { document.map(Bytes::from).ok_or_else(|| "answers 404".to_owned()) })
    }
}

/// A process.
pub(super) struct Process {
    pub(super) rig: Rig,
    pub(super) rotation: Rotation,
    pub(super) metrics: Arc<Metrics>,
    clock: Arc<TestClock>,
}

impl World {
    /// Client `c` on each of `hsms`, with one algorithm, and rotations once a week.
    pub(super) async fn new(hsms: &[&str]) -> Self {
        let hsms: Vec<HsmName> = hsms.iter().map(|name| name.parse().unwrap()).collect();
        let clock = TestClock::new();
        let mut c = client(&hsms);
        c.profile = Profile::find("smart-v2").unwrap();
        c.lead = c.profile.jwks.lead;
        c.keys.truncate(1);
        let mut settings = RuleSettings::new(Duration::from_secs(300), PATIENCE);
        settings.unsafe_times.rotate = Some(ROTATE);
        Self {
            store: TestStore::new(&clock).await,
            clock,
            tokens: hsms.iter().map(|name| (name.clone(), FakeToken::new())).collect(),
            clients: vec![c],
            settings,
            host: Arc::default(),
            approvals: None,
        }
    }

    pub(super) async fn start(&self) -> Process {
        self.start_as("a").await
    }

    pub(super) async fn start_as(&self, instance: &str) -> Process {
        let (clients, tokens) = (self.clients.clone(), self.tokens.clone());
        let store = self.store.clone();
        let mut rig = Rig::start(clients, tokens, store.clone(), self.clock.clone(), self.settings.clone()).await;
        if let Some(approvals) = &self.approvals {
            rig.keys = rig.keys.clone().with_approvals(approvals.clone());
        }
        let metrics = Arc::new(Metrics::new());
        let rotation = Rotation::new(Parts {
            context: rig.context.clone(),
            keys: rig.keys.clone(),
            rules: rig.rules.clone(),
            sweeps: store.clone(),
            replicas: store,
            metrics: metrics.clone(),
            instance: instance.into(),
            every: EVERY,
            served: Box::new(|| true),
            public_view: self.host.clone(),
            public_url: "https://keys.example".to_owned(),
            monotonic: self.clock.clone(),
        });
        Process { rig, rotation, metrics, clock: self.clock.clone() }
    }
}

impl Process {
    /// One round, and what it has done on HSMs.
    pub(super) async fn round(&self) {
        self.rotation.round(Cause::Time).await;
        self.rotation.idle().await;
    }

    /// Rounds until there is nothing left to do.
    pub(super) async fn settle(&self) {
        for _ in 0..6 {
            self.round().await;
        }
    }

    /// Time passes, with a round as often as there should be one.
    pub(super) async fn live(&self, time: Duration) {
        let end = self.clock.now().plus(time);
        while self.clock.now() < end {
            self.clock.advance(EVERY);
            self.round().await;
        }
    }

    /// Time passes in which nobody counts: nothing is below its gate.
    pub(super) async fn skip(&self, time: Duration) {
        self.clock.advance(time);
        self.round().await;
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn records(&self) -> Vec<KeyRecord> {
        self.rig.context.keyring.keys().of(&"c".parse().unwrap()).to_vec()
    }

    pub(super) fn in_state(&self, state: KeyState) -> Vec<KeyRecord> {
        self.records().into_iter().filter(|record| record.state == state).collect()
    }

    /// The key that signs.
    pub(super) fn active(&self) -> KeyId {
        let active = self.in_state(KeyState::Active);
        assert_eq!(active.len(), 1, "{:?}", self.states());
        active[0].id
    }

    /// Sorted by name.
    pub(super) fn states(&self) -> Vec<&'static str> {
        let mut states: Vec<_> = self.records().iter().map(|record| record.state.as_str()).collect();
        states.sort_unstable();
        states
    }

    /// What verifiers read.
    pub(super) fn jwks(&self) -> String {
        let registered = self.rig.context.registry.load();
        let published = self.rig.publisher.document(registered.clients.values().next().unwrap()).unwrap();
        String::from_utf8(published.body.to_vec()).unwrap()
    }

    /// The value of a series; 0 where it is not there.
    pub(super) fn metric(&self, series: &str) -> f64 {
        let text = self.metrics.encode();
        let value =
            |line: &'_ str| line.strip_prefix(series)?.trim_start_matches("{}").strip_prefix(' ').map(str::to_owned);
        let line = text.lines().find_map(value);
        line.map_or(0.0, |value| value.parse().unwrap())
    }
}

impl Process {
    /// Takes the HSM away, and waits until it is missed.
    pub(super) async fn lose_hsm(&self, hsm: &str) {
        let hsm: HsmName = hsm.parse().unwrap();
        self.rig.tokens[&hsm].set_unplugged(true);
        let pool = &self.rig.context.pools[&hsm];
        let mut up = pool.watch_up();
        pool.list().await.unwrap_err();
        tokio::time::timeout(PATIENCE, up.wait_for(|up| !up)).await.expect("it is missed").unwrap();
    }

    /// Gives it back.
    pub(super) async fn return_hsm(&self, hsm: &str) {
        let hsm: HsmName = hsm.parse().unwrap();
        self.rig.tokens[&hsm].set_unplugged(false);
        let up = self.rig.context.pools[&hsm].wait_until_up();
        tokio::time::timeout(PATIENCE, up).await.expect("it comes back");
    }
}
