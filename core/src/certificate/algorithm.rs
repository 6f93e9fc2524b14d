//! Signatures as certificates have them: algorithm identifiers (RFC 4055, RFC 5758, RFC 8410) and their encoding.

use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use der::{
    Any, Decode, Encode,
    asn1::{AnyRef, BitString, BitStringRef, UintRef},
};
use x509_cert::spki::{AlgorithmIdentifierOwned, ObjectIdentifier, SubjectPublicKeyInfoOwned};

use crate::{error::Error, key::Alg};

/// `id-RSASSA-PSS` (RFC 4055 §3.1).
const PSS: ObjectIdentifier = oid("1.2.840.113549.1.1.10");
/// `id-mgf1` (RFC 4055 §2.2).
const MGF1: ObjectIdentifier = oid("1.2.840.113549.1.1.8");
/// `sha256WithRSAEncryption` and its kin (RFC 4055 §5).
const RSA_SHA256: ObjectIdentifier = oid("1.2.840.113549.1.1.11");
const RSA_SHA384: ObjectIdentifier = oid("1.2.840.113549.1.1.12");
const RSA_SHA512: ObjectIdentifier = oid("1.2.840.113549.1.1.13");
/// `ecdsa-with-SHA256` and its kin (RFC 5758 §3.2).
const ECDSA_SHA256: ObjectIdentifier = oid("1.2.840.10045.4.3.2");
const ECDSA_SHA384: ObjectIdentifier = oid("1.2.840.10045.4.3.3");
const ECDSA_SHA512: ObjectIdentifier = oid("1.2.840.10045.4.3.4");
/// `id-Ed25519` (RFC 8410 §3).
const ED25519: ObjectIdentifier = oid("1.3.101.112");
/// Hashes (RFC 5754 §2).
const SHA256: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.1");
const SHA384: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.3");
/// Curves of certification authorities (RFC 5480 §2.1.1.1).
const P256: ObjectIdentifier = oid("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = oid("1.3.132.0.34");
const P521: ObjectIdentifier = oid("1.3.132.0.35");

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

/// RFC 4055 §3.1. The trailer field has its default and is not written.
#[derive(der::Sequence)]
struct PssParameters {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    hash: AlgorithmIdentifierOwned,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT")]
    mask: AlgorithmIdentifierOwned,
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT")]
    salt_len: u8,
}

/// RFC 3279 §2.2.3.
#[derive(der::Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

/// A certificate, and a request for one: what is signed, how, and the signature.
#[derive(der::Sequence)]
struct Signed<'a> {
    content: AnyRef<'a>,
    algorithm: AlgorithmIdentifierOwned,
    signature: BitString,
}

/// As [`Signed`], to be looked at.
#[derive(der::Sequence)]
pub(crate) struct SignedRef<'a> {
    pub(super) content: AnyRef<'a>,
    pub(super) algorithm: AlgorithmIdentifierOwned,
    pub(super) signature: BitStringRef<'a>,
}

/// How signatures with `alg` are called in certificates. A key of PS256 makes such signatures here too: it never makes
/// any other.
pub(super) fn identifier(alg: Alg) -> Result<AlgorithmIdentifierOwned, der::Error> {
    let plain = |oid| Ok(AlgorithmIdentifierOwned { oid, parameters: None });
    let with_null = |oid| Ok(AlgorithmIdentifierOwned { oid, parameters: Some(Any::null()) });
    match alg {
        Alg::RS256 => with_null(RSA_SHA256),
        Alg::RS384 => with_null(RSA_SHA384),
        Alg::RS512 => with_null(RSA_SHA512),
        Alg::PS256 => pss(SHA256, 32),
        Alg::PS384 => pss(SHA384, 48),
        Alg::PS512 => pss(SHA512, 64),
        Alg::ES256 => plain(ECDSA_SHA256),
        Alg::ES384 => plain(ECDSA_SHA384),
        Alg::EdDSA => plain(ED25519),
    }
}

fn pss(hash: ObjectIdentifier, salt_len: u8) -> Result<AlgorithmIdentifierOwned, der::Error> {
    let hash = AlgorithmIdentifierOwned { oid: hash, parameters: Some(Any::null()) };
    let mask = AlgorithmIdentifierOwned { oid: MGF1, parameters: Some(Any::encode_from(&hash)?) };
    let parameters = Any::encode_from(&PssParameters { hash, mask, salt_len })?;
    Ok(AlgorithmIdentifierOwned { oid: PSS, parameters: Some(parameters) })
}

/// Joins a signature in JOSE form to the DER that was signed.
pub(super) fn join(content: &[u8], alg: Alg, signature: &[u8]) -> Result<Vec<u8>, Error> {
    let encode = || {
        let signature = match alg {
            Alg::ES256 | Alg::ES384 => {
                let (r, s) = signature.split_at(signature.len() / 2);
                EcdsaSignature { r: UintRef::new(r)?, s: UintRef::new(s)? }.to_der()?
            }
            _ => signature.to_vec(),
        };
        let content = AnyRef::from_der(content)?;
        Signed { content, algorithm: identifier(alg)?, signature: BitString::from_bytes(&signature)? }.to_der()
    };
    encode().map_err(Error::internal)
}

/// Whether `signed` has a signature of the key in `issuer`; `Err` where such a signature can't be checked.
pub(crate) fn is_signed_by(
    signed: &SignedRef<'_>,
    issuer: &SubjectPublicKeyInfoOwned,
) -> Result<bool, UnknownSignature> {
    let unknown = || UnknownSignature(signed.algorithm.oid);
    let algorithm = verification(&signed.algorithm, issuer).ok_or_else(unknown)?;
    let (Ok(spki), Ok(content)) = (issuer.to_der(), signed.content.to_der()) else { return Err(unknown()) };
    let key = ParsedPublicKey::new(algorithm, &spki).map_err(|_| unknown())?;
    Ok(key.verify_sig(&content, signature_bytes(signed)).is_ok())
}

/// A signature by an algorithm that is too weak, or that is not known.
#[derive(Debug)]
pub(crate) struct UnknownSignature(pub(crate) ObjectIdentifier);

fn signature_bytes<'a>(signed: &SignedRef<'a>) -> &'a [u8] {
    // All of these are whole bytes; what is not does not verify.
    signed.signature.as_bytes().unwrap_or_default()
}

fn verification(
    by: &AlgorithmIdentifierOwned,
    issuer: &SubjectPublicKeyInfoOwned,
) -> Option<&'static dyn VerificationAlgorithm> {
    let curve = || issuer.algorithm.parameters.as_ref()?.decode_as::<ObjectIdentifier>().ok();
    Some(match by.oid {
        RSA_SHA256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        RSA_SHA384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        RSA_SHA512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        PSS => return pss_verification(by),
        ED25519 => &signature::ED25519,
        ECDSA_SHA256 | ECDSA_SHA384 | ECDSA_SHA512 => match (curve()?, by.oid) {
            (P256, ECDSA_SHA256) => &signature::ECDSA_P256_SHA256_ASN1,
            (P256, ECDSA_SHA384) => &signature::ECDSA_P256_SHA384_ASN1,
            (P256, ECDSA_SHA512) => &signature::ECDSA_P256_SHA512_ASN1,
            (P384, ECDSA_SHA256) => &signature::ECDSA_P384_SHA256_ASN1,
            (P384, ECDSA_SHA384) => &signature::ECDSA_P384_SHA384_ASN1,
            (P384, ECDSA_SHA512) => &signature::ECDSA_P384_SHA512_ASN1,
            (P521, ECDSA_SHA256) => &signature::ECDSA_P521_SHA256_ASN1,
            (P521, ECDSA_SHA384) => &signature::ECDSA_P521_SHA384_ASN1,
            (P521, ECDSA_SHA512) => &signature::ECDSA_P521_SHA512_ASN1,
            _ => return None,
        },
        _ => return None,
    })
}

fn pss_verification(by: &AlgorithmIdentifierOwned) -> Option<&'static dyn VerificationAlgorithm> {
    let parameters: PssParameters = by.parameters.as_ref()?.decode_as().ok()?;
    let same_mask = parameters.mask.oid == MGF1
        && parameters.mask.parameters.as_ref()?.decode_as::<AlgorithmIdentifierOwned>().ok()?.oid
            == parameters.hash.oid;
    match (parameters.hash.oid, parameters.salt_len) {
        (SHA256, 32) if same_mask => Some(&signature::RSA_PSS_2048_8192_SHA256),
        (SHA384, 48) if same_mask => Some(&signature::RSA_PSS_2048_8192_SHA384),
        (SHA512, 64) if same_mask => Some(&signature::RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}
