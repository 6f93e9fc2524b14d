//! Which objects of a token are the halves of one key: those of one `CKA_ID`, whatever they are called.

use std::sync::Arc;

use cryptoki::object::Attribute;
use hallmark_core::{
    client::Custody,
    key::{Alg, KeySpec},
    ports::{FaultClass, HsmFault, HsmObject, HsmSession, KeyRef},
    public_key::PublicKey,
};
use hallmark_testkit::{
    child::in_child,
    hsm_contract::{PinCase, Subject},
    pin_ledger::MemoryPinLedger,
    softhsm::SoftHsm,
    software_key::SoftwareKey,
};

use super::harness::{Pkcs11Subject, softhsm};

const ID: &[u8] = &[5];
/// As ykcs11 calls them.
const PRIVATE: &str = "Private key for Retired Key 1";
const PUBLIC: &str = "Public key for Retired Key 1";
const MESSAGE: &[u8] = b"what is signed";
const IN_HARDWARE: [Attribute; 2] = [Attribute::Sensitive(true), Attribute::Extractable(false)];

/// On SoftHSM, in a process of its own.
fn in_softhsm(test: &str, body: impl FnOnce(&Pkcs11Subject)) {
    in_child(&format!("hsm_contract::halves::{test}"), softhsm, || {
        body(&Pkcs11Subject::new(SoftHsm::MODULE.as_ref(), SoftHsm::from_env(), &Alg::ALL));
    });
}

fn new_key() -> SoftwareKey {
    SoftwareKey::generate(KeySpec { alg: Alg::ES256, rsa_bits: 0 })
}

/// With nothing bound yet.
fn with_session<T>(subject: &Pkcs11Subject, then: impl FnOnce(&mut dyn HsmSession) -> T) -> T {
    let hsm = subject.hsm(PinCase::Right, Arc::new(MemoryPinLedger::default()));
    hsm.connect().unwrap();
    then(hsm.open().unwrap().as_mut())
}

fn called<'a>(label: &'a str, public: &'a PublicKey) -> KeyRef<'a> {
    KeyRef { cka_id: ID, label, public, custody: Custody::Imported }
}

fn signs(session: &mut dyn HsmSession, key: &KeyRef<'_>) -> Result<(), HsmFault> {
    let signature = session.sign(key, Alg::ES256, MESSAGE)?;
    assert!(key.public.verifier(Alg::ES256).unwrap().verifies(MESSAGE, &signature), "it does not verify");
    Ok(())
}

/// Label, whether there is a private object, and whose public one: of all that have the `CKA_ID`.
fn listed(session: &mut dyn HsmSession) -> Vec<(String, bool, Option<String>)> {
    let of_id = session.list().unwrap().into_iter().filter(|object| object.cka_id == ID);
    let shown = |object: HsmObject| {
        let public = object.public.map(|key| key.thumbprint().to_string());
        (object.label, object.has_private, public)
    };
    of_id.map(shown).collect()
}

#[test]
fn halves_with_labels_of_their_own_are_one_key() {
    in_softhsm("halves_with_labels_of_their_own_are_one_key", |subject| {
        let key = new_key();
        let public = key.public();
        subject.plant_public(ID, PUBLIC, &key);
        subject.plant_private(ID, PRIVATE, &key, &IN_HARDWARE);
        let pair = (PRIVATE.to_owned(), true, Some(public.thumbprint().to_string()));
        with_session(subject, |session| assert_eq!(signs(session, &called(PRIVATE, &public)), Ok(())));
        with_session(subject, |session| {
            assert_eq!(listed(session), [pair]);
            assert_eq!(signs(session, &called(PRIVATE, &public)), Ok(()), "as the listing bound it");
            session.evidence(&called(PRIVATE, &public)).unwrap();
            session.destroy(&called(PRIVATE, &public)).unwrap();
            assert_eq!(listed(session), []);
        });
    });
}

/// Whoever may write to the token can put objects beside a key. A listing pairs what has one label, and whoever takes a
/// pair in sees it sign; what is on record already is known by its public key.
#[test]
fn objects_that_others_put_beside_a_key_do_not_keep_it_from_signing() {
    in_softhsm("objects_that_others_put_beside_a_key_do_not_keep_it_from_signing", |subject| {
        let (key, other) = (new_key(), new_key());
        let public = key.public();
        subject.plant_private(ID, PRIVATE, &key, &IN_HARDWARE);
        subject.plant_public(ID, PUBLIC, &key);
        // One of them is called as the private half is.
        for label in [PRIVATE, "another"] {
            subject.plant_public(ID, label, &other);
        }
        subject.plant_private(ID, "another", &other, &IN_HARDWARE);
        let [ours, theirs] = [&key, &other].map(|key| Some(key.public().thumbprint().to_string()));
        with_session(subject, |session| assert_eq!(signs(session, &called(PRIVATE, &public)), Ok(())));
        with_session(subject, |session| {
            let mut all = listed(session);
            all.sort();
            let wanted = [(PRIVATE, true, theirs.clone()), (PUBLIC, false, ours), ("another", true, theirs)];
            assert_eq!(all, wanted.map(|(label, private, public)| (label.to_owned(), private, public)));
            assert_eq!(signs(session, &called(PRIVATE, &public)), Ok(()), "the listing bound nothing");
        });

        subject.plant_public(ID, "a copy", &key);
        let refused = with_session(subject, |session| signs(session, &called(PRIVATE, &public)).unwrap_err());
        assert_eq!(refused.class, FaultClass::KeyAbsent, "{refused}");
        assert!(refused.code.contains("is there 2 times as a public object"), "{refused}");
    });
}

#[test]
fn a_key_that_wants_the_pin_for_each_signature_is_told_by_name() {
    in_softhsm("a_key_that_wants_the_pin_for_each_signature_is_told_by_name", |subject| {
        let key = new_key();
        let public = key.public();
        subject.plant_public(ID, PUBLIC, &key);
        subject.plant_private(ID, PRIVATE, &key, &[&IN_HARDWARE[..], &[Attribute::AlwaysAuthenticate(true)]].concat());
        with_session(subject, |session| {
            let key = called(PRIVATE, &public);
            for refused in [signs(session, &key), session.evidence(&key).map(drop)] {
                let refused = refused.unwrap_err();
                assert_eq!(refused.class, FaultClass::Request, "{refused}");
                assert!(refused.code.contains("CKA_ID `05` wants the PIN before each signature"), "{refused}");
            }
        });
    });
}
