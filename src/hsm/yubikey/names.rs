//! The certificate in a slot says whose key it is: a PIV key has no name of its own.
//!
//! It is signed by the key itself, and its subject is `CN=<label>, OU=<CKA_ID in hex>, O=Hallmark`. Two more kinds, signed
//! by keys that are thrown away: one is written before a key is made (`O=Hallmark reserved`), so that no crash leaves a key
//! without a name; the other where a key was overwritten (`O=Hallmark destroyed`), so that its slot is known to be free.

use std::time::Duration;

use aws_lc_rs::{
    rand::{self, SystemRandom},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use der::{Decode, Encode, oid::db::rfc4519};
use hallmark_core::{
    certificate::request,
    key::Alg,
    ports::{FaultClass, HsmFault},
    public_key::{Curve, PublicKey},
    time::Timestamp,
};
use x509_cert::{Certificate, name::Name};

use super::hex;

/// What a certificate of ours says of the key in its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// It is this one.
    Key,
    /// It is about to be made, or was made right before a crash.
    Reserved,
    /// It was overwritten by a key that nobody needs, which is the certificate's.
    Destroyed,
}

impl Mark {
    const ALL: [Self; 3] = [Self::Key, Self::Reserved, Self::Destroyed];

    fn organization(self) -> &'static str {
        match self {
            Self::Key => "Hallmark",
            Self::Reserved => "Hallmark reserved",
            Self::Destroyed => "Hallmark destroyed",
        }
    }
}

/// What a slot's certificate object holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Object {
    Nothing,
    Ours(Named),
    /// Of another program; the text says what it is.
    Foreign(String),
}

/// A certificate of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) mark: Mark,
    pub(super) cka_id: Vec<u8>,
    pub(super) label: String,
    pub(super) spki: Vec<u8>,
}

impl Object {
    /// Reads the object's contents (NIST SP 800-73-4 part 1, appendix A): tag 70 is the certificate.
    pub(super) fn read(contents: &[u8]) -> Self {
        if contents.is_empty() {
            return Self::Nothing;
        }
        let parsed = certificate_in(contents).map(Certificate::from_der);
        let Some(Ok(certificate)) = parsed else {
            return Self::Foreign("something that can't be read".to_owned());
        };
        let tbs = certificate.tbs_certificate();
        match read_names(tbs.subject()).zip(tbs.subject_public_key_info().to_der().ok()) {
            Some(((mark, cka_id, label), spki)) => Self::Ours(Named { mark, cka_id, label, spki }),
            None => Self::Foreign(format!("a certificate of `{}`", shown(tbs.subject()))),
        }
    }

    /// Whether it names that key, in whatever state.
    pub(super) fn names(&self, cka_id: &[u8], label: &str) -> bool {
        matches!(self, Self::Ours(named) if named.cka_id == cka_id && named.label == label)
    }
}

/// The certificate in an object's contents, DER.
pub(super) fn certificate_in(contents: &[u8]) -> Option<&[u8]> {
    tlv(contents).filter(|(tag, ..)| *tag == 0x70).map(|(_, der, _)| der)
}

/// A certificate for a slot, as the contents of its object. `sign` signs the DER with the key of `public`.
pub(super) fn certificate(
    (mark, cka_id, label): (Mark, &[u8], &str),
    (public, alg): (&PublicKey, Alg),
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, HsmFault>,
) -> Result<Vec<u8>, HsmFault> {
    let failed = |error| HsmFault::new(FaultClass::Request, "certificate", error);
    let subject = format!("CN={},OU={},O={}", escaped(label), hex(cka_id), mark.organization());
    let names = request::Names::new(&subject, &[], &[]).map_err(failed)?;
    let input = request::self_signed(names, public, alg, LIFETIME).map_err(failed)?;
    let mut random = [0; 16];
    rand::fill(&mut random).map_err(|_| no_randomness())?;
    let to_be_signed = input.encode(BEGINNING, random).map_err(failed)?;
    let signature = sign(&to_be_signed.bytes)?;
    let der = request::finish(&to_be_signed, alg, &signature).map_err(failed)?;
    // Not compressed (71 01 00), and without an error detection code (FE 00).
    Ok([&wrapped(0x70, &der)[..], &[0x71, 1, 0, 0xfe, 0]].concat())
}

/// As [`certificate`], signed by a key that is gone right after it.
pub(super) fn signed_by_nobody(mark: Mark, cka_id: &[u8], label: &str) -> Result<Vec<u8>, HsmFault> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| no_randomness())?;
    let public = PublicKey::from_ec_point(Curve::P256, pair.public_key().as_ref());
    let public = public.map_err(|error| HsmFault::new(FaultClass::Request, "certificate", error))?;
    certificate((mark, cka_id, label), (&public, Alg::ES256), |bytes| {
        let signature = pair.sign(&SystemRandom::new(), bytes).map_err(|_| no_randomness())?;
        Ok(signature.as_ref().to_vec())
    })
}

fn read_names(subject: &Name) -> Option<(Mark, Vec<u8>, String)> {
    let text = |oid| {
        let mut found = subject.iter().filter(|one| one.oid == oid);
        let value = found.next()?.value.value();
        // Twice is not what we write.
        found.next().is_none().then(|| String::from_utf8(value.to_vec()).ok())?
    };
    let organization = text(rfc4519::O)?;
    let mark = Mark::ALL.into_iter().find(|mark| mark.organization() == organization)?;
    Some((mark, unhex(&text(rfc4519::OU)?)?, text(rfc4519::CN)?))
}

/// For people. The text may come from anyone who wrote to the card.
fn shown(subject: &Name) -> String {
    subject.to_string().chars().filter(|char| !char.is_control()).take(80).collect()
}

/// RFC 4514 §2.4.
fn escaped(text: &str) -> String {
    let special = |char: char| matches!(char, ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=' | '#' | ' ');
    text.chars().flat_map(|char| special(char).then_some('\\').into_iter().chain([char])).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    bytes.collect::<Option<Vec<_>>>().filter(|bytes| !bytes.is_empty() && text.len().is_multiple_of(2))
}

/// Tag, value and rest of the first object in `bytes`: lengths of up to two bytes.
fn tlv(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (len, rest) = match rest {
        [len @ 0..=0x7f, rest @ ..] => (usize::from(*len), rest),
        [0x81, len, rest @ ..] => (usize::from(*len), rest),
        [0x82, high, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(len)?;
    Some((*tag, value, rest))
}

fn wrapped(tag: u8, value: &[u8]) -> Vec<u8> {
    let [.., high, low] = value.len().to_be_bytes();
    [&[tag, 0x82, high, low], value].concat()
}

fn no_randomness() -> HsmFault {
    HsmFault::new(FaultClass::Unspecific, "certificate", "the random generator failed")
}

/// Nobody goes by the dates; this room has no clock. 2025-01-01.
const BEGINNING: Timestamp = Timestamp::from_secs(1_735_689_600);
const LIFETIME: Duration = Duration::from_secs(20 * 365 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for (mark, label) in [
            (Mark::Reserved, "hallmark:epic-prod:RS384:0a1b2c3d"),
            (Mark::Destroyed, "another label"),
            (Mark::Key, " odd, \"one\" = #1; <a+b> \\ é "),
        ] {
            let contents = signed_by_nobody(mark, &[0xfe, 1], label).unwrap();
            let Object::Ours(named) = Object::read(&contents) else { panic!("{label}: not taken for ours") };
            assert_eq!((named.mark, named.cka_id.as_slice(), named.label.as_str()), (mark, &[0xfe, 1][..], label));
            assert!(Object::Ours(named).names(&[0xfe, 1], label));
        }
    }

    #[test]
    fn what_others_wrote_is_theirs() {
        assert_eq!(Object::read(&[]), Object::Nothing);
        for bytes in [&[0x70][..], &[0x70, 5, 1], &[0x71, 0], &[0x70, 0], &[0x70, 0x84, 0, 0, 0, 1, 0]] {
            assert!(matches!(Object::read(bytes), Object::Foreign(_)), "{bytes:?}");
        }
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let public = PublicKey::from_ec_point(Curve::P256, pair.public_key().as_ref()).unwrap();
        let names = request::Names::new("CN=SSH key,O=Acme", &[], &[]).unwrap();
        let input = request::self_signed(names, &public, Alg::ES256, LIFETIME).unwrap();
        let signed = input.encode(BEGINNING, [7; 16]).unwrap();
        let signature = pair.sign(&SystemRandom::new(), &signed.bytes).unwrap();
        let der = request::finish(&signed, Alg::ES256, signature.as_ref()).unwrap();
        let Object::Foreign(text) = Object::read(&wrapped(0x70, &der)) else { panic!("taken for ours") };
        assert!(text.contains("SSH key") && text.contains("Acme"), "{text}");
    }
}
