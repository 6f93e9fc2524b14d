//! What a token can do, and how to make each JWS signature with it.

#[cfg(test)]
mod tests;

use aws_lc_rs::digest;
use cryptoki::{
    mechanism::{
        Mechanism, MechanismType,
        eddsa::{EddsaParams, EddsaSignatureScheme},
        rsa::{PkcsMgfType, PkcsPssParams},
    },
    object::ObjectHandle,
    session::Session,
};
use hallmark_core::key::Alg;

/// What a token can do, from its mechanism list: asked for once an epoch, and again where it lacks what is needed.
#[derive(Clone, Debug)]
pub(super) struct Mechanisms {
    list: Vec<MechanismType>,
    recipes: Vec<(Alg, Recipe)>,
    generates: Vec<Alg>,
}

impl Mechanisms {
    pub(super) fn new(list: &[MechanismType]) -> Self {
        let recipe = |alg: Alg| Some((alg, Recipe::new(Scheme::of(alg), list)?));
        let generates = |alg: &Alg| list.contains(&key_pair_mechanism(*alg));
        Self {
            list: list.to_vec(),
            recipes: Alg::ALL.into_iter().filter_map(recipe).collect(),
            generates: Alg::ALL.into_iter().filter(generates).collect(),
        }
    }

    /// The algorithms for which the token can both generate keys and sign.
    pub(super) fn algs(&self) -> Vec<Alg> {
        self.generates.iter().copied().filter(|alg| self.recipe(*alg).is_some()).collect()
    }

    /// How to sign with `alg`; `None` where the token can't.
    pub(super) fn recipe(&self, alg: Alg) -> Option<Recipe> {
        self.recipes.iter().find(|(known, _)| *known == alg).map(|(_, recipe)| *recipe)
    }

    /// The token refuses a mechanism that it listed: what else it lists for `alg`, which is taken from now on.
    pub(super) fn without(&mut self, alg: Alg, refused: Recipe) -> Option<Recipe> {
        let other = Recipe { token_hashes: !refused.token_hashes, ..refused };
        let kinds = [refused, other].map(|recipe| recipe.scheme.mechanism(recipe.token_hashes).mechanism_type());
        self.recipes.retain(|known| *known != (alg, refused));
        // Another thread may have been here before.
        if self.recipe(alg).is_none() && refused.token_hashes && kinds[0] != kinds[1] && self.list.contains(&kinds[1]) {
            self.recipes.push((alg, other));
        }
        self.recipe(alg)
    }
}

/// What would do for signatures with `alg`, the best first.
pub(super) fn signing_mechanisms(alg: Alg) -> Vec<MechanismType> {
    let mut both: Vec<_> = [true, false].map(|hashes| Scheme::of(alg).mechanism(hashes).mechanism_type()).into();
    both.dedup();
    both
}

/// The mechanism that generates keys for `alg`.
pub(super) fn key_pair_mechanism(alg: Alg) -> MechanismType {
    match alg {
        Alg::ES256 | Alg::ES384 => MechanismType::ECC_KEY_PAIR_GEN,
        Alg::EdDSA => MechanismType::ECC_EDWARDS_KEY_PAIR_GEN,
        _ => MechanismType::RSA_PKCS_KEY_PAIR_GEN,
    }
}

/// How one token signs with one algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Recipe {
    scheme: Scheme,
    token_hashes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Pkcs1(Hash),
    Pss(Hash),
    Ecdsa(Hash),
    Ed25519,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Recipe {
    /// Where the token can hash, it does: tokens in FIPS mode refuse to sign a digest that they did not make. It costs
    /// nothing (SoftHSM, RSA-2048, a message of 600 bytes: 772 µs with CKM_SHA384_RSA_PKCS, 754 µs with CKM_RSA_PKCS,
    /// which is within the noise).
    fn new(scheme: Scheme, list: &[MechanismType]) -> Option<Self> {
        let can = |token_hashes| list.contains(&scheme.mechanism(token_hashes).mechanism_type());
        let token_hashes = [true, false].into_iter().find(|token_hashes| can(*token_hashes))?;
        Some(Self { scheme, token_hashes })
    }

    /// The mechanism that signs.
    pub(super) fn mechanism(self) -> MechanismType {
        self.scheme.mechanism(self.token_hashes).mechanism_type()
    }

    /// What Hallmark does to the message first, where the token does not do all of it.
    pub(super) fn ours(self) -> Option<&'static str> {
        match (self.token_hashes, self.scheme) {
            (true, _) | (_, Scheme::Ed25519) => None,
            (false, Scheme::Pkcs1(_)) => Some("hash and DigestInfo by Hallmark"),
            (false, Scheme::Pss(_) | Scheme::Ecdsa(_)) => Some("hash by Hallmark"),
        }
    }

    /// Signs `message`; the signature is in JOSE form, which for ECDSA is also that of PKCS#11: r ‖ s (§6.3.1).
    pub(super) fn sign(self, session: &Session, key: ObjectHandle, message: &[u8]) -> cryptoki::error::Result<Vec<u8>> {
        let mechanism = self.scheme.mechanism(self.token_hashes);
        if self.token_hashes {
            session.sign(&mechanism, key, message)
        } else {
            session.sign(&mechanism, key, &self.scheme.prepare(message))
        }
    }
}

impl Scheme {
    fn of(alg: Alg) -> Self {
        match alg {
            Alg::RS256 => Self::Pkcs1(Hash::Sha256),
            Alg::RS384 => Self::Pkcs1(Hash::Sha384),
            Alg::RS512 => Self::Pkcs1(Hash::Sha512),
            Alg::PS256 => Self::Pss(Hash::Sha256),
            Alg::PS384 => Self::Pss(Hash::Sha384),
            Alg::PS512 => Self::Pss(Hash::Sha512),
            Alg::ES256 => Self::Ecdsa(Hash::Sha256),
            Alg::ES384 => Self::Ecdsa(Hash::Sha384),
            Alg::EdDSA => Self::Ed25519,
        }
    }

    /// The mechanism that takes the message, or the one that takes what [`Scheme::prepare`] makes of it.
    fn mechanism(self, token_hashes: bool) -> Mechanism<'static> {
        match (self, token_hashes) {
            (Self::Pkcs1(Hash::Sha256), true) => Mechanism::Sha256RsaPkcs,
            (Self::Pkcs1(Hash::Sha384), true) => Mechanism::Sha384RsaPkcs,
            (Self::Pkcs1(Hash::Sha512), true) => Mechanism::Sha512RsaPkcs,
            (Self::Pkcs1(_), false) => Mechanism::RsaPkcs,
            (Self::Pss(hash @ Hash::Sha256), true) => Mechanism::Sha256RsaPkcsPss(hash.pss()),
            (Self::Pss(hash @ Hash::Sha384), true) => Mechanism::Sha384RsaPkcsPss(hash.pss()),
            (Self::Pss(hash @ Hash::Sha512), true) => Mechanism::Sha512RsaPkcsPss(hash.pss()),
            (Self::Pss(hash), false) => Mechanism::RsaPkcsPss(hash.pss()),
            (Self::Ecdsa(Hash::Sha256), true) => Mechanism::EcdsaSha256,
            (Self::Ecdsa(Hash::Sha384), true) => Mechanism::EcdsaSha384,
            (Self::Ecdsa(Hash::Sha512), true) => Mechanism::EcdsaSha512,
            (Self::Ecdsa(_), false) => Mechanism::Ecdsa,
            // Pure Ed25519 has no parameters, and hashes in the course of it.
            (Self::Ed25519, _) => Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure)),
        }
    }

    /// What a mechanism without a hash signs instead of the message.
    fn prepare(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Pkcs1(hash) => [hash.digest_info(), hash.of(message).as_ref()].concat(),
            Self::Pss(hash) | Self::Ecdsa(hash) => hash.of(message).as_ref().to_vec(),
            Self::Ed25519 => message.to_vec(),
        }
    }
}

impl Hash {
    fn of(self, message: &[u8]) -> digest::Digest {
        let algorithm = match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, message)
    }

    /// The DER that stands before the digest in EMSA-PKCS1-v1_5 (RFC 8017 §9.2, note 1).
    fn digest_info(self) -> &'static [u8] {
        match self {
            Self::Sha256 => b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20",
            Self::Sha384 => b"\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30",
            Self::Sha512 => b"\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40",
        }
    }

    /// JWS has the salt as long as the hash, and MGF1 with the same hash (RFC 7518 §3.5).
    fn pss(self) -> PkcsPssParams {
        let (hash_alg, mgf, salt) = match self {
            Self::Sha256 => (MechanismType::SHA256, PkcsMgfType::MGF1_SHA256, 32),
            Self::Sha384 => (MechanismType::SHA384, PkcsMgfType::MGF1_SHA384, 48),
            Self::Sha512 => (MechanismType::SHA512, PkcsMgfType::MGF1_SHA512, 64),
        };
        PkcsPssParams { hash_alg, mgf, s_len: cryptoki::types::Ulong::new(salt) }
    }
}
