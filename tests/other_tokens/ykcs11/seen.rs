//! What the backend finds through the module, without a server.

use std::{path::Path, sync::Arc};

use hallmark_core::{
    client::Custody,
    key::Alg,
    ports::{HsmObject, HsmSession, KeyRef},
};
use hallmark_testkit::{
    child::in_child,
    hsm_contract::{PinCase, Subject, speed},
    pin_ledger::MemoryPinLedger,
    softhsm::SoftHsm,
    virtual_yubikey::{Firmware, Key, VirtualYubiKey},
};

use super::{ROW, label, module};
use crate::{
    hsm_contract::{
        harness::Pkcs11Subject,
        table::{self, Column},
    },
    virtual_yubikey::generate,
};

const SERIAL: u32 = 4_000_003;
const MESSAGE: &[u8] = b"eyJhbGciOiJSUzM4NCJ9.eyJpc3MiOiJoYWxsbWFyayJ9";
/// CKA_ID 05, 06 and 07.
const KEYS: [(&str, &str); 3] = [("82", "RSA2048"), ("83", "ECCP256"), ("84", "ECCP384")];
/// What the slots of `KEYS` can do.
const ALGS: &[Alg] = &[Alg::RS256, Alg::RS384, Alg::RS512, Alg::PS256, Alg::PS384, Alg::PS512, Alg::ES256, Alg::ES384];

/// The keys were made by another program, so the contract suite, which makes its own, can't run.
#[test]
fn each_algorithm_signs_and_both_halves_are_found_by_their_id() {
    const TEST: &str = "other_tokens::ykcs11::seen::each_algorithm_signs_and_both_halves_are_found_by_their_id";
    const FOLDER: &str = "HALLMARK_TEST_YUBIKEY";
    let is_child = std::env::var_os(FOLDER);
    let yubikey =
        if is_child.is_some() { None } else { VirtualYubiKey::start_with(&[Key::new(Firmware::V5_4, SERIAL)]) };
    if is_child.is_none() && yubikey.is_none() {
        return;
    }
    let prepare = || {
        let yubikey = yubikey.unwrap();
        KEYS.iter().for_each(|(slot, alg)| drop(generate(&yubikey, slot, alg)));
        SoftHsm::stand_in(yubikey.folder().to_owned()).other_pin_file("pin", VirtualYubiKey::PIN);
        let env = [yubikey.env(), vec![(FOLDER.into(), yubikey.folder().into())]].concat();
        (yubikey, env)
    };
    in_child(TEST, prepare, || look(Path::new(&is_child.clone().unwrap())));
}

fn look(folder: &Path) {
    let token = SoftHsm::stand_in(folder.to_owned());
    let subject =
        Pkcs11Subject::that_takes_no_keys(&module(), token, ALGS).labelled(&label(SERIAL), VirtualYubiKey::PIN);
    let hsm = subject.hsm(PinCase::Right, Arc::new(MemoryPinLedger::default()));
    let facts = hsm.connect().unwrap();
    let mut session = hsm.open().unwrap();
    let objects = session.list().unwrap();
    let of_ours = |object: &&HsmObject| object.label.starts_with("Private key for Retired Key");
    let ours: Vec<_> = objects.iter().filter(of_ours).collect();
    assert_eq!(ours.iter().map(|object| object.cka_id.as_slice()).collect::<Vec<_>>(), [[5], [6], [7]], "{objects:?}");

    let sign = |session: &mut dyn HsmSession, alg: Alg| {
        let object = ours.iter().find(|object| object.public.as_ref().is_some_and(|key| key.suits(alg))).unwrap();
        let public = object.public.as_ref().unwrap();
        let key = KeyRef { cka_id: &object.cka_id, label: &object.label, public, custody: Custody::Local };
        let signature = session.sign(&key, alg, MESSAGE).unwrap();
        assert!(public.verifier(alg).unwrap().verifies(MESSAGE, &signature), "{alg}: does not verify");
        assert_eq!(session.evidence(&key).unwrap().custody(), Ok(Custody::Local));
    };
    facts.algs.iter().for_each(|alg| sign(session.as_mut(), *alg));
    let algs: Vec<_> = facts.algs.iter().map(Alg::to_string).collect();
    table::compare_cell(ROW, Column::Algorithms, &algs.join(" "));
    table::compare_cell(ROW, Column::RsaBits, "2048");
    let sessions = facts.max_sessions.map_or("no limit told".into(), |most| format!("{most} for workers"));
    table::compare_cell(ROW, Column::Sessions, &sessions);
    table::compare_cell(ROW, Column::Fallbacks, &subject.fallbacks());
    table::compare_cell(ROW, Column::NotTried, "making, destroying and importing keys: for its security officer alone");

    let rsa = ours.iter().find(|object| object.public.as_ref().is_some_and(|key| key.suits(Alg::RS256))).unwrap();
    let public = rsa.public.as_ref().unwrap();
    let key = KeyRef { cka_id: &rsa.cka_id, label: &rsa.label, public, custody: Custody::Local };
    let bare = subject.bare(&rsa.cka_id).unwrap();
    let ours = || drop(session.sign(&key, Alg::RS256, MESSAGE).unwrap());
    table::compare_speed(ROW, Some(speed(ours, bare)));
}
