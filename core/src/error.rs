//! Errors, sorted by what their receiver should do.
//!
//! An [`Error`] holds two messages: `message` is for the caller and says only what a caller may know; `detail` is
//! for the operator and goes to the log. Layers below the transport know nothing of gRPC or HTTP status codes.

use std::{fmt, time::Duration};

/// What went wrong, in a form that each layer can pass up and the transport can turn into a status.
#[derive(Clone, Debug)]
pub struct Error {
    pub reason: Reason,
    /// For the caller: what happened, why, and what to do next.
    pub message: String,
    /// For the operator's log; never leaves the process.
    pub detail: Option<String>,
    /// When a retry makes sense.
    pub retry_after: Option<Duration>,
}

impl Error {
    /// `message` is for the caller: it may hold nothing that the caller must not know.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), detail: None, retry_after: None }
    }

    /// Adds what only the log may hold.
    #[must_use]
    pub fn with_detail(mut self, detail: impl fmt::Display) -> Self {
        self.detail = Some(detail.to_string());
        self
    }

    /// Tells the caller when to try again.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// A broken promise of our own code.
    pub fn internal(detail: impl fmt::Display) -> Self {
        Self::new(Reason::Internal, "internal error; please report it with the request id").with_detail(detail)
    }
}

impl Reason {
    /// Whether [`Error::retry_after`] goes to the caller: where it should come back by itself, and where an operator is
    /// needed but Hallmark tries again at a time that is known.
    pub fn says_when(self) -> bool {
        self.remedy() == Remedy::RetryLater || self == Self::KeyQuarantined
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        if let Some(detail) = &self.detail {
            write!(f, " ({detail})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// What the receiver of an error should do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    FixRequest,
    AskPermission,
    RetryLater,
    CallOperator,
    ReportBug,
}

/// Declares [`Reason`] with its stable code and remedy, so that no reason can lack either.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $remedy:ident;)*) => {
        /// Why a request was refused or failed. The codes are part of the API: `docs/errors.md` lists them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[doc = $doc])+ $name,)* }

        impl Reason {
            /// In the order of `docs/errors.md`.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The stable code, as in `google.rpc.ErrorInfo.reason`.
            pub fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// What happened, in one sentence: the text of `docs/errors.md`.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii(),)* }
            }

            /// What the receiver should do.
            pub fn remedy(self) -> Remedy {
                match self { $(Self::$name => Remedy::$remedy,)* }
            }
        }
    };
}

reasons! {
    /// A field of the request is missing or malformed.
    InvalidRequest = "INVALID_REQUEST", FixRequest;
    /// The extra claims are not a JSON object, or name a claim twice.
    InvalidClaims = "INVALID_CLAIMS", FixRequest;
    /// The extra claims name one that Hallmark sets itself.
    ReservedClaim = "RESERVED_CLAIM", FixRequest;
    /// The certificate can't be installed: the message says what is wrong with it.
    InvalidCertificate = "INVALID_CERTIFICATE", FixRequest;
    /// The client has no key line with that algorithm.
    AlgNotConfigured = "ALG_NOT_CONFIGURED", FixRequest;
    /// The lifetime asked for is longer than the profile allows.
    LifetimeTooLong = "LIFETIME_TOO_LONG", FixRequest;
    /// The deadline passed before the answer was there, and nothing is given out: allow more time.
    DeadlineExceeded = "DEADLINE_EXCEEDED", FixRequest;
    /// The same `request_id` came before with another content.
    RequestIdReused = "REQUEST_ID_REUSED", FixRequest;
    /// The state that the request asks for is already there.
    AlreadyExists = "ALREADY_EXISTS", FixRequest;
    /// There is no key with that `kid`.
    KeyNotFound = "KEY_NOT_FOUND", FixRequest;
    /// The key's state does not allow that step.
    KeyState = "KEY_STATE", FixRequest;
    /// No change with that id waits, or waited, for an approval.
    ChangeNotFound = "CHANGE_NOT_FOUND", FixRequest;
    /// The change was denied, has expired, or failed: propose it anew.
    ChangeDecided = "CHANGE_DECIDED", FixRequest;
    /// What was proposed would do something else now, or its proposer may not do it any more.
    ChangeOutdated = "CHANGE_OUTDATED", FixRequest;

    /// Neither a certificate nor a token was shown, nor is the connection a Unix socket.
    NotAuthenticated = "NOT_AUTHENTICATED", AskPermission;
    /// The certificate does not chain to any configured trust, or is expired.
    CertificateUntrusted = "CERTIFICATE_UNTRUSTED", AskPermission;
    /// The certificate names no single identity that its trust may vouch for.
    IdentityInvalid = "IDENTITY_INVALID", AskPermission;
    /// The certificate expired while the connection was open.
    CertificateExpired = "CERTIFICATE_EXPIRED", AskPermission;
    /// The bearer token counts for nothing here: the message says why.
    TokenInvalid = "TOKEN_INVALID", AskPermission;
    /// The bearer token has expired, perhaps while the call was under way.
    TokenExpired = "TOKEN_EXPIRED", AskPermission;
    /// The identity is known to no workload of the configuration.
    WorkloadUnknown = "WORKLOAD_UNKNOWN", AskPermission;
    /// The identity is known to no operator of the configuration.
    NotAnOperator = "NOT_AN_OPERATOR", AskPermission;
    /// Whoever proposed a change can't approve it.
    SameOperator = "SAME_OPERATOR", AskPermission;
    /// There is no such client, or it is not this workload's: one answer for both.
    ClientNotPermitted = "CLIENT_NOT_PERMITTED", AskPermission;
    /// The audience is neither the client's own nor in the workload's list.
    AudienceNotPermitted = "AUDIENCE_NOT_PERMITTED", AskPermission;
    /// The extra claim is not in the workload's list.
    ClaimNotPermitted = "CLAIM_NOT_PERMITTED", AskPermission;

    /// The workload's rate is used up, or the caller makes too many other calls.
    RateLimited = "RATE_LIMITED", RetryLater;
    /// The workload, or the caller of other methods, has as many requests under way as it may.
    ConcurrencyLimited = "CONCURRENCY_LIMITED", RetryLater;
    /// The queue before the HSM is too long for the deadline.
    Overloaded = "OVERLOADED", RetryLater;
    /// The HSM does not answer; Hallmark is waiting for its return.
    HsmUnavailable = "HSM_UNAVAILABLE", RetryLater;
    /// The keys of the token's issuer were not read yet, or could not be read again for a key that is not among them.
    IssuerUnavailable = "ISSUER_UNAVAILABLE", RetryLater;
    /// The server is going down; another replica, or the next start, will answer.
    ShuttingDown = "SHUTTING_DOWN", RetryLater;
    /// The key store does not answer.
    StoreUnavailable = "STORE_UNAVAILABLE", RetryLater;
    /// Keys changed while the request was under way.
    KeyChanged = "KEY_CHANGED", RetryLater;

    /// The client is not registered yet: its `client_id` is not configured.
    NotRegistered = "NOT_REGISTERED", CallOperator;
    /// The client has no active key.
    NoActiveKey = "NO_ACTIVE_KEY", CallOperator;
    /// The authorization server looks for a certificate, and the key has none that is valid now.
    NoCertificate = "NO_CERTIFICATE", CallOperator;
    /// The key is not ready for that step: the message says what must pass first. Or another `client_id` is recorded: the message says whether it is in use, or one in the configuration.
    GateShut = "GATE_SHUT", CallOperator;
    /// The HSM refused the PIN, or it would be dangerous to try it.
    PinRefused = "PIN_REFUSED", CallOperator;
    /// The HSM answered that the call was wrong for this key or token.
    HsmRefused = "HSM_REFUSED", CallOperator;
    /// The key's objects on the HSM are missing, or more than one pair matches.
    KeyAbsent = "KEY_ABSENT", CallOperator;
    /// The key does not meet the client's `custody`.
    CustodyTooWeak = "CUSTODY_TOO_WEAK", CallOperator;
    /// The key failed repeatedly while others worked, and is set aside.
    KeyQuarantined = "KEY_QUARANTINED", CallOperator;
    /// The HSM can't do what the algorithm needs.
    AlgUnsupported = "ALG_UNSUPPORTED", CallOperator;
    /// The key store holds what does not read as a key or a change.
    StoreCorrupt = "STORE_CORRUPT", CallOperator;
    /// The audit log can't be written, and nothing is signed without it.
    AuditUnavailable = "AUDIT_UNAVAILABLE", CallOperator;

    /// Anything that should not happen.
    Internal = "INTERNAL", ReportBug;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique() {
        let mut codes: Vec<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Reason::ALL.len());
    }
}
