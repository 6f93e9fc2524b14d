//! Checkpoints: what an HSM signs of an audit chain, and how that is checked with its public custody key alone.
//!
//! A JWS (RFC 7515) with a `typ` of its own, and no member that would make it an assertion:
//!
//! ```text
//! {"alg":"ES256","kid":"…","typ":"hallmark-checkpoint+jws"}
//! {"instance":"a","file":"a-00000003.jsonl","seq":1234,"head":"<hash of line 1234>","time":…,
//!  "previous":{"seq":1200,"hash":"<hash of the checkpoint's line before>"},"why":"interval"}
//! ```
//!
//! It stands in the chain too, some records after the one that it signs.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Header;
use serde::{Deserialize, Serialize};

use super::{Chain, Place};
use crate::{
    assertion::{SigningInput, jose_algorithm},
    error::Error,
    key::{Alg, Kid},
    public_key::{PublicKey, Verifier},
    time::Timestamp,
};

/// The `typ` of its header (RFC 7515 §4.1.9).
pub const TYP: &str = "hallmark-checkpoint+jws";

/// What is known of a chain that is being written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub instance: String,
    /// The file that `place` is in.
    pub file: String,
    /// The last record that survives a crash.
    pub place: Place,
    /// The last checkpoint's record.
    pub checkpoint: Option<Place>,
    /// Key changes recorded, and files begun for length, since the process started: more of either asks for a checkpoint.
    pub key_changes: u64,
    pub rotations: u64,
}

/// What a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    pub instance: String,
    pub file: String,
    pub seq: u64,
    /// The hash of that record's line.
    pub head: String,
    pub time: Timestamp,
    /// The record of the checkpoint before it, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Place>,
    pub why: String,
    /// For how long it was due, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overdue: Option<u64>,
}

/// A checkpoint without its time.
#[derive(Debug)]
pub struct Draft {
    encoded_header: String,
    /// Boxed: few jobs of the pool are checkpoints, and all would be as large.
    statement: Box<Statement>,
}

/// Asks for a signature over the head of a chain. The pool takes it with custody keys only.
pub fn prepare(head: &Head, why: &str, overdue: Option<u64>, alg: Alg, kid: &Kid) -> Result<SigningInput, Error> {
    let mut header = Header::new(jose_algorithm(alg));
    header.typ = Some(TYP.to_owned());
    header.kid = Some(kid.to_string());
    let statement = Statement {
        instance: head.instance.clone(),
        file: head.file.clone(),
        seq: head.place.seq,
        head: head.place.hash.clone(),
        time: Timestamp::from_millis(0),
        previous: head.checkpoint.clone(),
        why: why.to_owned(),
        overdue,
    };
    let encoded_header = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&header).map_err(Error::internal)?);
    Ok(SigningInput::Checkpoint(Draft { encoded_header, statement: Box::new(statement) }))
}

impl Draft {
    pub(crate) fn encode(&self, now: Timestamp) -> Result<Vec<u8>, Error> {
        let statement = Statement { time: now, ..Statement::clone(&self.statement) };
        let mut text = self.encoded_header.clone();
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(&statement).map_err(Error::internal)?, &mut text);
        Ok(text.into_bytes())
    }
}

/// The public custody keys that an auditor trusts.
#[derive(Default)]
pub struct CustodyKeys {
    keys: Vec<(Kid, Alg, Verifier)>,
}

impl fmt::Debug for CustodyKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(kid, alg, _)| (kid, alg))).finish()
    }
}

/// What is wrong with a checkpoint, by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("it is no checkpoint: {0}")]
    Malformed(&'static str),
    #[error("it is signed with a key that is not among the custody keys given: `{0}`")]
    UnknownKey(String),
    #[error("its signature does not hold")]
    BadSignature,
}

impl CustodyKeys {
    /// Trusts the key too.
    pub fn trust(&mut self, key: &PublicKey) {
        for alg in Alg::ALL {
            // A key of another kind has no verifier for it.
            if let Ok(verifier) = key.verifier(alg) {
                self.keys.push((key.thumbprint(), alg, verifier));
            }
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// What a checkpoint says, if one of these keys signed it. Without any keys, what it says, unproven.
    pub fn check(&self, jws: &str) -> Result<Statement, Invalid> {
        let (signed, signature) = jws.rsplit_once('.').ok_or(Invalid::Malformed("it has no signature"))?;
        let (header, payload) = signed.split_once('.').ok_or(Invalid::Malformed("it has no payload"))?;
        let header: Header = decode(header, "its header")?;
        if header.typ.as_deref() != Some(TYP) {
            return Err(Invalid::Malformed("its `typ` is another"));
        }
        let statement = decode(payload, "its payload")?;
        if !self.is_empty() {
            let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Invalid::BadSignature)?;
            self.signed(&header, signed.as_bytes(), &signature)?;
        }
        Ok(statement)
    }

    fn signed(&self, header: &Header, signed: &[u8], signature: &[u8]) -> Result<(), Invalid> {
        let kid = header.kid.clone().unwrap_or_default();
        let mut of_kid = self.keys.iter().filter(|(known, ..)| known.as_str() == kid).peekable();
        if of_kid.peek().is_none() {
            return Err(Invalid::UnknownKey(kid));
        }
        let holds =
            of_kid.any(|(_, alg, verifier)| jose_algorithm(*alg) == header.alg && verifier.verifies(signed, signature));
        holds.then_some(()).ok_or(Invalid::BadSignature)
    }
}

fn decode<T: serde::de::DeserializeOwned>(text: &str, what: &'static str) -> Result<T, Invalid> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or(Invalid::Malformed(what))
}

impl Head {
    /// Of a chain whose last record is in `file`.
    pub fn new(chain: &Chain, file: &str) -> Self {
        Self {
            instance: chain.instance().to_owned(),
            file: file.to_owned(),
            place: chain.place(),
            checkpoint: chain.checkpoint().cloned(),
            key_changes: 0,
            rotations: 0,
        }
    }
}
