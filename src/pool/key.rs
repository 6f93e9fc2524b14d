//! A key as the pool signs with it.

use std::fmt;

use hallmark_core::{
    assertion::{HeaderKey, SigningInput},
    certificate::Validity,
    client::Custody,
    error::Error,
    key::{Alg, KeyId, KeyRecord, Kid, PublicPart, Purpose},
    ports::KeyRef,
    public_key::{InvalidPublicKey, PublicKey, Verifier},
};

/// What the pool needs to sign with a key: the record, with its public key parsed once.
#[derive(Clone)]
pub struct PoolKey {
    pub id: KeyId,
    pub kid: Kid,
    pub alg: Alg,
    pub(super) purpose: Purpose,
    cka_id: Vec<u8>,
    label: String,
    public: PublicKey,
    custody: Custody,
    pub(super) verifier: Verifier,
    certificates: Vec<Vec<u8>>,
    /// Of the leaf.
    validity: Option<Validity>,
}

impl PoolKey {
    /// Parses the public key once, for all signatures to come. `custody` is the least that the key must show.
    pub fn new(record: &KeyRecord, public: &PublicPart, custody: Custody) -> Result<Self, InvalidPublicKey> {
        Ok(Self {
            id: record.id,
            kid: public.kid.clone(),
            alg: record.alg,
            purpose: record.purpose,
            cka_id: record.cka_id.clone(),
            label: record.label.clone(),
            public: public.key.clone(),
            custody,
            verifier: public.key.verifier(record.alg)?,
            certificates: record.certificate_chain.clone(),
            validity: Validity::of_leaf(&record.certificate_chain),
        })
    }

    /// As the header of an assertion shows it.
    pub fn header(&self) -> HeaderKey<'_> {
        HeaderKey { alg: self.alg, kid: &self.kid, certificates: &self.certificates }
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// From when until when its certificate may be shown, where it has one that can be read.
    pub fn validity(&self) -> Option<Validity> {
        self.validity
    }

    /// Whether these are its certificates.
    pub fn has_certificates(&self, chain: &[Vec<u8>]) -> bool {
        self.certificates == chain
    }

    /// The least that the key must show of its birth.
    pub fn custody(&self) -> Custody {
        self.custody
    }

    /// Custody keys sign what is Hallmark's own, and all others what is their client's.
    pub(super) fn check_purpose(&self, input: &SigningInput) -> Result<(), Error> {
        if self.purpose == input.purpose() {
            return Ok(());
        }
        Err(Error::internal(format!("a {} is not for {self:?}, of another purpose", input.kind())))
    }

    pub(super) fn key_ref(&self) -> KeyRef<'_> {
        // An attestation is checked against roots that the token does not know: before the key gets here.
        let custody = self.custody.max(Custody::Local);
        KeyRef { cka_id: &self.cka_id, label: &self.label, public: &self.public, custody }
    }
}

impl fmt::Debug for PoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PoolKey({}, {})", self.alg, self.kid)
    }
}
