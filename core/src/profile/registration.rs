//! How a client is made known to a system.

use super::Rule;
use crate::key::Alg;

/// How a client is made known to a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    pub how: How,
    /// What the system is given of the key.
    pub hands_over: &'static [Handover],
    /// What people must do, in order, beside what `register` prints or sends.
    pub steps: &'static [&'static str],
    /// The algorithms of keys that were handed over themselves, where those are fewer than of keys that are read from
    /// the JWKS URL.
    pub uploaded_algs: Option<Rule<&'static [Alg]>>,
}

/// By which means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// By hand, in a portal, a form or a mail: these are the fields to fill in.
    Portal(&'static [Field]),
    /// A JSON document posted to a registration endpoint (RFC 7591).
    Document {
        /// `token_endpoint_auth_method`; `None` where the system refuses `private_key_jwt` and wants the member left out.
        auth_method: Option<&'static str>,
        /// `token_endpoint_auth_signing_alg` is sent: the server would expect another algorithm.
        signing_alg: bool,
        /// `redirect_uris` must be there even though nobody is ever redirected.
        redirect_uris: bool,
        /// Further members, as JSON.
        members: &'static [(&'static str, &'static str)],
    },
    /// A software statement signed by the client's key (UDAP Dynamic Client Registration §2).
    SoftwareStatement,
}

/// A field of a portal or a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// As the portal calls it.
    pub label: &'static str,
    pub value: Handover,
}

/// What is written into a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handover {
    JwksUrl,
    InlineJwks,
    /// The active key as SPKI PEM.
    PublicKeyPem,
    CertificatePem,
    /// SHA-1 and SHA-256 of the certificate.
    Thumbprints,
    ClientId,
    Iss,
    TokenEndpoint,
    /// The scopes that the client will ask for.
    Scopes,
    /// A fixed text.
    Text(&'static str),
}

/// What RFC 7591 has: a document that says where the JWKS is.
pub(super) const RFC_7591: Registration = Registration {
    how: How::Document { auth_method: Some("private_key_jwt"), signing_alg: true, redirect_uris: false, members: &[] },
    hands_over: &[Handover::JwksUrl],
    steps: &[],
    uploaded_algs: None,
};
