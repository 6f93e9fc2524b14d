//! Key sets over HTTP, as authorization servers fetch them.
//!
//! RFC 9111 and real verifiers decide the headers: `application/json` because some refuse anything else, no body with an
//! error because some keep whatever comes, `s-maxage=0` because shared caches count against the publish-before-use time.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::{Arc, LazyLock},
};

use hallmark_core::ports::Clock;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, service::Service};
use tokio_util::sync::CancellationToken;

use super::{Answer, bare, health::Health, not_allowed, reads, without_body};
use crate::{
    service::publish::{self, Document, Kind, Published, Publisher},
    telemetry::metrics::JwksMetrics,
    transport::listener::Listener,
};

/// Serves key sets, `/livez` and `/readyz/jwks` on `listener` until `drain`.
pub async fn serve(listener: Listener, jwks: Jwks, drain: CancellationToken) {
    listener.serve(move |_| jwks.clone(), drain).await;
}

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Jwks(Arc<Shared>);

struct Shared {
    publisher: Arc<Publisher>,
    health: Arc<dyn Health>,
    clock: Arc<dyn Clock>,
    metrics: JwksMetrics,
}

impl Jwks {
    /// `health` answers for the process at the same port.
    pub fn new(
        publisher: Arc<Publisher>,
        health: Arc<dyn Health>,
        clock: Arc<dyn Clock>,
        metrics: JwksMetrics,
    ) -> Self {
        Self(Arc::new(Shared { publisher, health, clock, metrics }))
    }

    fn answer<B>(&self, request: &Request<B>) -> Answer {
        let Shared { publisher, clock, metrics, .. } = &*self.0;
        let response = match publisher.lookup(request.uri().path(), clock.now()) {
            publish::Answer::NotFound => match self.health(request.uri().path()) {
                Some(health) => return health,
                None => bare(StatusCode::NOT_FOUND),
            },
            _ if !reads(request.method()) => not_allowed(),
            publish::Answer::NoKeyYet => bare(StatusCode::NOT_FOUND),
            publish::Answer::Document(document) => send(document, request.method(), request.headers()),
        };
        metrics.answered(response.status().as_u16());
        response
    }

    /// Without words: this port may be open to the world.
    fn health(&self, path: &str) -> Option<Answer> {
        match path {
            "/livez" => Some(bare(StatusCode::OK)),
            "/readyz/jwks" if self.0.health.jwks().is_ok() => Some(bare(StatusCode::OK)),
            "/readyz/jwks" => Some(bare(StatusCode::SERVICE_UNAVAILABLE)),
            _ => None,
        }
    }
}

impl Service<Request<Incoming>> for Jwks {
    type Response = Answer;
    type Error = Infallible;
    type Future = Ready<Result<Answer, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        ready(Ok(self.answer(&request)))
    }
}

fn send(document: Document, method: &Method, asked: &HeaderMap) -> Answer {
    let Published { body, etag } = document.published;
    let known = has_already(asked, &etag);
    let mut response = Answer::default();
    let headers = response.headers_mut();
    headers.reserve(4);
    let kept = if document.no_store { super::NO_STORE } else { cache_control(document.max_age.as_secs()) };
    headers.insert(header::CACHE_CONTROL, kept);
    // A tag is in the form of a header value already.
    if let Ok(etag) = HeaderValue::from_maybe_shared(etag) {
        headers.insert(header::ETAG, etag);
    }
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    headers.insert(header::CONTENT_TYPE, content_type(document.kind));
    *response.body_mut() = Full::new(body);
    if method == Method::HEAD { without_body(response) } else { response }
}

fn content_type(kind: Kind) -> HeaderValue {
    match kind {
        Kind::Jwks => HeaderValue::from_static("application/json"),
        Kind::Pem => HeaderValue::from_static("application/x-pem-file"),
    }
}

/// Made once for each second of the usual range: a request shares the bytes.
fn cache_control(max_age: u64) -> HeaderValue {
    let made = usize::try_from(max_age).ok().and_then(|max_age| CACHE_CONTROL.get(max_age));
    made.cloned().unwrap_or_else(|| make_cache_control(max_age))
}

fn make_cache_control(max_age: u64) -> HeaderValue {
    let text = format!("public, max-age={max_age}, s-maxage=0");
    HeaderValue::try_from(text).unwrap_or(super::NO_STORE)
}

static CACHE_CONTROL: LazyLock<Vec<HeaderValue>> = LazyLock::new(|| (0..=300).map(make_cache_control).collect());

/// `If-None-Match`: any of several tags, compared weakly, or `*` (RFC 9110 §13.1.2). Our tags hold no comma.
fn has_already(asked: &HeaderMap, etag: &[u8]) -> bool {
    let lists = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = lists.flat_map(|list| list.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == etag)
}
