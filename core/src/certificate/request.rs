//! Asks for a certificate, or makes one that signs itself: under the key that it is for.
//!
//! What is signed is DER and begins with a SEQUENCE, which no JOSE input does: it can't pass for an assertion.

use std::time::Duration;

use der::{
    Decode, Encode, Tag, Tagged,
    asn1::{
        GeneralizedTime, Ia5String, Ia5StringRef, OctetString, PrintableStringRef, SetOfVec, UtcTime, Utf8StringRef,
    },
    flagset::FlagSet,
    oid::AssociatedOid,
};
use x509_cert::{
    attr::Attribute,
    ext::{
        Extension,
        pkix::{BasicConstraints, KeyUsage, KeyUsages, SubjectAltName, SubjectKeyIdentifier, name::GeneralName},
    },
    name::Name,
    request::{CertReqInfo, ExtensionReq, Version},
    serial_number::SerialNumber,
    spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned},
    time::{Time, Validity},
};

use super::algorithm;
use crate::{
    assertion::{SigningInput, ToBeSigned},
    error::{Error, Reason},
    key::Alg,
    policy::Identity,
    public_key::PublicKey,
    time::Timestamp,
};

/// Whose certificate it is to be: a subject, and alternative names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    subject: Name,
    alternative: Vec<GeneralName>,
}

impl Names {
    /// `subject` as RFC 4514 writes it, such as `CN=clinic.example,O=Clinic,C=US`; URIs byte for byte, and DNS names.
    pub fn new(subject: &str, uris: &[String], dns: &[String]) -> Result<Self, Error> {
        if uris.len() + dns.len() > MOST_NAMES {
            return Err(invalid(format!("a certificate has at most {MOST_NAMES} alternative names here")));
        }
        let uris = uris.iter().map(|uri| Ok(GeneralName::UniformResourceIdentifier(check_uri(uri)?)));
        let dns = dns.iter().map(|dns| Ok(GeneralName::DnsName(check_dns(dns)?)));
        let alternative = uris.chain(dns).collect::<Result<_, Error>>()?;
        Ok(Self { subject: parse_subject(subject)?, alternative })
    }

    /// The extensions that say so, with the one use that the key has.
    fn extensions(&self) -> der::Result<Vec<Extension>> {
        let usage = KeyUsage(FlagSet::from(KeyUsages::DigitalSignature));
        let mut extensions = vec![extension(&usage, true)?];
        if !self.alternative.is_empty() {
            // Where there is no subject these are all the names that there are (RFC 5280 §4.2.1.6).
            extensions.push(extension(&SubjectAltName(self.alternative.clone()), self.subject.is_empty())?);
        }
        Ok(extensions)
    }
}

/// A request (PKCS#10, RFC 2986) that is to be signed.
#[derive(Debug)]
pub struct Request {
    content: Vec<u8>,
}

/// A certificate that is to sign itself, without its dates and serial number.
#[derive(Debug)]
pub struct SelfSigned {
    names: Names,
    spki: SubjectPublicKeyInfoOwned,
    alg: Alg,
    lifetime: Duration,
}

/// Asks for a certificate of `key` with these names.
pub fn request(names: &Names, key: &PublicKey) -> Result<SigningInput, Error> {
    let encode = || {
        let mut values = SetOfVec::new();
        values.insert(der::Any::encode_from(&names.extensions()?)?)?;
        let mut attributes = SetOfVec::new();
        attributes.insert(Attribute { oid: ExtensionReq::OID, values })?;
        let (subject, public_key) = (names.subject.clone(), spki(key)?);
        CertReqInfo { version: Version::V1, subject, public_key, attributes }.to_der()
    };
    Ok(SigningInput::CertificateRequest(Request { content: encode().map_err(Error::internal)? }))
}

/// Makes a certificate of `key` with these names that signs itself with `alg`, good for `lifetime`.
pub fn self_signed(names: Names, key: &PublicKey, alg: Alg, lifetime: Duration) -> Result<SigningInput, Error> {
    if !(SHORTEST..=LONGEST).contains(&lifetime) {
        return Err(invalid("a certificate that signs itself is good for 1 day to 20 years here".to_owned()));
    }
    let spki = spki(key).map_err(Error::internal)?;
    Ok(SigningInput::Certificate(SelfSigned { names, spki, alg, lifetime }))
}

/// The finished request or certificate, DER: what was signed, and the signature as the HSM made it (for ECDSA r ‖ s).
pub fn finish(signed: &ToBeSigned, alg: Alg, signature: &[u8]) -> Result<Vec<u8>, Error> {
    algorithm::join(&signed.bytes, alg, signature)
}

impl Request {
    pub(crate) fn content(&self) -> &[u8] {
        &self.content
    }
}

impl SelfSigned {
    /// The DER to sign, at `now`; the serial number comes of `random`.
    pub(crate) fn encode(&self, now: Timestamp, random: [u8; 16]) -> Result<Vec<u8>, Error> {
        self.try_encode(now, random).map_err(Error::internal)
    }

    fn try_encode(&self, now: Timestamp, mut random: [u8; 16]) -> der::Result<Vec<u8>> {
        // Never zero (RFC 5280 §4.1.2.2), and never of different lengths.
        random[0] = random[0] & 0x7f | 0x40;
        let mut extensions = vec![extension(&BasicConstraints { ca: false, path_len_constraint: None }, true)?];
        extensions.extend(self.names.extensions()?);
        let identifier = SubjectKeyIdentifier(OctetString::new(&random[..])?);
        extensions.push(extension(&identifier, false)?);
        TbsCertificate {
            version: 2,
            serial_number: SerialNumber::new(&random)?,
            signature: algorithm::identifier(self.alg)?,
            issuer: self.names.subject.clone(),
            validity: Validity::new(time(now.minus(BACKDATE))?, time(now.plus(self.lifetime))?),
            subject: self.names.subject.clone(),
            subject_public_key_info: self.spki.clone(),
            extensions,
        }
        .to_der()
    }
}

/// RFC 5280 §4.1; that of `x509-cert` is made by its builder alone.
#[derive(der::Sequence)]
struct TbsCertificate {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    version: u8,
    serial_number: SerialNumber,
    signature: AlgorithmIdentifierOwned,
    issuer: Name,
    validity: Validity,
    subject: Name,
    subject_public_key_info: SubjectPublicKeyInfoOwned,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT")]
    extensions: Vec<Extension>,
}

fn extension<T: Encode + AssociatedOid>(value: &T, critical: bool) -> der::Result<Extension> {
    Ok(Extension { extn_id: T::OID, critical, extn_value: OctetString::new(value.to_der()?)? })
}

fn spki(key: &PublicKey) -> der::Result<SubjectPublicKeyInfoOwned> {
    SubjectPublicKeyInfoOwned::from_der(key.spki())
}

/// UTCTime until 2049, GeneralizedTime from then on (RFC 5280 §4.1.2.5).
fn time(at: Timestamp) -> der::Result<Time> {
    let since_1970 = Duration::from_secs(u64::try_from(at.secs()).unwrap_or(0));
    match UtcTime::from_unix_duration(since_1970) {
        Ok(time) => Ok(Time::UtcTime(time)),
        Err(_) => Ok(Time::GeneralTime(GeneralizedTime::from_unix_duration(since_1970)?)),
    }
}

fn parse_subject(text: &str) -> Result<Name, Error> {
    let refused = || {
        let shown: String = text.chars().take(80).collect();
        invalid(format!(
            "not a subject: `{shown}`; write it as RFC 4514 does, most specific first: \
             `CN=clinic.example,O=Clinic,C=US`"
        ))
    };
    if text.len() > LONGEST_NAME || text.chars().any(char::is_control) {
        return Err(refused());
    }
    let name: Name = without_spaces(text).parse().map_err(|_| refused())?;
    // What was put together of unchecked strings must read back.
    let reads_back = name.to_der().and_then(|der| Name::from_der(&der)).is_ok_and(|back| back == name);
    if name.is_empty() || !reads_back || !name.iter().all(|one| is_text(&one.value)) {
        return Err(refused());
    }
    Ok(name)
}

/// Whether it is a string of its kind, and not empty: a country has no umlauts.
fn is_text(value: &der::Any) -> bool {
    let is_of_its_kind = match value.tag() {
        Tag::PrintableString => PrintableStringRef::try_from(value).is_ok(),
        Tag::Ia5String => Ia5StringRef::try_from(value).is_ok(),
        Tag::Utf8String => Utf8StringRef::try_from(value).is_ok(),
        _ => false,
    };
    is_of_its_kind && !value.value().is_empty()
}

/// `CN=a, O=b` is how people write it; RFC 4514 has no space there.
fn without_spaces(subject: &str) -> String {
    let (mut out, mut before, mut escaped) = (String::with_capacity(subject.len()), ',', false);
    for char in subject.trim().chars() {
        if char == ' ' && before == ',' {
            continue;
        }
        out.push(char);
        before = if escaped { ' ' } else { char };
        escaped = char == '\\' && !escaped;
    }
    out
}

fn check_uri(uri: &str) -> Result<Ia5String, Error> {
    let scheme = uri.split_once(':').map(|(scheme, rest)| (scheme, !rest.is_empty()));
    let scheme_ok = scheme.is_some_and(|(scheme, more)| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        more && scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(allowed)
    });
    if uri.len() > LONGEST_NAME || !scheme_ok || !uri.bytes().all(|byte| byte.is_ascii_graphic()) {
        let shown: String = uri.chars().take(80).collect();
        return Err(invalid(format!(
            "not a URI: `{shown}`; it is taken byte for byte, such as `https://clinic.example/`"
        )));
    }
    Ia5String::new(uri).map_err(Error::internal)
}

fn check_dns(name: &str) -> Result<Ia5String, Error> {
    match Identity::dns(name) {
        Some(_) => Ia5String::new(name).map_err(Error::internal),
        None => {
            let shown: String = name.chars().take(80).collect();
            Err(invalid(format!("not a DNS name: `{shown}`; write one such as `clinic.example`, without wildcards")))
        }
    }
}

fn invalid(text: String) -> Error {
    Error::new(Reason::InvalidRequest, text)
}

const MOST_NAMES: usize = 16;
const LONGEST_NAME: usize = 2048;
const DAY: Duration = Duration::from_secs(86_400);
const SHORTEST: Duration = DAY;
const LONGEST: Duration = Duration::from_secs(20 * 366 * 86_400);
/// For whoever looks at it with a clock that is behind ours.
const BACKDATE: Duration = Duration::from_secs(300);
