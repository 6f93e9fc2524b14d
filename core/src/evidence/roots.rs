//! Whom an attestation may come from.
//!
//! Shipped: Yubico's roots of PIV attestation, and the intermediate certificates of the newer one, which a YubiKey does not
//! carry. Both as Yubico publishes them:
//!
//! - `yubico/roots.pem`: <https://developers.yubico.com/PKI/yubico-ca-certs.txt> ("Yubico PIV Root CA Serial 263751", the
//!   certificate of 2018) and <https://developers.yubico.com/PKI/yubico-ca-1.pem> ("Yubico Attestation Root 1");
//! - `yubico/intermediates.pem`: those of PIV in <https://developers.yubico.com/PKI/yubico-intermediate.pem>.
//!
//! [`FINGERPRINTS`] holds what they must be, and a test that they are. Left out: the first certificate of the old root, which
//! allows no chain, and the U2F root that signed some early YubiKey 4; who has such a key names the root in the configuration.

use x509_cert::Certificate;

use crate::{certificate::chain, error::Error};

/// SHA-256 of each certificate that is shipped, in hexadecimal, and its subject.
pub const FINGERPRINTS: [(&str, &str); 7] = [
    ("63ece914e54dd87915f34033c85af4c0696ba1512f8add66ced738331207b546", "CN=Yubico PIV Root CA Serial 263751"),
    ("62760c6a6ef91679f454c8902b80fd009825b3f25da90f1fbace2ec6586cd5a8", "CN=Yubico Attestation Root 1"),
    ("4698a1d3389c3ec60016c216250f1d0439922832d65142327436376dc2942b55", "CN=Yubico Attestation Intermediate A 1"),
    ("d4cc3f456fdaf4e7812a21aab1dfe9d8e27d24e2fd2d6f21c9940109f0daa754", "CN=Yubico Attestation Intermediate B 1"),
    ("6de693f05376f5d8ca29069261e1c8626c75d503bd2edbfd75354cad1f722870", "CN=Yubico PIV Attestation A 1"),
    ("2d55b7998f4e42569d6d8fa382b6dc77d1dacf07358b19701163892922b17052", "CN=Yubico PIV Attestation B 1"),
    ("0c90b7d184a36edf50a35f9be935f0c5689bfdcfe5bdd073366cafb49061a440", "CN=Yubico PIV Attestation B2 1"),
];

/// Certification authorities of makers of HSMs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// DER.
    pub(super) anchors: Vec<Vec<u8>>,
    /// DER; lead to the anchors, and are trusted for nothing by themselves.
    pub(super) intermediates: Vec<Vec<u8>>,
}

impl Roots {
    /// None at all: nothing is attested.
    pub fn none() -> Self {
        Self { anchors: Vec::new(), intermediates: Vec::new() }
    }

    /// Yubico's.
    #[expect(clippy::unwrap_used, reason = "`Unwrap safety` below")]
    pub fn yubico() -> Self {
        // Unwrap safety: both files are part of the program, and a test reads them.
        let read = |file: &str| chain::read(file.as_bytes()).unwrap();
        Self { anchors: read(ROOTS), intermediates: read(INTERMEDIATES) }
    }

    /// With those of a PEM file: such as sign themselves are trusted, others may lead to one.
    ///
    /// # Errors
    /// `INVALID_CERTIFICATE` for what is no certificate, and where none signs itself.
    pub fn with_pem(mut self, file: &[u8]) -> Result<Self, Error> {
        let certificates = chain::read(file)?;
        let mut found = false;
        for der in certificates {
            if is_self_issued(&der)? {
                found = true;
                self.anchors.push(der);
            } else {
                self.intermediates.push(der);
            }
        }
        if found {
            return Ok(self);
        }
        let text = "the file holds no root: no certificate in it is issued by itself";
        Err(Error::new(crate::error::Reason::InvalidCertificate, text))
    }
}

fn is_self_issued(der: &[u8]) -> Result<bool, Error> {
    use der::Decode;
    let bad = |error| Error::new(crate::error::Reason::InvalidCertificate, format!("not a certificate: {error}"));
    let decoded = Certificate::from_der(der).map_err(bad)?;
    Ok(decoded.tbs_certificate().subject() == decoded.tbs_certificate().issuer())
}

const ROOTS: &str = include_str!("yubico/roots.pem");
const INTERMEDIATES: &str = include_str!("yubico/intermediates.pem");
