//! Errors, sorted by what their receiver should do.

use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorInfo, RetryInfo, RpcStatusExt, StatusExt};

mod transport;

/// What went wrong, from Hallmark, on the way to it, or at the authorization server. Cheap to clone: callers that
/// waited for the same access token share it.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    remedy: Remedy,
    reason: Cow<'static, str>,
    message: String,
    retry_after: Option<Duration>,
    refusal: Option<Refusal>,
    sent: Option<Sent>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// What the receiver of an error should do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The request can't succeed as it is.
    FixRequest,
    /// An operator of Hallmark, or of the authorization server, must permit it.
    AskPermission,
    /// Try again, not before [`Error::retry_after`].
    RetryLater,
    /// Nothing the caller does will help.
    CallOperator,
    /// It should not happen.
    ReportBug,
}

/// What the authorization server said when it gave no access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// `error` (RFC 6749 §5.2), such as `invalid_client`.
    pub error: Option<String>,
    pub error_description: Option<String>,
    /// The beginning of the body. Where the assertion was in it, it says so instead.
    pub body: String,
}

/// The token request that the authorization server refused, as far as it holds nothing secret: enough to find out why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// Where it went.
    pub url: String,
    /// The assertion's header: a JSON object.
    pub header: String,
    /// The assertion's claims: a JSON object.
    pub claims: String,
    /// The `Date` header of the answer.
    pub date: Option<String>,
}

/// Reason codes of this crate's own errors. Those of Hallmark pass through as they are.
pub mod reason {
    /// The connection's settings or files can't be used.
    pub const CONNECTION_INVALID: &str = "CONNECTION_INVALID";
    /// Hallmark can't be reached, or the connection broke.
    pub const UNREACHABLE: &str = "UNREACHABLE";
    /// One side's certificate was not accepted by the other.
    pub const TLS_FAILED: &str = "TLS_FAILED";
    /// The time that the caller gave is over.
    pub const DEADLINE_EXCEEDED: &str = "DEADLINE_EXCEEDED";
    /// What the caller gave can't be sent.
    pub const INVALID_REQUEST: &str = "INVALID_REQUEST";
    /// The authorization server refused: see [`super::Refusal`].
    pub const TOKEN_REFUSED: &str = "TOKEN_REFUSED";
    /// The authorization server can't be reached, or answered that it is out of order.
    pub const TOKEN_ENDPOINT_UNAVAILABLE: &str = "TOKEN_ENDPOINT_UNAVAILABLE";
    /// The authorization server's answer is no token response (RFC 6749 §5.1).
    pub const TOKEN_RESPONSE_INVALID: &str = "TOKEN_RESPONSE_INVALID";
    /// Hallmark's answer lacks something, or has what this version does not know.
    pub const UNEXPECTED_ANSWER: &str = "UNEXPECTED_ANSWER";
}

impl Error {
    /// The stable code: Hallmark's own (`docs/errors.md`), one of [`reason`], or the name of a gRPC status.
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    /// What to do about it.
    pub fn remedy(&self) -> Remedy {
        self.0.remedy
    }

    /// What happened, for a person. [`StdError::source`] has the causes.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// When a retry makes sense, if the receiver was told.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The authorization server's words, where it was the one that refused.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.0.refusal.as_ref()
    }

    /// What the authorization server was sent, where it was the one that refused; without the assertion's signature.
    pub fn sent(&self) -> Option<&Sent> {
        self.0.sent.as_ref()
    }

    pub(crate) fn new(remedy: Remedy, reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        let (reason, message) = (reason.into(), message.into());
        Self(Box::new(Inner { remedy, reason, message, retry_after: None, refusal: None, sent: None, source: None }))
    }

    pub(crate) fn deadline(message: impl Into<String>) -> Self {
        Self::new(Remedy::FixRequest, reason::DEADLINE_EXCEEDED, message)
    }

    pub(crate) fn connection(message: impl Into<String>) -> Self {
        Self::new(Remedy::CallOperator, reason::CONNECTION_INVALID, message)
    }

    pub(crate) fn unexpected(message: impl Into<String>) -> Self {
        Self::new(Remedy::ReportBug, reason::UNEXPECTED_ANSWER, message)
    }

    pub(crate) fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    pub(crate) fn with_retry_after(mut self, delay: Option<Duration>) -> Self {
        self.0.retry_after = delay;
        self
    }

    pub(crate) fn with_refusal(mut self, refusal: Refusal) -> Self {
        self.0.refusal = Some(refusal);
        self
    }

    pub(crate) fn with_sent(mut self, sent: Option<Sent>) -> Self {
        self.0.sent = sent;
        self
    }

    /// Of a call to Hallmark at `address`, which those that no server sent name.
    pub(crate) fn calling(status: Status, address: &str) -> Self {
        let on_the_way = status.source().is_some();
        let error = Self::from(status);
        if on_the_way { error.at(address) } else { error }
    }

    /// Says where it was to be.
    pub(crate) fn at(mut self, address: &str) -> Self {
        self.0.message += &format!(": `{address}`");
        self
    }

    /// A refused item of a stream.
    pub(crate) fn from_item(status: &tonic_types::Status) -> Self {
        let (info, retry) = (status.get_details_error_info(), status.get_details_retry_info());
        Self::answered(Code::from_i32(status.code), status.message.clone(), info, retry)
    }

    fn answered(code: Code, message: String, info: Option<ErrorInfo>, retry: Option<RetryInfo>) -> Self {
        let info = info.filter(|info| info.domain == DOMAIN);
        let retry_after = retry.and_then(|retry| retry.retry_delay);
        let operators = info.as_ref().is_some_and(|info| FOR_OPERATORS.contains(&info.reason.as_str()));
        let remedy = if operators { Remedy::CallOperator } else { remedy(code, retry_after.is_some()) };
        let reason = info.map_or(Cow::Borrowed(code_name(code)), |info| Cow::Owned(info.reason));
        Self::new(remedy, reason, message).with_retry_after(retry_after)
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        if status.source().is_some() {
            return transport::broken(&status);
        }
        let (info, retry) = (status.get_details_error_info(), status.get_details_retry_info());
        Self::answered(status.code(), status.message().to_owned(), info, retry)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { remedy, reason, message, retry_after, refusal, sent, source } = &*self.0;
        let mut debug = f.debug_struct("Error");
        debug.field("reason", reason).field("remedy", remedy).field("message", message);
        debug.field("retry_after", retry_after).field("refusal", refusal);
        debug.field("sent", sent).field("source", source).finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

fn remedy(code: Code, says_when: bool) -> Remedy {
    match code {
        Code::InvalidArgument | Code::OutOfRange | Code::NotFound | Code::AlreadyExists => Remedy::FixRequest,
        Code::DeadlineExceeded | Code::Cancelled => Remedy::FixRequest,
        Code::Unauthenticated | Code::PermissionDenied => Remedy::AskPermission,
        Code::Unavailable | Code::ResourceExhausted | Code::Aborted => Remedy::RetryLater,
        _ if says_when => Remedy::RetryLater,
        Code::FailedPrecondition | Code::DataLoss => Remedy::CallOperator,
        Code::Ok | Code::Unknown | Code::Unimplemented | Code::Internal => Remedy::ReportBug,
    }
}

/// The names of google.rpc.Code.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// `google.rpc.ErrorInfo.domain` of Hallmark's own reasons.
const DOMAIN: &str = "hallmark";

/// Reasons that come as UNAVAILABLE and do not pass by themselves.
const FOR_OPERATORS: [&str; 3] = ["PIN_REFUSED", "KEY_QUARANTINED", "AUDIT_UNAVAILABLE"];

#[cfg(test)]
mod tests;
