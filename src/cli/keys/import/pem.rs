//! What is in a PEM file (RFC 7468): keys in three forms, certificates, and what other tools write between them.

use aws_lc_rs::{
    encoding::AsDer,
    rsa::KeyPair as RsaKeyPair,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair},
};
use pkcs8::{
    EncryptedPrivateKeyInfoRef,
    pkcs5::{EncryptionScheme, pbes2::Kdf},
};
use x509_cert::der::{Decode, pem};
use zeroize::Zeroizing;

use super::{
    super::super::Failure,
    file::{Contents, REPACK},
    refused,
};

type Der = Zeroizing<Vec<u8>>;

/// Whether a passphrase is needed.
pub(super) fn is_encrypted(bytes: &[u8]) -> bool {
    let begin = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";
    bytes.windows(begin.len()).any(|window| window == begin)
}

/// Everything in it that is a key or a certificate.
pub(super) fn contents(bytes: &[u8], password: &str) -> Result<Contents, Failure> {
    let text = str::from_utf8(bytes).map_err(|_| refused("it is no PEM file: it is not text"))?;
    let mut contents = Contents::default();
    let mut encrypted = 0;
    for (label, block) in blocks(text) {
        if block.contains("Proc-Type:") {
            return Err(refused("its key is encrypted as OpenSSL did long ago, with MD5")
                .hint("convert it: openssl pkcs8 -topk8 -in FILE -out NEW.pem, then import --pem NEW.pem"));
        }
        match label {
            "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => {
                contents.certificates.push(std::mem::take(&mut *decode(block)?));
            }
            "PRIVATE KEY" => contents.keys.push((decode(block)?, None)),
            "RSA PRIVATE KEY" => contents.keys.push((from_pkcs1(&decode(block)?)?, None)),
            "EC PRIVATE KEY" => contents.keys.push((from_sec1(&decode(block)?)?, None)),
            "ENCRYPTED PRIVATE KEY" => {
                encrypted += 1;
                if encrypted > MAX_ENCRYPTED {
                    return Err(refused("it has several encrypted keys")
                        .hint("put the one that is meant into a file of its own"));
                }
                contents.keys.push((decrypted(&decode(block)?, password)?, None));
            }
            "OPENSSH PRIVATE KEY" => {
                return Err(
                    refused("its key is in OpenSSH's own form").hint("convert a copy: ssh-keygen -p -m PKCS8 -f COPY")
                );
            }
            // EC PARAMETERS, PUBLIC KEY and the like say nothing that the key does not say.
            _ => {}
        }
    }
    Ok(contents)
}

/// Each `-----BEGIN X-----` to its `-----END X-----`; what stands between the blocks is for people.
fn blocks(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text;
    let next = move || {
        let (_, from) = rest.split_once("-----BEGIN ")?;
        let begin = rest.len() - from.len() - "-----BEGIN ".len();
        let (label, _) = from.split_once("-----")?;
        // The next end, whose ever it is, so that a file of beginnings is read once and not once for each.
        let end = begin + rest[begin..].find("-----END ")?;
        let whole = format!("-----END {label}-----");
        let matches = rest[end..].starts_with(&whole);
        let length = if matches { whole.len() } else { "-----END ".len() };
        let block = &rest[begin..end + length];
        rest = &rest[end + length..];
        Some(matches.then_some((label, block)))
    };
    std::iter::from_fn(next).take(MAX_BLOCKS).flatten()
}

fn decode(block: &str) -> Result<Der, Failure> {
    let decoded = pem::decode_vec(block.as_bytes());
    let (_, der) = decoded.map_err(|error| refused("a block of it is no PEM").because(error.to_string()))?;
    Ok(Zeroizing::new(der))
}

fn decrypted(der: &[u8], password: &str) -> Result<Der, Failure> {
    let unknown = || {
        refused("its key is encrypted by a method that hallmark does not know")
            .hint("have it encrypted anew: openssl pkcs8 -topk8 -in FILE -out NEW.pem, then import --pem NEW.pem")
    };
    let info = EncryptedPrivateKeyInfoRef::from_der(der).map_err(|_| unknown())?;
    match &info.encryption_algorithm {
        EncryptionScheme::Pbes2(parameters) if !is_bounded(&parameters.kdf) => {
            return Err(refused("it asks for more than ten million rounds, or for more than 1 GiB, to derive a key")
                .hint(REPACK));
        }
        EncryptionScheme::Pbes2(_) => {}
        _ => return Err(unknown()),
    }
    let document = info.decrypt(password);
    let document =
        document.map_err(|_| refused("the passphrase does not open it").hint("type it again; nothing was changed"))?;
    Ok(Zeroizing::new(document.as_bytes().to_vec()))
}

fn is_bounded(kdf: &Kdf) -> bool {
    match kdf {
        Kdf::Pbkdf2(parameters) => parameters.iteration_count <= MAX_ITERATIONS,
        Kdf::Scrypt(parameters) => {
            let memory = parameters.cost_parameter.checked_mul(128 * u64::from(parameters.block_size));
            memory.is_some_and(|memory| memory <= MAX_MEMORY) && parameters.parallelization <= MAX_PARALLEL
        }
        _ => false,
    }
}

fn from_pkcs1(der: &[u8]) -> Result<Der, Failure> {
    let pair = RsaKeyPair::from_der(der).map_err(|error| unusable("RSA").because(error.to_string()))?;
    let pkcs8 = pair.as_der().map_err(|_| unusable("RSA"))?;
    let pkcs8: &[u8] = pkcs8.as_ref();
    Ok(Zeroizing::new(pkcs8.to_vec()))
}

fn from_sec1(der: &[u8]) -> Result<Der, Failure> {
    let curves = [&ECDSA_P256_SHA256_FIXED_SIGNING, &ECDSA_P384_SHA384_FIXED_SIGNING];
    let pair = curves.into_iter().find_map(|curve| EcdsaKeyPair::from_private_key_der(curve, der).ok());
    let pkcs8 = pair.and_then(|pair| pair.to_pkcs8v1().ok());
    pkcs8.map(|pkcs8| Zeroizing::new(pkcs8.as_ref().to_vec())).ok_or_else(|| unusable("elliptic-curve"))
}

fn unusable(kind: &str) -> Failure {
    refused(format!("its {kind} key can't be used")).hint(
        "hallmark signs with RSA of 2048 bits or more, P-256, P-384 and Ed25519; is the file whole? openssl pkey -check \
         -noout -in FILE",
    )
}

/// A file has a key and some certificates.
const MAX_BLOCKS: usize = 100;
const MAX_ENCRYPTED: usize = 4;
const MAX_ITERATIONS: u32 = 10_000_000;
const MAX_MEMORY: u64 = 1 << 30;
const MAX_PARALLEL: u16 = 16;
