//! X.509 certificates of clients' keys: asked for, made, checked, and shown.
//!
//! - [`request`]: what is signed to ask for one (PKCS#10), or to make one that signs itself;
//! - [`chain`]: what must hold of a chain before it is installed, and how a file is read;
//! - `algorithm`: signatures as certificates have them.
//!
//! Some authorization servers hold a certificate instead of reading the JWKS. A key's chain is kept beside it, as DER,
//! leaf first; [`check`] says whether its leaf may be shown now.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use der::{Decode, asn1::GeneralizedTime};
use x509_cert::{
    ext::pkix::{SubjectAltName, name::GeneralName},
    time::Time,
};

use crate::{
    client::Client,
    error::{Error, Reason},
    public_key::PublicKey,
    time::Timestamp,
};

pub(crate) mod algorithm;
pub mod chain;
pub mod request;

/// A certificate, as far as anyone asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// RFC 4514.
    pub subject: String,
    /// RFC 4514.
    pub issuer: String,
    /// In hexadecimal.
    pub serial: String,
    pub validity: Validity,
    /// URIs and DNS names of the subject's alternative names, in their order.
    pub san_uris: Vec<String>,
    pub san_dns: Vec<String>,
    pub thumbprints: Thumbprints,
}

/// From when until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

/// Digests of the DER, as authorization servers know a certificate by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thumbprints {
    pub sha1: Vec<u8>,
    pub sha256: Vec<u8>,
}

/// The bytes are no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a certificate that can be read: {0}")]
pub struct InvalidCertificate(pub(crate) String);

impl Certificate {
    /// Reads one DER certificate.
    pub fn parse(der: &[u8]) -> Result<Self, InvalidCertificate> {
        Ok(Self::of(&decode(der)?, der))
    }

    /// What `decoded`, which is `der`, says of itself.
    fn of(decoded: &x509_cert::Certificate, der: &[u8]) -> Self {
        let tbs = decoded.tbs_certificate();
        let (mut san_uris, mut san_dns) = (Vec::new(), Vec::new());
        let names = tbs.get_extension::<SubjectAltName>().ok().flatten().map(|(_, names)| names.0).unwrap_or_default();
        for name in names {
            match name {
                GeneralName::UniformResourceIdentifier(uri) => san_uris.push(uri.as_str().to_owned()),
                GeneralName::DnsName(dns) => san_dns.push(dns.as_str().to_owned()),
                _ => {}
            }
        }
        Self {
            subject: tbs.subject().to_string(),
            issuer: tbs.issuer().to_string(),
            serial: hex(tbs.serial_number().as_bytes()),
            validity: Validity::of(decoded),
            san_uris,
            san_dns,
            thumbprints: Thumbprints::of(der),
        }
    }
}

impl Validity {
    /// Of the leaf of a record's chain; `None` where there is none, or none that can be read.
    pub fn of_leaf(chain: &[Vec<u8>]) -> Option<Self> {
        decode(chain.first()?).ok().map(|leaf| Self::of(&leaf))
    }

    pub(crate) fn of(decoded: &x509_cert::Certificate) -> Self {
        let validity = decoded.tbs_certificate().validity();
        let secs = |time: &Time| i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
        Self {
            not_before: Timestamp::from_secs(secs(&validity.not_before)),
            // The last second belongs to it (RFC 5280 §4.1.2.5).
            not_after: Timestamp::from_secs(secs(&validity.not_after)),
        }
    }

    /// Whether it may be used at `now`.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.not_before <= now && now.secs() <= self.not_after.secs()
    }

    /// Whether it ends within `warning` from `now`, or has ended.
    pub fn ends_within(&self, warning: Duration, now: Timestamp) -> bool {
        self.not_after <= now.plus(warning)
    }

    /// Why it does not hold at `now`.
    fn objection(&self, now: Timestamp) -> Option<String> {
        match () {
            () if self.holds(now) => None,
            () if now < self.not_before => Some(format!("it is not valid before {}", rfc3339(self.not_before))),
            () => Some(format!("it expired at {}", rfc3339(self.not_after))),
        }
    }
}

impl Thumbprints {
    /// Of a DER certificate.
    pub fn of(der: &[u8]) -> Self {
        let digest = |algorithm| digest::digest(algorithm, der).as_ref().to_vec();
        Self { sha1: digest(&digest::SHA1_FOR_LEGACY_USE_ONLY), sha256: digest(&digest::SHA256) }
    }

    /// As `x5t` has it.
    pub fn x5t(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.sha1)
    }

    /// As `x5t#S256` has it.
    pub fn x5t_s256(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.sha256)
    }
}

/// Whether the certificate of the key that is to sign for `client` may be shown at `now`. Asks nothing of a client whose
/// assertions show none.
pub fn check(client: &Client, validity: Option<Validity>, now: Timestamp) -> Result<(), Error> {
    if !client.makes.wants_certificate() {
        return Ok(());
    }
    match validity.map(|validity| validity.objection(now)) {
        None => Err(missing(client)),
        Some(None) => Ok(()),
        Some(Some(objection)) => Err(unusable(client, &objection)),
    }
}

pub(crate) fn missing(client: &Client) -> Error {
    unusable(client, "it has none")
}

fn unusable(client: &Client, objection: &str) -> Error {
    let text = format!(
        "client `{0}` needs a certificate for its key, as its authorization server looks for one: {objection}; an \
         operator can run `hallmark csr {0}`, have it signed, and `hallmark cert install {0} FILE --reason TEXT`",
        client.name
    );
    Error::new(Reason::NoCertificate, text)
}

/// PEM (RFC 7468 §5) of DER certificates, in their order.
pub fn to_pem<'a>(chain: impl IntoIterator<Item = &'a Vec<u8>>) -> String {
    chain.into_iter().map(|der| pem("CERTIFICATE", der)).collect()
}

/// One PEM block.
pub fn pem(label: &str, der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in encoded.as_bytes().chunks(64) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

pub(crate) fn decode(der: &[u8]) -> Result<x509_cert::Certificate, InvalidCertificate> {
    x509_cert::Certificate::from_der(der).map_err(|error| InvalidCertificate(error.to_string()))
}

/// The public key in a certificate, where it is of a kind that Hallmark signs with.
pub(crate) fn public_key(decoded: &x509_cert::Certificate) -> Option<PublicKey> {
    let spki = der::Encode::to_der(decoded.tbs_certificate().subject_public_key_info()).ok()?;
    PublicKey::from_spki(&spki).ok()
}

/// Whether `der` is a certificate for `key`.
pub fn is_for(der: &[u8], key: &PublicKey) -> bool {
    key_of(der).is_some_and(|of| of.numbers() == key.numbers())
}

/// The public key that `der` is a certificate for, where it is of a kind that Hallmark signs with.
pub(crate) fn key_of(der: &[u8]) -> Option<PublicKey> {
    decode(der).ok().and_then(|decoded| public_key(&decoded))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// To the second, in UTC; only for times that a certificate can hold.
fn rfc3339(at: Timestamp) -> String {
    let secs = Duration::from_secs(u64::try_from(at.secs()).unwrap_or(0));
    GeneralizedTime::from_unix_duration(secs).map_or_else(|_| at.secs().to_string(), |at| at.to_date_time().to_string())
}

#[cfg(test)]
mod tests;
