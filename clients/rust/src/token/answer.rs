//! The authorization server's answer to a token request (RFC 6749 §5).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::{AccessToken, Error, Granted, Refusal, Remedy, Sent, SignedAssertion, reason};

/// Reads a successful answer.
pub(super) fn granted(status: StatusCode, body: &[u8], url: &str) -> Result<AccessToken, Error> {
    // Its own words could hold the access token, so the error does not repeat them.
    let answer: Answer =
        serde_json::from_slice(body).map_err(|_| invalid(url, "it is not the JSON object it must be"))?;
    let secret = answer.access_token.filter(|token| !token.is_empty());
    let secret = secret.ok_or_else(|| invalid(url, "it has no `access_token`"))?;
    Ok(AccessToken(Arc::new(Granted {
        secret: secret.into(),
        token_type: answer.token_type.unwrap_or_else(|| "Bearer".to_owned()),
        scope: answer.scope,
        granted_for: answer.expires_in.as_ref().and_then(seconds),
        at: Instant::now(),
        status: status.as_u16(),
    })))
}

/// Reads an answer that is not 200, and decides what it calls for.
pub(super) fn refused(status: StatusCode, body: &[u8], signed: &SignedAssertion) -> Error {
    let said: Said = serde_json::from_slice(body).unwrap_or_default();
    let url = &signed.token_request.url;
    let busy = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    let (remedy, reason) = match said.error.as_deref() {
        _ if busy => (Remedy::RetryLater, reason::TOKEN_ENDPOINT_UNAVAILABLE),
        Some("invalid_request" | "invalid_scope") => (Remedy::FixRequest, reason::TOKEN_REFUSED),
        Some("unauthorized_client" | "access_denied") => (Remedy::AskPermission, reason::TOKEN_REFUSED),
        _ => (Remedy::CallOperator, reason::TOKEN_REFUSED),
    };
    let hide = |text: String| hide(&text, &signed.assertion);
    let (error, error_description) = (said.error.map(hide), said.error_description.map(hide));
    let what = error.as_deref().map(|error| format!(", `{error}`")).unwrap_or_default();
    let text = format!("the authorization server at `{url}` answered {}{what}", status.as_u16());
    let body = bounded(hide(String::from_utf8_lossy(body).into_owned()));
    Error::new(remedy, reason, text).with_refusal(Refusal { status: status.as_u16(), error, error_description, body })
}

/// What was sent, without what would make it of use to others.
pub(super) fn sent(signed: &SignedAssertion, date: Option<String>) -> Option<Sent> {
    let mut parts = signed.assertion.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let mut text = || String::from_utf8(parts.next()??).ok();
    let (header, claims) = (text()?, text()?);
    Some(Sent { url: signed.token_request.url.clone(), header, claims, date })
}

pub(super) fn invalid(url: &str, why: &str) -> Error {
    let text = format!("the answer of the token endpoint `{url}` is no token response: {why}");
    Error::new(Remedy::CallOperator, reason::TOKEN_RESPONSE_INVALID, text)
}

#[derive(Deserialize)]
struct Answer {
    access_token: Option<String>,
    token_type: Option<String>,
    expires_in: Option<Value>,
    scope: Option<String>,
}

#[derive(Default, Deserialize)]
struct Said {
    error: Option<String>,
    error_description: Option<String>,
}

/// A number by the RFC; some servers send it as a string, some with a fraction.
fn seconds(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

/// Some servers repeat what they were sent. Within its five minutes an assertion in a log would be of use to others.
fn hide(text: &str, assertion: &str) -> String {
    let signature = assertion.rsplit('.').next().unwrap_or_default();
    let text = text.replace(assertion, HIDDEN);
    if signature.is_empty() { text } else { text.replace(signature, HIDDEN) }
}

fn bounded(mut text: String) -> String {
    if text.len() > LONGEST_BODY {
        let end = (0..=LONGEST_BODY).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

const HIDDEN: &str = "[the assertion]";
const LONGEST_BODY: usize = 2048;
