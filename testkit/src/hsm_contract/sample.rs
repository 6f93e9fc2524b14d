//! A key of the suite.

use std::sync::Arc;

use hallmark_core::{
    client::Custody,
    key::{Alg, KeySpec},
    ports::{FaultClass, Hsm, HsmFault, HsmSession, KeyRef, NewKey},
    public_key::PublicKey,
};
use uuid::Uuid;

use super::Subject;
use crate::software_key::SoftwareKey;

/// A key of the suite, with what its record would hold.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) cka_id: Vec<u8>,
    pub(super) label: String,
    pub(super) alg: Alg,
    pub(super) public: PublicKey,
    pub(super) custody: Custody,
}

impl Key {
    pub(super) fn generate(session: &mut dyn HsmSession, alg: Alg) -> Self {
        let (cka_id, label) = fresh_names();
        let spec = KeySpec { alg, rsa_bits: KeySpec::DEFAULT_RSA_BITS };
        let public = session.generate(&NewKey { cka_id: &cka_id, label: &label, spec }).unwrap();
        Self { cka_id, label, alg, public, custody: Custody::Local }
    }

    pub(super) fn plant(subject: &dyn Subject, extractable: bool) -> Self {
        Self::of(subject, &Arc::new(SoftwareKey::generate(P256)), extractable)
    }

    pub(super) fn of(subject: &dyn Subject, key: &Arc<SoftwareKey>, extractable: bool) -> Self {
        let (cka_id, label) = fresh_names();
        subject.plant(&cka_id, &label, key, extractable);
        Self { cka_id, label, alg: Alg::ES256, public: key.public(), custody: Custody::Imported }
    }

    pub(super) fn as_ref(&self) -> KeyRef<'_> {
        KeyRef { cka_id: &self.cka_id, label: &self.label, public: &self.public, custody: self.custody }
    }

    pub(super) fn sign(&self, session: &mut dyn HsmSession) -> Result<Vec<u8>, HsmFault> {
        session.sign(&self.as_ref(), self.alg, MESSAGE)
    }

    pub(super) fn assert_signs(&self, session: &mut dyn HsmSession) {
        self.assert_verifies(&self.sign(session).unwrap());
    }

    /// What a worker does: one retry, by the class of the fault.
    pub(super) fn assert_signs_after_one_retry(&self, hsm: &dyn Hsm, mut session: Box<dyn HsmSession>) {
        let fault = self.sign(session.as_mut()).unwrap_err();
        if fault.class != FaultClass::Handle {
            assert!(matches!(fault.class, FaultClass::Session | FaultClass::Login), "{fault}: {:?}", fault.class);
            drop(session);
            session = hsm.open().unwrap();
        }
        self.assert_signs(session.as_mut());
    }

    fn assert_verifies(&self, signature: &[u8]) {
        let verifier = self.public.verifier(self.alg).unwrap();
        assert!(verifier.verifies(MESSAGE, signature), "{}: does not verify", self.alg);
        assert!(!verifier.verifies(b"another message", signature), "{}: verifies anything", self.alg);
    }
}

pub(super) fn fresh_names() -> (Vec<u8>, String) {
    let id = Uuid::new_v4();
    (id.as_bytes().to_vec(), format!("contract-{id}"))
}

pub(super) const P256: KeySpec = KeySpec { alg: Alg::ES256, rsa_bits: 0 };
pub(super) const MESSAGE: &[u8] = b"eyJhbGciOiJSUzM4NCJ9.eyJpc3MiOiJoYWxsbWFyayJ9";
