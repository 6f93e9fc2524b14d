//! The same on a real YubiKey, where somebody names one: its slot 95 is used, and is empty again at the end.

use std::{env, sync::Arc};

use hallmark::hsm::{
    pin::PinSource,
    yubikey::{Access, Slot, YubikeyHsm},
};
use hallmark_core::{
    client::Custody,
    key::{Alg, KeySpec},
    ports::{Hsm, KeyRef, NewKey},
};
use hallmark_testkit::pin_ledger::MemoryPinLedger;

/// `HALLMARK_TEST_YUBIKEY` is its serial; `…_PIN` and `…_MGM` name files with PIN and management key.
#[test]
fn a_real_yubikey_makes_signs_and_destroys() {
    let named = |name: &str| env::var(format!("HALLMARK_TEST_YUBIKEY{name}")).ok();
    let (Some(serial), Some(pin), Some(key)) = (named(""), named("_PIN"), named("_MGM")) else {
        return eprintln!("not run: no YubiKey");
    };
    let source = |path: &str| PinSource::parse(path, None).unwrap();
    let access = Access {
        serial: Some(serial.parse().expect("a serial")),
        slots: Slot::new(0x95).into_iter().collect(),
        overwrite: Vec::new(),
    };
    let hsm = YubikeyHsm::new(access, source(&pin), source(&key), Arc::new(MemoryPinLedger::default()));
    eprintln!("{:?}", hsm.connect().unwrap());
    let mut session = hsm.open().unwrap();
    for alg in [Alg::ES256, Alg::RS384, Alg::PS256] {
        let (cka_id, label) = (uuid::Uuid::new_v4(), "hallmark test");
        let spec = KeySpec { alg, rsa_bits: KeySpec::DEFAULT_RSA_BITS };
        let public = session.generate(&NewKey { cka_id: cka_id.as_bytes(), label, spec }).unwrap();
        let key = KeyRef { cka_id: cka_id.as_bytes(), label, public: &public, custody: Custody::Local };
        let signature = session.sign(&key, alg, b"message").unwrap();
        assert!(public.verifier(alg).unwrap().verifies(b"message", &signature), "{alg}");
        assert!(!session.evidence(&key).unwrap().attestation.is_empty());
        session.destroy(&key).unwrap();
        assert!(session.list().unwrap().is_empty());
    }
}
