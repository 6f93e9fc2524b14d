//! The one key that is to be imported, and its certificates.

use aws_lc_rs::{
    encoding::AsDer,
    rsa::KeyPair as RsaKeyPair,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    },
};
use hallmark_core::{
    client::Client,
    key::Alg,
    known_keys,
    public_key::{Curve, PublicKey},
};
use pkcs1::RsaPrivateKeyRef;
use pkcs8::{ObjectIdentifier, PrivateKeyInfoRef};
use x509_cert::{
    Certificate,
    der::{Decode, Encode, asn1::AnyRef},
};
use zeroize::Zeroizing;

use super::{super::super::Failure, file::Contents, refused, usage};

/// A key that may be imported, checked.
pub(super) struct Material {
    /// In the plainest form, without what the file had around it.
    pub(super) pkcs8: Zeroizing<Vec<u8>>,
    pub(super) public: PublicKey,
    /// DER, leaf first; empty where the file has none.
    pub(super) certificates: Vec<Vec<u8>>,
    pub(super) warnings: Vec<String>,
    /// What it is, for people.
    pub(super) title: String,
}

impl Material {
    /// The one key of a file.
    pub(super) fn new(contents: Contents) -> Result<Self, Failure> {
        let Contents { keys, certificates, warnings } = contents;
        let [(pkcs8, _)] = keys.as_slice() else { return Err(not_one(&keys)) };
        let (pkcs8, public, kind) = read(pkcs8)?;
        if let Some(whose) = known_keys::known(&public) {
            return Err(refused(format!("its private key is known to everyone: it is {whose}"))
                .hint("have a key made in the HSM: hallmark keys create CLIENT --reason TEXT, and register that"));
        }
        let certificates = chain(certificates, &public)?;
        let title = format!("the {kind} key `{}`", public.thumbprint());
        Ok(Self { pkcs8, public, certificates, warnings, title })
    }

    /// The algorithm of the client that it suits.
    pub(super) fn alg(&self, client: &Client, asked: Option<Alg>) -> Result<Alg, Failure> {
        let suits = |alg: &Alg| self.public.suits(*alg) && asked.is_none_or(|asked| asked == *alg);
        let algs: Vec<_> = client.keys.iter().map(|spec| spec.alg).filter(suits).collect();
        match algs.as_slice() {
            [alg] => Ok(*alg),
            [] => {
                let has: Vec<_> = client.keys.iter().map(|spec| spec.alg.as_str()).collect();
                let text =
                    format!("client `{}` signs with {}, which {} can't", client.name, has.join(", "), self.title);
                Err(usage(text).hint("add a key line to its [[client]] section: keys = [{ alg = \"…\" }]"))
            }
            several => {
                let options: Vec<_> = several.iter().map(|alg| format!("--alg {alg}")).collect();
                let text = format!("client `{}` has several algorithms that {} suits", client.name, self.title);
                Err(usage(text).hint(options.join(", or ")))
            }
        }
    }
}

type Read = (Zeroizing<Vec<u8>>, PublicKey, String);

fn read(pkcs8: &[u8]) -> Result<Read, Failure> {
    let info = PrivateKeyInfoRef::from_der(pkcs8).map_err(|error| unreadable(error.to_string()))?;
    match info.algorithm.oid {
        RSA => rsa(pkcs8, info.private_key.as_bytes()),
        EC => ec(pkcs8, info.algorithm.parameters),
        ED25519 => ed25519(pkcs8),
        RSA_PSS => Err(refused("its RSA key is bound to PSS by its type (RSASSA-PSS)")
            .hint("have it written as a plain RSA key, or have a key made in the HSM")),
        other => Err(refused(format!("its key is of a kind that hallmark does not sign with: {other}"))
            .hint("hallmark signs with RSA, P-256, P-384 and Ed25519")),
    }
}

fn rsa(pkcs8: &[u8], inner: &[u8]) -> Result<Read, Failure> {
    let numbers = RsaPrivateKeyRef::from_der(inner).map_err(|error| unreadable(error.to_string()))?;
    let modulus = numbers.modulus.as_bytes();
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    if !(2048..=8192).contains(&bits) {
        return Err(refused(format!("its RSA key has {bits} bits: hallmark takes 2048 to 8192"))
            .hint("have a new key made in the HSM, and register that"));
    }
    // Also sees to it that the numbers belong together.
    let pair = RsaKeyPair::from_pkcs8(pkcs8).map_err(|error| unreadable(error.to_string()))?;
    let der =
        AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).map_err(|error| unreadable(error.to_string()))?;
    let public = PublicKey::from_rsa(
        pair.public_key().modulus().big_endian_without_leading_zero(),
        pair.public_key().exponent().big_endian_without_leading_zero(),
    );
    Ok((Zeroizing::new(der.as_ref().to_vec()), public.map_err(|e| unreadable(e.to_string()))?, format!("RSA-{bits}")))
}

fn ec(pkcs8: &[u8], parameters: Option<AnyRef<'_>>) -> Result<Read, Failure> {
    let oid = parameters.and_then(|parameters| parameters.decode_as::<ObjectIdentifier>().ok());
    let (curve, algorithm) = match oid {
        Some(oid) if oid == Curve::P256.oid() => (Curve::P256, &ECDSA_P256_SHA256_FIXED_SIGNING),
        Some(oid) if oid == Curve::P384.oid() => (Curve::P384, &ECDSA_P384_SHA384_FIXED_SIGNING),
        other => {
            let curve = other.map_or_else(|| "one without a name".to_owned(), curve_name);
            return Err(refused(format!("its key is on a curve that hallmark does not sign with: {curve}"))
                .hint("hallmark signs with P-256 and P-384"));
        }
    };
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8).map_err(|error| unreadable(error.to_string()))?;
    let der = pair.to_pkcs8v1().map_err(|error| unreadable(error.to_string()))?;
    let public = PublicKey::from_ec_point(curve, pair.public_key().as_ref());
    Ok((Zeroizing::new(der.as_ref().to_vec()), public.map_err(|e| unreadable(e.to_string()))?, curve.name().to_owned()))
}

fn ed25519(pkcs8: &[u8]) -> Result<Read, Failure> {
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map_err(|error| unreadable(error.to_string()))?;
    let der =
        AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).map_err(|error| unreadable(error.to_string()))?;
    let public = PublicKey::from_ed25519(pair.public_key().as_ref());
    Ok((Zeroizing::new(der.as_ref().to_vec()), public.map_err(|e| unreadable(e.to_string()))?, "Ed25519".to_owned()))
}

fn curve_name(oid: ObjectIdentifier) -> String {
    let name = match oid.to_string().as_str() {
        "1.3.132.0.35" => "P-521",
        "1.3.132.0.10" => "secp256k1",
        other => return other.to_owned(),
    };
    name.to_owned()
}

fn unreadable(why: String) -> Failure {
    refused("its key can't be read").because(why).hint("is the file whole? openssl pkey -check -noout -in FILE")
}

/// Says which, so that the right one can be told from the others.
fn not_one(keys: &[(Zeroizing<Vec<u8>>, Option<String>)]) -> Failure {
    if keys.is_empty() {
        return refused("it has no private key")
            .hint("ask whoever sent it for the file with the key, not the certificate");
    }
    let describe = |(pkcs8, name): &(Zeroizing<Vec<u8>>, Option<String>)| {
        let key = match read(pkcs8) {
            Ok((_, public, kind)) => format!("{kind} `{}`", public.thumbprint()),
            Err(_) => "one of a kind that hallmark does not sign with".to_owned(),
        };
        name.as_ref().map(|name| format!("{key} (\"{}\")", name.escape_debug())).unwrap_or(key)
    };
    let keys: Vec<_> = keys.iter().take(8).map(describe).collect();
    refused(format!("it has several private keys: {}", keys.join(", ")))
        .hint("put the one that is meant into a file of its own: openssl pkcs12 -in FILE -nocerts, then import --pem")
}

/// Leaf first, then who issued it, and so on as far as the file has them.
fn chain(certificates: Vec<Vec<u8>>, key: &PublicKey) -> Result<Vec<Vec<u8>>, Failure> {
    let mut rest = Vec::new();
    for der in certificates {
        let parsed = Certificate::from_der(&der)
            .map_err(|error| refused("one of its certificates can't be read").because(error.to_string()))?;
        rest.push((der, parsed));
    }
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    let is_leaf = |(_, certificate): &(_, Certificate)| {
        let spki = certificate.tbs_certificate().subject_public_key_info().to_der();
        let public = spki.ok().and_then(|spki| PublicKey::from_spki(&spki).ok());
        public.is_some_and(|public| public.numbers() == key.numbers())
    };
    let Some(leaf) = rest.iter().position(is_leaf) else {
        let subjects: Vec<_> = rest.iter().map(|(_, of)| format!("`{}`", of.tbs_certificate().subject())).collect();
        return Err(refused(format!("none of its certificates is the key's: {}", subjects.join(", ")))
            .hint("ask for the certificate of this key, or import the key alone: openssl pkcs12 -in FILE -nocerts, then --pem"));
    };
    let mut chain = vec![rest.swap_remove(leaf)];
    while let Some((_, last)) = chain.last()
        && last.tbs_certificate().issuer() != last.tbs_certificate().subject()
        && let Some(issuer) =
            rest.iter().position(|(_, of)| of.tbs_certificate().subject() == last.tbs_certificate().issuer())
        && chain.len() < MAX_CHAIN
    {
        chain.push(rest.swap_remove(issuer));
    }
    Ok(chain.into_iter().map(|(der, _)| der).collect())
}

const MAX_CHAIN: usize = 10;
/// `rsaEncryption`, `id-RSASSA-PSS` (RFC 8017), `id-ecPublicKey` (RFC 5480), `id-Ed25519` (RFC 8410).
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const RSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
