//! Records and changes to store.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use hallmark_core::{
    key::{Alg, KeyId, KeyLine, KeyRecord, KeyState, Origin, PublicPart, Purpose},
    ports::{ChangeState, KeyChange},
    public_key::{Curve, PublicKey},
    time::Timestamp,
};
use uuid::Uuid;

/// An ES256 key of line `c/ES256/h` that was reserved and not yet generated. Records of different `n` share nothing
/// that must be unique.
pub fn record(n: u128) -> KeyRecord {
    let line = KeyLine { client: "c".parse().unwrap(), alg: Alg::ES256, hsm: "h".parse().unwrap() };
    let blank = KeyRecord::of_line(KeyId(Uuid::from_u128(n)), &line, Timestamp::from_millis(1_700_000_000_000));
    KeyRecord { cka_id: n.to_be_bytes().to_vec(), label: format!("hallmark-c-{n}"), ..blank }
}

/// The public part of a new ES256 key.
pub fn public() -> PublicPart {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let key = PublicKey::from_ec_point(Curve::P256, pair.public_key().as_ref()).unwrap();
    PublicPart { kid: key.thumbprint(), key }
}

/// Together: every state, purpose, origin and kind of key, each time set and unset, chains of none, one and three.
pub fn records_of_every_kind() -> Vec<KeyRecord> {
    // Every modulus of that length is one, as far as SPKI can tell.
    let rsa = PublicKey::from_rsa(&[0xc3; 256], &[1, 0, 1]).unwrap();
    let mut custody = KeyRecord { client: None, purpose: Purpose::Custody, public: Some(public()), ..record(100) };
    custody.state = KeyState::Active;
    let kept_kid = PublicPart { kid: "an_old-kid".parse().unwrap(), key: rsa };
    let mut imported = KeyRecord { alg: Alg::RS384, origin: Origin::Imported, public: Some(kept_kid), ..record(101) };
    imported.label = "label with ' \" \\ and ü".into();
    imported.attestation = vec![vec![0x30, 0x01], vec![0xff; 900]];
    imported.certificate_chain = vec![vec![0x30, 0x00, 0xff], vec![], vec![7; 3000]];
    let ed25519 = PublicKey::from_ed25519(&[9; 32]).unwrap();
    let ed25519 = PublicPart { kid: ed25519.thumbprint(), key: ed25519 };
    let mut adopted = KeyRecord { alg: Alg::EdDSA, origin: Origin::Adopted, public: Some(ed25519), ..record(102) };
    adopted.cka_id = vec![];
    adopted.certificate_chain = vec![vec![1, 2, 3]];
    let reserved = record(103);

    let mut all = vec![custody, imported, adopted, reserved];
    for (n, state) in (1..).zip(KeyState::ALL) {
        let mut lived = KeyRecord { state, public: Some(public()), served_for_ms: 1 << 40, ..record(n) };
        let time = |k: i64| Some(Timestamp::from_millis(1_800_000_000_000 + i64::try_from(n).unwrap() * 10 + k));
        lived.times.published = time(1);
        lived.times.activated = time(2);
        lived.times.deactivated = time(3).filter(|_| n % 2 == 0);
        lived.times.retired = time(4).filter(|_| n % 2 == 1);
        lived.times.compromised = time(5).filter(|_| n % 3 == 0);
        lived.times.destroyed = time(6).filter(|_| n % 3 == 1);
        lived.times.registered = time(7).filter(|_| n % 2 == 0);
        lived.times.rehearsed = time(8).filter(|_| n % 3 == 0);
        // Creation is the order that counts, not any field of the record.
        all.insert(1, lived);
    }
    all
}

/// An operator's change that has just begun.
pub fn change(id: &str, request_id: &str) -> KeyChange {
    KeyChange {
        id: id.into(),
        request_id: request_id.into(),
        request: "create c".into(),
        client: "c".parse().unwrap(),
        operator: "spiffe://example.org/ops".into(),
        reason: "go live, it's time".into(),
        state: ChangeState::Running,
        created: Timestamp::from_millis(1_700_000_000_001),
        keys: vec![],
    }
}
