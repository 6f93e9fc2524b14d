//! Keys in memory, for fakes and for planting on tokens.

use aws_lc_rs::{
    encoding::{AsBigEndian, AsDer, EcPrivateKeyBin, Pkcs8V1Der},
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512,
        RsaEncoding,
    },
};
use hallmark_core::{
    key::{Alg, KeySpec},
    public_key::{Curve, PublicKey},
};

/// A key pair in memory.
pub enum SoftwareKey {
    Rsa(RsaKeyPair),
    Ec(Curve, EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl SoftwareKey {
    /// A new pair.
    pub fn generate(spec: KeySpec) -> Self {
        match spec.alg {
            Alg::ES256 => Self::Ec(Curve::P256, EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()),
            Alg::ES384 => Self::Ec(Curve::P384, EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap()),
            Alg::EdDSA => Self::Ed25519(Ed25519KeyPair::generate().unwrap()),
            _ => {
                let size = match spec.rsa_bits {
                    2048 => KeySize::Rsa2048,
                    3072 => KeySize::Rsa3072,
                    _ => KeySize::Rsa4096,
                };
                Self::Rsa(RsaKeyPair::generate(size).unwrap())
            }
        }
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        match self {
            Self::Rsa(pair) => {
                let public = pair.public_key();
                PublicKey::from_rsa(
                    public.modulus().big_endian_without_leading_zero(),
                    public.exponent().big_endian_without_leading_zero(),
                )
            }
            Self::Ec(curve, pair) => PublicKey::from_ec_point(*curve, pair.public_key().as_ref()),
            Self::Ed25519(pair) => PublicKey::from_ed25519(pair.public_key().as_ref()),
        }
        .unwrap()
    }

    /// A signature in JOSE form. Panics where the key can't sign with `alg`.
    pub fn sign(&self, alg: Alg, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(rsa_encoding(alg), &SystemRandom::new(), message, &mut signature).unwrap();
                signature
            }
            Self::Ec(_, pair) => pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// PKCS#8, not encrypted.
    pub fn pkcs8(&self) -> Vec<u8> {
        match self {
            Self::Rsa(pair) => AsDer::<Pkcs8V1Der<'_>>::as_der(pair).unwrap().as_ref().to_vec(),
            Self::Ec(_, pair) => pair.to_pkcs8v1().unwrap().as_ref().to_vec(),
            Self::Ed25519(pair) => AsDer::<Pkcs8V1Der<'_>>::as_der(pair).unwrap().as_ref().to_vec(),
        }
    }

    /// The secret scalar and the uncompressed public point of an elliptic-curve key, for `C_CreateObject`.
    pub fn ec_parts(&self) -> (Vec<u8>, Vec<u8>) {
        let Self::Ec(_, pair) = self else { panic!("not an elliptic-curve key") };
        let scalar: EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes().unwrap();
        (scalar.as_ref().to_vec(), pair.public_key().as_ref().to_vec())
    }
}

fn rsa_encoding(alg: Alg) -> &'static dyn RsaEncoding {
    match alg {
        Alg::RS256 => &RSA_PKCS1_SHA256,
        Alg::RS384 => &RSA_PKCS1_SHA384,
        Alg::RS512 => &RSA_PKCS1_SHA512,
        Alg::PS256 => &RSA_PSS_SHA256,
        Alg::PS384 => &RSA_PSS_SHA384,
        Alg::PS512 => &RSA_PSS_SHA512,
        _ => panic!("an RSA key can't sign with {alg}"),
    }
}
