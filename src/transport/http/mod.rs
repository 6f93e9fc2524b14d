//! The HTTP fronts: key sets for authorization servers, health and metrics for whoever runs Hallmark.
//!
//! Plain hyper services: no router, no layers. What they answer is small, known beforehand, and served from memory.

pub mod health;
pub mod jwks;
pub mod metrics;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Body;

/// What every answer here is.
pub type Answer = Response<Full<Bytes>>;

/// A status without a body that nobody may keep.
fn bare(status: StatusCode) -> Answer {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response
}

/// A short text that nobody may keep.
fn text(status: StatusCode, text: String) -> Answer {
    let mut response = bare(status);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    *response.body_mut() = Full::new(text.into());
    response
}

/// To whoever sends something else than GET or HEAD.
fn not_allowed() -> Answer {
    let mut response = bare(StatusCode::METHOD_NOT_ALLOWED);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

fn reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Takes the body out of the answer to a HEAD request, and leaves its length (RFC 9110 §9.3.2).
fn without_body(mut response: Answer) -> Answer {
    let body = std::mem::take(response.body_mut());
    let length = body.size_hint().exact().unwrap_or_default();
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    response
}

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

#[cfg(test)]
mod tests;
