//! `serve --role jwks`: publishes what another process manages. No HSM, no audit log, nothing that signs.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use hallmark_client::{Client, Connection, Options};
use hallmark_core::{
    client::Client as OauthClient,
    ports::{Clock, KeyStore},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Addresses,
    build::{self, StartError, WATCH_EVERY, bind, public_url, serve_apart},
    clock::SystemClock,
};
use crate::{
    config::{self, FollowedSource},
    follow::{Standing, disk::StateDir, signer, store},
    service::publish::{CUT_OFF_MAX_AGE, NextChanges, Publisher},
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
    clients: Option<Arc<ArcSwap<Vec<OauthClient>>>>,
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
    let (max_age, max_stale) = match &config.source {
        FollowedSource::Signer(follow) => (config.jwks.max_age, follow.max_stale),
        // Without a plan of what comes next nothing can be counted down to: nobody keeps a set for longer than real
        // verifiers do anyway.
        FollowedSource::Store { .. } => (config.jwks.max_age.min(CUT_OFF_MAX_AGE), STORE_STALE),
    };
    let parts = Parts {
        publisher: Arc::new(Publisher::new(&public_url(&config.jwks, jwks_addr), max_age)),
        standing: Arc::new(Standing::new(max_stale)),
        metrics: Arc::new(Metrics::new()),
        clock: Arc::new(SystemClock),
        end: CancellationToken::new(),
    };
    let mut tasks = JoinSet::new();
    let clients = match &config.source {
        FollowedSource::Signer(follow) => {
            tasks.spawn(follow_signer(&parts, follow)?.run(parts.end.clone()));
            None
        }
        FollowedSource::Store { store, clients } => {
            let clients = Arc::new(ArcSwap::from_pointee(clients.clone()));
            tasks.spawn(read_store(&parts, store, clients.clone()).await?.run(parts.end.clone()));
            Some(clients)
        }
    };
    tasks.spawn(watch_age(parts.standing.clone(), parts.clock.clone(), parts.end.clone()));
    observe(&parts);
    let metrics = fronts(config, &parts, socket, &mut tasks).await?;
    let addresses = Addresses { grpc: None, unix: None, jwks: jwks_addr, metrics };
    tracing::info!(?addresses, role = "jwks", "serving");
    Ok(ServingJwks { addresses, end: parts.end, tasks, clients })
}

impl ServingJwks {
    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Takes the clients anew, where it is the configuration that says what is published where.
    pub fn reload(&self, config: config::Follower) {
        match (&self.clients, config.source) {
            (Some(clients), FollowedSource::Store { clients: new, .. }) => {
                clients.store(Arc::new(new));
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
    let unusable = |error: &dyn fmt::Display| {
        StartError::new(format!("can't use `state_dir` of [follow]: `{}`", state_dir.display()), error)
    };
    let state = StateDir::open(state_dir).map_err(|error| unusable(&error))?;
    let Parts { publisher, standing, clock, .. } = parts;
    let follower = signer::Follower::start(client, state, publisher.clone(), standing.clone(), clock.clone());
    follower.map_err(|error| unusable(&error))
}

fn why(error: &hallmark_client::Error) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    format!("{}{source}", error.message())
}

async fn read_store(
    parts: &Parts,
    store: &config::Store,
    clients: Arc<ArcSwap<Vec<OauthClient>>>,
) -> Result<store::Reader, StartError> {
    let Parts { publisher, standing, clock, .. } = parts;
    let store = open_store(store).await?;
    let foresee = Box::new(|_: &[OauthClient], _: &[_], _| NextChanges::new());
    Ok(store::Reader::new(store, clients, publisher.clone(), standing.clone(), clock.clone(), foresee))
}

/// A store that another process writes meanwhile. The configuration has refused the kinds that have one process only.
async fn open_store(store: &config::Store) -> Result<Arc<dyn KeyStore>, StartError> {
    let config::Store { url, password_file, lease } = store.clone();
    let options = PostgresOptions { url, password_file, instance: READER.to_owned(), lease };
    let store = PostgresStore::open(options).await;
    Ok(Arc::new(store.map_err(|error| StartError::new("can't open the key store", error))?))
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
    let tls = tls.map(|pair| build::follow(pair, PeerCertificates::NotAsked, "jwks", &parts.metrics, &mut files));
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
    serve_apart(jwks::serve(front("jwks", socket, tls.transpose()?), service, parts.end.clone()))?;
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
/// As `max_stale` of [follow] by default.
const STORE_STALE: Duration = Duration::from_secs(24 * 3600);
const CLOSING: Duration = Duration::from_secs(5);
