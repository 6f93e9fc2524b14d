//! Makes the parts of a server and fits them together.

use std::{
    collections::BTreeSet,
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use hallmark_core::{
    client::{Client, default_jwks_path},
    ports::{Clock, PinLedger, PublishedPath, StoreError},
};
use tokio::runtime::Handle;

use super::{
    Hopeless,
    clock::SystemClock,
    disk,
    fronts::bind,
    hsms::open_pools,
    observe::{PoolObserver, observe_audit, observe_followers, observe_keys, observe_load, tell_hardening},
    outside::Outside,
    settings::{fixed_part, public_url, registered, server_rules, testing},
};
use crate::{
    audit::{AuditLog, AuditOptions},
    config::{self, Config},
    pool::Pool,
    service::{
        Context,
        checkpoints::Checkpoints,
        followers::Followers,
        keyring::Keyring,
        keys::{Approvals, Keys},
        publish::Publisher,
        readiness::Readiness,
        registry::Registry,
        rotation::{Parts, Rotation, max_ages},
        rules::Rules,
    },
    store::{PostgresOptions, PostgresStore, SqliteStore, Store, StorePinLedger},
    telemetry::Metrics,
    transport::listener::Socket,
};

/// How often certificates and bundles are looked at.
pub(super) const WATCH_EVERY: Duration = Duration::from_secs(1);

/// What keeps a server from starting: what happened, why, and what to do about it.
#[derive(Debug)]
pub struct StartError {
    pub what: String,
    pub why: String,
}

impl StartError {
    pub(super) fn new(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self { what: what.into(), why: why.to_string() }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

impl std::error::Error for StartError {}

/// Everything behind the fronts.
pub(super) struct Built {
    pub(super) context: Context,
    pub(super) keys: Keys,
    pub(super) publisher: Arc<Publisher>,
    /// Whether time counts as served: see [`Followers::served`].
    pub(super) followers: Arc<Followers>,
    pub(super) rotation: Rotation,
    max_age: Duration,
    pub(super) readiness: Arc<Readiness>,
    pub(super) metrics: Arc<Metrics>,
    audit: AuditLog,
    pub(super) store: Arc<dyn Store>,
    /// What a reload may not change.
    fixed: String,
    pub(super) jwks_socket: Option<Socket>,
    pub(super) jwks_addr: SocketAddr,
}

impl fmt::Debug for Built {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Built")
    }
}

impl Built {
    pub(super) async fn new(config: &Config, hopeless: &Arc<Hopeless>) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::new());
        // Bound first: the URLs that authorization servers are given may depend on the port.
        let jwks_socket = bind(config.jwks.listen, "[jwks]").await?;
        let jwks_addr = jwks_socket.addr().unwrap_or(config.jwks.listen);
        let store = open_store(config).await.map_err(|error| StartError::new("can't open the key store", error))?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let audit = open_audit(config, &clock)?;
        let observer = Arc::new(PoolObserver { metrics: metrics.clone(), hopeless: hopeless.clone() });
        let context = open_context(config, clock, &audit, &store, &observer).await?;
        let publisher = Arc::new(Publisher::new(&public_url(&config.jwks, jwks_addr), config.jwks.max_age));
        let followers = Arc::new(Followers::new(config.jwks.followers.iter().cloned()));
        let rules = Arc::new(Rules::new(server_rules(config)));
        let config::Approval { require, expires } = config.approval.clone();
        let approvals = Approvals { store: store.clone(), require, patience: expires };
        let keys = Keys::new(context.clone(), publisher.clone(), rules.clone()).with_approvals(approvals);
        let seen = Seen::new(&publisher, &followers);
        let built = Self {
            rotation: rotation(config, &context, &keys, rules, &store, &metrics, seen),
            readiness: Arc::new(Readiness::new(context.clone())),
            max_age: config.jwks.max_age,
            fixed: fixed_part(config),
            jwks_socket: Some(jwks_socket),
            context,
            keys,
            publisher,
            followers,
            metrics,
            audit,
            store,
            jwks_addr,
        };
        built.observe();
        let promised = built.promise(&config.clients).await;
        promised.map_err(|error| StartError::new("can't write to the key store", error))?;
        built.keys.reload().await.map_err(|error| StartError::new("can't read the key store", error))?;
        Ok(built)
    }

    fn observe(&self) {
        observe_audit(&self.metrics, &self.audit);
        tell_hardening(&self.metrics);
        observe_keys(&self.metrics, &self.context.keyring);
        observe_load(&self.metrics, &self.context);
        observe_followers(&self.metrics, &self.publisher, &self.followers);
    }

    /// Before verifiers are told where the sets of these clients are, and for how long they may keep them.
    pub(super) async fn promise(&self, clients: &[Client]) -> Result<(), StoreError> {
        let keys = self.context.keyring.keys().clone();
        let all: BTreeSet<_> = clients.iter().map(|client| &client.name).chain(keys.clients()).collect();
        self.store.raise_max_age(&max_ages(all.into_iter(), self.max_age)).await?;
        let path = |client: &Client| client.jwks_path.clone().filter(|path| *path != default_jwks_path(&client.name));
        let paths = clients.iter().map(|client| PublishedPath { client: client.name.clone(), path: path(client) });
        self.store.publish_at(&paths.collect::<Vec<_>>()).await
    }

    /// What of `config` can't be taken without a new start.
    pub(super) fn needs_restart(&self, config: &Config) -> Option<&'static str> {
        let is_known = |hsm| self.context.pools.contains_key(hsm) || config.hsms_elsewhere.contains(hsm);
        let hsms_known = config.clients.iter().all(|client| client.hsms.iter().all(is_known));
        if !hsms_known || fixed_part(config) != self.fixed {
            return Some("anything but [[client]], [[workload]] and [[operator]]");
        }
        None
    }

    /// What has HSMs sign the head of the audit chain, in the order in which they are configured.
    pub(super) fn checkpoints(&self, config: &Config) -> Checkpoints {
        let hsms = config.hsms.iter().map(|hsm| hsm.name.clone()).collect();
        Checkpoints::new(self.context.clone(), Arc::new(self.audit.clone()), hsms, config.audit.checkpoint_every)
    }

    /// Answers whatever waits for an HSM.
    pub(super) fn refuse_the_rest(&self) {
        self.context.pools.values().for_each(Pool::shut_down);
    }

    pub(super) async fn close(self) {
        let Self { context, keys, rotation, readiness, audit, store, .. } = self;
        drop((keys, rotation, readiness));
        let pools = context.pools.clone();
        drop(context);
        // Joins threads that may be inside a call to an HSM. A connection that outlived the grace may hold the pools.
        // Each is stopped, whatever becomes of the others.
        let stop = move || pools.values().for_each(|pool| _ = pool.stop());
        if let Err(error) = tokio::task::spawn_blocking(stop).await {
            tracing::error!(%error, "the HSMs' threads did not end in order");
        }
        if let Err(error) = audit.close().await {
            tracing::error!(%error, "the audit log did not close in order");
        }
        store.close().await;
    }
}

/// What verifiers see of what the store says.
struct Seen {
    /// Whether they can read it here, or at followers.
    served: Box<dyn Fn() -> bool + Send + Sync>,
    public_view: Arc<Outside>,
    public_url: String,
}

impl Seen {
    fn new(publisher: &Arc<Publisher>, followers: &Arc<Followers>) -> Self {
        let public_url = publisher.public_url().to_owned();
        let (followers, publisher) = (followers.clone(), publisher.clone());
        let served = Box::new(move || followers.served(publisher.wanted()));
        Self { served, public_view: Arc::default(), public_url }
    }
}

fn rotation(
    config: &Config,
    context: &Context,
    keys: &Keys,
    rules: Arc<Rules>,
    store: &Arc<dyn Store>,
    metrics: &Arc<Metrics>,
    seen: Seen,
) -> Rotation {
    let Seen { served, public_view, public_url } = seen;
    Rotation::new(Parts {
        context: context.clone(),
        keys: keys.clone(),
        rules,
        sweeps: store.clone(),
        replicas: store.clone(),
        metrics: metrics.clone(),
        instance: config.instance.id.clone(),
        every: testing(config, |testing| testing.sweep_every).unwrap_or(config.rotation.every),
        served,
        public_view,
        public_url,
        monotonic: Arc::new(Instant::now()),
    })
}

/// What every use case has at hand.
async fn open_context(
    config: &Config,
    clock: Arc<dyn Clock>,
    audit: &AuditLog,
    store: &Arc<dyn Store>,
    observer: &Arc<PoolObserver>,
) -> Result<Context, StartError> {
    let registry = Arc::new(Registry::new(registered(config)));
    let keyring = Keyring::open(store.clone(), config.store.lease, &registry).await;
    let keyring = Arc::new(keyring.map_err(|error| StartError::new("can't read the key store", error))?);
    let ledger: Arc<dyn PinLedger> = Arc::new(StorePinLedger::new(store.clone(), Handle::current()));
    let pools = Arc::new(open_pools(config, &ledger, &clock, observer)?);
    Ok(Context { clock, audit: Arc::new(audit.clone()), pools, registry, keyring })
}

async fn open_store(config: &Config) -> Result<Arc<dyn Store>, StoreError> {
    let config::Store { url, password_file, lease } = config.store.clone();
    if url.starts_with("sqlite:") {
        return Ok(Arc::new(SqliteStore::open(&url).await?));
    }
    let instance = config.instance.id.clone();
    Ok(Arc::new(PostgresStore::open(PostgresOptions { url, password_file, instance, lease }).await?))
}

fn open_audit(config: &Config, clock: &Arc<dyn Clock>) -> Result<AuditLog, StartError> {
    let mut options = AuditOptions::new(clock.clone());
    options.runtime = Some(Handle::current());
    options.max_file = config.audit.max_file;
    options.sessions = config.hsms.iter().map(|hsm| hsm.workers).sum();
    if let Some(delay) = testing(config, |testing| testing.audit_sync_delay) {
        options.disk = Box::new(disk::SlowDisk::new(options.disk, delay));
    }
    let log = AuditLog::open(&config.audit.dir, &config.instance.id, options);
    log.map_err(|error| {
        StartError::new(format!("can't write the audit log in `{}`", config.audit.dir.display()), error)
    })
}
