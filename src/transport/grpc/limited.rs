//! Services whose callers may not ask all the time.

use std::{
    convert::Infallible,
    future::ready,
    sync::Arc,
    task::{Context, Poll},
};

use tonic::{
    body::Body,
    codegen::{BoxFuture, Service},
    server::NamedService,
};
use uuid::Uuid;

use super::call::{refuse, refuse_unidentified};
use crate::{
    service::{
        limits::{CallLimits, UnderWay},
        refusals::Refusals,
    },
    transport::listener::{Peer, PeerAddr},
};

/// Makes services of limits that they share.
#[derive(Clone, Debug)]
pub(super) struct Limiter {
    limits: Arc<CallLimits>,
    refusals: Arc<Refusals>,
}

impl Limiter {
    pub(super) fn new(refusals: Arc<Refusals>) -> Self {
        Self { limits: Arc::default(), refusals }
    }

    /// For every caller.
    pub(super) fn all<S>(&self, inner: S) -> Limited<S> {
        Limited { inner, limiter: self.clone(), strangers_only: false }
    }

    /// For those who have no identity; others are left alone.
    pub(super) fn strangers<S>(&self, inner: S) -> Limited<S> {
        Limited { inner, limiter: self.clone(), strangers_only: true }
    }
}

/// Who calls `inner` too often, or has too many calls under way there, is refused before its message is read. Revoking a
/// key is always let through. How long a stream goes on does not count.
#[derive(Clone, Debug)]
pub(super) struct Limited<S> {
    inner: S,
    limiter: Limiter,
    strangers_only: bool,
}

impl<S> Limited<S> {
    fn admit(&self, request: &http::Request<Body>) -> Result<Option<UnderWay>, tonic::Status> {
        let Some(peer) = request.extensions().get::<Arc<Peer>>() else { return Ok(None) };
        let exempt = request.uri().path().ends_with("/RevokeKey") || (self.strangers_only && peer.caller.is_ok());
        if exempt {
            return Ok(None);
        }
        let Limiter { limits, refusals } = &self.limiter;
        let admitted = match (&peer.caller, peer.addr) {
            (Ok(caller), _) => limits.admit(&caller.identity),
            (Err(_), PeerAddr::Tcp(addr)) => limits.admit(addr.ip()),
            (Err(_), PeerAddr::Unix { uid, .. }) => limits.admit(uid),
        };
        admitted.map(Some).map_err(|error| {
            let id = Uuid::new_v4().to_string();
            match &peer.caller {
                Ok(caller) => refuse(refusals, &id, caller, "", &error),
                Err(_) => refuse_unidentified(refusals, &id, request.extensions(), &error),
            }
        })
    }
}

impl<S> Service<http::Request<Body>> for Limited<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let admitted = match self.admit(&request) {
            Ok(admitted) => admitted,
            Err(status) => return Box::pin(ready(Ok(status.into_http()))),
        };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            drop(admitted);
            answer
        })
    }
}

impl<S: NamedService> NamedService for Limited<S> {
    const NAME: &'static str = S::NAME;
}
