//! Access tokens: the token request, sent as Hallmark describes it, and the authorization server's answer.

use std::{
    fmt, fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant as StdInstant},
};

use reqwest::{
    Certificate, Method, Response, StatusCode, Url,
    header::{self, HeaderMap},
    redirect,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use crate::{
    Client, Error, Refusal, Remedy, Sent, SignRequest, SignedAssertion, TokenRequest,
    cache::Patience,
    error::reason,
    retry::{LONGEST_TOLD, Retry},
};

mod answer;

/// An access token. `Debug` does not show it.
#[derive(Clone)]
pub struct AccessToken(Arc<Granted>);

struct Granted {
    secret: SecretString,
    token_type: String,
    scope: Option<String>,
    granted_for: Option<Duration>,
    at: StdInstant,
    status: u16,
}

impl AccessToken {
    /// The access token itself, for the `Authorization` header and nowhere else.
    pub fn expose(&self) -> &str {
        self.0.secret.expose_secret()
    }

    /// As the authorization server spelled it: usually `Bearer`.
    pub fn token_type(&self) -> &str {
        &self.0.token_type
    }

    /// What was granted, where the authorization server says so.
    pub fn scope(&self) -> Option<&str> {
        self.0.scope.as_deref()
    }

    /// `expires_in` of the answer: the whole life of the access token.
    pub fn granted_for(&self) -> Option<Duration> {
        self.0.granted_for
    }

    /// How much of its life is left. `None` where the authorization server did not say how long it is.
    pub fn remaining(&self) -> Option<Duration> {
        self.0.granted_for.map(|whole| whole.saturating_sub(self.0.at.elapsed()))
    }

    /// The HTTP status of the answer.
    pub fn status(&self) -> u16 {
        self.0.status
    }

    #[cfg(test)]
    pub(crate) fn sample(secret: &str, granted_for: Option<Duration>) -> Self {
        let (secret, token_type, at) = (secret.into(), "Bearer".to_owned(), StdInstant::now());
        Self(Arc::new(Granted { secret, token_type, scope: None, granted_for, at, status: 200 }))
    }

    pub(crate) fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Granted { token_type, scope, granted_for, .. } = &*self.0;
        let mut debug = f.debug_struct("AccessToken");
        debug.field("token_type", token_type).field("scope", scope).field("granted_for", granted_for);
        debug.finish_non_exhaustive()
    }
}

impl Client {
    /// An access token for `client` with `scope` (space-separated; may be empty): the one that is kept, else a new one.
    ///
    /// Callers that want the same share one token request, and none of them can spoil it for the others by going away.
    pub async fn token(&self, client: &str, scope: &str) -> Result<AccessToken, Error> {
        self.token_for(SignRequest::new(client).scope(scope)).await
    }

    /// As [`Self::token`], with everything that an assertion can be asked for. Its time-out is for the whole.
    pub async fn token_for(&self, mut request: SignRequest) -> Result<AccessToken, Error> {
        let deadline = self.deadline(Some(request.timeout.take().unwrap_or(self.inner.options.token_timeout)));
        let fetch = |patience| self.clone().fetch_token(request.clone(), patience);
        self.inner.tokens.get(request.clone(), deadline, fetch).await
    }

    /// Forgets an access token that a resource server refused before its time, so that the next call gets a new one.
    pub fn forget_token(&self, token: &AccessToken) {
        self.inner.tokens.forget(token);
    }

    /// Asks until there is an access token, each time with a fresh assertion.
    async fn fetch_token(self, request: SignRequest, patience: Patience) -> Result<AccessToken, Error> {
        let mut retry = Retry::default();
        let mut tries = 1;
        loop {
            let signed = self.sign_until(request.clone(), patience.deadline()).await?;
            let error = match self.exchange(&signed, patience.deadline()).await {
                Ok(token) => return Ok(token),
                Err(error) => error,
            };
            if tries == MOST_TRIES || !retry.again(&error, patience.deadline()).await {
                return Err(error);
            }
            tries += 1;
        }
    }

    /// Sends one token request, once.
    async fn exchange(&self, signed: &SignedAssertion, deadline: Instant) -> Result<AccessToken, Error> {
        let left = deadline.saturating_duration_since(Instant::now());
        let described = &signed.token_request;
        let request = self.http()?.request(method(described)?, url(described)?).timeout(left.min(ANSWER_TIMEOUT));
        let headers =
            described.headers.iter().fold(request, |request, field| request.header(&field.name, &field.value));
        let form: Vec<_> = described.form.iter().map(|field| (&field.name, &field.value)).collect();
        let request = headers.header(header::CONTENT_TYPE, content_type(described)?).form(&form);
        let response = request.send().await.map_err(|error| unavailable(&described.url, error))?;
        let (status, retry_after) = (response.status(), retry_after(response.headers()));
        let date = response.headers().get(header::DATE).and_then(|date| date.to_str().ok()).map(str::to_owned);
        let body = read_body(response).await.map_err(|error| unavailable(&described.url, error))?;
        let body = body.ok_or_else(|| answer::invalid(&described.url, "it is too large"))?;
        match status {
            StatusCode::OK => answer::granted(status, &body, &described.url),
            _ => {
                let refused = answer::refused(status, &body, signed).with_retry_after(retry_after);
                Err(refused.with_sent(answer::sent(signed, date)))
            }
        }
    }

    fn http(&self) -> Result<&reqwest::Client, Error> {
        match self.inner.http.get() {
            Some(http) => Ok(http),
            None => {
                let http = self.inner.http_settings.build()?;
                Ok(self.inner.http.get_or_init(|| http))
            }
        }
    }
}

/// What the HTTP client is made with, when the first token request needs it.
pub(crate) struct HttpSettings {
    pub(crate) ca: Option<PathBuf>,
}

impl HttpSettings {
    /// No redirects, for they would carry the assertion elsewhere; no repetition below us, for each request has an
    /// assertion of its own.
    fn build(&self) -> Result<reqwest::Client, Error> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("hallmark-client/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(Duration::from_secs(5))
            .pool_idle_timeout(Duration::from_secs(30));
        if let Some(path) = &self.ca {
            let fail = || Error::connection(format!("can't use `token_endpoint_ca`: `{}`", path.display()));
            let pem = fs::read(path).map_err(|error| fail().with_source(error))?;
            let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| fail().with_source(error))?;
            builder = builder.tls_certs_merge(certificates);
        }
        builder.build().map_err(|error| Error::connection("can't set up HTTPS").with_source(error))
    }
}

fn method(described: &TokenRequest) -> Result<Method, Error> {
    let method = Method::from_bytes(described.method.as_bytes());
    method.map_err(|_| Error::unexpected(format!("the token request has no usable method: `{}`", described.method)))
}

/// The URL as it is. Where parsing would change what goes over the wire, nothing is sent: the authorization server
/// compares `aud` with what it knows itself as, and another path is another endpoint.
fn url(described: &TokenRequest) -> Result<Url, Error> {
    let fail = |what: &str| {
        let text = format!("{what}: `{}`", described.url);
        Error::new(Remedy::CallOperator, reason::INVALID_REQUEST, text)
    };
    let url = Url::parse(&described.url).map_err(|error| fail("the token endpoint is no URL").with_source(error))?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(fail("the token endpoint is neither https nor http"));
    }
    let after_scheme = described.url.split_once("://").map_or("", |(_, rest)| rest);
    let target = after_scheme.find(['/', '?', '#']).map_or("/", |at| &after_scheme[at..]);
    let parsed = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    if target != parsed {
        return Err(fail("the token endpoint can't be sent as it is spelled"));
    }
    Ok(url)
}

fn content_type(described: &TokenRequest) -> Result<&str, Error> {
    let given = described.content_type.as_str();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Ok(given);
    }
    Err(Error::unexpected(format!("this version can't send a token request as `{given}`; update this client")))
}

fn unavailable(url: &str, error: reqwest::Error) -> Error {
    let text = format!("the token endpoint does not answer: `{url}`");
    // Without its URL: ours says it, as it was spelled.
    Error::new(Remedy::RetryLater, reason::TOKEN_ENDPOINT_UNAVAILABLE, text).with_source(error.without_url())
}

/// RFC 9110 §10.2.3, in its form with seconds. At most an hour: callers add it to the time that it is.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // A number that does not fit is a long time all the same.
    is_number.then(|| text.parse().map_or(LONGEST_TOLD, Duration::from_secs).min(LONGEST_TOLD))
}

/// `None` where it is longer than [`LARGEST_BODY`].
async fn read_body(mut response: Response) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > LARGEST_BODY {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Access tokens of 16 KiB have been seen; nothing else in the answer is large.
const LARGEST_BODY: usize = 256 * 1024;
/// Token requests for one call of `token`.
const MOST_TRIES: u32 = 3;

#[cfg(test)]
mod tests;
