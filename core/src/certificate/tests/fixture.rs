//! Keys that sign as an HSM does, and authorities that certify them.

use std::time::Duration;

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
        RsaKeyPair,
    },
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, PublicKeyData};

use crate::{
    assertion::SigningInput,
    certificate::request::{Names, finish, self_signed},
    error::{Error, Reason},
    key::Alg,
    public_key::{Curve, Numbers, PublicKey},
    time::Timestamp,
};

pub(super) const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
pub(super) const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// A key that signs as an HSM does: in JOSE form.
pub(super) struct Key {
    pub(super) alg: Alg,
    pub(super) public: PublicKey,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Key {
    pub(super) fn new(alg: Alg) -> Self {
        let ecdsa = |algorithm, curve| {
            let pair = EcdsaKeyPair::generate(algorithm).unwrap();
            (PublicKey::from_ec_point(curve, pair.public_key().as_ref()).unwrap(), Pair::Ecdsa(pair))
        };
        let (public, pair) = match alg {
            Alg::ES256 => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, Curve::P256),
            Alg::ES384 => ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, Curve::P384),
            Alg::EdDSA => {
                let pair = Ed25519KeyPair::generate().unwrap();
                (PublicKey::from_ed25519(pair.public_key().as_ref()).unwrap(), Pair::Ed25519(pair))
            }
            _ => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
                let key = pair.public_key();
                let (n, e) = (key.modulus().big_endian_without_leading_zero(), key.exponent());
                (PublicKey::from_rsa(n, e.big_endian_without_leading_zero()).unwrap(), Pair::Rsa(pair))
            }
        };
        Self { alg, public, pair }
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ecdsa(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let padding: &dyn signature::RsaEncoding = match self.alg {
                    Alg::RS256 => &signature::RSA_PKCS1_SHA256,
                    Alg::RS384 => &signature::RSA_PKCS1_SHA384,
                    Alg::RS512 => &signature::RSA_PKCS1_SHA512,
                    Alg::PS256 => &signature::RSA_PSS_SHA256,
                    Alg::PS384 => &signature::RSA_PSS_SHA384,
                    _ => &signature::RSA_PSS_SHA512,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    /// Signs what was prepared, and gives the DER.
    pub(super) fn finish(&self, input: &SigningInput, random: u8) -> Vec<u8> {
        let signed = input.encode(NOW, [random; 16]).unwrap();
        let signature = self.sign(&signed.bytes);
        assert!(self.public.verifier(self.alg).unwrap().verifies(&signed.bytes, &signature));
        finish(&signed, self.alg, &signature).unwrap()
    }

    /// A certificate that signs itself, good for a year.
    pub(super) fn self_signed(&self) -> Vec<u8> {
        self.finish(&self_signed(names(), &self.public, self.alg, YEAR).unwrap(), 7)
    }
}

/// What `rcgen` certifies.
struct Spki<'a>(&'a PublicKey);

impl PublicKeyData for Spki<'_> {
    fn der_bytes(&self) -> &[u8] {
        match self.0.numbers() {
            Numbers::Ec { curve, .. } => {
                let len = if *curve == Curve::P256 { 65 } else { 97 };
                &self.0.spki()[self.0.spki().len() - len..]
            }
            _ => unreachable!("only ES256 and ES384 are certified here"),
        }
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

pub(super) type Issuer = CertifiedIssuer<'static, rcgen::KeyPair>;

pub(super) fn authority(name: &str) -> Issuer {
    Issuer::self_signed(ca_params(name), rcgen::KeyPair::generate().unwrap()).unwrap()
}

pub(super) fn below(name: &str, issuer: &Issuer) -> Issuer {
    Issuer::signed_by(ca_params(name), rcgen::KeyPair::generate().unwrap(), issuer).unwrap()
}

pub(super) fn ca_params(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

pub(super) fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

pub(super) fn issue(params: &CertificateParams, key: &PublicKey, issuer: &Issuer) -> Vec<u8> {
    params.signed_by(&Spki(key), issuer).unwrap().der().to_vec()
}

/// A root, an intermediate, and a leaf for `key`: leaf first.
pub(super) fn chain_for(key: &PublicKey) -> Vec<Vec<u8>> {
    let root = authority("root");
    let intermediate = below("intermediate", &root);
    vec![issue(&params("leaf"), key, &intermediate), intermediate.der().to_vec(), root.der().to_vec()]
}

pub(super) fn names() -> Names {
    Names::new(
        "CN=clinic.example, O=Clinic\\, Inc.,C=US",
        &["https://clinic.example/a".into()],
        &["clinic.example".into()],
    )
    .unwrap()
}

pub(super) fn refused(result: Result<impl std::fmt::Debug, Error>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.reason, Reason::InvalidCertificate, "{error}");
    error.message
}
