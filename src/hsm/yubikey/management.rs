//! The PIV management key: whoever has it may make keys, replace them and write certificates.

use std::sync::Mutex;

use hallmark_core::ports::{FaultClass, HsmFault};
use secrecy::ExposeSecret;
use yubikey::{
    Error, MgmKey, YubiKey,
    piv::{self, ManagementSlotId, SlotAlgorithmId, SlotId},
};
use zeroize::Zeroizing;

use super::{classify::fault, lock};
use crate::{
    hardening::{Locked, private_buffer},
    hsm::pin::{PinError, PinSource},
};

/// Where the management key comes from. Tried once as long as its source does not change: unlike a PIN it is never
/// blocked, so this is remembered by the process alone.
pub(super) struct Management {
    source: PinSource,
    refused: Mutex<Option<String>>,
}

impl Management {
    pub(super) fn new(source: PinSource) -> Self {
        Self { source, refused: Mutex::default() }
    }

    /// Authenticates, until the application is selected anew.
    pub(super) fn authenticate(&self, yubikey: &mut YubiKey) -> Result<(), HsmFault> {
        let source = &self.source;
        let read = source.read().map_err(|error| refused(told(&error)))?;
        if lock(&self.refused).as_ref() == Some(&read.source_id) {
            let hint = "correct it, then write the file anew";
            return Err(refused(format!(
                "the management key in `{source}` was tried before and not accepted\nhint: {hint}"
            )));
        }
        let (_lock, bytes) = decode(read.secret.expose_secret()).ok_or_else(|| self.unreadable())?;
        let slot = SlotId::Management(ManagementSlotId::Management);
        let algorithm = match piv::metadata(yubikey, slot).map_err(|error| fault("GET METADATA", error))?.algorithm {
            SlotAlgorithmId::Management(algorithm) => algorithm,
            other => return Err(refused(format!("the management key is of an unknown kind: {other:?}"))),
        };
        let key = MgmKey::from_bytes(&*bytes, Some(algorithm)).map(Wiped).map_err(|_| {
            refused(format!(
                "the management key in `{source}` has {} bytes, and this YubiKey's is {algorithm:?}\n\
                 hint: ykman piv access change-management-key",
                bytes.len()
            ))
        })?;
        match yubikey.authenticate(&key.0) {
            Ok(()) => Ok(()),
            Err(Error::AuthenticationError) => {
                *lock(&self.refused) = Some(read.source_id);
                Err(self.not_accepted(yubikey))
            }
            Err(error) => Err(fault("GENERAL AUTHENTICATE", error)),
        }
    }

    fn not_accepted(&self, yubikey: &YubiKey) -> HsmFault {
        let (source, serial) = (&self.source, yubikey.serial());
        refused(format!(
            "the management key in `{source}` is not that of YubiKey {serial}: no key was made or destroyed\n\
             hint: correct it, then write the file anew; ykman --device {serial} piv info tells its algorithm"
        ))
    }

    fn unreadable(&self) -> HsmFault {
        let hint = "write it in hex: 48 digits for 3DES and AES-192, 32 for AES-128, 64 for AES-256";
        refused(format!("`{}` does not hold a management key\nhint: {hint}", self.source))
    }
}

/// What is the matter with a source, in the words of this one.
pub fn told(error: &PinError) -> String {
    let text = error.to_string().replace("`pin_source`", "`management_key_source`");
    text.replace("the PIN", "the management key").replace("a PIN", "a management key")
}

/// The crate does not wipe its key.
struct Wiped(MgmKey);

impl Drop for Wiped {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: an array of bytes in an enum, which owns no memory beside and is not looked at again; it has no `drop`.
        unsafe { zeroize::zeroize_flat_type(&raw mut self.0) };
    }
}

fn decode(text: &[u8]) -> Option<(Option<Locked>, Zeroizing<Vec<u8>>)> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let (lock, mut bytes) = private_buffer(text.len().div_ceil(2));
    for pair in text.chunks(2) {
        let [high, low] = pair else { return None };
        bytes.push(u8::try_from(digit(high)? * 16 + digit(low)?).ok()?);
    }
    matches!(bytes.len(), 16 | 24 | 32).then_some((lock, bytes))
}

fn refused(why: String) -> HsmFault {
    HsmFault::new(FaultClass::Request, "management key", why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_management_key_is_hex_of_the_length_of_a_cipher_key() {
        assert_eq!(decode(&[b'a'; 48]).unwrap().1.as_slice(), [0xaa; 24]);
        assert_eq!(decode(b"000102030405060708090A0B0C0D0E0F").unwrap().1[10], 10);
        for bad in [&b""[..], b"0", b"01", &[b'g'; 48], &[b'a'; 47], &[b'a'; 50]] {
            assert!(decode(bad).is_none(), "{bad:?}");
        }
    }
}
