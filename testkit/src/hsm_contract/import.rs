//! What a backend must do that can take keys in which were made elsewhere ([`ImportSession`]).

use hallmark_core::{
    client::Custody,
    key::{Alg, KeySpec},
    ports::{FaultClass, ForeignKey, ImportSession},
};

use super::{
    Subject, class,
    sample::{Key, fresh_names},
};
use crate::software_key::SoftwareKey;

fn foreign<'a>(key: &'a Key, pkcs8: &'a [u8]) -> ForeignKey<'a> {
    ForeignKey { cka_id: &key.cka_id, label: &key.label, alg: key.alg, pkcs8, public: &key.public }
}

fn from_outside(alg: Alg) -> (Key, Vec<u8>) {
    let key = SoftwareKey::generate(KeySpec { alg, rsa_bits: KeySpec::DEFAULT_RSA_BITS });
    let (cka_id, label) = fresh_names();
    (Key { cka_id, label, alg, public: key.public(), custody: Custody::Imported }, key.pkcs8())
}

fn import(session: &mut dyn ImportSession, alg: Alg) -> (Key, Vec<u8>) {
    let (key, pkcs8) = from_outside(alg);
    session.import(&foreign(&key, &pkcs8)).unwrap();
    (key, pkcs8)
}

pub(super) fn imports_and_signs(subject: &dyn Subject) {
    let Some((hsm, mut session)) = subject.importer() else { return };
    for alg in subject.algs() {
        let (key, _) = import(session.as_mut(), *alg);
        key.assert_signs(hsm.open().unwrap().as_mut());
        // It can't be read or leave, and shows that it was not made there.
        let evidence = session.evidence(&key.as_ref()).unwrap();
        assert_eq!(evidence.custody(), Ok(Custody::Imported), "{alg}: {evidence:?}");
        let strict = Key { custody: Custody::Local, ..key };
        assert_eq!(class(strict.sign(session.as_mut())), FaultClass::CustodyTooWeak, "{alg}");
    }
}

pub(super) fn import_never_overwrites(subject: &dyn Subject) {
    let Some((_hsm, mut session)) = subject.importer() else { return };
    let (key, pkcs8) = import(session.as_mut(), Alg::ES256);
    assert_eq!(class(session.import(&foreign(&key, &pkcs8))), FaultClass::Request);
    let (other, pkcs8) = from_outside(Alg::ES256);
    let in_its_place = Key { cka_id: key.cka_id.clone(), label: key.label.clone(), ..other };
    assert_eq!(class(session.import(&foreign(&in_its_place, &pkcs8))), FaultClass::Request);
    key.assert_signs(session.as_mut());
}

pub(super) fn import_of_another_key_leaves_nothing(subject: &dyn Subject) {
    let Some((_hsm, mut session)) = subject.importer() else { return };
    for alg in [Alg::ES256, Alg::RS256] {
        let (key, _) = from_outside(alg);
        let (_, of_another) = from_outside(alg);
        session.import(&foreign(&key, &of_another)).unwrap_err();
        let left = session.list().unwrap().into_iter().filter(|object| object.cka_id == key.cka_id).count();
        assert_eq!(left, 0, "{alg}");
    }
}
