//! Assertions: what is asked for, and what comes back.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use hallmark_proto::v1::{self, assertion_service_client::AssertionServiceClient, sign_assertions_response};
use serde_json::{Map, Value};
use tokio::time::Instant;
use tokio_stream::{Stream, StreamExt};

use crate::{Client, Error, client::timed, given};

/// What to sign for. All but the client is optional: [`SignRequest::new`], then the methods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SignRequest {
    pub(crate) client: String,
    pub(crate) alg: String,
    pub(crate) audience: String,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) scope: String,
    pub(crate) claims: Vec<u8>,
    pub(crate) timeout: Option<Duration>,
}

impl SignRequest {
    /// `client` is Hallmark's name of the OAuth client.
    pub fn new(client: impl Into<String>) -> Self {
        Self { client: client.into(), ..Self::default() }
    }

    /// A JWS algorithm of the client's keys, such as `ES384`; else its first.
    #[must_use]
    pub fn alg(mut self, alg: impl Into<String>) -> Self {
        self.alg = alg.into();
        self
    }

    /// `aud`, where the policy lets this workload choose it; else the client's token endpoint.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = audience.into();
        self
    }

    /// `exp` − `iat`, at most what the client's profile allows.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// Goes into the token request as it is.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = scope.into();
        self
    }

    /// Extra claims. Each name must be in the workload's list.
    #[must_use]
    pub fn claims(self, claims: Map<String, Value>) -> Self {
        self.claims_json(Value::Object(claims).to_string())
    }

    /// Extra claims as the text of a JSON object, whose values are signed byte for byte.
    #[must_use]
    pub fn claims_json(mut self, claims: impl Into<Vec<u8>>) -> Self {
        self.claims = claims.into();
        self
    }

    /// How long the caller waits, retries included; else as in [`crate::Options`].
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    fn message(self) -> v1::SignAssertionRequest {
        v1::SignAssertionRequest {
            client: self.client,
            alg: self.alg,
            audience: self.audience,
            lifetime: self.lifetime.and_then(|lifetime| lifetime.try_into().ok()),
            scope: self.scope,
            claims_json: self.claims,
        }
    }
}

/// A signed client assertion, and the token request that trades it for an access token.
///
/// Whoever holds the assertion can use it until it expires: `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedAssertion {
    /// The JWS compact serialisation.
    pub assertion: String,
    pub kid: String,
    pub alg: String,
    pub jti: String,
    pub issued_at: SystemTime,
    pub expires_at: SystemTime,
    pub token_request: TokenRequest,
}

/// An HTTP request, to be sent as it is. It holds the assertion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRequest {
    pub method: String,
    /// Byte for byte as the authorization server has it.
    pub url: String,
    pub content_type: String,
    /// In this order; a name may repeat.
    pub form: Vec<FormField>,
    /// Beside `Content-Type`.
    pub headers: Vec<FormField>,
}

/// A name and a value, which `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct FormField {
    pub name: String,
    pub value: String,
}

impl Client {
    /// Signs one assertion. Each token request wants a fresh one.
    pub async fn sign_assertion(&self, request: SignRequest) -> Result<SignedAssertion, Error> {
        let deadline = self.deadline(request.timeout);
        self.sign_until(request, deadline).await
    }

    pub(crate) async fn sign_until(&self, request: SignRequest, deadline: Instant) -> Result<SignedAssertion, Error> {
        let message = request.message();
        let sign = |channel| {
            let request = timed(message.clone(), deadline);
            async move { AssertionServiceClient::new(channel).sign_assertion(request).await }
        };
        SignedAssertion::try_from(self.call(deadline, sign).await?)
    }

    /// Signs many over one stream: `requests` gives each a correlation id of the caller's choice (at most 128 bytes).
    /// Results come as they are ready. A refused item is a result; it ends nothing and is not retried.
    pub async fn sign_assertions<S>(&self, requests: S) -> Result<SignedStream, Error>
    where
        S: Stream<Item = (String, SignRequest)> + Send + 'static,
    {
        let items = requests.map(|(correlation_id, request)| v1::SignAssertionsRequest {
            correlation_id,
            timeout: request.timeout.and_then(|timeout| timeout.try_into().ok()),
            request: Some(request.message()),
        });
        let mut client = AssertionServiceClient::new(self.inner.channels.get());
        let answers = client.sign_assertions(items).await?.into_inner();
        Ok(SignedStream { answers })
    }
}

/// The results of [`Client::sign_assertions`], in the order in which they became ready.
#[derive(Debug)]
pub struct SignedStream {
    answers: tonic::Streaming<v1::SignAssertionsResponse>,
}

/// One result of a stream.
#[derive(Clone, Debug)]
pub struct Streamed {
    pub correlation_id: String,
    pub result: Result<SignedAssertion, Error>,
}

impl SignedStream {
    /// The next result; `None` after the last, once `requests` has ended. An error means that the stream is broken, and
    /// that requests without a result may be sent again.
    pub async fn next(&mut self) -> Option<Result<Streamed, Error>> {
        StreamExt::next(self).await
    }
}

impl Stream for SignedStream {
    type Item = Result<Streamed, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let answer = Pin::new(&mut self.answers).poll_next(context);
        answer.map(|answer| answer.map(|answer| answer.map(Streamed::from).map_err(Error::from)))
    }
}

impl From<v1::SignAssertionsResponse> for Streamed {
    fn from(answer: v1::SignAssertionsResponse) -> Self {
        let result = match answer.result {
            Some(sign_assertions_response::Result::Assertion(signed)) => signed.try_into(),
            Some(sign_assertions_response::Result::Error(status)) => Err(Error::from_item(&status)),
            None => Err(Error::unexpected("hallmark sent a result with neither assertion nor error")),
        };
        Self { correlation_id: answer.correlation_id, result }
    }
}

impl TryFrom<v1::SignAssertionResponse> for SignedAssertion {
    type Error = Error;

    fn try_from(signed: v1::SignAssertionResponse) -> Result<Self, Error> {
        let lacks = |what| Error::unexpected(format!("hallmark's answer lacks `{what}`"));
        let v1::SignAssertionResponse { assertion, kid, alg, jti, .. } = signed;
        let issued_at = given::value(signed.issued_at).ok_or_else(|| lacks("issued_at"))?;
        let expires_at = given::value(signed.expires_at).ok_or_else(|| lacks("expires_at"))?;
        let token_request = signed.token_request.ok_or_else(|| lacks("token_request"))?.into();
        Ok(Self { assertion, kid, alg, jti, issued_at, expires_at, token_request })
    }
}

impl From<v1::TokenRequest> for TokenRequest {
    fn from(request: v1::TokenRequest) -> Self {
        let fields = |fields: Vec<v1::FormField>| {
            fields.into_iter().map(|v1::FormField { name, value }| FormField { name, value }).collect()
        };
        let (form, headers) = (fields(request.form), fields(request.headers));
        let v1::TokenRequest { method, url, content_type, .. } = request;
        Self { method, url, content_type, form, headers }
    }
}

impl fmt::Debug for SignedAssertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kid, alg, jti, issued_at, expires_at, token_request, .. } = self;
        let mut debug = f.debug_struct("SignedAssertion");
        debug.field("kid", kid).field("alg", alg).field("jti", jti).field("issued_at", issued_at);
        debug.field("expires_at", expires_at).field("token_request", token_request).finish_non_exhaustive()
    }
}

impl fmt::Debug for FormField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=…", self.name)
    }
}
