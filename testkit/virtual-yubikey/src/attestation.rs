//! Attestation as Yubico does it (INS F9), under a root of our own that nobody but tests may trust: root → the card's
//! certificate (slot f9) → a certificate for each key.

use p256::ecdsa::{DerSignature, SigningKey, signature::Signer};
use sha2::{Digest, Sha256};

use crate::{
    model::{Model, P_256, P_384},
    state::Slot,
    status::{Answer, Status},
    tlv::{find, tlv},
};

/// The root's certificate, in PEM.
pub(crate) fn root_pem() -> Option<String> {
    let signer = root_key().ok()?;
    let (spki, extensions) = (spki_of(&signer), ca_extensions(&[]));
    let certificate = Certificate { issuer: ROOT, subject: ROOT, spki, extensions, signer };
    pem_rfc7468::encode_string("CERTIFICATE", pem_rfc7468::LineEnding::LF, &certificate.der()).ok()
}

/// The certificate in slot f9 of the card with this serial, in DER.
pub(crate) fn of_card(serial: u32) -> Answer {
    let certificate = Certificate {
        issuer: ROOT,
        subject: CARD,
        spki: spki_of(&card_key(serial)?),
        extensions: ca_extensions(&[2, 1, 0]),
        signer: root_key()?,
    };
    Ok(certificate.der())
}

/// The certificate of a key that was made on the card, in DER: with firmware, serial, policies and form factor, in
/// Yubico's extensions 1.3.6.1.4.1.41482.3.{3,7,8,9}.
pub(crate) fn of_key(model: &Model, slot: u8, key: &Slot) -> Answer {
    let yubico = |number, value: &[u8]| {
        let oid = [6, 10, 0x2b, 6, 1, 4, 1, 0x82, 0xc4, 0x0a, 3, number];
        tlv(0x30, &[&oid, &tlv(4, &[value])])
    };
    let extensions = [
        yubico(3, &model.firmware.0),
        yubico(7, &integer(&model.serial.to_be_bytes())),
        yubico(8, &[key.pin_policy, key.touch_policy]),
        yubico(9, &[USB_A_KEYCHAIN]),
    ];
    let certificate = Certificate {
        issuer: CARD,
        subject: &format!("YubiKey PIV Attestation {slot:02x}"),
        spki: spki(key.alg, &key.public).ok_or(Status::BROKEN)?,
        extensions: extensions.concat(),
        signer: card_key(model.serial)?,
    };
    Ok(certificate.der())
}

const ROOT: &str = "Virtual YubiKey Attestation Root, for tests";
const CARD: &str = "Virtual YubiKey PIV Attestation";
const USB_A_KEYCHAIN: u8 = 1;
const ECDSA_SHA256: &[u8] = &[0x30, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];

struct Certificate<'a> {
    issuer: &'a str,
    subject: &'a str,
    spki: Vec<u8>,
    extensions: Vec<u8>,
    signer: SigningKey,
}

impl Certificate<'_> {
    fn der(&self) -> Vec<u8> {
        // Never the same for two keys, always the same for one.
        let serial = integer(&Sha256::digest([self.subject.as_bytes(), &self.spki].concat())[..16]);
        let validity = tlv(0x30, &[&tlv(0x17, &[b"200101000000Z"]), &tlv(0x18, &[b"20520101000000Z"])]);
        let extensions = tlv(0xa3, &[&tlv(0x30, &[&self.extensions])]);
        let (issuer, subject) = (name(self.issuer), name(self.subject));
        let version_3 = &[0xa0, 3, 2, 1, 2];
        let parts = [&version_3[..], &serial, ECDSA_SHA256, &issuer, &validity, &subject, &self.spki, &extensions];
        let to_be_signed = tlv(0x30, &parts);
        let signature: DerSignature = self.signer.sign(&to_be_signed);
        tlv(0x30, &[&to_be_signed, ECDSA_SHA256, &tlv(3, &[&[0], signature.as_bytes()])])
    }
}

/// A certification authority's basic constraints, with a path length or without, and its key usage (keyCertSign).
fn ca_extensions(path_length: &[u8]) -> Vec<u8> {
    let constraints = tlv(0x30, &[&[1, 1, 0xff], path_length]);
    let extension = |id, value: &[u8]| tlv(0x30, &[&[6, 3, 0x55, 0x1d, id, 1, 1, 0xff], &tlv(4, &[value])]);
    [extension(0x13, &constraints), extension(0x0f, &[3, 2, 2, 4])].concat()
}

/// Everybody has it; that is what the root's name says.
fn root_key() -> Result<SigningKey, Status> {
    SigningKey::from_slice(&Sha256::digest("virtual-yubikey: attestation root")).map_err(|_| Status::BROKEN)
}

fn card_key(serial: u32) -> Result<SigningKey, Status> {
    let seed = Sha256::digest(format!("virtual-yubikey: attestation of {serial}"));
    SigningKey::from_slice(&seed).map_err(|_| Status::BROKEN)
}

fn spki_of(key: &SigningKey) -> Vec<u8> {
    let point = key.verifying_key().to_encoded_point(false);
    spki(P_256, &tlv(0x86, &[point.as_bytes()])).unwrap_or_default()
}

/// From a public key as the card has it.
fn spki(alg: u8, public: &[u8]) -> Option<Vec<u8>> {
    let algorithm: &[u8] = match alg {
        P_256 => &[0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7],
        P_384 => &[0x30, 0x10, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 0x22],
        _ => &[0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0],
    };
    let key = match find(public, 0x86) {
        Some(point) => point.to_vec(),
        None => tlv(0x30, &[&integer(find(public, 0x81)?), &integer(find(public, 0x82)?)]),
    };
    Some(tlv(0x30, &[algorithm, &tlv(3, &[&[0], &key])]))
}

fn name(common_name: &str) -> Vec<u8> {
    tlv(0x30, &[&tlv(0x31, &[&tlv(0x30, &[&[6, 3, 0x55, 4, 3], &tlv(0x0c, &[common_name.as_bytes()])])])])
}

/// Not negative, without leading zeros.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count().min(bytes.len() - 1);
    let number = &bytes[zeros..];
    if number[0] & 0x80 == 0 { tlv(2, &[number]) } else { tlv(2, &[&[0], number]) }
}
