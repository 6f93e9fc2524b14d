//! One connection, from the first byte to the last.

use std::{fmt::Display, pin::pin, sync::Arc, time::Duration};

use hallmark_core::ports::Clock;
use http::{Request, Response};
use hyper::{
    body::{Body, Incoming},
    service::Service,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulConnection},
};
use rustls::{ServerConfig, server::Acceptor};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{self, Instant},
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};
use tokio_util::{either::Either, sync::CancellationToken};

use super::{
    BoxError, Callers, Limits, Peer, PeerAddr, Protocol,
    addresses::{Addresses, Entered},
    opening::Opening,
    socket::Plain,
    strangers::{Stranger, Strangers},
};
use crate::{
    telemetry::metrics::{ListenerMetrics, OpenConnection, Refusal},
    transport::{identity, reload::Reloading},
};

/// What all connections of a listener share. `F` makes services.
pub(super) struct Connections<F> {
    tls: Option<Arc<Reloading<ServerConfig>>>,
    callers: Callers,
    limits: Limits,
    clock: Arc<dyn Clock>,
    metrics: ListenerMetrics,
    services: F,
    addresses: Arc<Addresses>,
    places: Arc<Semaphore>,
    strangers: Arc<Strangers>,
    handshakes: Semaphore,
    http: auto::Builder<TokioExecutor>,
}

/// One of the connections that there may be; free again when dropped.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    _open: OpenConnection,
    address: Entered,
}

impl<F> Connections<F> {
    pub(super) fn new(
        tls: Option<Arc<Reloading<ServerConfig>>>,
        callers: Callers,
        protocol: Protocol,
        limits: Limits,
        clock: Arc<dyn Clock>,
        metrics: ListenerMetrics,
        services: F,
    ) -> Self {
        let semaphore = |count: usize| Semaphore::new(count.min(Semaphore::MAX_PERMITS));
        Self {
            places: Arc::new(semaphore(limits.connections)),
            strangers: Strangers::new(limits.unidentified),
            handshakes: semaphore(limits.handshakes),
            http: limits.builder(protocol),
            addresses: Addresses::new(limits.clone()),
            tls,
            callers,
            limits,
            clock,
            metrics,
            services,
        }
    }

    /// A place for one more, if there is one, and its address does not have too many.
    pub(super) fn place(&self, addr: PeerAddr) -> Option<Place> {
        let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() else {
            self.metrics.refused(Refusal::Limit);
            return None;
        };
        let Some(address) = self.addresses.enter(addr) else {
            self.metrics.refused(Refusal::AddressLimit);
            return None;
        };
        Some(Place { _permit: permit, _open: self.metrics.accepted(), address })
    }

    /// Serves one connection until its end.
    pub(super) async fn run<S, B>(
        self: Arc<Self>,
        place: Place,
        stream: Plain,
        addr: PeerAddr,
        closing: CancellationToken,
    ) where
        F: Fn(&Arc<Peer>) -> S,
        S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let stream = match self.secure(stream, &place.address).await {
            Ok(stream) => stream,
            Err(cause) => return self.metrics.refused(cause),
        };
        let peer = Arc::new(self.peer(&stream, addr, closing));
        let nobody = !matches!(self.callers, Callers::Anyone) && peer.caller.is_err();
        let stranger = nobody.then(|| Arc::new(self.strangers.connected(addr)));
        let life = Life {
            age: jittered(self.limits.age),
            unproved: nobody.then(|| jittered(self.limits.unidentified_age)),
            first_request: peer.caller.is_err().then_some(self.limits.header_timeout),
            grace: self.limits.grace,
        };
        let opening = Arc::new(Opening::new(peer.caller.is_err().then(|| place.address.half_open())));
        let service = WithPeer {
            service: (self.services)(&peer),
            peer: Arc::clone(&peer),
            opening: opening.clone(),
            stranger: stranger.clone(),
        };
        let connection = self.http.serve_connection(TokioIo::new(stream), service);
        let gone = live(connection, &peer, &opening, stranger.as_deref(), life);
        if unless_pushed_out(stranger.as_deref(), gone).await.is_none() {
            self.metrics.refused(Refusal::UnidentifiedLimit);
        } else if opening.was_pushed_out() {
            self.metrics.refused(Refusal::HalfOpen);
        }
    }

    async fn secure(&self, stream: Plain, address: &Entered) -> Result<Either<TlsStream<Plain>, Plain>, Refusal> {
        let Some(config) = &self.tls else { return Ok(Either::Right(stream)) };
        let handshake = self.handshake(config, stream, address);
        let stream = time::timeout(self.limits.handshake_timeout, handshake).await;
        stream.map_err(|_| Refusal::HandshakeTimeout)?.map(Either::Left)
    }

    async fn handshake(
        &self,
        config: &Reloading<ServerConfig>,
        stream: Plain,
        address: &Entered,
    ) -> Result<TlsStream<Plain>, Refusal> {
        // Whoever connects and says nothing keeps nobody from a handshake.
        let hello = while_it_may(address, LazyConfigAcceptor::new(Acceptor::default(), stream)).await?;
        let slots = address.handshakes();
        let of_address = async {
            match slots {
                Some(slots) => slots.acquire_owned().await.ok(),
                None => None,
            }
        };
        // First its own: who waits for that holds no slot that another could use.
        let slot = (of_address.await, self.handshakes.acquire().await);
        let mut accepting = pin!(hello.into_stream(config.current()));
        match time::timeout(LONGEST_ARITHMETIC, accepting.as_mut()).await {
            Ok(stream) => stream.map_err(handshake_failed),
            // It is the peer that is slow, and what is left to do for it is little.
            Err(_) => {
                drop(slot);
                while_it_may(address, accepting).await
            }
        }
    }

    fn peer(&self, stream: &Either<TlsStream<Plain>, Plain>, addr: PeerAddr, closing: CancellationToken) -> Peer {
        let caller = match (&self.callers, stream, addr) {
            (Callers::Certificate(trusts), Either::Left(tls), _) => {
                let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
                trusts.current().identify(chain, self.clock.now())
            }
            (Callers::PeerCredentials, _, PeerAddr::Unix { uid, .. }) => Ok(identity::unix_caller(uid)),
            _ => Err(identity::not_authenticated()),
        };
        if let (Err(error), Callers::Certificate(_)) = (&caller, &self.callers) {
            tracing::info!(?addr, reason = error.reason.code(), %error, "a connection without an accepted identity");
        }
        Peer { caller, addr, closing, proved: CancellationToken::new() }
    }
}

/// Waits for the peer's next word, unless newer connections take its place meanwhile.
async fn while_it_may<T>(address: &Entered, word: impl Future<Output = std::io::Result<T>>) -> Result<T, Refusal> {
    let half_open = address.half_open();
    tokio::select! {
        biased;
        said = word => said.map_err(handshake_failed),
        () = half_open.pushed_out().cancelled() => Err(Refusal::HalfOpen),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn handshake_failed(error: std::io::Error) -> Refusal {
    tracing::debug!(%error, "TLS handshake failed");
    Refusal::Handshake
}

/// After so long a handshake waits for the peer, not for us.
const LONGEST_ARITHMETIC: Duration = Duration::from_secs(1);

/// How long a connection may go on.
struct Life {
    age: Duration,
    /// How long it may go on while nobody has shown who calls.
    unproved: Option<Duration>,
    /// How long it may wait with its first request.
    first_request: Option<Duration>,
    grace: Duration,
}

/// What `connection` comes to; `None` where others took the place of the stranger that it is.
async fn unless_pushed_out<T>(stranger: Option<&Stranger>, connection: impl Future<Output = T>) -> Option<T> {
    match stranger {
        Some(stranger) => stranger.pushed_out().run_until_cancelled(connection).await,
        None => Some(connection.await),
    }
}

/// Polls `connection` to its end: by itself, because it never asked for anything, or told to go and given the grace.
async fn live<C>(connection: C, peer: &Peer, opening: &Opening, stranger: Option<&Stranger>, life: Life)
where
    C: GracefulConnection,
    C::Error: Display,
{
    let mut connection = pin!(connection);
    let born = Instant::now();
    let time_to_go = async {
        if let Some(limit) = life.first_request {
            let told = async {
                tokio::select! {
                    () = peer.closing.cancelled() => true,
                    () = opening.pushed_out() => false,
                    // Its place among strangers is for others now.
                    () = peer.proved.cancelled() => false,
                }
            };
            // An error here means that the time is up.
            let limit = limit.min(life.unproved.unwrap_or(life.age));
            let closing = time::timeout_at(born + limit, told).await.unwrap_or(false);
            if closing || !opening.is_over() {
                return closing;
            }
        }
        if let Some(limit) = life.unproved {
            let proved = peer.closing.run_until_cancelled(peer.proved.cancelled());
            if !matches!(time::timeout_at(born + limit, proved).await, Ok(Some(()))) {
                return true;
            }
            stranger.inspect(|stranger| stranger.leaves());
        }
        let _ = time::timeout_at(born + life.age, peer.closing.cancelled()).await;
        true
    };
    let graceful = tokio::select! {
        biased;
        ended = connection.as_mut() => return log_end(ended, peer),
        graceful = time_to_go => graceful,
    };
    if !graceful {
        return;
    }
    connection.as_mut().graceful_shutdown();
    peer.closing.cancel();
    match time::timeout(life.grace, connection).await {
        Ok(ended) => log_end(ended, peer),
        Err(_) => tracing::info!(addr = ?peer.addr, "a connection was cut off with requests under way"),
    }
}

fn log_end<E: Display>(ended: Result<(), E>, peer: &Peer) {
    if let Err(error) = ended {
        tracing::debug!(addr = ?peer.addr, %error, "a connection ended badly");
    }
}

/// Puts the peer among the extensions of each request.
struct WithPeer<S> {
    service: S,
    peer: Arc<Peer>,
    opening: Arc<Opening>,
    stranger: Option<Arc<Stranger>>,
}

impl<S: Service<Request<Incoming>>> Service<Request<Incoming>> for WithPeer<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, mut request: Request<Incoming>) -> S::Future {
        if self.opening.end()
            && let Some(stranger) = &self.stranger
        {
            stranger.asks();
        }
        request.extensions_mut().insert(Arc::clone(&self.peer));
        self.service.call(request)
    }
}

/// ±10 %, so that connections that began together do not all come back together.
fn jittered(age: Duration) -> Duration {
    age.mul_f64(rand::random_range(0.9..1.1))
}
