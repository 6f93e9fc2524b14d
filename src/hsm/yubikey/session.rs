//! One worker's session with a YubiKey.

use std::sync::Arc;

use hallmark_core::{
    key::Alg,
    ports::{Evidence, FaultClass, HsmFault, HsmObject, HsmSession, KeyRef, NewKey},
    public_key::PublicKey,
};

use super::{
    attestation,
    card::Card,
    device::{Epoch, Shared},
    lock, making,
    slot::Slot,
};

/// A session as [`HsmSession`]; opened by [`super::YubikeyHsm`].
pub(super) struct YubikeySession {
    epoch: Arc<Epoch>,
}

impl YubikeySession {
    pub(super) fn new(epoch: Arc<Epoch>) -> Self {
        Self { epoch }
    }
}

impl HsmSession for YubikeySession {
    fn list(&mut self) -> Result<Vec<HsmObject>, HsmFault> {
        self.epoch.call(|card, shared| {
            card.outdate();
            Ok(card.inventory(shared)?.objects())
        })
    }

    fn generate(&mut self, new: &NewKey<'_>) -> Result<PublicKey, HsmFault> {
        self.epoch.call(|card, shared| making::generate(card, shared, new))
    }

    fn sign(&mut self, key: &KeyRef<'_>, alg: Alg, message: &[u8]) -> Result<Vec<u8>, HsmFault> {
        if !key.public.suits(alg) {
            let why = format!("the key can't sign with `{alg}`");
            return Err(HsmFault::new(FaultClass::Request, "GENERAL AUTHENTICATE", why));
        }
        self.epoch.call(|card, shared| {
            let slot = bind(card, shared, key)?;
            let signed = making::sign(card, slot, alg, key.public, message);
            // The slot may hold another key since it was looked at: tell a lost key from a signature gone wrong.
            let is_good = |signature: &Vec<u8>| {
                key.public.verifier(alg).is_ok_and(|verifier| verifier.verifies(message, signature))
            };
            match signed {
                Ok(signature) if is_good(&signature) => Ok(signature),
                Err(failed) if !matches!(failed.class, FaultClass::Unspecific | FaultClass::Unsupported) => Err(failed),
                other => still_there(card, shared, key).and(other),
            }
        })
    }

    fn destroy(&mut self, key: &KeyRef<'_>) -> Result<(), HsmFault> {
        self.epoch.call(|card, shared| making::destroy(card, shared, key))
    }

    fn evidence(&mut self, key: &KeyRef<'_>) -> Result<Evidence, HsmFault> {
        self.epoch.call(|card, shared| {
            let held = card.inventory(shared)?.find(key)?;
            // Asked before a key is taken in: one that can never sign here is to be told then, and not at its first use.
            held.check_policy()?;
            let (slot, evidence) = (held.slot, held.evidence());
            let born_here = evidence.attributes.local == Some(true);
            let attestation = if born_here { attestation::of(card, slot)? } else { Vec::new() };
            Ok(Evidence { attestation, ..evidence })
        })
    }
}

/// The slot with the key of a record, which may sign.
fn bind(card: &mut Card, shared: &Shared, key: &KeyRef<'_>) -> Result<Slot, HsmFault> {
    let held = card.inventory(shared)?.find(key)?;
    held.check_custody(key)?;
    held.check_policy()?;
    let slot = held.slot;
    lock(&shared.used).insert(slot);
    Ok(slot)
}

/// Looks at the slots again. A key that is not where it was is to be found anew.
fn still_there(card: &mut Card, shared: &Shared, key: &KeyRef<'_>) -> Result<(), HsmFault> {
    let before = card.inventory(shared)?.find(key)?.slot;
    card.outdate();
    match card.inventory(shared)?.find(key) {
        Ok(held) if held.slot == before => Ok(()),
        Ok(_) => Err(HsmFault::new(FaultClass::Handle, "GENERAL AUTHENTICATE", "the key is in another slot now")),
        Err(absent) => Err(absent),
    }
}
