//! What evidence says of a key, as JSON.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Nonce, attestation, roots::Roots};
use crate::{
    client::Custody,
    jwk::Jwk,
    key::{Alg, HsmName, KeyRecord, Kid, PublicPart},
    ports::{Evidence, KeyAttributes, TokenFacts},
    public_key::PublicKey,
    time::Timestamp,
};

/// What is known of one key. Later versions only add members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    pub version: u32,
    pub kid: Kid,
    /// RFC 7638, SHA-256.
    pub thumbprint: String,
    pub jwk: Value,
    pub alg: Alg,
    /// Whose assertions it signs; `None` for a custody key.
    pub client: Option<String>,
    /// "assertion" or "custody".
    pub purpose: String,
    pub state: String,
    /// "generated", "adopted" or "imported", as Hallmark saw it.
    pub origin: String,
    /// In base64url.
    pub nonce: String,
    /// In base64url: the key's signature over `"hallmark-possession-v1\0" ‖ kid ‖ nonce`, in JOSE form.
    pub possession: String,
    pub hsm: Hsm,
    pub attributes: KeyAttributes,
    /// DER in base64, as `x5c` has it: the key's own first. Empty where the HSM attests nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attestation: Vec<String>,
    /// What it amounts to, by Hallmark's judgement; `None` where not even `imported` is met.
    pub custody: Option<Custody>,
    /// Why it is no better than that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shortfall: Option<String>,
}

/// Where the key is. All but the name is what the HSM says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hsm {
    /// Hallmark's name of it.
    pub name: String,
    pub serial: String,
    pub model: String,
    pub manufacturer: String,
    pub firmware: String,
    pub hardware: String,
    pub module: String,
}

impl Document {
    /// Puts together what the store, the HSM and the key itself say. `now` is when the attestation must hold.
    ///
    /// # Errors
    /// Only where the public key has no JSON form, which none lacks.
    pub fn new(
        about: &About<'_>,
        nonce: &Nonce,
        possession: &[u8],
        evidence: &Evidence,
        now: Timestamp,
    ) -> serde_json::Result<Self> {
        let About { record, public, hsm, roots } = *about;
        let judged = judge(evidence, &public.key, roots, now);
        Ok(Self {
            version: VERSION,
            kid: public.kid.clone(),
            thumbprint: public.key.thumbprint().to_string(),
            jwk: jwk(&public.key, &public.kid, record.alg)?,
            alg: record.alg,
            client: record.client.as_ref().map(ToString::to_string),
            purpose: record.purpose.as_str().to_owned(),
            state: record.state.to_string(),
            origin: record.origin.as_str().to_owned(),
            nonce: URL_SAFE_NO_PAD.encode(nonce.as_bytes()),
            possession: URL_SAFE_NO_PAD.encode(possession),
            hsm: Hsm::new(&record.hsm, hsm),
            attributes: evidence.attributes.clone(),
            attestation: evidence.attestation.iter().map(|der| STANDARD.encode(der)).collect(),
            custody: judged.custody,
            shortfall: judged.shortfall,
        })
    }
}

/// The key, its HSM, and the roots that an attestation is checked against.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    pub record: &'a KeyRecord,
    pub public: &'a PublicPart,
    /// `None` where the HSM has said nothing yet.
    pub hsm: Option<&'a TokenFacts>,
    pub roots: &'a Roots,
}

/// What evidence amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// `None` where not even `imported` is met.
    pub custody: Option<Custody>,
    /// Why it is no better.
    pub shortfall: Option<String>,
}

/// The strongest custody that `evidence` shows of `key` at `now`. An attestation that does not hold counts for nothing,
/// and the shortfall says so.
pub fn judge(evidence: &Evidence, key: &PublicKey, roots: &Roots, now: Timestamp) -> Judged {
    let shown = evidence.custody();
    let attested = attestation::check(&evidence.attestation, key, roots, now);
    match (shown, attested) {
        // What can leave the HSM is not kept by it, whoever says that it was born there.
        (Err(why), _) => Judged { custody: None, shortfall: Some(why.to_owned()) },
        (Ok(Custody::Imported), _) => {
            let why = "it was not generated on this HSM, or could be read or extracted once";
            Judged { custody: Some(Custody::Imported), shortfall: Some(why.to_owned()) }
        }
        (Ok(_), Ok(_)) => Judged { custody: Some(Custody::Attested), shortfall: None },
        (Ok(_), Err(why)) => Judged { custody: Some(Custody::Local), shortfall: Some(why.to_string()) },
    }
}

impl Hsm {
    fn new(name: &HsmName, facts: Option<&TokenFacts>) -> Self {
        let name = name.to_string();
        let Some(facts) = facts else { return Self { name, ..Self::default() } };
        let about = &facts.about;
        Self {
            name,
            serial: facts.serial.clone(),
            model: facts.model.clone(),
            manufacturer: about.manufacturer.clone(),
            firmware: about.firmware.clone(),
            hardware: about.hardware.clone(),
            module: about.module.clone(),
        }
    }
}

/// The JWK of a key.
///
/// # Errors
/// Only where it has no JSON form, which none lacks.
pub fn jwk(key: &PublicKey, kid: &Kid, alg: Alg) -> serde_json::Result<Value> {
    serde_json::to_value(Jwk::new(key, kid.clone(), alg, &[]))
}

pub(super) const VERSION: u32 = 1;
