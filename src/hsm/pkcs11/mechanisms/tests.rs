use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    session::UserType,
    types::AuthPin,
};
use hallmark_core::{
    client::Custody,
    key::KeySpec,
    ports::{KeyRef, NewKey},
    public_key::PublicKey,
};
use hallmark_testkit::{child::in_child, softhsm::SoftHsm};

use super::*;
use crate::hsm::pkcs11::{binding, generate};

#[test]
fn a_token_without_hashing_mechanisms_still_has_all_algorithms() {
    let bare = Mechanisms::new(&[
        MechanismType::RSA_PKCS_KEY_PAIR_GEN,
        MechanismType::RSA_PKCS,
        MechanismType::RSA_PKCS_PSS,
        MechanismType::ECC_KEY_PAIR_GEN,
        MechanismType::ECDSA,
        MechanismType::ECC_EDWARDS_KEY_PAIR_GEN,
        MechanismType::EDDSA,
    ]);
    assert_eq!(bare.algs(), Alg::ALL);
    assert!(Alg::ALL[..8].iter().all(|alg| !bare.recipe(*alg).unwrap().token_hashes));
}

#[test]
fn a_token_that_hashes_is_let_to() {
    let token = Mechanisms::new(&[MechanismType::SHA384_RSA_PKCS, MechanismType::RSA_PKCS]);
    assert!(token.recipe(Alg::RS384).unwrap().token_hashes);
    assert!(!token.recipe(Alg::RS256).unwrap().token_hashes);
    assert_eq!(token.recipe(Alg::PS384), None);
}

#[test]
fn an_algorithm_whose_keys_cannot_be_generated_is_not_offered() {
    let token = Mechanisms::new(&[MechanismType::ECDSA, MechanismType::EDDSA]);
    assert_eq!(token.algs(), []);
}

/// A real token takes what is prepared for the mechanisms that do not hash.
#[test]
fn signatures_over_prepared_digests_verify() {
    let test = "hsm::pkcs11::mechanisms::tests::signatures_over_prepared_digests_verify";
    let prepare = || {
        let token = SoftHsm::new();
        let env = token.env();
        (token, env)
    };
    in_child(test, prepare, || {
        let context = Pkcs11::new(SoftHsm::MODULE).unwrap();
        context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
        let session = context.open_rw_session(context.get_slots_with_token().unwrap()[0]).unwrap();
        session.login(UserType::User, Some(&AuthPin::from(SoftHsm::PIN))).unwrap();
        let bare = [MechanismType::RSA_PKCS, MechanismType::RSA_PKCS_PSS, MechanismType::ECDSA, MechanismType::EDDSA];
        let token = Mechanisms::new(&bare);
        for alg in Alg::ALL {
            let new =
                NewKey { cka_id: alg.as_str().as_bytes(), label: alg.as_str(), spec: KeySpec { alg, rsa_bits: 2048 } };
            let public = generate::pair(&session, &new).unwrap();
            let key = binding::locate(&session, &key_ref(&new, &public)).unwrap();
            let signature = token.recipe(alg).unwrap().sign(&session, key.private, b"message").unwrap();
            assert!(public.verifier(alg).unwrap().verifies(b"message", &signature), "{alg}");
        }
    });
}

fn key_ref<'a>(new: &NewKey<'a>, public: &'a PublicKey) -> KeyRef<'a> {
    KeyRef { cka_id: new.cka_id, label: new.label, public, custody: Custody::Local }
}
