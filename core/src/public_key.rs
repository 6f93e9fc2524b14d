//! Public keys: SPKI (RFC 5280 §4.1.2.7) in and out, RFC 7638 thumbprints, signature verification.

use std::fmt;

use aws_lc_rs::{digest, signature};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use der::{Decode, Encode, asn1::BitString, asn1::UintRef};
use x509_cert::spki::{AlgorithmIdentifierOwned, ObjectIdentifier, SubjectPublicKeyInfoOwned};

use crate::key::{Alg, Kid};

/// A public key: the numbers that a JWK shows, and the SPKI that they came from or make.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    numbers: Numbers,
    spki: Vec<u8>,
}

/// The members of a JWK that make the key (RFC 7518 §6, RFC 8037 §2). Big-endian; RSA without leading zeros,
/// coordinates at full length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Numbers {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Ec { curve: Curve, x: Vec<u8>, y: Vec<u8> },
    Ed25519 { x: Vec<u8> },
}

/// An elliptic curve of JWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    P256,
    P384,
}

impl Curve {
    /// The JWK `crv` value.
    pub fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
        }
    }

    /// The namedCurve of RFC 5480 §2.1.1.1.
    pub fn oid(self) -> ObjectIdentifier {
        match self {
            Self::P256 => ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7"),
            Self::P384 => ObjectIdentifier::new_unwrap("1.3.132.0.34"),
        }
    }

    fn coordinate_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }
}

/// `rsaEncryption` (RFC 8017 appendix A.1).
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// `id-ecPublicKey` (RFC 5480 §2.1.1).
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// `id-Ed25519` (RFC 8410 §3).
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

#[derive(der::Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    public_exponent: UintRef<'a>,
}

/// The bytes are no public key of a kind that Hallmark signs with.
#[derive(Debug, thiserror::Error)]
#[error("not a usable public key: {0}")]
pub struct InvalidPublicKey(String);

impl PublicKey {
    /// From a DER SubjectPublicKeyInfo, which is kept byte for byte.
    pub fn from_spki(spki: &[u8]) -> Result<Self, InvalidPublicKey> {
        let parsed = SubjectPublicKeyInfoOwned::from_der(spki).map_err(|e| InvalidPublicKey(e.to_string()))?;
        let key = parsed.subject_public_key.raw_bytes();
        let numbers = match parsed.algorithm.oid {
            RSA => {
                let rsa = RsaPublicKey::from_der(key).map_err(|e| InvalidPublicKey(e.to_string()))?;
                Numbers::Rsa { n: rsa.modulus.as_bytes().to_vec(), e: rsa.public_exponent.as_bytes().to_vec() }
            }
            EC => {
                let parameters = parsed.algorithm.parameters.as_ref();
                let oid = parameters.and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
                let curve = [Curve::P256, Curve::P384].into_iter().find(|curve| Some(curve.oid()) == oid);
                split_point(curve.ok_or_else(|| InvalidPublicKey("a curve other than P-256 and P-384".into()))?, key)?
            }
            ED25519 if key.len() == 32 => Numbers::Ed25519 { x: key.to_vec() },
            other => return Err(InvalidPublicKey(format!("algorithm {other}"))),
        };
        Ok(Self { numbers, spki: spki.to_vec() })
    }

    /// From `CKA_MODULUS` and `CKA_PUBLIC_EXPONENT`; leading zeros are dropped.
    pub fn from_rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, InvalidPublicKey> {
        let der_error = |e: der::Error| InvalidPublicKey(e.to_string());
        let (n, e) = (strip_zeros(modulus), strip_zeros(exponent));
        if n.len() < 128 || e.is_empty() {
            return Err(InvalidPublicKey(format!("an RSA modulus of {} bytes", n.len())));
        }
        let rsa = RsaPublicKey {
            modulus: UintRef::new(n).map_err(der_error)?,
            public_exponent: UintRef::new(e).map_err(der_error)?,
        };
        let bytes = rsa.to_der().map_err(der_error)?;
        let algorithm = AlgorithmIdentifierOwned { oid: RSA, parameters: Some(der::Any::null()) };
        Self::encode(algorithm, &bytes, Numbers::Rsa { n: n.to_vec(), e: e.to_vec() })
    }

    /// From an uncompressed point (SEC 1 §2.3.3), with or without the OCTET STRING that `CKA_EC_POINT` should have
    /// around it: modules differ.
    pub fn from_ec_point(curve: Curve, point: &[u8]) -> Result<Self, InvalidPublicKey> {
        let point = unwrap_octet_string(point, 2 * curve.coordinate_len() + 1);
        let numbers = split_point(curve, point)?;
        let oid = der::Any::encode_from(&curve.oid()).map_err(|e| InvalidPublicKey(e.to_string()))?;
        Self::encode(AlgorithmIdentifierOwned { oid: EC, parameters: Some(oid) }, point, numbers)
    }

    /// From the 32 bytes of RFC 8032 §5.1.5, with or without an OCTET STRING around them.
    pub fn from_ed25519(point: &[u8]) -> Result<Self, InvalidPublicKey> {
        let x = unwrap_octet_string(point, 32);
        if x.len() != 32 {
            return Err(InvalidPublicKey(format!("an Ed25519 key of {} bytes", x.len())));
        }
        Self::encode(AlgorithmIdentifierOwned { oid: ED25519, parameters: None }, x, Numbers::Ed25519 { x: x.to_vec() })
    }

    /// The DER SubjectPublicKeyInfo.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// What a JWK shows of it.
    pub fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    /// Whether a key of this kind can sign with `alg`.
    pub fn suits(&self, alg: Alg) -> bool {
        match (&self.numbers, alg) {
            (Numbers::Rsa { .. }, alg) => alg.is_rsa(),
            (Numbers::Ec { curve, .. }, Alg::ES256) => *curve == Curve::P256,
            (Numbers::Ec { curve, .. }, Alg::ES384) => *curve == Curve::P384,
            (Numbers::Ed25519 { .. }, Alg::EdDSA) => true,
            _ => false,
        }
    }

    /// The RFC 7638 SHA-256 thumbprint, which is the `kid` of a key unless an older one is kept.
    #[expect(clippy::unwrap_used, reason = "`Unwrap safety` below")]
    pub fn thumbprint(&self) -> Kid {
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        // RFC 7638 §3.2: the required members only, in lexicographic order, no white space.
        let members = match &self.numbers {
            Numbers::Rsa { n, e } => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, b64(e), b64(n)),
            Numbers::Ec { curve, x, y } => {
                format!(r#"{{"crv":"{}","kty":"EC","x":"{}","y":"{}"}}"#, curve.name(), b64(x), b64(y))
            }
            Numbers::Ed25519 { x } => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, b64(x)),
        };
        let hash = digest::digest(&digest::SHA256, members.as_bytes());
        // Unwrap safety: 32 bytes in base64url are 43 characters of the kid's alphabet.
        URL_SAFE_NO_PAD.encode(hash).parse().unwrap()
    }

    /// Parses the key once for many verifications with `alg`.
    pub fn verifier(&self, alg: Alg) -> Result<Verifier, InvalidPublicKey> {
        if !self.suits(alg) {
            return Err(InvalidPublicKey(format!("this key can't sign with {alg}")));
        }
        let algorithm: &'static dyn signature::VerificationAlgorithm = match alg {
            Alg::RS256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Alg::RS384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Alg::RS512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Alg::PS256 => &signature::RSA_PSS_2048_8192_SHA256,
            Alg::PS384 => &signature::RSA_PSS_2048_8192_SHA384,
            Alg::PS512 => &signature::RSA_PSS_2048_8192_SHA512,
            Alg::ES256 => &signature::ECDSA_P256_SHA256_FIXED,
            Alg::ES384 => &signature::ECDSA_P384_SHA384_FIXED,
            Alg::EdDSA => &signature::ED25519,
        };
        let parsed = signature::ParsedPublicKey::new(algorithm, &self.spki);
        Ok(Verifier(parsed.map_err(|e| InvalidPublicKey(e.to_string()))?))
    }

    fn encode(algorithm: AlgorithmIdentifierOwned, key: &[u8], numbers: Numbers) -> Result<Self, InvalidPublicKey> {
        let der_error = |e: der::Error| InvalidPublicKey(e.to_string());
        let subject_public_key = BitString::from_bytes(key).map_err(der_error)?;
        let spki = SubjectPublicKeyInfoOwned { algorithm, subject_public_key }.to_der().map_err(der_error)?;
        Ok(Self { numbers, spki })
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.thumbprint())
    }
}

/// A public key, parsed for one algorithm. Signatures are in JOSE form: for ECDSA r ‖ s (RFC 7518 §3.4).
#[derive(Clone)]
pub struct Verifier(signature::ParsedPublicKey);

impl Verifier {
    /// Whether `signature` is this key's over `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.verify_sig(message, signature).is_ok()
    }
}

fn split_point(curve: Curve, point: &[u8]) -> Result<Numbers, InvalidPublicKey> {
    let len = curve.coordinate_len();
    match point.split_first() {
        Some((4, xy)) if xy.len() == 2 * len => Ok(Numbers::Ec { curve, x: xy[..len].to_vec(), y: xy[len..].to_vec() }),
        _ => Err(InvalidPublicKey(format!("a {} point of {} bytes, not uncompressed", curve.name(), point.len()))),
    }
}

fn unwrap_octet_string(bytes: &[u8], bare_len: usize) -> &[u8] {
    if bytes.len() == bare_len {
        return bytes;
    }
    <&der::asn1::OctetStringRef>::from_der(bytes).map_or(bytes, |octets| octets.as_bytes())
}

fn strip_zeros(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..]
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
    };

    use super::*;

    /// RFC 7638 §3.1's example key and its thumbprint.
    #[test]
    fn thumbprint_is_that_of_rfc_7638() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let n = URL_SAFE_NO_PAD.decode(n).unwrap();
        let key = PublicKey::from_rsa(&n, &[1, 0, 1]).unwrap();
        assert_eq!(key.thumbprint().as_str(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn spki_reads_back_and_zeros_do_not_matter() {
        let mut modulus = vec![0xc3; 256];
        let plain = PublicKey::from_rsa(&modulus, &[1, 0, 1]).unwrap();
        modulus.insert(0, 0);
        assert_eq!(PublicKey::from_rsa(&modulus, &[0, 1, 0, 1]).unwrap(), plain);
        assert_eq!(PublicKey::from_spki(plain.spki()).unwrap(), plain);
    }

    #[test]
    fn a_point_is_the_same_with_and_without_its_octet_string() {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let bare = pair.public_key().as_ref();
        let wrapped = [&[4, 65], bare].concat();
        let key = PublicKey::from_ec_point(Curve::P256, bare).unwrap();
        assert_eq!(PublicKey::from_ec_point(Curve::P256, &wrapped).unwrap(), key);
        assert_eq!(PublicKey::from_spki(key.spki()).unwrap(), key);
        assert!(PublicKey::from_ec_point(Curve::P384, bare).is_err());
    }

    #[test]
    fn only_its_own_signature_verifies() {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let key = PublicKey::from_ec_point(Curve::P256, pair.public_key().as_ref()).unwrap();
        let signature = pair.sign(&SystemRandom::new(), b"message").unwrap();
        let verifier = key.verifier(Alg::ES256).unwrap();
        assert!(verifier.verifies(b"message", signature.as_ref()));
        assert!(!verifier.verifies(b"massage", signature.as_ref()));
        assert!(key.verifier(Alg::RS256).is_err());
    }

    proptest::proptest! {
        #[test]
        fn bytes_of_strangers_are_refused_or_read_back(
            bytes: Vec<u8>,
            exponent: Vec<u8>,
            modulus in proptest::collection::vec(0u8.., 120..260),
        ) {
            let keys = [
                PublicKey::from_spki(&bytes),
                PublicKey::from_ec_point(Curve::P256, &bytes),
                PublicKey::from_ed25519(&bytes),
                PublicKey::from_rsa(&modulus, &exponent),
            ];
            for key in keys.into_iter().flatten() {
                assert_eq!(PublicKey::from_spki(key.spki()).unwrap(), key);
            }
        }
    }
}
