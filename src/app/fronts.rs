//! Opens the ports of a server and serves them.

use std::{net::SocketAddr, path::Path, sync::Arc, thread};

use hyper_util::service::TowerToHyperService;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Addresses,
    bearers::bearers,
    build::{Built, StartError, WATCH_EVERY},
    observe::ServerHealth,
};
use crate::{
    config::{self, Config, Connections, TlsFiles},
    service::{refusals::Refusals, sign::Sign},
    telemetry::Metrics,
    transport::{
        bearer::Bearing,
        grpc::{self, HealthReporter},
        http::{
            health::Health,
            jwks::{self, Jwks},
            metrics::{self as metrics_http, Observatory},
        },
        identity::{TrustSpec, Trusts},
        listener::{Callers, Limits, Listener, Protocol, Socket},
        reload::{Reload, Reloading, watch_files},
        tls::{self, PeerCertificates, TlsSpec},
    },
};

/// The ports that were opened.
pub(super) struct Fronts {
    pub(super) addresses: Addresses,
    pub(super) reporter: HealthReporter,
}

/// Opens every port, and serves it until `drain`.
pub(super) async fn fronts(
    config: &Config,
    built: &mut Built,
    drain: &CancellationToken,
    end: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> Result<Fronts, StartError> {
    let mut files: Vec<Arc<dyn Reload>> = Vec::new();
    let health: Arc<dyn Health> = Arc::new(ServerHealth { readiness: built.readiness.clone() });
    jwks_front(config, built, &health, end, &mut files)?;
    let metrics = metrics_front(config, built, health, end).await?;

    let (routes, reporter) = grpc::routes(services(config, built))
        .map_err(|error| StartError::new("can't set up the gRPC services", error))?;
    let routes = TowerToHyperService::new(routes.prepare().into_axum_router().into_service());
    let mut grpc = None;
    if let Some(addr) = config.grpc.listen {
        let front = grpc_front(config, built, addr, &mut files).await?;
        grpc = front.socket.addr();
        let bearers = bearers(&config.issuers, built.context.clock.clone());
        if let Some(bearers) = &bearers {
            tokio::spawn(bearers.clone().follow_keys(end.clone()));
        }
        let routes = Bearing::new(routes.clone(), bearers);
        tasks.spawn(front.serve(move |_| routes.clone(), drain.clone()));
    }
    if let Some(path) = &config.grpc.unix {
        let front = unix_front(config, built, path)?;
        tasks.spawn(front.serve(move |_| routes.clone(), drain.clone()));
    }
    tokio::spawn(watch_files(files, WATCH_EVERY, end.clone()));
    let addresses = Addresses { grpc, unix: config.grpc.unix.clone(), jwks: built.jwks_addr, metrics };
    Ok(Fronts { addresses, reporter })
}

/// What all callers of gRPC ask, by whichever port.
fn services(config: &Config, built: &Built) -> grpc::Services {
    grpc::Services {
        refusals: Arc::new(Refusals::new(&built.context, built.metrics.clone())),
        sign: Sign::new(built.context.clone(), built.metrics.clone()),
        keys: built.keys.clone(),
        rotation: built.rotation.clone(),
        publisher: built.publisher.clone(),
        followers: built.followers.clone(),
        registry: built.context.registry.clone(),
        clock: built.context.clock.clone(),
        open_reflection: config.grpc.reflection,
    }
}

/// gRPC over TCP, not yet served.
async fn grpc_front(
    config: &Config,
    built: &Built,
    addr: SocketAddr,
    files: &mut Vec<Arc<dyn Reload>>,
) -> Result<Listener, StartError> {
    let socket = bind(addr, "[grpc]").await?;
    let trusts = trusts(config, &built.metrics, files)?;
    let tls = config.grpc.tls.as_ref();
    let tls = tls.map(|pair| follow(pair, PeerCertificates::Asked, "grpc", &built.metrics, files)).transpose()?;
    let front = listener(built, "grpc", socket, tls, Callers::Certificate(trusts), Protocol::Http2);
    Ok(limited(config.grpc.connections, front))
}

/// gRPC over a Unix socket, not yet served.
fn unix_front(config: &Config, built: &Built, path: &Path) -> Result<Listener, StartError> {
    let socket = Socket::unix(path);
    let socket = socket.map_err(|error| StartError::new(format!("can't listen on `{}`", path.display()), error))?;
    let front = listener(built, "unix", socket, None, Callers::PeerCredentials, Protocol::Http2);
    Ok(limited(config.grpc.connections, front))
}

/// Metrics and health, where they are configured: gives the address.
async fn metrics_front(
    config: &Config,
    built: &Built,
    health: Arc<dyn Health>,
    end: &CancellationToken,
) -> Result<Option<SocketAddr>, StartError> {
    let Some(settings) = &config.metrics else { return Ok(None) };
    let socket = bind(settings.listen, "[metrics]").await?;
    let addr = socket.addr();
    let front = listener(built, "metrics", socket, None, Callers::Anyone, Protocol::Http);
    let observatory = Observatory { metrics: built.metrics.clone(), health };
    // Health can be asked for until the end, while requests under way are answered.
    tokio::spawn(metrics_http::serve(front, observatory, end.clone()));
    Ok(addr)
}

/// Key sets, on a thread of their own. Time counts as served while this serves, unless followers do.
fn jwks_front(
    config: &Config,
    built: &mut Built,
    health: &Arc<dyn Health>,
    end: &CancellationToken,
    files: &mut Vec<Arc<dyn Reload>>,
) -> Result<(), StartError> {
    let tls = config.jwks.tls.as_ref();
    let tls = tls.map(|pair| follow(pair, PeerCertificates::NotAsked, "jwks", &built.metrics, files)).transpose()?;
    let Some(socket) = built.jwks_socket.take() else { return Ok(()) };
    let front = listener(built, "jwks", socket, tls, Callers::Anyone, Protocol::Http);
    let front = limited(config.jwks.connections, front);
    let clock = built.context.clock.clone();
    let service = Jwks::new(built.publisher.clone(), health.clone(), clock, built.metrics.jwks());
    let (followers, end) = (built.followers.clone(), end.clone());
    serve_apart(async move {
        followers.set_listening(true);
        jwks::serve(front, service, end).await;
        followers.set_listening(false);
    })
}

fn trusts(
    config: &Config,
    metrics: &Metrics,
    files: &mut Vec<Arc<dyn Reload>>,
) -> Result<Arc<Reloading<Trusts>>, StartError> {
    let spec = |trust: &config::Trust| TrustSpec {
        bundle: trust.bundle.clone(),
        scope: trust.scope.clone(),
        roles: trust.roles,
    };
    let specs: Vec<_> = config.trusts.iter().map(spec).collect();
    let bundles = specs.iter().map(|spec| spec.bundle.clone()).collect();
    let trusts = Reloading::new("trust bundles", bundles, move || Trusts::load(&specs), metrics.reload("trusts"));
    let trusts = trusts.map_err(|error| StartError::new("can't read a trust bundle", error))?;
    files.push(trusts.clone());
    Ok(trusts)
}

pub(super) fn follow(
    pair: &TlsFiles,
    peer_certificates: PeerCertificates,
    name: &str,
    metrics: &Metrics,
    files: &mut Vec<Arc<dyn Reload>>,
) -> Result<Arc<Reloading<rustls::ServerConfig>>, StartError> {
    let spec = TlsSpec { cert: pair.cert.clone(), key: pair.key.clone(), peer_certificates };
    let followed = tls::follow(name, spec, metrics.reload(name));
    let followed =
        followed.map_err(|error| StartError::new(format!("can't use the certificate of [{name}]"), error))?;
    files.push(followed.clone());
    Ok(followed)
}

pub(super) async fn bind(addr: SocketAddr, section: &str) -> Result<Socket, StartError> {
    let socket = Socket::tcp(addr).await;
    socket.map_err(|error| StartError::new(format!("can't listen on `{addr}` of {section}"), error))
}

pub(super) fn limited(Connections { total, per_address }: Connections, listener: Listener) -> Listener {
    Listener { limits: listener.limits.with_connections(total, per_address), ..listener }
}

fn listener(
    built: &Built,
    name: &str,
    socket: Socket,
    tls: Option<Arc<Reloading<rustls::ServerConfig>>>,
    callers: Callers,
    protocol: Protocol,
) -> Listener {
    let limits = if protocol == Protocol::Http2 { Limits::grpc() } else { Limits::http() };
    let (clock, metrics) = (built.context.clock.clone(), built.metrics.listener(name));
    Listener { socket, tls, callers, protocol, limits, clock, metrics }
}

/// On a thread of its own, so that a flood there does not starve signing.
pub(super) fn serve_apart(front: impl Future<Output = ()> + Send + 'static) -> Result<(), StartError> {
    let failed = |error: std::io::Error| StartError::new("can't start the JWKS thread", error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    thread::Builder::new().name("jwks".into()).spawn(move || runtime.block_on(front)).map_err(failed)?;
    Ok(())
}
