//! What is done in a session: keys are listed, made, used and destroyed.

use std::sync::{
    Arc, MutexGuard,
    atomic::{AtomicU64, Ordering},
};

use hallmark_core::{
    key::Alg,
    ports::{Evidence, FaultClass, HsmFault, HsmObject, HsmSession, KeyAttributes, KeyRef, NewKey},
    public_key::PublicKey,
};

use super::{Call, FakeToken, Half, Object, State, fail};
use crate::{attestation::Says, software_key::SoftwareKey};

/// A session, and what it finds on the token.
pub(super) struct FakeSession {
    pub(super) token: Arc<FakeToken>,
    pub(super) epoch: Arc<AtomicU64>,
    pub(super) opened_in: (u64, u64),
}

impl FakeSession {
    fn begin(&self, call: Call) -> Result<MutexGuard<'_, State>, HsmFault> {
        let epoch = self.epoch.load(Ordering::Acquire);
        if epoch != self.opened_in.0 {
            return Err(fail(if epoch % 2 == 1 { FaultClass::Session } else { FaultClass::Gone }, call));
        }
        self.token.begin(call)?;
        let state = self.token.state();
        if state.losses != self.opened_in.1 {
            return Err(fail(FaultClass::Session, call));
        }
        if !state.logged_in {
            return Err(fail(FaultClass::Login, call));
        }
        Ok(state)
    }
}

impl Drop for FakeSession {
    fn drop(&mut self) {
        let mut state = self.token.state();
        if state.losses == self.opened_in.1 {
            state.open_sessions -= 1;
        }
    }
}

impl HsmSession for FakeSession {
    fn list(&mut self) -> Result<Vec<HsmObject>, HsmFault> {
        let state = self.begin(Call::List)?;
        let shown = |object: &Object| HsmObject {
            cka_id: object.cka_id.clone(),
            label: object.label.clone(),
            public: (object.half != Some(Half::Private)).then(|| object.key.public()),
            has_private: object.half != Some(Half::Public),
        };
        Ok(state.objects.iter().map(shown).collect())
    }

    fn generate(&mut self, new: &NewKey<'_>) -> Result<PublicKey, HsmFault> {
        let mut state = self.begin(Call::Generate)?;
        if state.objects.iter().any(|object| object.cka_id == new.cka_id) {
            return Err(HsmFault::new(FaultClass::Request, "C_GenerateKeyPair", "an object with that CKA_ID is there"));
        }
        let key = Arc::new(SoftwareKey::generate(new.spec));
        let public = key.public();
        let yes = Some(true);
        let attributes = KeyAttributes {
            local: yes,
            sensitive: yes,
            always_sensitive: yes,
            extractable: Some(state.leaky),
            never_extractable: Some(!state.leaky),
            key_gen_mechanism: Some("fake".into()),
        };
        let attested = state.maker.as_ref().map(|maker| maker.attest(public.spki(), &Says::default()));
        let evidence = Evidence { attributes, attestation: attested.unwrap_or_default() };
        let half = state.halving.pop_front();
        state.objects.push(Object { cka_id: new.cka_id.to_vec(), label: new.label.to_owned(), key, evidence, half });
        half.map_or(Ok(public), |_| Err(fail(FaultClass::Gone, Call::Generate)))
    }

    fn sign(&mut self, key: &KeyRef<'_>, alg: Alg, message: &[u8]) -> Result<Vec<u8>, HsmFault> {
        if !key.public.suits(alg) {
            return Err(fail(FaultClass::Request, Call::Sign));
        }
        let mut state = self.begin(Call::Sign)?;
        let object = find(&state, key)?;
        let weak = |why: &str| HsmFault::new(FaultClass::CustodyTooWeak, "C_GetAttributeValue", why);
        if object.evidence.custody().map_err(weak)? > key.custody {
            return Err(weak("it was not generated here"));
        }
        let software = object.key.clone();
        let forged = state.forgeries > 0;
        state.forgeries = state.forgeries.saturating_sub(1);
        // Real tokens sign for several sessions at once.
        drop(state);
        let mut signature = software.sign(alg, message);
        if let (true, Some(byte)) = (forged, signature.last_mut()) {
            *byte ^= 1;
        }
        Ok(signature)
    }

    fn destroy(&mut self, key: &KeyRef<'_>) -> Result<(), HsmFault> {
        let mut state = self.begin(Call::Destroy)?;
        find(&state, key)?;
        state.objects.retain(|object| object.cka_id != key.cka_id || object.label != key.label);
        Ok(())
    }

    fn evidence(&mut self, key: &KeyRef<'_>) -> Result<Evidence, HsmFault> {
        let state = self.begin(Call::Evidence)?;
        Ok(find(&state, key)?.evidence.clone())
    }
}

fn find<'a>(state: &'a State, key: &KeyRef<'_>) -> Result<&'a Object, HsmFault> {
    let mut matching = state.objects.iter().filter(|object| object.cka_id == key.cka_id && object.label == key.label);
    match (matching.next(), matching.next()) {
        (Some(object), None) if object.half.is_none() && object.key.public().numbers() == key.public.numbers() => {
            Ok(object)
        }
        _ => Err(HsmFault::new(FaultClass::KeyAbsent, "C_FindObjects", "not exactly one pair with that public key")),
    }
}
