//! Making keys and destroying them.
//!
//! A crash may come between any two commands. A name is written before the key that it names, and stays until after the
//! key's end; what is found half done is finished by whoever comes next.

use der::Encode;
use hallmark_core::{
    key::{Alg, KeySpec},
    ports::{FaultClass, HsmFault, KeyRef, NewKey},
    public_key::PublicKey,
};

use yubikey::{
    PinPolicy, TouchPolicy, Version,
    piv::{self, AlgorithmId},
};

use super::{
    card::{Card, WITH_DELETE},
    classify::fault,
    device::Shared,
    hex,
    inventory::Owner,
    names::{self, Mark},
    signing,
    slot::Slot,
};

/// Makes a key pair in a slot that is free.
pub(super) fn generate(card: &mut Card, shared: &Shared, new: &NewKey<'_>) -> Result<PublicKey, HsmFault> {
    let algorithm = algorithm(card.serial, card.version, new.spec)?;
    // A slot that was free when it was read may be another program's by now.
    card.outdate();
    if card.inventory(shared)?.has(new.cka_id) {
        let why = format!("a key with CKA_ID `{}` is there already", hex(new.cka_id));
        return Err(HsmFault::new(FaultClass::Request, GENERATE, why));
    }
    let slot = place(card, shared)?;
    // The new key signs its own certificate.
    card.refresh(shared)?;
    shared.management.authenticate(card.yubikey()?)?;
    let made = make(card, slot, algorithm, new);
    renew(card, slot)?;
    made.inspect_err(|_| clear_name(card, slot))
}

fn make(card: &mut Card, slot: Slot, algorithm: AlgorithmId, new: &NewKey<'_>) -> Result<PublicKey, HsmFault> {
    let (cka_id, label) = (new.cka_id, new.label);
    write(card, slot, names::signed_by_nobody(Mark::Reserved, cka_id, label)?)?;
    let public = new_pair(card, slot, algorithm)?;
    let certificate = names::certificate((Mark::Key, cka_id, label), (&public, new.spec.alg), |bytes| {
        sign(card, slot, new.spec.alg, &public, bytes)
    })?;
    write(card, slot, certificate)?;
    Ok(public)
}

/// Destroys the key of a record: deletes it where the firmware can, else has it overwritten by one that nobody needs.
pub(super) fn destroy(card: &mut Card, shared: &Shared, key: &KeyRef<'_>) -> Result<(), HsmFault> {
    // Others may have changed the slots since they were read.
    card.outdate();
    let inventory = card.inventory(shared)?;
    let slot = match inventory.half_destroyed(key) {
        Some(slot) => slot,
        None => inventory.find(key)?.slot,
    };
    shared.management.authenticate(card.yubikey()?)?;
    let gone = if card.version >= WITH_DELETE { delete(card, slot) } else { overwrite(card, shared, slot, key) };
    renew(card, slot)?;
    gone
}

fn delete(card: &mut Card, slot: Slot) -> Result<(), HsmFault> {
    match card.wire.delete(slot) {
        Ok(()) => tracing::info!(serial = card.serial, %slot, "key deleted"),
        // Where a try that broke off has deleted it already.
        Err(failed) => match piv::metadata(card.yubikey()?, slot.id()?) {
            Err(yubikey::Error::NotFound) => {}
            _ => return Err(failed),
        },
    }
    write(card, slot, Vec::new())
}

fn overwrite(card: &mut Card, shared: &Shared, slot: Slot, key: &KeyRef<'_>) -> Result<(), HsmFault> {
    let public = new_pair(card, slot, AlgorithmId::EccP256)?;
    tracing::info!(serial = card.serial, %slot, "key overwritten by one that nobody needs: this firmware can't delete");
    card.refresh(shared)?;
    let certificate = names::certificate((Mark::Destroyed, key.cka_id, key.label), (&public, Alg::ES256), |bytes| {
        sign(card, slot, Alg::ES256, &public, bytes)
    })?;
    write(card, slot, certificate)
}

fn place(card: &mut Card, shared: &Shared) -> Result<Slot, HsmFault> {
    let serial = card.serial;
    let used = super::lock(&shared.used);
    let held = card.inventory(shared)?.place(&shared.access.overwrite, &used)?;
    if held.owner() != Owner::Nobody {
        let what = held.owner();
        tracing::warn!(serial, slot = %held.slot, ?what, "overwritten, as the configuration says");
    }
    Ok(held.slot)
}

/// One PIN for many signatures, and never a touch: nobody sits beside a service.
fn new_pair(card: &mut Card, slot: Slot, algorithm: AlgorithmId) -> Result<PublicKey, HsmFault> {
    let made = piv::generate(card.yubikey()?, slot.id()?, algorithm, PinPolicy::Once, TouchPolicy::Never);
    let spki = made.map_err(|error| fault(GENERATE, error))?.to_der();
    let public = spki.ok().and_then(|spki| PublicKey::from_spki(&spki).ok());
    public.ok_or_else(|| HsmFault::new(FaultClass::Unspecific, GENERATE, "the new public key can't be read"))
}

pub(super) fn sign(
    card: &mut Card,
    slot: Slot,
    alg: Alg,
    key: &PublicKey,
    message: &[u8],
) -> Result<Vec<u8>, HsmFault> {
    let (algorithm, input) = signing::prepare(alg, key, message)?;
    let answer = piv::sign_data(card.yubikey()?, &input, algorithm, slot.id()?);
    signing::jose(algorithm, &answer.map_err(|error| fault("GENERAL AUTHENTICATE", error))?)
}

fn write(card: &mut Card, slot: Slot, mut contents: Vec<u8>) -> Result<(), HsmFault> {
    let saved = card.yubikey()?.save_object(slot.certificate_object(), &mut contents);
    saved.map_err(|error| fault("PUT DATA", error))
}

/// Takes a name away that names no key. It would do no harm; the next one to look finds less to wonder about.
fn clear_name(card: &mut Card, slot: Slot) {
    let Ok((yubikey, Some(inventory))) = card.parts() else { return };
    if inventory.is_free(slot) {
        let _ = yubikey.save_object(slot.certificate_object(), &mut []);
        let _ = inventory.renew(yubikey, slot);
    }
}

fn renew(card: &mut Card, slot: Slot) -> Result<(), HsmFault> {
    let (yubikey, inventory) = card.parts()?;
    let renewed = inventory.map(|inventory| inventory.renew(yubikey, slot));
    renewed.unwrap_or(Ok(())).inspect_err(|_| card.outdate())
}

/// What PIV calls the kind of key, where the YubiKey `serial` with that firmware can make it.
pub(super) fn algorithm(serial: u32, version: Version, spec: KeySpec) -> Result<AlgorithmId, HsmFault> {
    let unsupported = |why: String| Err(HsmFault::new(FaultClass::Unsupported, GENERATE, why));
    match spec.alg {
        Alg::ES256 => Ok(AlgorithmId::EccP256),
        Alg::ES384 => Ok(AlgorithmId::EccP384),
        Alg::EdDSA => unsupported(
            "EdDSA is not used on YubiKeys: PIV has the card take the whole message, which an assertion is too long for\n\
             hint: use ES256, ES384 or RS256 to PS512"
                .to_owned(),
        ),
        _ if spec.rsa_bits > 2048 && version < WITH_DELETE => unsupported(format!(
            "YubiKey {serial} has firmware {version}, which makes RSA keys of 2048 bits and no longer ones\n\
             hint: write `rsa_bits = 2048` or `alg = \"ES384\"`, or use a YubiKey with firmware {WITH_DELETE} or later"
        )),
        _ => signing::rsa_algorithm(usize::try_from(spec.rsa_bits).unwrap_or(0)),
    }
}

const GENERATE: &str = "GENERATE ASYMMETRIC KEY PAIR";
