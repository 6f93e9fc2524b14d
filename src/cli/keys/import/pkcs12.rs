//! What is in a PKCS#12 file (RFC 7292).

use p12_keystore::{Pkcs12Archive, error::Error};
use zeroize::Zeroizing;

use super::{
    super::super::Failure,
    file::{Contents, REPACK},
    refused,
};

/// Everything in it. The library checks its MAC, and refuses more than a million iterations or 1 GiB.
pub(super) fn contents(bytes: &[u8], password: &str) -> Result<Contents, Failure> {
    if let Some(error) = too_many_parts(bytes) {
        return Err(error);
    }
    let archive = Pkcs12Archive::from_pkcs12(bytes, password).map_err(|error| failure(&error))?;
    let keys = archive.keys.into_iter().map(|bag| {
        let name = bag.friendly_name.filter(|name| !name.is_empty());
        (Zeroizing::new(bag.key.as_der().to_vec()), name)
    });
    let certificates = archive.certs.into_iter().map(|bag| bag.cert.as_der().to_vec());
    let warnings = weakness(bytes).into_iter().collect();
    Ok(Contents { keys: keys.collect(), certificates: certificates.collect(), warnings })
}

fn failure(error: &Error) -> Failure {
    match error {
        Error::MacError(_) | Error::Pkcs5Error(_) | Error::UnpadError => {
            refused("the passphrase does not open it").hint("type it again; nothing was changed")
        }
        Error::UnsupportedEncryptionScheme | Error::UnsupportedMacAlgorithm => {
            refused("it is protected by a method that hallmark does not know").hint(REPACK)
        }
        Error::InvalidParameters => {
            refused("it asks for more than a million rounds, or for more than 1 GiB, to derive a key").hint(REPACK)
        }
        other => refused("it is no PKCS#12 file that can be read")
            .caused_by(other)
            .hint("is it whole? openssl pkcs12 -info -noout -in FILE"),
    }
}

/// Each encrypted part costs up to a million rounds.
fn too_many_parts(bytes: &[u8]) -> Option<Failure> {
    let parts = count(bytes, PBES2) + count(bytes, PKCS12_PBE);
    (parts > MAX_PARTS).then(|| refused(format!("it has {parts} encrypted parts; a key and its chain have two")))
}

/// Says so where the passphrase is all but no protection.
fn weakness(bytes: &[u8]) -> Option<String> {
    (count(bytes, PKCS12_PBE) > 0).then(|| {
        "the file is protected as in the nineties (RC2 or 3DES, SHA-1): count everyone who had the file among those who \
         have the key"
            .to_owned()
    })
}

fn count(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes.windows(wanted.len()).filter(|window| *window == wanted).count()
}

/// `pkcs-12PbeIds` (RFC 7292 appendix C), whichever.
const PKCS12_PBE: &[u8] = b"\x06\x0a\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01";
/// `id-PBES2` (RFC 8018 appendix A.4).
const PBES2: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0d";
const MAX_PARTS: usize = 32;
