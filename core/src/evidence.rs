//! Evidence of custody: where a key was born and what keeps it there, in a form that can be checked without Hallmark.
//!
//! - [`Nonce`] and [`possession`]: proof that the key itself was at hand when it was asked for;
//! - [`document`]: what is known of the key, and [`prepare`], which has it signed with the custody key;
//! - [`attestation`]: what a YubiKey's maker vouches for, checked against [`roots`];
//! - [`kept`]: whether a key on record is as good as its client's policy wants it;
//! - [`custody_keys`]: the keys that evidence is signed with, as files have them;
//! - [`verify`]: what of an evidence file is proven, and what is only claimed.
//!
//! ```text
//! JWS, typ "hallmark-evidence+jwt", signed by the custody key of the HSM
//!  └─ claims: iat, jti, evidence { key, nonce, hsm, attributes, attestation, possession, … }, custody_jwk
//!                                                                          └─ signature by the key itself over
//!                                                                             "hallmark-possession-v1\0" ‖ kid ‖ nonce
//! ```
//!
//! Most verifiers of assertions look neither at `typ` nor for claims that they do not know. What keeps evidence from passing
//! for an assertion is its key, which no authorization server was ever given, and that it has neither `iss`, `sub`, `aud` nor
//! `exp`. What keeps the possession signature from passing for a JWS is that its first bytes have no place in one.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Header;
use serde_json::json;

use crate::{
    assertion::{HeaderKey, SigningInput, Stamp, ToBeSigned, jose_algorithm},
    error::{Error, Reason},
    key::{Kid, Purpose},
    public_key::PublicKey,
    time::Timestamp,
};

pub mod attestation;
pub mod custody_keys;
pub mod document;
pub mod kept;
mod report;
pub mod roots;
pub mod verify;

use document::Document;

/// The `typ` of evidence: no other JWT has it.
pub const TYP: &str = "hallmark-evidence+jwt";

/// What whoever asks for evidence gives, so that it can't be of yesterday: 16 to 64 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Nonce(Vec<u8>);

impl Nonce {
    /// # Errors
    /// `INVALID_REQUEST` for fewer than 16 or more than 64 bytes.
    pub fn new(bytes: Vec<u8>) -> Result<Self, Error> {
        if (16..=64).contains(&bytes.len()) {
            return Ok(Self(bytes));
        }
        let text = format!("the nonce must have 16 to 64 bytes, and has {}", bytes.len());
        Err(Error::new(Reason::InvalidRequest, text))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(&self.0))
    }
}

/// Proof that a key was at hand, before it is signed.
#[derive(Debug)]
pub struct Possession {
    message: Vec<u8>,
    purpose: Purpose,
}

impl Possession {
    pub(crate) fn message(&self) -> &[u8] {
        &self.message
    }

    /// That of the key, for it is the key itself that signs.
    pub(crate) fn purpose(&self) -> Purpose {
        self.purpose
    }
}

/// Asks the key of `kid`, which is for `purpose`, to show that it is at hand.
pub fn possession(kid: &Kid, purpose: Purpose, nonce: &Nonce) -> SigningInput {
    SigningInput::Possession(Possession { message: possession_message(kid, nonce), purpose })
}

/// `"hallmark-possession-v1\0" ‖ kid ‖ nonce`.
pub(crate) fn possession_message(kid: &Kid, nonce: &Nonce) -> Vec<u8> {
    [b"hallmark-possession-v1\0", kid.as_str().as_bytes(), nonce.as_bytes()].concat()
}

/// Evidence without its time.
#[derive(Debug)]
pub struct Draft {
    encoded_header: String,
    evidence: serde_json::Value,
    custody_jwk: serde_json::Value,
}

/// Makes of `document` what the custody key `key`, which is `public`, will sign.
///
/// # Errors
/// `INTERNAL` where it has no JSON form.
pub fn prepare(document: &Document, key: HeaderKey<'_>, public: &PublicKey) -> Result<SigningInput, Error> {
    let mut header = Header::new(jose_algorithm(key.alg));
    header.typ = Some(TYP.to_owned());
    header.kid = Some(key.kid.to_string());
    Ok(SigningInput::Evidence(Draft {
        encoded_header: URL_SAFE_NO_PAD.encode(serde_json::to_vec(&header).map_err(Error::internal)?),
        evidence: serde_json::to_value(document).map_err(Error::internal)?,
        custody_jwk: document::jwk(public, key.kid, key.alg).map_err(Error::internal)?,
    }))
}

impl Draft {
    pub(crate) fn encode(&self, now: Timestamp, jti: String) -> Result<ToBeSigned, Error> {
        let issued_at = Timestamp::from_secs(now.secs());
        let claims = json!({
            "iat": issued_at.secs(),
            "jti": jti,
            "evidence": self.evidence,
            "custody_jwk": self.custody_jwk,
        });
        let claims = serde_json::to_vec(&claims).map_err(Error::internal)?;
        let text = format!("{}.{}", self.encoded_header, URL_SAFE_NO_PAD.encode(claims));
        Ok(ToBeSigned { bytes: text.into_bytes(), stamp: Stamp { jti, issued_at, expires_at: issued_at } })
    }
}

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;
