//! What Hallmark sends.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The assertion that Hallmark makes for a client. A client's `override` replaces single fields.
///
/// Whatever stands here, `sub` is the `client_id`, `jti` a UUIDv4 of 36 characters, `aud` one string, and dates are
/// integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Makes {
    pub typ: Typ,
    pub kid: bool,
    /// The client's JWKS URL as registered (RFC 7515 §4.1.2).
    pub jku: bool,
    /// The certificate chain, leaf first, each in standard base64 of its DER (RFC 7515 §4.1.6).
    pub x5c: bool,
    /// The SHA-1 thumbprint of the leaf (RFC 7515 §4.1.7).
    pub x5t: bool,
    /// The SHA-256 thumbprint of the leaf (RFC 7515 §4.1.8).
    pub x5t_s256: bool,
    pub iss: Iss,
    pub aud: Audience,
    /// `exp` − `iat`, and the longest that a workload may ask for.
    pub lifetime: Duration,
    /// How far `iat` (and `nbf`) lie in the past, for verifiers whose clock is behind ours.
    pub backdate: Duration,
    pub iat: bool,
    pub nbf: bool,
}

/// The `typ` header member (RFC 7515 §4.1.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Typ {
    #[serde(rename = "JWT")]
    Jwt,
    /// RFC 7523bis. Servers of SMART on FHIR refuse it.
    #[serde(rename = "client-authentication+jwt")]
    ClientAuthentication,
    #[serde(rename = "none")]
    Absent,
}

/// What `iss` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Iss {
    ClientId,
    /// What was registered beside the `client_id`: the client's `iss`.
    Registered,
}

/// What `aud` is where the caller names nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Audience {
    TokenEndpoint,
    /// The authorization server's issuer identifier (RFC 8414 §2): the client's `issuer`.
    Issuer,
}

impl Makes {
    /// Whether it shows a certificate, so that the key must have one.
    pub fn wants_certificate(&self) -> bool {
        self.x5c || self.x5t || self.x5t_s256
    }
}

impl Typ {
    /// The value; `None` where the member is left out.
    pub fn value(self) -> Option<&'static str> {
        match self {
            Self::Jwt => Some("JWT"),
            Self::ClientAuthentication => Some("client-authentication+jwt"),
            Self::Absent => None,
        }
    }
}

/// What nearly every system takes; the others say what they change of it.
pub(super) const USUAL: Makes = Makes {
    typ: Typ::Jwt,
    kid: true,
    jku: false,
    x5c: false,
    x5t: false,
    x5t_s256: false,
    iss: Iss::ClientId,
    aud: Audience::TokenEndpoint,
    lifetime: super::FIVE_MINUTES,
    backdate: Duration::from_secs(5),
    iat: true,
    nbf: false,
};
