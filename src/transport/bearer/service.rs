//! Looks at the token before the request goes on.

use std::{pin::Pin, sync::Arc};

use futures_util::future::Either;
use hallmark_core::{
    error::{Error, Reason},
    policy::Caller,
};
use http::{Request, header::AUTHORIZATION};
use hyper::{body::Incoming, service::Service};

use super::Bearers;
use crate::transport::{identity::no_issuer, listener::Peer};

/// Who the token of a request says that its bearer is; among its extensions.
#[derive(Clone, Debug)]
pub(in crate::transport) struct Bearer(pub(in crate::transport) Result<Caller, Error>);

/// A service whose callers may show a token where they have no certificate. Whoever has shown a certificate is who that
/// says, and a token beside it counts for nothing.
#[derive(Clone, Debug)]
pub struct Bearing<S> {
    inner: S,
    bearers: Option<Arc<Bearers>>,
}

impl<S> Bearing<S> {
    /// Without `bearers` no token counts.
    pub fn new(inner: S, bearers: Option<Arc<Bearers>>) -> Self {
        Self { inner, bearers }
    }
}

impl<S> Service<Request<Incoming>> for Bearing<S>
where
    S: Service<Request<Incoming>> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Send,
    S::Error: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let peer = request.extensions().get::<Arc<Peer>>().cloned();
        let bare = |peer: &Arc<Peer>| matches!(&peer.caller, Err(error) if error.reason == Reason::NotAuthenticated);
        let peer = peer.filter(bare).filter(|_| request.headers().contains_key(AUTHORIZATION));
        let (Some(peer), Some(bearers)) = (peer.clone(), self.bearers.clone()) else {
            request.headers_mut().remove(AUTHORIZATION);
            if peer.is_some() {
                request.extensions_mut().insert(Bearer(Err(no_issuer())));
            }
            return Either::Left(self.inner.call(request));
        };
        let inner = self.inner.clone();
        Either::Right(Box::pin(async move {
            let caller = bearers.identify(request.headers()).await;
            // Nothing behind this needs it, and nothing may come to write it down.
            request.headers_mut().remove(AUTHORIZATION);
            if caller.is_ok() {
                peer.prove();
            }
            request.extensions_mut().insert(Bearer(caller));
            inner.call(request).await
        }))
    }
}
