//! What a YubiKey attests of a key (Yubico, "PIV attestation"): a certificate for the key, which the YubiKey itself signs with
//! the key of slot f9 and only for what was generated in it; a certificate for that, and so on up to a root of Yubico's.
//!
//! ```text
//! root (Yubico) → [intermediates] → slot f9 (each YubiKey its own, CA:TRUE) → the key (1.3.6.1.4.1.41482.3.*)
//! ```

use std::fmt;

use serde::Serialize;
use x509_cert::{
    Certificate,
    ext::{
        Extension,
        pkix::{BasicConstraints, KeyUsage},
    },
    spki::ObjectIdentifier,
};

use super::roots::Roots;
use crate::{
    certificate::{Validity, algorithm, decode, public_key},
    public_key::{Numbers, PublicKey},
    time::Timestamp,
};

/// What a chain that holds says of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attestation {
    /// Of the YubiKey.
    pub serial: u32,
    pub firmware: Firmware,
    /// The slot that it was generated in, such as `9a`, where the subject says so.
    pub slot: Option<String>,
    pub pin_policy: Policy,
    pub touch_policy: Policy,
    /// The first byte of 1.3.6.1.4.1.41482.3.9, where it is there.
    pub form_factor: Option<u8>,
    /// The subject of the root, RFC 4514.
    pub root: String,
}

/// A YubiKey's firmware version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Firmware(pub u8, pub u8, pub u8);

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl Serialize for Firmware {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// When PIN or touch are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    Never,
    /// The PIN: once a session. A touch: good for 15 seconds.
    Once,
    Always,
    /// With a fingerprint instead.
    Match,
    Unknown,
}

impl Policy {
    /// As in text and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Once => "once",
            Self::Always => "always",
            Self::Match => "match",
            Self::Unknown => "unknown",
        }
    }

    fn of_pin(byte: u8) -> Self {
        match byte {
            1 => Self::Never,
            2 => Self::Once,
            3 => Self::Always,
            4 | 5 => Self::Match,
            _ => Self::Unknown,
        }
    }

    fn of_touch(byte: u8) -> Self {
        match byte {
            1 => Self::Never,
            2 => Self::Always,
            3 => Self::Once,
            _ => Self::Unknown,
        }
    }
}

/// Why a chain attests nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAttested {
    #[error("the HSM gave no attestation for it")]
    None,
    #[error("the attestation has more than {MOST} certificates or {LONGEST} bytes")]
    TooLarge,
    #[error("certificate {0} of the attestation can't be read: {1}")]
    Unreadable(usize, String),
    #[error("the attestation is for another key")]
    OtherKey,
    #[error("its first certificate is none that a YubiKey makes for a key: {0}")]
    NoStatement(&'static str),
    #[error("the attestation does not lead to a root that is trusted: nobody known issued `{0}`")]
    NoRoot(String),
    #[error("certificate `{0}` of the attestation does not hold now")]
    NotValid(String),
    #[error("certificate `{0}` of the attestation has a critical extension that is not understood")]
    Critical(String),
    #[error("firmware {0} makes RSA keys that can be computed from their public half (CVE-2017-15361)")]
    WeakRsa(Firmware),
}

/// Checks that `chain`, the key's own certificate first, attests `key` at `now`.
///
/// # Errors
/// The first reason why it does not.
pub fn check(chain: &[Vec<u8>], key: &PublicKey, roots: &Roots, now: Timestamp) -> Result<Attestation, NotAttested> {
    if chain.is_empty() {
        return Err(NotAttested::None);
    }
    if chain.len() > MOST || chain.iter().map(Vec::len).sum::<usize>() > LONGEST {
        return Err(NotAttested::TooLarge);
    }
    let read = |(number, der): (usize, _)| {
        Link::read(Vec::as_slice(der)).map_err(|error| NotAttested::Unreadable(number, error))
    };
    let mut given = (1..).zip(chain.iter()).map(read).collect::<Result<Vec<_>, _>>()?.into_iter();
    let leaf = given.next().ok_or(NotAttested::None)?;
    if !public_key(&leaf.decoded).is_some_and(|of| of.numbers() == key.numbers()) {
        return Err(NotAttested::OtherKey);
    }
    let statement = Statement::read(&leaf)?;
    if matches!(key.numbers(), Numbers::Rsa { .. }) && WEAK_RSA.contains(&statement.firmware) {
        return Err(NotAttested::WeakRsa(statement.firmware));
    }
    let known = roots.intermediates.iter().filter_map(|der| Link::read(der).ok());
    let root = climb(leaf, given.chain(known).collect(), roots, now)?;
    Ok(statement.with(root))
}

/// From `leaf` up to a root, one issuer at a time; its subject.
fn climb<'a>(
    leaf: Link<'a>,
    mut others: Vec<Link<'a>>,
    roots: &'a Roots,
    now: Timestamp,
) -> Result<String, NotAttested> {
    let anchors: Vec<_> = roots.anchors.iter().filter_map(|der| Link::read(der).ok()).collect();
    let mut at = leaf;
    // How many certificates of CAs there are below the one that is looked for (RFC 5280 §4.2.1.9).
    for below in 0..MOST {
        at.check(now)?;
        if let Some(anchor) = anchors.iter().find(|anchor| anchor.issued(&at, below)) {
            anchor.check(now)?;
            return Ok(anchor.subject());
        }
        let next = others.iter().position(|other| other.issued(&at, below));
        at = others.swap_remove(next.ok_or_else(|| NotAttested::NoRoot(at.subject()))?);
    }
    Err(NotAttested::NoRoot(at.subject()))
}

/// One certificate.
struct Link<'a> {
    decoded: Certificate,
    signed: algorithm::SignedRef<'a>,
}

impl<'a> Link<'a> {
    fn read(der: &'a [u8]) -> Result<Self, String> {
        use der::Decode;
        let decoded = decode(der).map_err(|error| error.to_string())?;
        let signed = algorithm::SignedRef::from_der(der).map_err(|error| error.to_string())?;
        Ok(Self { decoded, signed })
    }

    /// A stranger's text: bounded, and without what moves a terminal's cursor.
    fn subject(&self) -> String {
        let subject: String = self.decoded.tbs_certificate().subject().to_string().chars().take(120).collect();
        subject.escape_debug().to_string()
    }

    /// Whether it is a CA's, may have so many others `below` it, and has signed `other`.
    fn issued(&self, other: &Self, below: usize) -> bool {
        let (issuer, tbs) = (self.decoded.tbs_certificate(), other.decoded.tbs_certificate());
        // What no CA says of itself is no CA: any attested key can sign what it likes.
        let Ok(Some((_, constraints))) = issuer.get_extension::<BasicConstraints>() else { return false };
        let signs = match issuer.get_extension::<KeyUsage>() {
            Ok(usage) => usage.is_none_or(|(_, usage)| usage.key_cert_sign()),
            Err(_) => false,
        };
        let deep_enough = constraints.path_len_constraint.is_none_or(|most| below <= usize::from(most));
        constraints.ca
            && signs
            && deep_enough
            && tbs.issuer() == issuer.subject()
            && algorithm::is_signed_by(&other.signed, issuer.subject_public_key_info()).unwrap_or(false)
    }

    fn check(&self, now: Timestamp) -> Result<(), NotAttested> {
        if !Validity::of(&self.decoded).holds(now) {
            return Err(NotAttested::NotValid(self.subject()));
        }
        let understood = |extension: &Extension| !extension.critical || UNDERSTOOD.contains(&extension.extn_id);
        if !self.extensions().iter().all(understood) {
            return Err(NotAttested::Critical(self.subject()));
        }
        Ok(())
    }

    fn extensions(&self) -> &[Extension] {
        self.decoded.tbs_certificate().extensions().map_or(&[], Vec::as_slice)
    }

    /// What an extension of Yubico's holds, where it is there once: in an OCTET STRING of its own or not, for both were seen.
    fn value<const N: usize>(&self, oid: ObjectIdentifier) -> Option<[u8; N]> {
        let value = self.raw(oid)?;
        match value {
            [4, len, inner @ ..] if usize::from(*len) == inner.len() && inner.len() == N => inner.try_into().ok(),
            bare => bare.try_into().ok(),
        }
    }

    fn raw(&self, oid: ObjectIdentifier) -> Option<&[u8]> {
        let mut found = self.extensions().iter().filter(|extension| extension.extn_id == oid);
        match (found.next(), found.next()) {
            (Some(extension), None) => Some(extension.extn_value.as_bytes()),
            _ => None,
        }
    }
}

/// What the certificate that the YubiKey made says, before it is known that one did.
struct Statement {
    serial: u32,
    firmware: Firmware,
    policies: [u8; 2],
    form_factor: Option<u8>,
    slot: Option<String>,
}

impl Statement {
    fn read(leaf: &Link<'_>) -> Result<Self, NotAttested> {
        let constraints = leaf.decoded.tbs_certificate().get_extension::<BasicConstraints>();
        if !matches!(&constraints, Ok(found) if found.as_ref().is_none_or(|(_, constraints)| !constraints.ca)) {
            return Err(NotAttested::NoStatement("it is a CA's"));
        }
        let missing = NotAttested::NoStatement;
        let [major, minor, patch] = leaf.value(FIRMWARE).ok_or(missing("it names no firmware"))?;
        let serial = leaf.raw(SERIAL).and_then(serial);
        Ok(Self {
            serial: serial.ok_or(missing("it names no serial"))?,
            firmware: Firmware(major, minor, patch),
            policies: leaf.value(POLICIES).ok_or(missing("it names no policies for PIN and touch"))?,
            form_factor: leaf.value::<1>(FORM_FACTOR).map(|[byte]| byte),
            slot: slot(&leaf.subject()),
        })
    }

    fn with(self, root: String) -> Attestation {
        let Self { serial, firmware, policies: [pin, touch], form_factor, slot } = self;
        let (pin_policy, touch_policy) = (Policy::of_pin(pin), Policy::of_touch(touch));
        Attestation { serial, firmware, slot, pin_policy, touch_policy, form_factor, root }
    }
}

/// An INTEGER, minimal or not: nobody but the signer could have written it otherwise.
fn serial(value: &[u8]) -> Option<u32> {
    let [2, len, bytes @ ..] = value else { return None };
    let fits = usize::from(*len) == bytes.len() && (1..=8).contains(&bytes.len());
    let number = bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    u32::try_from(number).ok().filter(|_| fits)
}

/// "CN=YubiKey PIV Attestation 9a".
fn slot(subject: &str) -> Option<String> {
    let slot = subject.split_once("PIV Attestation ")?.1;
    (slot.len() == 2 && slot.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| slot.to_ascii_lowercase())
}

/// A chain has no more certificates, with those that are shipped.
const MOST: usize = 8;
const LONGEST: usize = 32 * 1024;
/// Yubico's extensions ("PIV attestation", "Extensions in the generated certificate").
const FIRMWARE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.41482.3.3");
const SERIAL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.41482.3.7");
const POLICIES: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.41482.3.8");
const FORM_FACTOR: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.41482.3.9");
/// basicConstraints and keyUsage (RFC 5280 §4.2.1).
const UNDERSTOOD: [ObjectIdentifier; 2] =
    [ObjectIdentifier::new_unwrap("2.5.29.19"), ObjectIdentifier::new_unwrap("2.5.29.15")];
/// Yubico security advisory YSA-2017-01.
const WEAK_RSA: std::ops::RangeInclusive<Firmware> = Firmware(4, 2, 6)..=Firmware(4, 3, 4);

/// Whether the certificate `issuer` is a CA's that signed `der`, in tests.
#[cfg(test)]
pub(super) fn issued(issuer: &[u8], der: &[u8]) -> bool {
    Link::read(issuer).is_ok_and(|issuer| Link::read(der).is_ok_and(|link| issuer.issued(&link, 0)))
}
