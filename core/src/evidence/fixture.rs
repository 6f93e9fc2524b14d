//! Evidence as Hallmark makes it, with keys in memory.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use uuid::Uuid;

use super::{
    Nonce, TYP,
    document::{About, Document},
    possession, prepare,
    roots::Roots,
    verify::Trust,
};
use crate::{
    assertion::{HeaderKey, SigningInput},
    key::{Alg, KeyId, KeyLine, KeyRecord, KeyState, PublicPart, Purpose},
    ports::{Evidence, KeyAttributes, TokenFacts},
    public_key::{Curve, PublicKey},
    time::Timestamp,
};

#[allow(unreachable_pub, reason = "a part of another crate, where it is public")]
#[path = "../../../testkit/src/attestation.rs"]
pub(super) mod maker;

pub(super) const NOW: i64 = 1_790_000_000;

/// A P-256 key.
pub(super) struct Key {
    pair: EcdsaKeyPair,
    pub(super) public: PublicKey,
}

impl Key {
    pub(super) fn new() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let public = PublicKey::from_ec_point(Curve::P256, pair.public_key().as_ref()).unwrap();
        Self { pair, public }
    }

    pub(super) fn part(&self) -> PublicPart {
        PublicPart { kid: self.public.thumbprint(), key: self.public.clone() }
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }

    /// What the pool would make of `input`.
    pub(super) fn answer(&self, input: &SigningInput) -> (Vec<u8>, Vec<u8>) {
        let bytes = input.encode(now(), [7; 16]).unwrap().bytes;
        let signature = self.sign(&bytes);
        (bytes, signature)
    }
}

pub(super) fn now() -> Timestamp {
    Timestamp::from_secs(NOW)
}

pub(super) fn nonce(byte: u8) -> Nonce {
    Nonce::new(vec![byte; 32]).unwrap()
}

/// A client's key and a custody key on one HSM.
pub(super) struct World {
    pub(super) key: Key,
    pub(super) custody: Key,
    pub(super) evidence: Evidence,
    pub(super) roots: Roots,
    pub(super) serial: String,
}

impl World {
    pub(super) fn new() -> Self {
        let yes = Some(true);
        let attributes = KeyAttributes {
            local: yes,
            sensitive: yes,
            always_sensitive: yes,
            extractable: Some(false),
            never_extractable: yes,
            key_gen_mechanism: Some("CKM_EC_KEY_PAIR_GEN".into()),
        };
        let evidence = Evidence { attributes, attestation: Vec::new() };
        let (key, custody) = (Key::new(), Key::new());
        Self { key, custody, evidence, roots: Roots::none(), serial: "fa4e".into() }
    }

    pub(super) fn trust(&self) -> Trust {
        Trust {
            custody_keys: vec![self.custody.public.clone()],
            roots: self.roots.clone(),
            nonce: Some(nonce(1)),
            now: now(),
        }
    }

    /// What the key signs to show that it is at hand.
    pub(super) fn possession(&self, nonce: &Nonce) -> Vec<u8> {
        self.key.answer(&possession(&self.key.public.thumbprint(), Purpose::Assertion, nonce)).1
    }

    pub(super) fn document(&self) -> Document {
        let facts = TokenFacts {
            serial: self.serial.clone(),
            model: "model".into(),
            max_sessions: None,
            algs: vec![Alg::ES256],
            about: crate::ports::TokenAbout { module: "PC/SC".into(), ..Default::default() },
        };
        let record = self.record();
        let public = self.key.part();
        let about = About { record: &record, public: &public, hsm: Some(&facts), roots: &self.roots };
        Document::new(&about, &nonce(1), &self.possession(&nonce(1)), &self.evidence, now()).unwrap()
    }

    pub(super) fn record(&self) -> KeyRecord {
        let line = KeyLine { client: "clinic".parse().unwrap(), alg: Alg::ES256, hsm: "main".parse().unwrap() };
        KeyRecord {
            cka_id: vec![1],
            label: "label".into(),
            public: Some(self.key.part()),
            state: KeyState::Active,
            ..KeyRecord::of_line(KeyId(Uuid::nil()), &line, now())
        }
    }

    /// The file, as the custody key signs it.
    pub(super) fn file(&self) -> String {
        self.file_of(&self.document(), &self.custody, &self.custody)
    }

    /// A file that `signer` signs and that names `named` as its custody key.
    pub(super) fn file_of(&self, document: &Document, named: &Key, signer: &Key) -> String {
        let kid = named.public.thumbprint();
        let header = HeaderKey { alg: Alg::ES256, kid: &kid, certificates: &[] };
        let input = prepare(document, header, &named.public).unwrap();
        let to_be_signed = input.encode(now(), [7; 16]).unwrap();
        let signature = signer.sign(&to_be_signed.bytes);
        to_be_signed.into_compact(&signature).unwrap().0
    }
}

/// The header and the claims of a JWS.
pub(super) fn parts(file: &str) -> [serde_json::Value; 2] {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let mut parts = file.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap());
    let mut next = || serde_json::from_slice(&parts.next().unwrap()).unwrap();
    let both: [serde_json::Value; 2] = [next(), next()];
    assert_eq!(both[0]["typ"], TYP);
    both
}
