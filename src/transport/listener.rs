//! One accept loop for every port: gRPC over TLS and over a Unix socket, key sets, metrics.
//!
//! It owns what is the same for all: limits, TLS, who is at the other end, the age of connections, the drain. What a
//! request means is the service's business; it finds its [`Peer`] among the request's extensions.

use std::{error::Error as StdError, io, net::SocketAddr, sync::Arc, time::Duration};

use hallmark_core::{error::Error, policy::Caller, ports::Clock};
use http::{Request, Response};
use hyper::{
    body::{Body, Incoming},
    service::Service,
};
use rustls::ServerConfig;
use tokio::{sync::watch, time};
use tokio_util::{either::Either, sync::CancellationToken, task::TaskTracker};

use super::{identity::Trusts, reload::Reloading};
use crate::telemetry::metrics::{ListenerMetrics, Refusal};

mod addresses;
mod connection;
mod limits;
mod linger;
mod opening;
mod socket;
mod strangers;

pub use limits::Limits;
pub use socket::Socket;

use connection::Connections;
use socket::Plain;

/// A bound port, and how it is served.
pub struct Listener {
    pub socket: Socket,
    /// `None`: no TLS (Unix socket, loopback, or behind a proxy).
    pub tls: Option<Arc<Reloading<ServerConfig>>>,
    pub callers: Callers,
    pub protocol: Protocol,
    pub limits: Limits,
    pub clock: Arc<dyn Clock>,
    pub metrics: ListenerMetrics,
}

/// How a listener learns who calls.
#[derive(Clone)]
pub enum Callers {
    /// It does not: whoever comes is served, within the limits.
    Anyone,
    /// By the client's certificate.
    Certificate(Arc<Reloading<Trusts>>),
    /// By the credentials of the Unix socket's peer.
    PeerCredentials,
}

/// What is spoken on the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// For gRPC.
    Http2,
    /// HTTP/1.1 and 2, with or without TLS.
    Http,
}

/// Who is at the other end of a connection; the same for all its requests.
#[derive(Debug)]
pub struct Peer {
    /// Who may be refused for what, or why there is nobody to ask for.
    pub caller: Result<Caller, Error>,
    pub addr: PeerAddr,
    closing: CancellationToken,
    /// Cancelled once a request of a connection without a certificate has shown who calls.
    proved: CancellationToken,
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAddr {
    Tcp(SocketAddr),
    Unix { uid: u32, pid: Option<i32> },
}

impl Peer {
    /// Cancelled when the connection is about to go: the server drains, or it has grown old. Streams should end.
    pub fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// Who shows no certificate, for tests.
    #[cfg(test)]
    pub(in crate::transport) fn without_certificate(addr: PeerAddr) -> Self {
        let (closing, proved) = Default::default();
        Self { caller: Err(super::identity::not_authenticated()), addr, closing, proved }
    }

    /// Says that somebody is there after all: the connection may stay as long as others.
    pub(in crate::transport) fn prove(&self) {
        self.proved.cancel();
    }
}

/// What a body or a service may fail with.
pub type BoxError = Box<dyn StdError + Send + Sync>;

impl Listener {
    /// Serves until `drain`: then takes no more connections, tells those that are open (GOAWAY, or `Connection: close`),
    /// and returns when all are gone or `limits.grace` is over, whichever comes first.
    ///
    /// `services` makes the service of each connection; its requests have an `Arc<Peer>` among their extensions.
    pub async fn serve<F, S, B>(self, services: F, drain: CancellationToken)
    where
        F: Fn(&Arc<Peer>) -> S + Send + Sync + 'static,
        S: Service<Request<Incoming>, Response = Response<B>> + Send + Sync + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let Self { socket, tls, callers, protocol, limits, clock, metrics } = self;
        let mut trust_changes = match &callers {
            Callers::Certificate(trusts) => Some(trusts.changes()),
            Callers::Anyone | Callers::PeerCredentials => None,
        };
        let grace = limits.grace;
        let connections = Connections::new(tls, callers, protocol, limits, clock, metrics.clone(), services);
        let connections = Arc::new(connections);
        let tracker = TaskTracker::new();
        // Every connection of one generation was judged by the same trusts.
        let mut generation = drain.child_token();
        loop {
            let accepted = tokio::select! {
                biased;
                () = drain.cancelled() => break,
                () = changed(&mut trust_changes) => {
                    generation.cancel();
                    generation = drain.child_token();
                    continue;
                }
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, addr)) => accept(&connections, &tracker, stream, addr, &generation),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    metrics.refused(Refusal::Accept);
                    tracing::warn!(%error, "can't accept connections\nhint: raise the limit of open files");
                    // Nothing tells when a descriptor is free again; those who wait stay in the kernel's queue.
                    let _ = time::timeout(ACCEPT_BACKOFF, drain.cancelled()).await;
                }
            }
        }
        drop(socket);
        tracker.close();
        // Each connection ends itself within the grace; the rest is for those that only then learned of the drain.
        let _ = time::timeout(grace + LAST_WORDS, tracker.wait()).await;
    }
}

fn accept<F, S, B>(
    connections: &Arc<Connections<F>>,
    tracker: &TaskTracker,
    mut stream: Plain,
    addr: PeerAddr,
    generation: &CancellationToken,
) where
    F: Fn(&Arc<Peer>) -> S + Send + Sync + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Send + Sync + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    if let Some(place) = connections.place(addr) {
        let closing = generation.child_token();
        if let Either::Left(tcp) = &mut stream {
            tcp.linger_in(tracker);
        }
        tracker.spawn(Arc::clone(connections).run(place, stream, addr, closing));
    }
}

async fn changed(trusts: &mut Option<watch::Receiver<()>>) {
    if let Some(receiver) = trusts
        && receiver.changed().await.is_ok()
    {
        return;
    }
    // Without a sender nothing ever changes; the listener holds the sender, though.
    std::future::pending().await
}

/// Errors of `accept` that are about the connection it would have handed over (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        error.kind(),
        K::ConnectionAborted
            | K::ConnectionReset
            | K::ConnectionRefused
            | K::Interrupted
            | K::TimedOut
            | K::HostUnreachable
            | K::NetworkUnreachable
            | K::NetworkDown
            | K::PermissionDenied
    )
}

const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

const LAST_WORDS: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests;
