//! A key's record, as operators see it.

use std::{fmt, time::SystemTime};

use hallmark_proto::v1;

use super::UpcomingStep;
use crate::given;

/// A key's record. It holds nothing secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub id: String,
    /// `None` for a custody key.
    pub client: Option<String>,
    pub alg: String,
    pub hsm: String,
    /// `None` until the key is generated.
    pub kid: Option<String>,
    pub state: KeyState,
    /// `assertion` or `custody`.
    pub purpose: String,
    /// `generated`, `adopted` or `imported`.
    pub origin: String,
    pub cka_id: Vec<u8>,
    pub label: String,
    /// SubjectPublicKeyInfo, DER; empty until the key is generated.
    pub spki: Vec<u8>,
    pub created_at: Option<SystemTime>,
    pub published_at: Option<SystemTime>,
    pub activated_at: Option<SystemTime>,
    pub deactivated_at: Option<SystemTime>,
    pub retired_at: Option<SystemTime>,
    pub compromised_at: Option<SystemTime>,
    pub destroyed_at: Option<SystemTime>,
    /// Its objects are not on the HSM as they should be, as of when that was last looked at. Only a listing says so.
    pub absent: bool,
    /// What happens to it next by itself.
    pub next_step: Option<UpcomingStep>,
    /// X.509, DER, leaf first; empty where it has none.
    pub certificate_chain: Vec<Vec<u8>>,
    /// What the first of these says.
    pub certificate: Option<Certificate>,
    /// Assertions of its client must show a certificate, and it has none that is valid now.
    pub certificate_missing: bool,
}

/// NIST SP 800-57 states, and `retired`: deactivated and no longer published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyState {
    PreActive,
    Active,
    Deactivated,
    Compromised,
    Retired,
    Destroyed,
    /// A state that this version of the client does not know.
    Unknown,
}

/// What a certificate says of itself. Its texts are those of whoever issued it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// RFC 4514.
    pub subject: String,
    /// RFC 4514.
    pub issuer: String,
    /// In hexadecimal.
    pub serial: String,
    pub not_before: Option<SystemTime>,
    pub not_after: Option<SystemTime>,
    /// Of the subject's alternative names.
    pub san_uris: Vec<String>,
    pub san_dns: Vec<String>,
    /// Digests of its DER.
    pub sha1: Vec<u8>,
    pub sha256: Vec<u8>,
}

impl KeyState {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PreActive => "pre-active",
            Self::Active => "active",
            Self::Deactivated => "deactivated",
            Self::Compromised => "compromised",
            Self::Retired => "retired",
            Self::Destroyed => "destroyed",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl From<v1::Key> for Key {
    fn from(key: v1::Key) -> Self {
        let state = match key.state() {
            v1::KeyState::PreActive => KeyState::PreActive,
            v1::KeyState::Active => KeyState::Active,
            v1::KeyState::Deactivated => KeyState::Deactivated,
            v1::KeyState::Compromised => KeyState::Compromised,
            v1::KeyState::Retired => KeyState::Retired,
            v1::KeyState::Destroyed => KeyState::Destroyed,
            v1::KeyState::Unspecified => KeyState::Unknown,
        };
        Self {
            id: key.id,
            client: given::text(key.client),
            alg: key.alg,
            hsm: key.hsm,
            kid: given::text(key.kid),
            state,
            purpose: key.purpose,
            origin: key.origin,
            cka_id: key.cka_id,
            label: key.label,
            spki: key.spki,
            created_at: given::value(key.created_at),
            published_at: given::value(key.published_at),
            activated_at: given::value(key.activated_at),
            deactivated_at: given::value(key.deactivated_at),
            retired_at: given::value(key.retired_at),
            compromised_at: given::value(key.compromised_at),
            destroyed_at: given::value(key.destroyed_at),
            absent: key.absent,
            next_step: key.next_step.and_then(UpcomingStep::read),
            certificate_chain: key.certificate_chain,
            certificate: key.certificate.map(Certificate::from),
            certificate_missing: key.certificate_missing,
        }
    }
}

impl From<v1::Certificate> for Certificate {
    fn from(shown: v1::Certificate) -> Self {
        let v1::Certificate { subject, issuer, serial, not_before, not_after, san_uris, san_dns, sha1, sha256 } = shown;
        let not_before = given::value(not_before);
        let not_after = given::value(not_after);
        Self { subject, issuer, serial, not_before, not_after, san_uris, san_dns, sha1, sha256 }
    }
}
