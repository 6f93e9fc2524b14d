//! Keys and certificates as verifiers read them, and a key of the tests' own for assertions that Hallmark would not make.

use std::{collections::HashMap, sync::LazyLock};

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    rsa::{KeyPair as RsaPair, KeySize},
    signature::{self, EcdsaKeyPair, KeyPair, RsaPublicKeyComponents, UnparsedPublicKey},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rcgen::PublicKeyData;
use serde_json::{Value, json};
use x509_cert::{
    Certificate as X509,
    der::{Decode, Encode, pem},
    spki::SubjectPublicKeyInfoOwned,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Public {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// RSAPublicKey in DER, or a point.
    Raw {
        rsa: bool,
        key: Vec<u8>,
    },
}

/// What a verifier needs of one.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    der: Vec<u8>,
    pub(super) key: Public,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

pub(super) fn kty(alg: &str) -> &'static str {
    match alg {
        "EdDSA" => "OKP",
        _ if alg.starts_with("ES") => "EC",
        _ => "RSA",
    }
}

pub(super) fn of_jwk(key: &Value) -> Option<Public> {
    let part = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(key[name].as_str()?).ok();
    Some(match key["kty"].as_str()? {
        "RSA" => Public::Rsa { n: part("n")?, e: part("e")? },
        "EC" => Public::Raw { rsa: false, key: [vec![4], part("x")?, part("y")?].concat() },
        _ => Public::Raw { rsa: false, key: part("x")? },
    })
}

/// Of a SubjectPublicKeyInfo in PEM.
pub(super) fn of_pem(text: &str) -> Public {
    let (_, der) = pem::decode_vec(text.as_bytes()).unwrap();
    of_spki(&SubjectPublicKeyInfoOwned::from_der(&der).unwrap())
}

fn of_spki(spki: &SubjectPublicKeyInfoOwned) -> Public {
    let rsa = spki.algorithm.oid.to_string() == "1.2.840.113549.1.1.1";
    Public::Raw { rsa, key: spki.subject_public_key.raw_bytes().to_vec() }
}

pub(super) fn verifies(key: &Public, alg: &str, signed: &str, signature: &[u8]) -> bool {
    let (rsa, other): (Option<&signature::RsaParameters>, Option<&dyn signature::VerificationAlgorithm>) = match alg {
        "RS256" => (Some(&signature::RSA_PKCS1_2048_8192_SHA256), None),
        "RS384" => (Some(&signature::RSA_PKCS1_2048_8192_SHA384), None),
        "RS512" => (Some(&signature::RSA_PKCS1_2048_8192_SHA512), None),
        "PS256" => (Some(&signature::RSA_PSS_2048_8192_SHA256), None),
        "PS384" => (Some(&signature::RSA_PSS_2048_8192_SHA384), None),
        "PS512" => (Some(&signature::RSA_PSS_2048_8192_SHA512), None),
        "ES256" => (None, Some(&signature::ECDSA_P256_SHA256_FIXED)),
        "ES384" => (None, Some(&signature::ECDSA_P384_SHA384_FIXED)),
        "EdDSA" => (None, Some(&signature::ED25519)),
        _ => (None, None),
    };
    match (key, rsa, other) {
        (Public::Rsa { n, e }, Some(alg), _) => {
            RsaPublicKeyComponents { n, e }.verify(alg, signed.as_bytes(), signature).is_ok()
        }
        (Public::Raw { rsa: true, key }, Some(alg), _) => {
            UnparsedPublicKey::new(alg, key).verify(signed.as_bytes(), signature).is_ok()
        }
        (Public::Raw { rsa: false, key }, _, Some(alg)) => {
            UnparsedPublicKey::new(alg, key).verify(signed.as_bytes(), signature).is_ok()
        }
        _ => false,
    }
}

impl Certificate {
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let read = X509::from_der(der).ok()?;
        let tbs = read.tbs_certificate();
        let secs = |time: &x509_cert::time::Time| i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
        let (not_before, not_after) = (secs(&tbs.validity().not_before), secs(&tbs.validity().not_after));
        Some(Self { der: der.to_vec(), key: of_spki(tbs.subject_public_key_info()), not_before, not_after })
    }

    /// Whether the CA, whose key is on P-256, has signed it.
    pub(super) fn is_by(&self, authority: &[u8]) -> bool {
        let (Ok(ours), Ok(theirs)) = (X509::from_der(&self.der), X509::from_der(authority)) else { return false };
        let key = theirs.tbs_certificate().subject_public_key_info().subject_public_key.raw_bytes().to_vec();
        let key = UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_ASN1, key);
        let signed = ours.tbs_certificate().to_der().unwrap();
        key.verify(&signed, ours.signature().raw_bytes()).is_ok()
    }

    /// As the header member of that name has it.
    pub(super) fn thumbprint(&self, member: &str) -> String {
        let hash = if member == "x5t" { &digest::SHA1_FOR_LEGACY_USE_ONLY } else { &digest::SHA256 };
        BASE64_URL_SAFE_NO_PAD.encode(digest::digest(hash, &self.der))
    }
}

/// A key that an authority may certify: RSA, as RSAPublicKey in DER.
pub(super) struct ToCertify(pub(super) Vec<u8>);

impl ToCertify {
    pub(super) fn of_spki(der: &[u8]) -> Self {
        Self(SubjectPublicKeyInfoOwned::from_der(der).unwrap().subject_public_key.raw_bytes().to_vec())
    }
}

impl PublicKeyData for ToCertify {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_RSA_SHA256
    }
}

/// The tests' own keys, which no HSM holds. The second RSA key is one that comes after, or another's.
pub(super) struct Own {
    rsa: [RsaPair; 2],
    ec: EcdsaKeyPair,
}

pub(super) static OWN: LazyLock<Own> = LazyLock::new(|| Own {
    rsa: std::array::from_fn(|_| RsaPair::generate(KeySize::Rsa2048).unwrap()),
    ec: EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
});

impl Own {
    pub(super) fn sign(&self, alg: &str, signed: &str) -> Vec<u8> {
        let padding: HashMap<_, &'static dyn signature::RsaEncoding> = HashMap::from([
            ("RS256", &signature::RSA_PKCS1_SHA256 as _),
            ("RS384", &signature::RSA_PKCS1_SHA384 as _),
            ("RS512", &signature::RSA_PKCS1_SHA512 as _),
            ("PS256", &signature::RSA_PSS_SHA256 as _),
        ]);
        let random = SystemRandom::new();
        if alg == "ES384" {
            return self.ec.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec();
        }
        let Some(padding) = padding.get(alg) else { return Vec::new() };
        let mut signature = vec![0; self.rsa[0].public_modulus_len()];
        self.rsa[0].sign(*padding, &random, signed.as_bytes(), &mut signature).unwrap();
        signature
    }

    /// As Hallmark would publish the first (or second) RSA key.
    pub(super) fn rsa(&self, which: usize, kid: &str, alg: &str) -> Value {
        let public = self.rsa[which].public_key();
        let b64 = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let (n, e) = (public.modulus(), public.exponent());
        let (n, e) = (b64(n.big_endian_without_leading_zero()), b64(e.big_endian_without_leading_zero()));
        json!({"kty": "RSA", "kid": kid, "use": "sig", "alg": alg, "n": n, "e": e})
    }

    pub(super) fn ec(&self, kid: &str) -> Value {
        let (x, y) = self.ec.public_key().as_ref()[1..].split_at(48);
        let b64 = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        json!({"kty": "EC", "crv": "P-384", "kid": kid, "use": "sig", "alg": "ES384", "x": b64(x), "y": b64(y)})
    }

    pub(super) fn public(&self, which: usize) -> Public {
        Public::Raw { rsa: true, key: self.to_certify(which).0 }
    }

    pub(super) fn to_certify(&self, which: usize) -> ToCertify {
        ToCertify(self.rsa[which].public_key().as_ref().to_vec())
    }
}
