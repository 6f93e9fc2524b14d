//! The key that each HSM has for Hallmark's own signatures.

#[cfg(test)]
mod tests;

use hallmark_core::{
    client::Custody,
    error::{Error, Reason},
    key::{Alg, HsmName, KeyId, KeyRecord, KeySpec, KeyState, Origin, PublicPart, Purpose},
    lifecycle::{self, Change, Step},
};
use uuid::Uuid;

use super::{
    Keys, OWN_NAME,
    adopt::{self, ObjectRef},
    change::Author,
    store_error,
};
use crate::pool::Pool;

impl Keys {
    /// Sees to it that `hsm` has a custody key: takes in the one that the configuration names, else makes one.
    pub async fn ensure_custody_key(&self, hsm: &HsmName) -> Result<(), Error> {
        let _one = self.custody_births.lock(hsm).await;
        // An attempt that failed may have left what was not read yet.
        self.reload().await?;
        let named = self.context.registry.load().custody_key(hsm).map(<[u8]>::to_vec);
        let keys = self.context.keyring.keys().clone();
        if let Some(key) = keys.custody(hsm) {
            let is_other = |id: &Vec<u8>| keys.find(key.id).is_some_and(|record| record.cka_id != *id);
            if named.as_ref().is_some_and(is_other) {
                tracing::warn!(%hsm, kid = %key.kid, "the HSM has another custody key than `custody_key` names, and keeps it");
            }
            return Ok(());
        }
        let pool = self.pool(hsm)?;
        match named {
            Some(cka_id) => self.take_custody_key(hsm, pool, cka_id).await?,
            None => self.make_custody_key(hsm, pool).await?,
        }
        self.reload().await
    }

    async fn make_custody_key(&self, hsm: &HsmName, pool: &Pool) -> Result<(), Error> {
        let keys = self.context.keyring.keys().clone();
        let algs = pool.facts().map(|facts| facts.algs).unwrap_or_default();
        // What was reserved for an algorithm that the HSM has no more stays where it is, and another takes its place.
        let reserved = |record: &&KeyRecord| {
            record.purpose == Purpose::Custody
                && record.hsm == *hsm
                && record.state == KeyState::PreActive
                && algs.contains(&record.alg)
        };
        let record = match keys.records.iter().find(reserved) {
            Some(record) => record.clone(),
            None => {
                let alg = ALGS.into_iter().find(|alg| algs.contains(alg)).ok_or_else(|| {
                    Error::new(Reason::AlgUnsupported, "the HSM has neither ES256 nor RS256, for its custody key")
                })?;
                self.reserve_custody(hsm, alg).await?
            }
        };
        // The record's own: it may have been reserved when the HSM had other algorithms.
        let spec = KeySpec { alg: record.alg, rsa_bits: KeySpec::DEFAULT_RSA_BITS };
        let author = Author { who: OWN_NAME, change: &record.id.to_string(), reason: REASON };
        let born = self.generate(pool, &record, spec, Custody::Local, &author).await?;
        let change = activation(&born);
        self.apply(vec![(born, change)], &author).await
    }

    /// For tokens that let nobody but their own tools make keys: the pair with that `CKA_ID`, which must be as good as one
    /// that Hallmark makes.
    async fn take_custody_key(&self, hsm: &HsmName, pool: &Pool, cka_id: Vec<u8>) -> Result<(), Error> {
        let object = adopt::find(&pool.list().await?, &ObjectRef::CkaId(cka_id))?;
        let key = object.public.clone().ok_or_else(|| adopt::incomplete(&object))?;
        adopt::refuse_known(&key)?;
        let alg = ALGS.into_iter().find(|alg| key.suits(*alg)).ok_or_else(|| {
            Error::new(Reason::AlgUnsupported, "the key that `custody_key` names can do neither ES256 nor RS256")
        })?;
        let public = PublicPart { kid: key.thumbprint(), key };
        let mut record = KeyRecord {
            cka_id: object.cka_id,
            label: object.label,
            public: Some(public),
            origin: Origin::Adopted,
            ..KeyRecord::of_custody(KeyId(Uuid::new_v4()), alg, hsm.clone(), self.now())
        };
        if let Some(known) = self.on_record(&record) {
            return Err(adopt::already(&known));
        }
        record.attestation = self.custody_of_own(pool, &record).await?;
        self.prove(pool, &record, OWN_NAME).await?;
        let author = Author { who: OWN_NAME, change: &record.id.to_string(), reason: REASON };
        self.audited(&author, "adopt", &record.id.to_string(), async {
            let born = lifecycle::apply(&record, &activation(&record), self.now())?;
            self.context.keyring.store().apply(&[born], &[]).await.map_err(store_error)?;
            self.looks.outdate(hsm);
            Ok(())
        })
        .await
    }

    /// The attestation of a key that is to be a custody key, if it has one that holds; an error where it falls short of
    /// [`Custody::Local`]: evidence under it would be worth nothing.
    async fn custody_of_own(&self, pool: &Pool, record: &KeyRecord) -> Result<Vec<Vec<u8>>, Error> {
        let (custody, why, attestation) = self.judged(pool, record).await?;
        if custody.is_some_and(|custody| custody <= Custody::Local) {
            return Ok(attestation);
        }
        let why = why.unwrap_or_else(|| "it was not made on this HSM".to_owned());
        Err(Error::new(Reason::CustodyTooWeak, format!("the key that `custody_key` names is not taken in: {why}")))
    }
}

fn activation(record: &KeyRecord) -> Change {
    Change { step: Step::Move { key: record.id, to: KeyState::Active }, reason: "custody key".into() }
}

/// The best first: keys for ES256 are quick to make and to use.
const ALGS: [Alg; 2] = [Alg::ES256, Alg::RS256];
const REASON: &str = "an HSM needs a custody key";
