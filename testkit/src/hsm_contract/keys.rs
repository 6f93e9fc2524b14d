//! What a backend must do with keys: make, find, list and destroy them, and sign with the right one alone.

use std::sync::Arc;

use hallmark_core::{
    client::Custody,
    key::{Alg, KeySpec},
    ports::{FaultClass, NewKey},
    public_key::PublicKey,
};
use uuid::Uuid;

use super::{
    Subject, class, connected, connected_with_facts,
    sample::{Key, P256},
};
use crate::software_key::SoftwareKey;

pub(super) fn generates_and_signs(subject: &dyn Subject) {
    let (hsm, facts) = connected_with_facts(subject);
    assert_eq!(facts.algs, subject.algs());
    assert!(!facts.serial.is_empty());
    let mut session = hsm.open().unwrap();
    for alg in facts.algs {
        let key = Key::generate(session.as_mut(), alg);
        assert!(key.public.suits(alg), "{alg}: the key is of another kind");
        key.assert_signs(session.as_mut());
    }
}

pub(super) fn signs_any_length(subject: &dyn Subject) {
    let hsm = connected(subject);
    let mut session = hsm.open().unwrap();
    for alg in [Alg::RS384, Alg::ES256] {
        let key = Key::generate(session.as_mut(), alg);
        let verifier = key.public.verifier(alg).unwrap();
        // Around the block lengths of SHA-256 and SHA-384, and what a large assertion takes.
        for len in [0, 1, 55, 56, 63, 64, 65, 111, 112, 127, 128, 129, 1000, 16384] {
            let message: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let signature = session.sign(&key.as_ref(), alg, &message).unwrap();
            assert!(verifier.verifies(&message, &signature), "{alg}, {len} bytes: does not verify");
        }
    }
}

pub(super) fn generated_keys_are_local(subject: &dyn Subject) {
    let hsm = connected(subject);
    let mut session = hsm.open().unwrap();
    for alg in [Alg::RS256, Alg::ES256] {
        let key = Key::generate(session.as_mut(), alg);
        let evidence = session.evidence(&key.as_ref()).unwrap();
        assert_eq!(evidence.custody(), Ok(Custody::Local), "{alg}: {evidence:?}");
    }
}

pub(super) fn lists(subject: &dyn Subject) {
    let hsm = connected(subject);
    let mut session = hsm.open().unwrap();
    let key = Key::generate(session.as_mut(), Alg::ES256);
    let listed = session.list().unwrap();
    let found: Vec<_> = listed.iter().filter(|object| object.cka_id == key.cka_id).collect();
    let [object] = found.as_slice() else { panic!("listed {} times", found.len()) };
    assert_eq!((object.label.as_str(), object.has_private), (key.label.as_str(), true));
    assert_eq!(object.public.as_ref().map(PublicKey::thumbprint), Some(key.public.thumbprint()));
    // A listing is also how keys are found in advance.
    key.assert_signs(session.as_mut());
}

pub(super) fn never_overwrites(subject: &dyn Subject) {
    let hsm = connected(subject);
    let mut session = hsm.open().unwrap();
    let key = Key::generate(session.as_mut(), Alg::ES256);
    for label in [key.label.as_str(), "another label"] {
        let spec = KeySpec { alg: Alg::ES256, rsa_bits: 0 };
        let second = session.generate(&NewKey { cka_id: &key.cka_id, label, spec });
        assert_eq!(class(second), FaultClass::Request);
    }
    key.assert_signs(session.as_mut());
}

pub(super) fn absent_key(subject: &dyn Subject) {
    let hsm = connected(subject);
    let mut session = hsm.open().unwrap();
    let key = Key::generate(session.as_mut(), Alg::ES256);
    let ghost = Key { cka_id: Uuid::new_v4().as_bytes().to_vec(), ..key.clone() };
    assert_eq!(class(ghost.sign(session.as_mut())), FaultClass::KeyAbsent);
    assert_eq!(class(session.evidence(&ghost.as_ref())), FaultClass::KeyAbsent);
    assert_eq!(class(session.destroy(&ghost.as_ref())), FaultClass::KeyAbsent);
    let renamed = Key { label: "another label".into(), ..key.clone() };
    assert_eq!(class(renamed.sign(session.as_mut())), FaultClass::KeyAbsent);
    key.assert_signs(session.as_mut());
}

pub(super) fn two_matching(subject: &dyn Subject) {
    if !subject.plants() {
        return;
    }
    let hsm = connected(subject);
    let key = Key::plant(subject, false);
    key.assert_signs(hsm.open().unwrap().as_mut());

    let twin = Key::plant(subject, false);
    subject.plant(&twin.cka_id, &twin.label, &Arc::new(SoftwareKey::generate(P256)), false);
    assert_eq!(class(twin.sign(hsm.open().unwrap().as_mut())), FaultClass::KeyAbsent);
}

pub(super) fn another_key(subject: &dyn Subject) {
    let hsm = connected(subject);
    let mut session = hsm.open().unwrap();
    let key = Key::generate(session.as_mut(), Alg::ES256);
    key.assert_signs(session.as_mut());
    let public = SoftwareKey::generate(P256).public();
    let other = Key { public, ..key.clone() };
    assert_eq!(class(other.sign(session.as_mut())), FaultClass::KeyAbsent);
    assert_eq!(class(session.destroy(&other.as_ref())), FaultClass::KeyAbsent);
    key.assert_signs(session.as_mut());
}

pub(super) fn weak_custody(subject: &dyn Subject) {
    let hsm = connected(subject);
    let mut session = hsm.open().unwrap();
    let wanted_attested = Key { custody: Custody::Attested, ..Key::generate(session.as_mut(), Alg::ES256) };
    assert_eq!(class(wanted_attested.sign(session.as_mut())), FaultClass::CustodyTooWeak);
    if !subject.plants() {
        return;
    }
    let extractable = Key::plant(subject, true);
    assert_eq!(class(extractable.sign(session.as_mut())), FaultClass::CustodyTooWeak);

    let imported = Key::plant(subject, false);
    imported.assert_signs(session.as_mut());
    let wanted_local = Key { custody: Custody::Local, ..imported };
    assert_eq!(class(wanted_local.sign(session.as_mut())), FaultClass::CustodyTooWeak);
}

pub(super) fn wrong_algorithm(subject: &dyn Subject) {
    let hsm = connected(subject);
    let mut session = hsm.open().unwrap();
    let key = Key::generate(session.as_mut(), Alg::ES256);
    for alg in [Alg::RS256, Alg::ES384, Alg::EdDSA] {
        assert_eq!(class(session.sign(&key.as_ref(), alg, b"message")), FaultClass::Request);
    }
    key.assert_signs(session.as_mut());
}

pub(super) fn destroys(subject: &dyn Subject) {
    let hsm = connected(subject);
    let mut session = hsm.open().unwrap();
    let [doomed, other] = [(); 2].map(|()| Key::generate(session.as_mut(), Alg::ES256));
    doomed.assert_signs(session.as_mut());
    session.destroy(&doomed.as_ref()).unwrap();
    // Bound before, also by another session.
    assert_eq!(class(doomed.sign(session.as_mut())), FaultClass::KeyAbsent);
    assert_eq!(class(doomed.sign(hsm.open().unwrap().as_mut())), FaultClass::KeyAbsent);
    assert!(session.list().unwrap().iter().all(|object| object.cka_id != doomed.cka_id));
    other.assert_signs(session.as_mut());
}
