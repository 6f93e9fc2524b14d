//! Services whose callers may not ask all the time.

use std::{
    convert::Infallible,
    future::ready,
    sync::Arc,
    task::{Context, Poll},
};

use hallmark_core::error::Error;
use tonic::{
    body::Body,
    codegen::{BoxFuture, Service},
    server::NamedService,
};
use uuid::Uuid;

use super::call::{caller, refuse, refuse_unidentified};
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
        let Limiter { limits, refusals } = &self.limiter;
        count(limits, self.strangers_only, request).map_err(|error| {
            let id = Uuid::new_v4().to_string();
            match caller(request.extensions()) {
                Ok(caller) => refuse(refusals, &id, &caller, "", &error),
                Err(_) => refuse_unidentified(refusals, &id, request.extensions(), &error),
            }
        })
    }
}

/// `None`: it is let through uncounted.
fn count(
    limits: &Arc<CallLimits>,
    strangers_only: bool,
    request: &http::Request<Body>,
) -> Result<Option<UnderWay>, Error> {
    let Some(peer) = request.extensions().get::<Arc<Peer>>() else { return Ok(None) };
    // By a token as well: those behind one proxy or node would else use up each other's calls.
    let caller = caller(request.extensions());
    if request.uri().path().ends_with("/RevokeKey") || (strangers_only && caller.is_ok()) {
        return Ok(None);
    }
    let admitted = match (caller, peer.addr) {
        (Ok(caller), _) => limits.admit(&caller.identity),
        (Err(_), PeerAddr::Tcp(addr)) => limits.admit(addr.ip()),
        (Err(_), PeerAddr::Unix { uid, .. }) => limits.admit(uid),
    };
    admitted.map(Some)
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

#[cfg(test)]
mod tests {
    use hallmark_core::{
        error::Reason,
        policy::{Caller, Credential, Identity, Roles},
    };

    use super::*;
    use crate::transport::bearer::Bearer;

    /// A call of the one whom a token names, or of nobody, from the address that all share.
    fn call(subject: Option<&str>) -> http::Request<Body> {
        let mut request = http::Request::new(Body::empty());
        let addr = PeerAddr::Tcp("192.0.2.1:5".parse().unwrap());
        request.extensions_mut().insert(Arc::new(Peer::without_certificate(addr)));
        let named = |subject: &str| Caller {
            identity: Identity::Jwt { issuer: "https://issuer.example".into(), subject: subject.into() },
            roles: Roles { workload: false, operator: true },
            not_after: None,
            credential: Credential::Token,
        };
        let invalid = || Error::new(Reason::TokenInvalid, "no");
        request.extensions_mut().insert(Bearer(subject.map(named).ok_or_else(invalid)));
        request
    }

    #[test]
    fn whoever_has_used_up_its_calls_leaves_others_at_its_address_theirs() {
        let limits = Arc::default();
        let is_refused = |strangers, who| (0..10_000).any(|_| count(&limits, strangers, &call(who)).is_err());
        assert!(is_refused(false, None), "bad tokens are free");
        assert!(is_refused(false, Some("loud")));
        // By a keyed hash a few may share a counter with the loud one.
        let names: Vec<_> = (0..20).map(|n| n.to_string()).collect();
        let admitted = names.iter().filter(|name| count(&limits, false, &call(Some(name))).is_ok()).count();
        assert!(admitted >= 18, "{admitted} of 20");
        assert!(is_refused(true, None) && !is_refused(true, Some("loud")), "who is known is no stranger");
    }
}
