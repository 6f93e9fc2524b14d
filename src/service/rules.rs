//! What the rules of `hallmark_core::lifecycle` are asked with: each client's policy, and how the world is.
//!
//! Shared by the sweep and by what operators ask for, so that both judge alike.

mod countdown;
mod elsewhere;
mod foresight;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use hallmark_core::{
    key::{ClientName, HsmName, KeyId, KeyRecord, KeyState},
    lifecycle::{KeyPolicy, Now, Observation, Settings},
    time::Timestamp,
};
use tokio::sync::Notify;

use self::countdown::Countdown;
pub use self::{elsewhere::Elsewhere, foresight::Foresight};
use super::{
    Context,
    keyring::Reading,
    registry::{Registered, Registry},
    rotation::Watched,
};
use crate::pool::Pool;

/// What the configuration says of all clients alike.
#[derive(Clone, Debug)]
pub struct RuleSettings {
    /// The longest time that a verifier may keep a set.
    pub max_age: Duration,
    pub store_lease: Duration,
    /// An HSM that has not answered for so long counts as gone.
    pub line_timeout: Duration,
    /// HSMs that other replicas have.
    pub hsms_elsewhere: BTreeSet<HsmName>,
    /// When keys that ended are destroyed on the HSM; `None`: when an operator says so.
    pub destroy_after: Option<Duration>,
    /// A key must have been seen at the public URL before it signs.
    pub require_rehearsal: bool,
    /// How long ahead to warn of the end of a certificate.
    pub certificate_warning: Duration,
    /// Shorter times than anyone may configure, for tests.
    pub unsafe_times: UnsafeTimes,
}

/// Times that take the place of what the rules say; for tests alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnsafeTimes {
    pub lead: Option<Duration>,
    pub keep: Option<Duration>,
    pub rotate: Option<Duration>,
}

impl RuleSettings {
    /// With the defaults of the configuration.
    pub fn new(max_age: Duration, store_lease: Duration) -> Self {
        Self {
            max_age,
            store_lease,
            line_timeout: Duration::from_secs(3600),
            hsms_elsewhere: BTreeSet::new(),
            destroy_after: None,
            require_rehearsal: false,
            certificate_warning: Duration::from_secs(30 * 86_400),
            unsafe_times: UnsafeTimes::default(),
        }
    }
}

/// Policies and the state of the world, as this process knows them.
#[derive(Debug)]
pub struct Rules {
    pub settings: RuleSettings,
    /// Wakes the sweep before its time.
    pub wake: Notify,
    /// What verifiers of a client may still go by, as the store says; in milliseconds.
    high_water: ArcSwap<HashMap<ClientName, u64>>,
    policies: Mutex<Option<Arc<Policies>>>,
    /// From the first sweep on.
    clock: OnceLock<Watched>,
    gone: Mutex<BTreeSet<HsmName>>,
    /// Keys whose objects were not on the HSM when it was last looked at.
    absent: ArcSwap<BTreeMap<HsmName, BTreeSet<KeyId>>>,
    /// What other replicas say of HSMs.
    elsewhere: ArcSwap<Elsewhere>,
    /// Observed time that is stored already and that the reading in force does not show yet.
    observed: ArcSwap<HashMap<KeyId, Observed>>,
    countdown: Countdown,
}

/// The policies of all configured clients, made of one reading of the configuration.
#[derive(Debug)]
pub struct Policies {
    by_client: HashMap<ClientName, KeyPolicy>,
    registered: Arc<Registered>,
    high_water: Arc<HashMap<ClientName, u64>>,
    settings: RuleSettings,
}

/// The observed time of one key; of no use once it was published or deactivated at another time.
#[derive(Clone, Copy, Debug)]
struct Observed {
    served_for_ms: u64,
    kept_for_ms: u64,
    published: Option<Timestamp>,
    deactivated: Option<Timestamp>,
}

impl Rules {
    /// Nothing is known of the world yet.
    pub fn new(settings: RuleSettings) -> Self {
        Self {
            settings,
            wake: Notify::new(),
            high_water: ArcSwap::default(),
            policies: Mutex::default(),
            clock: OnceLock::new(),
            gone: Mutex::default(),
            absent: ArcSwap::default(),
            elsewhere: ArcSwap::default(),
            observed: ArcSwap::default(),
            countdown: Countdown::default(),
        }
    }

    /// The policies in force. Made anew only when the configuration or what verifiers were told has changed.
    pub fn policies(&self, registry: &Registry) -> Arc<Policies> {
        let (registered, high_water) = (registry.load_full(), self.high_water.load_full());
        let mut cached = lock(&self.policies);
        if let Some(policies) = &*cached
            && Arc::ptr_eq(&policies.registered, &registered)
            && Arc::ptr_eq(&policies.high_water, &high_water)
        {
            return policies.clone();
        }
        let policies = Arc::new(Policies::new(registered, high_water, self.settings.clone()));
        *cached = Some(policies.clone());
        policies
    }

    /// How the world is now.
    pub fn now(&self, context: &Context) -> Now {
        let keys = context.keyring.keys();
        let elsewhere = self.elsewhere.load();
        let is_up_here = |hsm: &HsmName| context.pools.get(hsm).is_some_and(Pool::is_up);
        let all = context.pools.keys().chain(&keys.hsms).chain(&self.settings.hsms_elsewhere);
        let unreachable = all.filter(|hsm| !is_up_here(hsm) && !elsewhere.reaches(hsm));
        let mut unusable: BTreeSet<_> = self.absent.load().values().flatten().copied().collect();
        unusable.extend(context.pools.values().flat_map(|pool| pool.quarantined()));
        unusable.extend(elsewhere.unusable(is_up_here));
        let wall = context.keyring.store_time(context.clock.now());
        Now {
            certified: keys.certified(wall),
            // Asked of the very time that is judged by: the clock may have been set since the sweep last looked.
            held: self.clock.get().is_some_and(|clock| clock.departed(wall).is_some()),
            unreachable: unreachable.cloned().collect(),
            gone: lock(&self.gone).clone(),
            unusable,
            registered: keys.registered.clone(),
            rehearsed: keys.rehearsed.clone(),
            quiet: context.keyring.pauses().all(),
            ..Now::at(wall)
        }
    }

    /// The client's records, with all the observed time that is known.
    pub fn records<'a>(&self, reading: &'a Reading, client: &ClientName) -> Cow<'a, [KeyRecord]> {
        let (observed, records) = (self.observed.load(), reading.of(client));
        if !records.iter().any(|record| observed.contains_key(&record.id)) {
            return Cow::Borrowed(records);
        }
        let mut records = records.to_vec();
        for record in &mut records {
            if let Some(observed) = observed.get(&record.id) {
                observed.add_to(record);
            }
        }
        Cow::Owned(records)
    }

    /// When the published sets of clients change next, as far as is known; looks again only at what changed.
    pub fn next_changes(&self, context: &Context) -> super::publish::NextChanges {
        self.countdown.update(self, context)
    }

    /// Whether a change that was told of has not come by `now`, so that [`Self::next_changes`] has news.
    pub fn countdown_is_over(&self, now: Timestamp) -> bool {
        self.countdown.is_over(now)
    }

    /// What the wall clock is held against; `start` where it was not until now.
    pub(super) fn watch_clock(&self, start: impl FnOnce() -> Watched) -> &Watched {
        self.clock.get_or_init(start)
    }

    pub(super) fn set_gone(&self, gone: BTreeSet<HsmName>) {
        *lock(&self.gone) = gone;
    }

    pub(super) fn set_elsewhere(&self, elsewhere: Elsewhere) {
        if **self.elsewhere.load() != elsewhere {
            self.elsewhere.store(Arc::new(elsewhere));
        }
    }

    pub(super) fn elsewhere(&self) -> Arc<Elsewhere> {
        self.elsewhere.load_full()
    }

    /// Keys of one of our HSMs whose objects are missing or set aside.
    pub(super) fn unusable_on(&self, context: &Context, hsm: &HsmName) -> BTreeSet<KeyId> {
        let mut unusable = self.absent.load().get(hsm).cloned().unwrap_or_default();
        unusable.extend(context.pools.get(hsm).into_iter().flat_map(|pool| pool.quarantined()));
        unusable
    }

    pub(super) fn set_absent(&self, hsm: &HsmName, keys: BTreeSet<KeyId>) {
        self.absent.rcu(|absent| {
            let mut absent = BTreeMap::clone(absent);
            absent.insert(hsm.clone(), keys.clone());
            absent
        });
    }

    /// What the store says of what verifiers were told.
    pub(super) fn set_high_water(&self, high_water: HashMap<ClientName, u64>) {
        if **self.high_water.load() != high_water {
            self.high_water.store(Arc::new(high_water));
        }
    }

    /// Keeps what was observed and stored, until a reading shows as much.
    pub(super) fn note_observed(&self, reading: &Reading, observations: &[Observation]) {
        let mut observed = HashMap::clone(&self.observed.load());
        // Of thirty thousand records few are observed.
        let asked: HashSet<_> = observations.iter().map(|seen| seen.key).chain(observed.keys().copied()).collect();
        let records = reading.records.iter().filter(|record| asked.contains(&record.id));
        let records: HashMap<_, _> = records.map(|record| (record.id, record)).collect();
        observed.retain(|key, observed| records.get(key).is_some_and(|record| observed.is_news_for(record)));
        for Observation { key, served_for_ms, kept_for_ms } in observations {
            let Some(record) = records.get(key) else { continue };
            let KeyRecord { times, .. } = record;
            let (served_for_ms, kept_for_ms) = (*served_for_ms, *kept_for_ms);
            let (published, deactivated) = (times.published, times.deactivated);
            observed.insert(*key, Observed { served_for_ms, kept_for_ms, published, deactivated });
        }
        self.observed.store(Arc::new(observed));
    }
}

impl Policies {
    fn new(registered: Arc<Registered>, high_water: Arc<HashMap<ClientName, u64>>, settings: RuleSettings) -> Self {
        let mut policies = Self { by_client: HashMap::new(), registered, high_water, settings };
        let made = policies.registered.clients.values().map(|client| {
            let settings = policies.settings_for(&client.name);
            let unsafe_rotate = policies.settings.unsafe_times.rotate;
            let rotate = |alg| unsafe_rotate.or_else(|| policies.registered.rotation(&client.name, alg));
            (client.name.clone(), policies.hurried(KeyPolicy::new(client, rotate, &settings)))
        });
        let by_client = made.collect();
        policies.by_client = by_client;
        policies
    }

    /// What the client's keys must obey, configured or not.
    pub fn of(&self, client: &ClientName) -> Cow<'_, KeyPolicy> {
        match self.by_client.get(client) {
            Some(policy) => Cow::Borrowed(policy),
            None => Cow::Owned(self.hurried(KeyPolicy::of_removed(client.clone(), &self.settings_for(client)))),
        }
    }

    /// Those of configured clients.
    pub fn configured(&self) -> impl Iterator<Item = &KeyPolicy> {
        self.by_client.values()
    }

    /// Whether the client is configured.
    pub fn has(&self, client: &ClientName) -> bool {
        self.by_client.contains_key(client)
    }

    fn settings_for(&self, client: &ClientName) -> Settings {
        let RuleSettings { max_age, store_lease, destroy_after, require_rehearsal, .. } = self.settings;
        let high_water = self.high_water.get(client).copied().map_or(max_age, Duration::from_millis);
        let max_age_high_water = high_water.max(max_age);
        Settings { max_age, max_age_high_water, store_lease, destroy_after, rehearse: require_rehearsal }
    }

    fn hurried(&self, mut policy: KeyPolicy) -> KeyPolicy {
        let UnsafeTimes { lead, keep, .. } = self.settings.unsafe_times;
        policy.lead = lead.unwrap_or(policy.lead);
        policy.keep = keep.unwrap_or(policy.keep);
        policy
    }
}

impl Observed {
    fn add_to(&self, record: &mut KeyRecord) {
        if record.times.published == self.published {
            record.served_for_ms = record.served_for_ms.max(self.served_for_ms);
        }
        if record.times.deactivated == self.deactivated && record.state == KeyState::Deactivated {
            record.kept_for_ms = record.kept_for_ms.max(self.kept_for_ms);
        }
    }

    fn is_news_for(&self, record: &KeyRecord) -> bool {
        let mut with = record.clone();
        self.add_to(&mut with);
        with.served_for_ms != record.served_for_ms || with.kept_for_ms != record.kept_for_ms
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
