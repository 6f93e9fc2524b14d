//! Keys: their names, algorithms, states, and the record that the store keeps of each.

mod alg;
mod name;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::{
    alg::Alg,
    name::{ClientName, HsmName, InvalidName, Kid},
};
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
    /// What the HSM's maker attests of it, as it was checked when the record began ([`crate::evidence::attestation`]): DER,
    /// the key's own first. Empty where nothing is attested.
    pub attestation: Vec<Vec<u8>>,
}

impl KeyRecord {
    /// One of `line` as it begins: without a key, nowhere published. Its objects have no names yet (`cka_id`, `label`).
    pub fn of_line(id: KeyId, line: &KeyLine, created: Timestamp) -> Self {
        let client = Some(line.client.clone());
        Self { client, purpose: Purpose::Assertion, ..Self::of_custody(id, line.alg, line.hsm.clone(), created) }
    }

    /// The same for a custody key.
    pub fn of_custody(id: KeyId, alg: Alg, hsm: HsmName, created: Timestamp) -> Self {
        Self {
            id,
            client: None,
            alg,
            hsm,
            purpose: Purpose::Custody,
            cka_id: Vec::new(),
            label: String::new(),
            public: None,
            state: KeyState::PreActive,
            served_for_ms: 0,
            kept_for_ms: 0,
            times: KeyTimes::created(created),
            origin: Origin::Generated,
            certificate_chain: Vec::new(),
            attestation: Vec::new(),
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_enums_read_back() {
        for alg in Alg::ALL {
            assert_eq!(alg.as_str().parse::<Alg>(), Ok(alg));
        }
        for state in KeyState::ALL {
            assert_eq!(state.as_str().parse::<KeyState>(), Ok(state));
        }
    }
}
