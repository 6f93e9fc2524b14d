//! What the card signs: it takes a hash for ECDSA and a padded block for RSA, and knows neither hashes nor padding.

use aws_lc_rs::{digest, rand};
use der::{Decode, asn1::UintRef};
use hallmark_core::{
    key::Alg,
    ports::{FaultClass, HsmFault},
    public_key::{Numbers, PublicKey},
};
use yubikey::piv::AlgorithmId;

/// What `alg` asks of the card: how it calls the key's kind, and the input of the private operation over `message`.
pub(super) fn prepare(alg: Alg, key: &PublicKey, message: &[u8]) -> Result<(AlgorithmId, Vec<u8>), HsmFault> {
    let hash = Hash::of(alg);
    let digest = hash.digest(message);
    match (key.numbers(), alg) {
        (Numbers::Ec { .. }, Alg::ES256) => Ok((AlgorithmId::EccP256, digest)),
        (Numbers::Ec { .. }, Alg::ES384) => Ok((AlgorithmId::EccP384, digest)),
        (Numbers::Rsa { n, .. }, alg) if alg.is_rsa() => {
            let id = rsa_algorithm(n.len() * 8)?;
            let is_pss = matches!(alg, Alg::PS256 | Alg::PS384 | Alg::PS512);
            let block = if is_pss { pss(hash, &digest, n.len())? } else { pkcs1(hash, &digest, n.len()) };
            Ok((id, block))
        }
        _ => {
            let why = format!("a YubiKey's keys do not sign with `{alg}` here");
            Err(HsmFault::new(FaultClass::Unsupported, "GENERAL AUTHENTICATE", why))
        }
    }
}

/// How PIV calls an RSA key of this length.
pub(super) fn rsa_algorithm(bits: usize) -> Result<AlgorithmId, HsmFault> {
    match bits {
        2048 => Ok(AlgorithmId::Rsa2048),
        3072 => Ok(AlgorithmId::Rsa3072),
        4096 => Ok(AlgorithmId::Rsa4096),
        _ => {
            let why = format!("RSA keys have 2048, 3072 or 4096 bits, not `{bits}`");
            Err(HsmFault::new(FaultClass::Request, "PIV", why))
        }
    }
}

/// The signature in JOSE form (RFC 7518 §3.4): the card's ECDSA is a DER sequence of r and s.
pub(super) fn jose(algorithm: AlgorithmId, answer: &[u8]) -> Result<Vec<u8>, HsmFault> {
    let len = match algorithm {
        AlgorithmId::EccP256 => 32,
        AlgorithmId::EccP384 => 48,
        _ => return Ok(answer.to_vec()),
    };
    let unreadable = || HsmFault::new(FaultClass::Unspecific, "GENERAL AUTHENTICATE", "an unreadable signature");
    let Signature { r, s } = Signature::from_der(answer).map_err(|_| unreadable())?;
    let mut out = vec![0; 2 * len];
    for (number, end) in [(r, len), (s, 2 * len)] {
        let bytes = number.as_bytes();
        let start = end.checked_sub(bytes.len()).filter(|start| *start + len >= end).ok_or_else(unreadable)?;
        out[start..end].copy_from_slice(bytes);
    }
    Ok(out)
}

/// RFC 3279 §2.2.3.
#[derive(der::Sequence)]
struct Signature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

#[derive(Clone, Copy)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    fn of(alg: Alg) -> Self {
        match alg {
            Alg::RS256 | Alg::PS256 | Alg::ES256 => Self::Sha256,
            Alg::RS384 | Alg::PS384 | Alg::ES384 => Self::Sha384,
            Alg::RS512 | Alg::PS512 | Alg::EdDSA => Self::Sha512,
        }
    }

    fn digest(self, message: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, message).as_ref().to_vec()
    }

    /// The DER that stands before the digest (RFC 8017 §9.2, note 1).
    fn digest_info(self) -> &'static [u8] {
        match self {
            Self::Sha256 => b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20",
            Self::Sha384 => b"\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30",
            Self::Sha512 => b"\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40",
        }
    }
}

/// EMSA-PKCS1-v1_5 (RFC 8017 §9.2) to `len` bytes.
fn pkcs1(hash: Hash, digest: &[u8], len: usize) -> Vec<u8> {
    let info = hash.digest_info();
    let mut block = vec![0xff; len];
    let zero = len - info.len() - digest.len() - 1;
    (block[0], block[1], block[zero]) = (0, 1, 0);
    block[zero + 1..zero + 1 + info.len()].copy_from_slice(info);
    block[zero + 1 + info.len()..].copy_from_slice(digest);
    block
}

/// EMSA-PSS (RFC 8017 §9.1.1) to `len` bytes, for moduli of whole bytes. The salt is as long as the hash, and MGF1 has
/// the same hash (RFC 7518 §3.5).
fn pss(hash: Hash, digest: &[u8], len: usize) -> Result<Vec<u8>, HsmFault> {
    let mut salt = vec![0; digest.len()];
    let no_randomness = |_| HsmFault::new(FaultClass::Unspecific, "PSS", "the random generator failed");
    rand::fill(&mut salt).map_err(no_randomness)?;
    let inner = hash.digest(&[&[0; 8], digest, &salt].concat());
    let masked_len = len - inner.len() - 1;
    let mut block = vec![0; masked_len - salt.len() - 1];
    block.push(1);
    block.extend_from_slice(&salt);
    let mask = mgf1(hash, &inner, masked_len);
    block.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    // The modulus' highest bit is set, so the block must have one bit less.
    block[0] &= 0x7f;
    block.extend_from_slice(&inner);
    block.push(0xbc);
    Ok(block)
}

/// RFC 8017 appendix B.2.1.
fn mgf1(hash: Hash, seed: &[u8], len: usize) -> Vec<u8> {
    let mut mask = Vec::with_capacity(len + 64);
    for counter in 0_u32.. {
        if mask.len() >= len {
            break;
        }
        mask.extend(hash.digest(&[seed, &counter.to_be_bytes()].concat()));
    }
    mask.truncate(len);
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_of_pkcs1_is_that_of_rfc_8017() {
        let digest = Hash::Sha256.digest(b"abc");
        let block = pkcs1(Hash::Sha256, &digest, 256);
        assert_eq!((block.len(), &block[..3]), (256, &[0, 1, 0xff][..]));
        let t = [Hash::Sha256.digest_info(), &digest].concat();
        let zero = 256 - t.len() - 1;
        assert!(block[2..zero].iter().all(|byte| *byte == 0xff));
        assert_eq!((block[zero], &block[zero + 1..]), (0, t.as_slice()));
    }

    /// As the verifier takes it apart (RFC 8017 §9.1.2).
    #[test]
    fn the_block_of_pss_comes_apart_again() {
        for (hash, len) in [(Hash::Sha256, 256), (Hash::Sha384, 384), (Hash::Sha512, 512)] {
            let digest = hash.digest(b"abc");
            let block = pss(hash, &digest, len).unwrap();
            assert_eq!((block.len(), block[len - 1], block[0] & 0x80), (len, 0xbc, 0));
            let (masked, rest) = block.split_at(len - digest.len() - 1);
            let inner = &rest[..digest.len()];
            let mut db: Vec<u8> = masked.iter().zip(mgf1(hash, inner, masked.len())).map(|(a, b)| a ^ b).collect();
            db[0] &= 0x7f;
            let (padding, salt) = db.split_at(db.len() - digest.len());
            assert!(padding[..padding.len() - 1].iter().all(|byte| *byte == 0) && padding[padding.len() - 1] == 1);
            assert_eq!(hash.digest(&[&[0; 8], digest.as_slice(), salt].concat()), inner);
        }
    }

    #[test]
    fn numbers_of_ecdsa_are_filled_to_their_length() {
        let der = [0x30, 7, 2, 1, 5, 2, 2, 0, 0x81];
        let jose = jose(AlgorithmId::EccP256, &der).unwrap();
        assert_eq!((jose.len(), jose[31], jose[63]), (64, 5, 0x81));
        assert!(super::jose(AlgorithmId::EccP384, &der[1..]).is_err());
        let too_long = [&[0x30, 38, 2, 33, 1][..], &[9; 32], &[2, 1, 1]].concat();
        assert!(super::jose(AlgorithmId::EccP256, &too_long).is_err());
    }
}
