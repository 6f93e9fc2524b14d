//! The JWK Set of one client, as authorization servers read it (RFC 7517).
//!
//! The types here have no member for a private number, so none can be published by mistake.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde::Serialize;

use crate::{
    key::{Alg, KeyRecord, KeyState, Kid},
    public_key::{Numbers, PublicKey},
};

/// A JWK Set: `{"keys":[…]}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct JwkSet {
    pub keys: Vec<Jwk>,
}

/// One public key. `key_ops` is left out on purpose: verifiers disagree on it, and `use` says the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Jwk {
    #[serde(flatten)]
    numbers: JwkNumbers,
    kid: Kid,
    #[serde(rename = "use")]
    use_: &'static str,
    alg: Alg,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    x5c: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kty")]
enum JwkNumbers {
    #[serde(rename = "RSA")]
    Rsa { n: String, e: String },
    #[serde(rename = "EC")]
    Ec { crv: &'static str, x: String, y: String },
    #[serde(rename = "OKP")]
    Okp { crv: &'static str, x: String },
}

impl JwkSet {
    /// The set of a client's records: those that are published, RSA before elliptic curves, and within one algorithm
    /// active, pre-active, deactivated. Verifiers that ignore `kid` take the first.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a KeyRecord>) -> Self {
        let mut published: Vec<_> = records.into_iter().filter(|record| is_published(record)).collect();
        published.sort_by_key(|record| (record.alg, rank(record.state), record.times.created, record.id));
        let jwk = |record: &&KeyRecord| {
            let public = record.public.as_ref()?;
            Some(Jwk::new(&public.key, public.kid.clone(), record.alg, &record.certificate_chain))
        };
        Self { keys: published.iter().filter_map(jwk).collect() }
    }
}

impl Jwk {
    fn new(key: &PublicKey, kid: Kid, alg: Alg, chain: &[Vec<u8>]) -> Self {
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let numbers = match key.numbers() {
            Numbers::Rsa { n, e } => JwkNumbers::Rsa { n: b64(n), e: b64(e) },
            Numbers::Ec { curve, x, y } => JwkNumbers::Ec { crv: curve.name(), x: b64(x), y: b64(y) },
            Numbers::Ed25519 { x } => JwkNumbers::Okp { crv: "Ed25519", x: b64(x) },
        };
        // RFC 7517 §4.7: certificates are in base64, not base64url.
        let x5c = chain.iter().map(|der| STANDARD.encode(der)).collect();
        Self { numbers, kid, use_: "sig", alg, x5c }
    }
}

/// Whether a verifier may see this key.
pub fn is_published(record: &KeyRecord) -> bool {
    record.public.is_some() && record.times.published.is_some() && rank(record.state).is_some()
}

fn rank(state: KeyState) -> Option<u8> {
    match state {
        KeyState::Active => Some(0),
        KeyState::PreActive => Some(1),
        KeyState::Deactivated => Some(2),
        KeyState::Compromised | KeyState::Retired | KeyState::Destroyed => None,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        key::{KeyId, KeyTimes, Origin, PublicPart, Purpose},
        public_key::PublicKey,
        time::Timestamp,
    };

    fn record(n: u8, alg: Alg, state: KeyState) -> KeyRecord {
        let key = if alg.is_rsa() {
            PublicKey::from_rsa(&[0x80 | n; 256], &[1, 0, 1]).unwrap()
        } else {
            PublicKey::from_ed25519(&[n; 32]).unwrap()
        };
        let mut times = KeyTimes::created(Timestamp::from_secs(n.into()));
        times.published = Some(Timestamp::from_secs(100));
        KeyRecord {
            id: KeyId(Uuid::from_u128(n.into())),
            client: Some("c".parse().unwrap()),
            alg,
            hsm: "h".parse().unwrap(),
            purpose: Purpose::Assertion,
            cka_id: vec![n],
            label: "label".into(),
            public: Some(PublicPart { kid: format!("k{n}").parse().unwrap(), key }),
            state,
            served_for_ms: 0,
            kept_for_ms: 0,
            times,
            origin: Origin::Generated,
            certificate_chain: Vec::new(),
        }
    }

    #[test]
    fn active_comes_first_and_rsa_before_ec() {
        let records = [
            record(1, Alg::EdDSA, KeyState::Active),
            record(2, Alg::RS384, KeyState::Deactivated),
            record(3, Alg::RS384, KeyState::PreActive),
            record(4, Alg::RS384, KeyState::Active),
            record(5, Alg::RS384, KeyState::Compromised),
            record(6, Alg::RS384, KeyState::Retired),
        ];
        let kids: Vec<_> = JwkSet::of(&records).keys.into_iter().map(|jwk| jwk.kid.to_string()).collect();
        assert_eq!(kids, ["k4", "k3", "k2", "k1"]);
    }

    #[test]
    fn a_key_is_not_shown_before_it_is_published() {
        let mut unpublished = record(1, Alg::RS384, KeyState::PreActive);
        unpublished.times.published = None;
        assert_eq!(JwkSet::of([&unpublished]).keys, []);
    }

    #[test]
    fn members_are_those_that_verifiers_want() {
        let set = JwkSet::of(&[record(7, Alg::EdDSA, KeyState::Active)]);
        let json = serde_json::to_value(&set).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"keys": [{
                "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode([7; 32]),
                "kid": "k7", "use": "sig", "alg": "EdDSA",
            }]})
        );
    }
}
