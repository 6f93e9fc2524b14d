//! The client: how calls are made.

use std::{
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};
use tonic::{Request, Response, Status};

use crate::{
    Connection, Error, Remedy,
    cache::TokenCache,
    channel::{Channels, Link},
    error::reason,
    retry::Retry,
    token::HttpSettings,
};

/// A client of Hallmark. Cheap to clone; clones share the connection and the cache of access tokens.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) channels: Channels,
    pub(crate) options: Options,
    pub(crate) tokens: TokenCache,
    pub(crate) http_settings: HttpSettings,
    pub(crate) http: OnceLock<reqwest::Client>,
}

/// How patient a [`Client`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// For one call to Hallmark, retries included, where the request names no time of its own. Default: 10 s.
    pub timeout: Duration,
    /// For an access token: assertions, token requests and retries together. Default: 30 s.
    pub token_timeout: Duration,
    /// Whether a server that can't be reached is tried again until the time is over: right for services, since Hallmark
    /// may just be starting again. A person at a terminal wants to know at once. Default: true.
    pub wait_for_server: bool,
}

impl Default for Options {
    fn default() -> Self {
        let (timeout, token_timeout) = (Duration::from_secs(10), Duration::from_secs(30));
        Self { timeout, token_timeout, wait_for_server: true }
    }
}

impl Client {
    /// Reads the connection's files. It connects at the first call, so a server that is not up yet is no error here.
    ///
    /// To be called inside a tokio runtime.
    pub fn connect(connection: Connection) -> Result<Self, Error> {
        Self::connect_with(connection, Options::default())
    }

    /// As [`Self::connect`], with other time-outs.
    pub fn connect_with(connection: Connection, options: Options) -> Result<Self, Error> {
        let channels = Channels::new(&connection)?;
        let http_settings = HttpSettings { ca: connection.token_endpoint_ca };
        let (tokens, http) = (TokenCache::default(), OnceLock::new());
        Ok(Self { inner: Arc::new(Inner { channels, options, tokens, http_settings, http }) })
    }

    /// Makes a call until it succeeds, until its error says that another try makes no sense, or until `deadline`.
    /// Everything that Hallmark offers may be called again: a signature is fresh each time, a change has a request id.
    pub(crate) async fn call<T, F>(&self, deadline: Instant, attempt: impl Fn(Link) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut retry = Retry::default();
        loop {
            let error = match timeout_at(deadline, attempt(self.inner.channels.get())).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => Error::calling(status, self.inner.channels.address()),
                Err(_) => Error::deadline("hallmark did not answer in time").at(self.inner.channels.address()),
            };
            if error.remedy() == Remedy::AskPermission {
                self.inner.channels.doubt();
            }
            let hopeless = error.reason() == reason::UNREACHABLE && !self.inner.options.wait_for_server;
            if hopeless || !retry.again(&error, deadline).await {
                return Err(error);
            }
        }
    }

    pub(crate) fn deadline(&self, timeout: Option<Duration>) -> Instant {
        Instant::now() + timeout.unwrap_or(self.inner.options.timeout).min(LONGEST_TIMEOUT)
    }
}

/// A request that tells the server how long its caller waits (the `grpc-timeout` header).
pub(crate) fn timed<T>(message: T, deadline: Instant) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline.saturating_duration_since(Instant::now()));
    request
}

/// Keeps an absurd time-out from overflowing the clock.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
