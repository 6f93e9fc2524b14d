//! What the YubiKey's own attestation key says of a key: made here, and with which policies.

use hallmark_core::ports::HsmFault;
use yubikey::{Error, ObjectId, piv};

use super::{card::Card, classify::fault, names, slot::Slot};

/// The certificate that the attestation key makes for the key in `slot`, and its own, DER. Empty where it was taken from
/// the YubiKey, or is another that does not answer.
pub(super) fn of(card: &mut Card, slot: Slot) -> Result<Vec<Vec<u8>>, HsmFault> {
    let yubikey = card.yubikey()?;
    let leaf = match piv::attest(yubikey, slot.id()?) {
        Ok(leaf) => leaf.to_vec(),
        Err(Error::GenericError | Error::NotSupported | Error::NotFound) => return Ok(Vec::new()),
        Err(error) => return Err(fault("ATTEST", error)),
    };
    let issuer = match yubikey.fetch_object(ISSUER) {
        Ok(contents) => names::certificate_in(&contents).map(<[u8]>::to_vec),
        Err(Error::NotFound | Error::SizeError) => None,
        Err(error) => return Err(fault("GET DATA", error)),
    };
    Ok([leaf].into_iter().chain(issuer).collect())
}

/// The certificate of slot f9.
const ISSUER: ObjectId = 0x005f_ff01;
