//! `serve --role jwks`: publishes what another process manages. No HSM, no audit log, nothing that signs.

use std::{path::Path, pin::Pin, sync::Arc, time::Duration};

use hallmark_client::{Client, Connection, Options};
use hallmark_core::ports::{Clock, StoreError};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Addresses,
    build::{StartError, WATCH_EVERY},
    clock::SystemClock,
    fronts::{self, bind, serve_apart},
    observe::tell_hardening,
    settings::{public_url, rule_settings},
};
use crate::{
    config::{self, FollowedSource},
    follow::{
        Standing,
        disk::{DiskError, StateDir},
        kept::Kept,
        signer, store,
    },
    service::{
        publish::Publisher,
        registry::Registered,
        rules::{Foresight, RuleSettings},
    },
    store::{PostgresOptions, PostgresStore},
    telemetry::Metrics,
    transport::{
        http::{
            health::Health,
            jwks::{self, Jwks},
            metrics::{self as metrics_http, Observatory},
        },
        listener::{Callers, Limits, Listener, Protocol, Socket},
        reload::{Reload, watch_files},
        tls::PeerCertificates,
    },
};

/// A process that serves key sets, and nothing else.
#[derive(Debug)]
pub struct ServingJwks {
    addresses: Addresses,
    end: CancellationToken,
    tasks: JoinSet<()>,
    /// Of the configuration, where the records are read here.
    foresight: Option<Arc<Foresight>>,
}

/// What its parts share.
struct Parts {
    publisher: Arc<Publisher>,
    standing: Arc<Standing>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    end: CancellationToken,
}

/// Starts it. The source may be away: what is on the disk is served meanwhile.
pub async fn start_jwks(config: &config::Follower) -> Result<ServingJwks, StartError> {
    let socket = bind(config.jwks.listen, "[jwks]").await?;
    let jwks_addr = socket.addr().unwrap_or(config.jwks.listen);
    let max_stale = match &config.source {
        FollowedSource::Signer(follow) => follow.max_stale,
        FollowedSource::Store(_) => config.jwks.max_stale,
    };
    let parts = Parts {
        publisher: Arc::new(Publisher::new(&public_url(&config.jwks, jwks_addr), config.jwks.max_age)),
        standing: Arc::new(Standing::new(max_stale)),
        metrics: Arc::new(Metrics::new()),
        clock: Arc::new(SystemClock),
        end: CancellationToken::new(),
    };
    let mut tasks = JoinSet::new();
    let foresight = match &config.source {
        FollowedSource::Signer(follow) => {
            tasks.spawn(follow_signer(&parts, follow)?.run(parts.end.clone()));
            None
        }
        FollowedSource::Store(read) => {
            let foresight = Arc::new(Foresight::new(registered(read), settings(&config.jwks, read)));
            tasks.spawn(read_store(&parts, config, read, foresight.clone()).await?.run(parts.end.clone()));
            Some(foresight)
        }
    };
    tasks.spawn(watch_age(parts.standing.clone(), parts.clock.clone(), parts.end.clone()));
    tell_hardening(&parts.metrics);
    observe(&parts);
    let metrics = fronts(config, &parts, socket, &mut tasks).await?;
    let addresses = Addresses { grpc: None, unix: None, jwks: jwks_addr, metrics };
    tracing::info!(?addresses, role = "jwks", "serving");
    Ok(ServingJwks { addresses, end: parts.end, tasks, foresight })
}

impl ServingJwks {
    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Takes the clients anew, where it is the configuration that says what is published where.
    pub fn reload(&self, config: config::Follower) {
        match (&self.foresight, config.source) {
            (Some(foresight), FollowedSource::Store(read)) => {
                foresight.replace(registered(&read));
                tracing::info!("configuration taken");
            }
            (None, FollowedSource::Signer(_)) => {
                tracing::info!(
                    "nothing to take anew: the signer says what is published, and changed certificates are read by themselves"
                );
            }
            _ => tracing::error!("the configuration was not taken: another source needs a restart"),
        }
    }

    /// Ends everything.
    pub async fn stop(mut self) {
        self.end.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(CLOSING, ended).await.is_err() {
            tracing::error!("something did not end in time; the process ends without it");
        }
        tracing::info!("stopped");
    }
}

fn follow_signer(parts: &Parts, follow: &config::Follow) -> Result<signer::Follower, StartError> {
    let config::Follow { address, tls, ca, state_dir, .. } = follow;
    let mut options = Options::default();
    options.wait_for_server = false;
    let connection = Connection::tls(address, ca, &tls.cert, &tls.key);
    let client = Client::connect_with(connection, options);
    let client = client.map_err(|error| StartError::new("can't use what [follow] names", why(&error)))?;
    let unusable = |error| unusable("follow", state_dir, error);
    let state = StateDir::open(state_dir).map_err(unusable)?;
    let Parts { publisher, standing, clock, .. } = parts;
    let follower = signer::Follower::start(client, state, publisher.clone(), standing.clone(), clock.clone());
    follower.map_err(unusable)
}

fn unusable(section: &str, dir: &Path, error: DiskError) -> StartError {
    StartError::new(format!("can't use `state_dir` of [{section}]: `{}`", dir.display()), error)
}

fn why(error: &hallmark_client::Error) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    format!("{}{source}", error.message())
}

/// With a folder for the last set the database may be away at the start; without one there would be nothing to serve.
async fn read_store(
    parts: &Parts,
    config: &config::Follower,
    read: &config::FollowedStore,
    foresight: Arc<Foresight>,
) -> Result<store::Reader, StartError> {
    let Parts { publisher, standing, clock, .. } = parts;
    let (publisher, standing, clock) = (publisher.clone(), standing.clone(), clock.clone());
    let options = read.store.clone();
    let open: store::Open = Box::new(move || Box::pin(open_store(options.clone())));
    let kept = match &config.jwks.state_dir {
        Some(dir) => {
            let unusable = |error| unusable("jwks", dir, error);
            Some(Kept::open(StateDir::open(dir).map_err(unusable)?, &publisher, &standing).map_err(unusable)?)
        }
        None => None,
    };
    let must_answer = kept.is_none();
    let mut reader = store::Reader::new(store::Parts { publisher, standing, clock, foresight, kept }, open);
    if must_answer {
        reader.connect().await.map_err(|error| StartError::new("can't open the key store", error))?;
    }
    Ok(reader)
}

/// A store that another process writes meanwhile. The configuration has refused the kinds that have one process only.
async fn open_store(store: config::Store) -> Result<Arc<dyn store::Source>, StoreError> {
    let config::Store { url, password_file, lease } = store;
    let options = PostgresOptions { url, password_file, instance: READER.to_owned(), lease };
    Ok(Arc::new(PostgresStore::open(options).await?))
}

fn registered(read: &config::FollowedStore) -> Registered {
    Registered::new(read.clients.clone(), Vec::new(), Vec::new()).with_rotation(read.rotate.clone())
}

fn settings(jwks: &config::Jwks, read: &config::FollowedStore) -> RuleSettings {
    rule_settings(jwks, read.store.lease, &read.rotation, read.unsafe_testing.as_ref())
}

/// It announces nothing, and begins no change.
const READER: &str = "jwks";

async fn fronts(
    config: &config::Follower,
    parts: &Parts,
    socket: Socket,
    tasks: &mut JoinSet<()>,
) -> Result<Option<std::net::SocketAddr>, StartError> {
    let mut files: Vec<Arc<dyn Reload>> = Vec::new();
    let health: Arc<dyn Health> = Arc::new(JwksHealth(parts.publisher.clone()));
    let tls = config.jwks.tls.as_ref();
    let tls = tls.map(|pair| fronts::follow(pair, PeerCertificates::NotAsked, "jwks", &parts.metrics, &mut files));
    let front = |name: &str, socket, tls| Listener {
        socket,
        tls,
        callers: Callers::Anyone,
        protocol: Protocol::Http,
        limits: Limits::http(),
        clock: parts.clock.clone(),
        metrics: parts.metrics.listener(name),
    };
    let service = Jwks::new(parts.publisher.clone(), health.clone(), parts.clock.clone(), parts.metrics.jwks());
    serve_apart(jwks::serve(
        fronts::limited(config.jwks.connections, front("jwks", socket, tls.transpose()?)),
        service,
        parts.end.clone(),
    ))?;
    let mut addr = None;
    if let Some(settings) = &config.metrics {
        let socket = bind(settings.listen, "[metrics]").await?;
        addr = socket.addr();
        let observatory = Observatory { metrics: parts.metrics.clone(), health };
        tasks.spawn(metrics_http::serve(front("metrics", socket, None), observatory, parts.end.clone()));
    }
    tasks.spawn(watch_files(files, WATCH_EVERY, parts.end.clone()));
    Ok(addr)
}

fn observe(parts: &Parts) {
    let (publisher, standing, clock) = (parts.publisher.clone(), parts.standing.clone(), parts.clock.clone());
    parts.metrics.on_scrape(move |metrics| {
        metrics.set_source(&standing.figures(clock.now()));
        metrics.set_published(publisher.generation(), 0);
    });
}

async fn watch_age(standing: Arc<Standing>, clock: Arc<dyn Clock>, end: CancellationToken) {
    loop {
        standing.watch_age(clock.now());
        if end.run_until_cancelled(tokio::time::sleep(AGE_EVERY)).await.is_none() {
            return;
        }
    }
}

struct JwksHealth(Arc<Publisher>);

impl Health for JwksHealth {
    fn sign(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        Box::pin(async { Err("this process has the role `jwks` only".to_owned()) })
    }

    /// Ready with any set, however old: an old set is better for verifiers than none.
    fn jwks(&self) -> Result<(), String> {
        match self.0.generation() {
            0 => Err("no set yet: the source was not heard, and there is none on the disk".to_owned()),
            _ => Ok(()),
        }
    }
}

/// How soon the alarm of an old set comes once it is old.
const AGE_EVERY: Duration = Duration::from_secs(1);
const CLOSING: Duration = Duration::from_secs(5);
