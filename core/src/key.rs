//! Keys: their names, algorithms, states, and the record that the store keeps of each.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{public_key::PublicKey, time::Timestamp};

/// What the store knows of one key. The private key is on the HSM and nowhere else.
///
/// The record is written before the key is generated, with the `CKA_ID` and label that the objects will carry,
/// so that a crash in between leaves nothing anonymous on the PKCS#11 token. Until then `public` is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    pub id: KeyId,
    /// The client whose assertions it signs; `None` for a custody key.
    pub client: Option<ClientName>,
    pub alg: Alg,
    pub hsm: HsmName,
    pub purpose: Purpose,
    /// `CKA_ID` of both objects of the pair.
    pub cka_id: Vec<u8>,
    /// `CKA_LABEL` of both objects of the pair.
    pub label: String,
    /// What is known since the key exists.
    pub public: Option<PublicPart>,
    pub state: KeyState,
    /// For how long a JWKS with this key in it was observed to be served, in milliseconds.
    pub served_for_ms: u64,
    /// For how long it was observed to be deactivated, in milliseconds; starts anew with each deactivation.
    pub kept_for_ms: u64,
    pub times: KeyTimes,
    pub origin: Origin,
    /// DER certificates, leaf first; empty where the client has none.
    pub certificate_chain: Vec<Vec<u8>>,
}

impl KeyRecord {
    /// The line that it belongs to; `None` for a custody key.
    pub fn line(&self) -> Option<KeyLine> {
        let client = self.client.clone().filter(|_| self.purpose == Purpose::Assertion)?;
        Some(KeyLine { client, alg: self.alg, hsm: self.hsm.clone() })
    }

    /// When it retired or was found compromised, whichever came last.
    pub fn ended(&self) -> Option<Timestamp> {
        self.times.retired.max(self.times.compromised)
    }
}

/// What is known of a key once it has been generated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicPart {
    pub kid: Kid,
    pub key: PublicKey,
}

/// When each state was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTimes {
    pub created: Timestamp,
    pub published: Option<Timestamp>,
    pub activated: Option<Timestamp>,
    pub deactivated: Option<Timestamp>,
    pub retired: Option<Timestamp>,
    pub compromised: Option<Timestamp>,
    pub destroyed: Option<Timestamp>,
    /// When an operator confirmed that the authorization server has it, where that does not read the JWKS.
    pub registered: Option<Timestamp>,
    /// When it was seen at the public URL, as from outside.
    pub rehearsed: Option<Timestamp>,
}

impl KeyTimes {
    /// Of a key that has been nothing but created.
    pub fn created(now: Timestamp) -> Self {
        Self {
            created: now,
            published: None,
            activated: None,
            deactivated: None,
            retired: None,
            compromised: None,
            destroyed: None,
            registered: None,
            rehearsed: None,
        }
    }
}

/// The states of a key's life, by their names in NIST SP 800-57 part 1 §7, and `retired`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    /// Exists, or is about to; published once its `published` time is set; does not sign yet.
    PreActive,
    /// Published, and signs.
    Active,
    /// Still published, so that what it signed verifies; signs no more.
    Deactivated,
    /// Left the JWKS at once, and never signs again.
    Compromised,
    /// Deactivated and no longer published.
    Retired,
    /// Gone from the HSM.
    Destroyed,
}

impl KeyState {
    /// In the order of a key's life.
    pub const ALL: [Self; 6] =
        [Self::PreActive, Self::Active, Self::Deactivated, Self::Compromised, Self::Retired, Self::Destroyed];

    /// Whether it never signs again, whatever anyone does.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Compromised | Self::Retired | Self::Destroyed)
    }

    /// The name in records, the audit log and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PreActive => "pre-active",
            Self::Active => "active",
            Self::Deactivated => "deactivated",
            Self::Compromised => "compromised",
            Self::Retired => "retired",
            Self::Destroyed => "destroyed",
        }
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for KeyState {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| InvalidName::new("key state", text, "pre-active, active, deactivated, …"))
    }
}

/// What a key may sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A client's assertions, and nothing that could be taken for one.
    Assertion,
    /// Hallmark's own signatures; never in a client's JWKS.
    Custody,
}

impl Purpose {
    /// The name in records and the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Assertion => "assertion",
            Self::Custody => "custody",
        }
    }
}

impl FromStr for Purpose {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text {
            "assertion" => Ok(Self::Assertion),
            "custody" => Ok(Self::Custody),
            _ => Err(InvalidName::new("key purpose", text, "assertion or custody")),
        }
    }
}

/// Where a key was born, as far as Hallmark saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// By Hallmark, on the HSM.
    Generated,
    /// Found on the HSM and taken in.
    Adopted,
    /// Existed outside an HSM once. A mark for ever.
    Imported,
}

impl Origin {
    /// The name in records and the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Generated => "generated",
            Self::Adopted => "adopted",
            Self::Imported => "imported",
        }
    }
}

impl FromStr for Origin {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text {
            "generated" => Ok(Self::Generated),
            "adopted" => Ok(Self::Adopted),
            "imported" => Ok(Self::Imported),
            _ => Err(InvalidName::new("key origin", text, "generated, adopted or imported")),
        }
    }
}

/// A JWS algorithm (RFC 7518 §3.1, RFC 8037 §3.1). A key has one for life.
///
/// The order is that of the JWKS: RSA before elliptic curves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Alg {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl Alg {
    /// In the order of a JWKS: RSA first.
    pub const ALL: [Self; 9] = [
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::EdDSA,
    ];

    /// The JWS name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
        }
    }

    /// Whether it takes an RSA key.
    pub fn is_rsa(self) -> bool {
        self <= Self::PS512
    }
}

impl fmt::Display for Alg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Alg {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let found = Self::ALL.into_iter().find(|alg| alg.as_str() == text);
        found.ok_or_else(|| {
            InvalidName::new("algorithm", text, "RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA")
        })
    }
}

/// What to generate: an algorithm, and for RSA the length of the modulus in bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    pub alg: Alg,
    pub rsa_bits: u32,
}

impl KeySpec {
    /// RFC 7518 §3.3 asks for at least 2048 bits, and every verifier takes them.
    pub const DEFAULT_RSA_BITS: u32 = 2048;
}

/// (client, alg, HSM): exactly one active and one standby key at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyLine {
    pub client: ClientName,
    pub alg: Alg,
    pub hsm: HsmName,
}

impl fmt::Display for KeyLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.client, self.alg, self.hsm)
    }
}

/// Identifies a key record for ever; unlike the `kid` it exists before the key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub Uuid);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text that must match a form. `$rule` says which, for the person who typed it.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The text as it was configured.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.to_owned())) } else { Err(InvalidName::new($what, text, $rule)) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// Our name of an OAuth client: immutable, used in API, CLI, URL and audit.
    ClientName, "client name", "1 to 63 of a-z, 0-9 and -", is_dns_label
);
name!(
    /// The configured name of an HSM.
    HsmName, "HSM name", "1 to 63 of a-z, 0-9 and -", is_dns_label
);
name!(
    /// The `kid` of a key: fixed at birth, never reused, never pointed at another key.
    Kid, "kid", "1 to 64 of A-Z, a-z, 0-9, - and _", is_kid
);

/// A text that is not of the form that its use demands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {what}: `{shown}` (expected {rule})")]
pub struct InvalidName {
    what: &'static str,
    shown: String,
    rule: &'static str,
}

impl InvalidName {
    pub(crate) fn new(what: &'static str, text: &str, rule: &'static str) -> Self {
        // What is shown back is bounded: the text may come from a hostile caller.
        Self { what, shown: text.chars().take(80).collect(), rule }
    }
}

fn is_dns_label(text: &str) -> bool {
    (1..=63).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

fn is_kid(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| matches!(b, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_form() {
        assert!("epic-prod".parse::<ClientName>().is_ok());
        for bad in ["", "Epic", "a/b", "a.b", "é", &"a".repeat(64)] {
            assert!(bad.parse::<ClientName>().is_err(), "{bad:?} was taken");
        }
        assert!("8p_-Z".parse::<Kid>().is_ok());
        for bad in ["", "a b", "a.b", &"k".repeat(65)] {
            assert!(bad.parse::<Kid>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn texts_of_enums_read_back() {
        for alg in Alg::ALL {
            assert_eq!(alg.as_str().parse::<Alg>(), Ok(alg));
        }
        for state in KeyState::ALL {
            assert_eq!(state.as_str().parse::<KeyState>(), Ok(state));
        }
    }

    #[test]
    fn rsa_sorts_before_elliptic_curves() {
        let mut algs = vec![Alg::EdDSA, Alg::ES256, Alg::PS512, Alg::RS256];
        algs.sort();
        assert_eq!(algs, [Alg::RS256, Alg::PS512, Alg::ES256, Alg::EdDSA]);
    }
}
