//! Makes the parts of a server and fits them together.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use hallmark_core::{
    client::{Client, default_jwks_path},
    ports::{AuditSink, Clock, Hsm, PinLedger, PublishedPath, StoreError, SweepStore},
};
use tokio::runtime::Handle;

use super::{
    Hopeless,
    clock::SystemClock,
    disk,
    fronts::bind,
    observe::{PoolObserver, observe_audit, observe_followers, observe_keys, observe_load, tell_hardening},
    outside::Outside,
};
use crate::{
    audit::{AuditLog, AuditOptions},
    config::{self, Config, Device, UnsafeTesting},
    hsm::{
        pin::{PinError, PinSource},
        pkcs11::{self, Modules, Pkcs11Token},
        yubikey::{Access, Slot, YubikeyHsm, told_of_management_key},
    },
    pool::{Pool, Settings},
    service::{
        Context,
        checkpoints::Checkpoints,
        followers::Followers,
        keyring::Keyring,
        keys::{Approvals, Keys},
        publish::Publisher,
        readiness::Readiness,
        registry::{Registered, Registry},
        rotation::{Parts, Rotation, max_ages},
        rules::{RuleSettings, Rules, UnsafeTimes},
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
    sweeps: Arc<dyn SweepStore>,
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
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let metrics = Arc::new(Metrics::new());
        // Bound first: the URLs that authorization servers are given may depend on the port.
        let jwks_socket = bind(config.jwks.listen, "[jwks]").await?;
        let jwks_addr = jwks_socket.addr().unwrap_or(config.jwks.listen);
        let store = open_store(config).await.map_err(|error| StartError::new("can't open the key store", error))?;
        let audit = open_audit(config, &clock)?;
        let sink: Arc<dyn AuditSink> = Arc::new(audit.clone());
        let registry = Arc::new(Registry::new(registered(config)));
        let keyring = Keyring::open(store.clone(), config.store.lease, &registry).await;
        let keyring = Arc::new(keyring.map_err(|error| StartError::new("can't read the key store", error))?);
        let ledger: Arc<dyn PinLedger> = Arc::new(StorePinLedger::new(store.clone(), Handle::current()));
        let observer = Arc::new(PoolObserver { metrics: metrics.clone(), hopeless: hopeless.clone() });
        let pools = open_pools(config, &ledger, &clock, &observer)?;
        let context = Context { clock, audit: sink, pools: Arc::new(pools), registry, keyring };
        let publisher = Arc::new(Publisher::new(&public_url(&config.jwks, jwks_addr), config.jwks.max_age));
        let followers = Arc::new(Followers::new(config.jwks.followers.iter().cloned()));
        let rules = &config.rotation;
        let rules = rule_settings(&config.jwks, config.store.lease, rules, config.unsafe_testing.as_ref());
        let rules = RuleSettings { hsms_elsewhere: config.hsms_elsewhere.clone(), ..rules };
        let rules = Arc::new(Rules::new(rules));
        let config::Approval { require, expires } = config.approval.clone();
        let approvals = Approvals { store: store.clone(), require, patience: expires };
        let keys = Keys::new(context.clone(), publisher.clone(), rules.clone()).with_approvals(approvals);
        let readiness = Arc::new(Readiness::new(context.clone()));
        observe_audit(&metrics, &audit);
        tell_hardening(&metrics);
        observe_keys(&metrics, &context.keyring);
        observe_load(&metrics, &context);
        observe_followers(&metrics, &publisher, &followers);
        let fixed = fixed_part(config);
        let seen = Seen::new(&publisher, &followers);
        let rotation = rotation(config, &context, &keys, rules, &store, &metrics, seen);
        let (sweeps, max_age): (Arc<dyn SweepStore>, _) = (store.clone(), config.jwks.max_age);
        promise(&*sweeps, &context, &config.clients, max_age)
            .await
            .map_err(|error| StartError::new("can't write to the key store", error))?;
        keys.reload().await.map_err(|error| StartError::new("can't read the key store", error))?;
        let jwks_socket = Some(jwks_socket);
        Ok(Self {
            context,
            keys,
            publisher,
            followers,
            rotation,
            sweeps,
            max_age,
            readiness,
            metrics,
            audit,
            store,
            fixed,
            jwks_socket,
            jwks_addr,
        })
    }

    /// Before verifiers are told where the sets of these clients are, and for how long they may keep them.
    pub(super) async fn promise(&self, clients: &[Client]) -> Result<(), StoreError> {
        promise(&*self.sweeps, &self.context, clients, self.max_age).await
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

    /// `false` where a thread is still inside the library of an HSM.
    pub(super) async fn close(self) -> bool {
        let Self { context, keys, rotation, sweeps, readiness, audit, store, .. } = self;
        drop((keys, rotation, sweeps, readiness));
        let pools = context.pools.clone();
        drop(context);
        // Joins threads that may be inside a call to an HSM. A connection that outlived the grace may hold the pools.
        // Each is stopped, whatever becomes of the others.
        let stop = move || pools.values().filter(|pool| !pool.stop()).count() == 0;
        let ended = tokio::task::spawn_blocking(stop).await.unwrap_or(false);
        if let Err(error) = audit.close().await {
            tracing::error!(%error, "the audit log did not close in order");
        }
        store.close().await;
        ended
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
    if let Some(delay) = testing(config, |testing| testing.audit_sync_delay) {
        options.disk = Box::new(disk::SlowDisk::new(options.disk, delay));
    }
    let log = AuditLog::open(&config.audit.dir, &config.instance.id, options);
    log.map_err(|error| {
        StartError::new(format!("can't write the audit log in `{}`", config.audit.dir.display()), error)
    })
}

fn open_pools(
    config: &Config,
    ledger: &Arc<dyn PinLedger>,
    clock: &Arc<dyn Clock>,
    observer: &Arc<PoolObserver>,
) -> Result<HashMap<hallmark_core::key::HsmName, Pool>, StartError> {
    let modules = Modules::default();
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let mut pools = HashMap::new();
    for hsm in &config.hsms {
        let token: Arc<dyn Hsm> = match &hsm.device {
            Device::Pkcs11(pkcs11) => Arc::new(open_token(hsm, pkcs11, &modules, credentials.as_deref(), ledger)?),
            Device::Yubikey(yubikey) => Arc::new(open_yubikey(hsm, yubikey, credentials.as_deref(), ledger)?),
        };
        let mut settings = Settings::new(hsm.name.clone(), hsm.workers);
        if let Some(stuck_after) = config.unsafe_testing.as_ref().and_then(|testing| testing.hsm_stuck_after) {
            settings = settings.scaled_to(stuck_after);
        }
        let pool = Pool::start(token, settings, clock.clone(), observer.clone());
        let pool = pool.map_err(|error| StartError::new(format!("HSM `{}`", hsm.name), error))?;
        pools.insert(hsm.name.clone(), pool);
    }
    Ok(pools)
}

/// The token of a `[[hsm]]` section, not connected.
pub(super) fn open_token(
    hsm: &config::Hsm,
    pkcs11: &config::Pkcs11,
    modules: &Modules,
    credentials: Option<&Path>,
    ledger: &Arc<dyn PinLedger>,
) -> Result<Pkcs11Token, StartError> {
    let failed = |why: &dyn fmt::Display| StartError::new(format!("HSM `{}`", hsm.name), why);
    let module = modules.load(&pkcs11.module).map_err(|error| failed(&error))?;
    let pin = readable(&hsm.pin_source, credentials).map_err(|error| failed(&error))?;
    let selector = match &pkcs11.token {
        config::TokenSelector::Serial(serial) => pkcs11::TokenSelector::Serial(serial.clone()),
        config::TokenSelector::Label(label) => pkcs11::TokenSelector::Label(label.clone()),
    };
    Ok(Pkcs11Token::new(module, selector, pin, ledger.clone()))
}

/// The YubiKey of a `[[hsm]]` section, not connected.
fn open_yubikey(
    hsm: &config::Hsm,
    yubikey: &config::Yubikey,
    credentials: Option<&Path>,
    ledger: &Arc<dyn PinLedger>,
) -> Result<YubikeyHsm, StartError> {
    let failed = |why: &dyn fmt::Display| StartError::new(format!("HSM `{}`", hsm.name), why);
    let pin = readable(&hsm.pin_source, credentials).map_err(|error| failed(&error))?;
    let management_key = readable(&yubikey.management_key_source, credentials);
    let management_key = management_key.map_err(|error| failed(&told_of_management_key(&error)))?;
    let slots = |numbers: &[u8]| numbers.iter().filter_map(|number| Slot::new(*number)).collect();
    let (slots, overwrite) = (slots(&yubikey.slots), slots(&yubikey.overwrite));
    let access = Access { serial: yubikey.serial, slots, overwrite };
    Ok(YubikeyHsm::new(access, pin, management_key, ledger.clone()))
}

/// A file that anyone can read is refused now, not at the first login.
fn readable(source: &str, credentials: Option<&Path>) -> Result<PinSource, PinError> {
    let source = PinSource::parse(source, credentials)?;
    drop(source.read()?);
    Ok(source)
}

/// Clients, workloads and operators, as the configuration has them.
pub(super) fn registered(config: &Config) -> Registered {
    let (clients, workloads) = (config.clients.clone(), config.workloads.clone());
    let registered = Registered::new(clients, workloads, config.operators.clone());
    registered
        .with_rotation(config.rotate.clone())
        .with_book(config.book.clone(), config.lint())
        .with_roots(config.roots.clone())
}

/// What the configuration says of all clients alike.
pub(super) fn rule_settings(
    jwks: &config::Jwks,
    lease: Duration,
    rotation: &config::Rotation,
    testing: Option<&UnsafeTesting>,
) -> RuleSettings {
    let config::Rotation { line_timeout, destroy_after, require_rehearsal, certificate_warning, .. } = *rotation;
    let unsafe_times = UnsafeTimes {
        lead: testing.and_then(|testing| testing.lead),
        keep: testing.and_then(|testing| testing.keep),
        rotate: testing.and_then(|testing| testing.rotate_every),
    };
    let settings = RuleSettings::new(jwks.max_age, lease);
    let line_timeout = testing.and_then(|testing| testing.line_timeout).unwrap_or(line_timeout);
    RuleSettings { line_timeout, destroy_after, require_rehearsal, certificate_warning, unsafe_times, ..settings }
}

fn testing<T>(config: &Config, value: impl Fn(&UnsafeTesting) -> Option<T>) -> Option<T> {
    config.unsafe_testing.as_ref().and_then(value)
}

async fn promise(
    sweeps: &dyn SweepStore,
    context: &Context,
    clients: &[Client],
    max_age: Duration,
) -> Result<(), StoreError> {
    let keys = context.keyring.keys().clone();
    let all: BTreeSet<_> = clients.iter().map(|client| &client.name).chain(keys.clients()).collect();
    sweeps.raise_max_age(&max_ages(all.into_iter(), max_age)).await?;
    let path = |client: &Client| client.jwks_path.clone().filter(|path| *path != default_jwks_path(&client.name));
    let paths = clients.iter().map(|client| PublishedPath { client: client.name.clone(), path: path(client) });
    sweeps.publish_at(&paths.collect::<Vec<_>>()).await
}

/// A port of 0 in `public_url` stands for the one that the system chose.
pub(super) fn public_url(jwks: &config::Jwks, listening: SocketAddr) -> String {
    let url = &jwks.public_url;
    match url.strip_suffix(":0") {
        Some(host) if jwks.listen.port() == 0 => format!("{host}:{}", listening.port()),
        _ => url.clone(),
    }
}

/// What a reload can't change, in a form that compares.
fn fixed_part(config: &Config) -> String {
    let Config {
        instance,
        grpc,
        jwks,
        metrics,
        store,
        audit,
        rotation,
        approval,
        trusts,
        issuers,
        hsms,
        unsafe_testing,
        ..
    } = config;
    let elsewhere = &config.hsms_elsewhere;
    let server = format!("{instance:?}{grpc:?}{jwks:?}{metrics:?}{store:?}{audit:?}{rotation:?}{approval:?}");
    format!("{server}{trusts:?}{issuers:?}{hsms:?}{elsewhere:?}{unsafe_testing:?}")
}
