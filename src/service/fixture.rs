//! What the tests of the use cases stand on: fake HSMs, a store in memory, and an audit log that can be read.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hallmark_core::{
    audit::{Chain, EncodedEvent, Event, checkpoint::Head},
    client::{Client, Provision},
    key::{Alg, HsmName, KeyId, KeySpec},
    policy::{Caller, Credential, Identity, OperatorRole, Roles, Workload},
    ports::{AuditHead, AuditSink, AuditUnavailable, Clock, HsmFault, KeyStore, Synced, WhenSynced},
    profile::Profile,
    time::Timestamp,
};
use hallmark_testkit::fake_hsm::{FakeHsm, FakeToken};

use super::{
    Context,
    keyring::Keyring,
    keys::{CreateRequest, Keys},
    publish::Publisher,
    registry::{Registered, Registry},
    rules::{RuleSettings, Rules},
};
use crate::{
    pool::{Observer, Pool, Settings},
    store::SqliteStore,
};

/// Long enough for a loaded machine; nothing waits for it to pass.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Client `c` with keys for ES256 and ES384, signed for by `dns:w.example` and managed by `dns:o.example` and `dns:p.example`.
pub(super) struct Rig {
    pub(super) tokens: HashMap<HsmName, Arc<FakeToken>>,
    pub(super) audit: Arc<Recorder>,
    pub(super) context: Context,
    pub(super) keys: Keys,
    pub(super) publisher: Arc<Publisher>,
    pub(super) rules: Arc<Rules>,
}

impl Rig {
    /// With one HSM, `one`.
    pub(super) async fn new() -> Self {
        Self::on(&["one"], in_memory().await).await
    }

    /// The client's lines are on each of `hsms`.
    pub(super) async fn on(hsms: &[&str], store: Arc<dyn KeyStore>) -> Self {
        let hsms: Vec<HsmName> = hsms.iter().map(|name| name.parse().unwrap()).collect();
        let tokens = hsms.iter().map(|name| (name.clone(), FakeToken::new())).collect();
        let settings = RuleSettings::new(Duration::from_secs(300), PATIENCE);
        Self::start(vec![client(&hsms)], tokens, store, Arc::new(StillClock), settings).await
    }

    /// On tokens that are there already, as a process finds them.
    pub(super) async fn start(
        clients: Vec<Client>,
        tokens: HashMap<HsmName, Arc<FakeToken>>,
        store: Arc<dyn KeyStore>,
        clock: Arc<dyn Clock>,
        settings: RuleSettings,
    ) -> Self {
        let destroyer = |id: &str| (id.parse().unwrap(), vec![OperatorRole::Destroy]);
        let viewer = ("dns:v.example".parse().unwrap(), vec![OperatorRole::View]);
        let operators = vec![
            operator("dns:o.example"),
            operator("dns:p.example"),
            destroyer("dns:d.example"),
            destroyer("dns:e.example"),
            viewer,
        ];
        let registry = Arc::new(Registry::new(Registered::new(clients, vec![workload()], operators)));
        let mut pools = HashMap::new();
        for (name, token) in &tokens {
            let pool_settings = Settings::new(name.clone(), 1);
            let pool = Pool::start(Arc::new(FakeHsm::new(token)), pool_settings, Arc::new(StillClock), Arc::new(Blind));
            let pool = pool.unwrap();
            if !token.is_unplugged() {
                tokio::time::timeout(PATIENCE, pool.wait_until_up()).await.expect("the fake HSM connects");
            }
            pools.insert(name.clone(), pool);
        }
        let audit = Arc::new(Recorder::default());
        let keyring = Keyring::open(store, settings.store_lease, &registry).await.unwrap();
        let context =
            Context { clock, audit: audit.clone(), pools: Arc::new(pools), registry, keyring: Arc::new(keyring) };
        let publisher = Arc::new(Publisher::new("https://keys.example", Duration::from_secs(300)));
        let rules = Arc::new(Rules::new(settings));
        let keys = Keys::new(context.clone(), publisher.clone(), rules.clone());
        Self { tokens, audit, context, keys, publisher, rules }
    }

    pub(super) fn token(&self, hsm: &str) -> &Arc<FakeToken> {
        &self.tokens[&hsm.parse::<HsmName>().unwrap()]
    }

    pub(super) fn create(&self, request_id: &str) -> CreateRequest {
        let client = "c".parse().unwrap();
        CreateRequest { request_id: request_id.into(), reason: "test".into(), client, alg: None }
    }
}

pub(super) async fn in_memory() -> Arc<dyn KeyStore> {
    Arc::new(SqliteStore::open("sqlite::memory:").await.unwrap())
}

pub(super) fn caller(id: &str) -> Caller {
    let roles = Roles { workload: true, operator: true };
    Caller { identity: id.parse().unwrap(), roles, not_after: None, credential: Credential::Socket }
}

pub(super) fn client(hsms: &[HsmName]) -> Client {
    Client {
        client_id: Some("client-id".into()),
        hsms: hsms.to_vec(),
        keys: [Alg::ES256, Alg::ES384].map(|alg| KeySpec { alg, rsa_bits: 0 }).to_vec(),
        provision: Provision::Auto,
        ..Client::new("c".parse().unwrap(), Profile::find(Profile::DEFAULT).unwrap(), "https://as.example/token")
    }
}

pub(super) fn workload() -> Workload {
    Workload {
        id: "dns:w.example".parse().unwrap(),
        clients: vec!["c".parse().unwrap()],
        audiences: vec![],
        claims: vec![],
        rate: None,
        concurrency: None,
    }
}

pub(super) fn operator(id: &str) -> (Identity, Vec<OperatorRole>) {
    (id.parse().unwrap(), vec![OperatorRole::Rotate])
}

#[derive(Debug)]
pub(super) struct StillClock;

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(1_800_000_000)
    }
}

pub(super) struct Blind;

impl Observer for Blind {
    fn fault(&self, _: &HsmName, _: &HsmFault) {}
    fn sessions(&self, _: &HsmName, _: usize) {}
    fn up(&self, _: &HsmName, _: bool) {}
    fn quarantined(&self, _: &HsmName, _: KeyId) {}
    fn gave_up(&self, _: &HsmName, _: &str) {}
}

/// Keeps what was recorded.
pub(super) struct Recorder {
    state: Mutex<(Chain, Vec<u8>)>,
    /// Syncs never end.
    pub(super) stuck: AtomicBool,
    pub(super) sick: AtomicBool,
    /// Syncs fail.
    pub(super) broken: AtomicBool,
    /// Who waits for them.
    never: Mutex<Vec<WhenSynced>>,
}

impl Default for Recorder {
    fn default() -> Self {
        let state = Mutex::new((Chain::new("test"), Vec::new()));
        Self { state, stuck: false.into(), sick: false.into(), broken: false.into(), never: Mutex::default() }
    }
}

impl Recorder {
    pub(super) fn events(&self) -> Vec<serde_json::Value> {
        let text = String::from_utf8(self.state.lock().unwrap().1.clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The disk is back: tells those who waited for it.
    pub(super) fn unstick(&self) {
        self.stuck.store(false, Ordering::SeqCst);
        let waiting = std::mem::take(&mut *self.never.lock().unwrap());
        waiting.into_iter().for_each(|then| then(Ok(())));
    }

    /// The values of `field` of the events of this kind.
    pub(super) fn all(&self, event: &str, field: &str) -> Vec<String> {
        let events = self.events();
        let of_kind = events.iter().filter(|line| line["event"] == event);
        of_kind.map(|line| line[field].as_str().unwrap_or_default().to_owned()).collect()
    }
}

impl AuditHead for Recorder {
    fn head(&self) -> Option<Head> {
        let key_changes = self.all("key-outcome", "change").len() as u64;
        let chain = &self.state.lock().unwrap().0;
        Some(Head { key_changes, ..Head::new(chain, "test-00000001.jsonl") })
    }
}

impl AuditSink for Recorder {
    fn append(&self, event: EncodedEvent) -> Result<(), AuditUnavailable> {
        let (chain, out) = &mut *self.state.lock().unwrap();
        chain.link(&event, out);
        Ok(())
    }

    fn append_synced(&self, event: EncodedEvent) -> Synced<'_> {
        if self.broken.load(Ordering::SeqCst) {
            return Box::pin(async { Err(AuditUnavailable("as if the disk were full".into())) });
        }
        let appended = self.append(event);
        let stuck = self.stuck.load(Ordering::SeqCst);
        Box::pin(async move { if stuck { std::future::pending().await } else { appended } })
    }

    fn append_then(&self, event: EncodedEvent, then: WhenSynced) {
        let appended = self.append(event);
        if self.stuck.load(Ordering::SeqCst) { self.never.lock().unwrap().push(then) } else { then(appended) }
    }

    fn refused(&self, time: Timestamp, refusal: &Event<'_>) {
        self.append(EncodedEvent::new(time, refusal)).unwrap();
    }

    fn is_healthy(&self) -> bool {
        !self.sick.load(Ordering::SeqCst)
    }
}
