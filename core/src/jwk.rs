//! The JWK Set of one client, as authorization servers read it (RFC 7517).
//!
//! The types here have no member for a private number, so none can be published by mistake.

use aws_lc_rs::digest;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde::Serialize;

use crate::{
    key::{Alg, HsmName, KeyRecord, KeyState, Kid},
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
    /// Of the first certificate of `x5c`.
    #[serde(rename = "x5t#S256", skip_serializing_if = "Option::is_none")]
    x5t_s256: Option<String>,
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
    /// As [`Self::by_line`], for a client that names no HSMs: they come by their names then.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a KeyRecord>) -> Self {
        Self::by_line(&[], records)
    }

    /// The set of a client's records: those that are published, line by line, and within each active, pre-active,
    /// deactivated. RSA lines come before elliptic curves, lines of one algorithm in the order in which the client names
    /// its HSMs. Verifiers that ignore `kid` take the first.
    pub fn by_line<'a>(hsms: &[HsmName], records: impl IntoIterator<Item = &'a KeyRecord>) -> Self {
        let mut published: Vec<_> = records.into_iter().filter(|record| is_published(record)).collect();
        let place = |hsm: &HsmName| hsms.iter().position(|named| named == hsm).unwrap_or(hsms.len());
        published.sort_by(|a, b| {
            let line = |record: &KeyRecord| (record.alg, place(&record.hsm));
            let within = |record: &KeyRecord| (rank(record.state), record.times.created, record.id);
            line(a).cmp(&line(b)).then_with(|| a.hsm.cmp(&b.hsm)).then_with(|| within(a).cmp(&within(b)))
        });
        let jwk = |record: &&KeyRecord| {
            let public = record.public.as_ref()?;
            Some(Jwk::new(&public.key, public.kid.clone(), record.alg, &record.certificate_chain))
        };
        Self { keys: published.iter().filter_map(jwk).collect() }
    }
}

impl Jwk {
    /// What verifiers find it by.
    pub fn kid(&self) -> &Kid {
        &self.kid
    }

    pub(crate) fn new(key: &PublicKey, kid: Kid, alg: Alg, chain: &[Vec<u8>]) -> Self {
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let numbers = match key.numbers() {
            Numbers::Rsa { n, e } => JwkNumbers::Rsa { n: b64(n), e: b64(e) },
            Numbers::Ec { curve, x, y } => JwkNumbers::Ec { crv: curve.name(), x: b64(x), y: b64(y) },
            Numbers::Ed25519 { x } => JwkNumbers::Okp { crv: "Ed25519", x: b64(x) },
        };
        // RFC 7517 §4.7: certificates are in base64, not base64url.
        let x5c = chain.iter().map(|der| STANDARD.encode(der)).collect();
        let x5t_s256 = chain.first().map(|der| b64(digest::digest(&digest::SHA256, der).as_ref()));
        Self { numbers, kid, use_: "sig", alg, x5c, x5t_s256 }
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
        key::{KeyId, KeyLine, KeyTimes, PublicPart},
        public_key::PublicKey,
        time::Timestamp,
    };

    fn record(n: u8, alg: Alg, state: KeyState) -> KeyRecord {
        let key = if alg.is_rsa() {
            PublicKey::from_rsa(&[0x80 | n; 256], &[1, 0, 1]).unwrap()
        } else {
            PublicKey::from_ed25519(&[n; 32]).unwrap()
        };
        let line = KeyLine { client: "c".parse().unwrap(), alg, hsm: "h".parse().unwrap() };
        let created = Timestamp::from_secs(n.into());
        let blank = KeyRecord::of_line(KeyId(Uuid::from_u128(n.into())), &line, created);
        KeyRecord {
            public: Some(PublicPart { kid: format!("k{n}").parse().unwrap(), key }),
            state,
            times: KeyTimes { published: Some(Timestamp::from_secs(100)), ..blank.times },
            ..blank
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
    fn lines_of_one_algorithm_come_as_the_client_names_its_hsms() {
        let on = |n, hsm: &str, state| KeyRecord { hsm: hsm.parse().unwrap(), ..record(n, Alg::EdDSA, state) };
        let records = [
            on(1, "b", KeyState::Active),
            on(2, "a", KeyState::Active),
            on(3, "a", KeyState::PreActive),
            on(4, "b", KeyState::PreActive),
        ];
        let kids = |set: JwkSet| set.keys.into_iter().map(|jwk| jwk.kid.to_string()).collect::<Vec<_>>();
        let named = ["b".parse().unwrap(), "a".parse().unwrap()];
        assert_eq!(kids(JwkSet::by_line(&named, &records)), ["k1", "k4", "k2", "k3"]);
        assert_eq!(kids(JwkSet::of(&records)), ["k2", "k3", "k1", "k4"]);
    }

    #[test]
    fn a_certificate_shows_with_its_thumbprint() {
        let certified = KeyRecord {
            certificate_chain: vec![b"leaf".to_vec(), b"ca".to_vec()],
            ..record(1, Alg::EdDSA, KeyState::Active)
        };
        let json = serde_json::to_value(JwkSet::of([&certified])).unwrap();
        assert_eq!(json["keys"][0]["x5c"], serde_json::json!(["bGVhZg==", "Y2E="]));
        // printf leaf | openssl dgst -sha256 -binary | basenc --base64url
        assert_eq!(json["keys"][0]["x5t#S256"], "n5EWH0NDPkmm3m22gNefYBWfLkrJFyYhoShGQoFYRAs");
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
