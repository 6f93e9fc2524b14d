//! The key that each HSM has for Hallmark's own signatures.

use hallmark_core::{
    client::Custody,
    error::{Error, Reason},
    key::{Alg, HsmName, KeyRecord, KeySpec, KeyState, Purpose},
    lifecycle::{Change, Step},
};

use super::{Keys, OWN_NAME, change::Author};

impl Keys {
    /// Makes the custody key of `hsm`, if there is none. Prefers ES256: its keys are quick to make and to use.
    pub async fn ensure_custody_key(&self, hsm: &HsmName) -> Result<(), Error> {
        let _one = self.custody_births.lock(hsm).await;
        // An attempt that failed may have left what was not read yet.
        self.reload().await?;
        let keys = self.context.keyring.keys().clone();
        if keys.custody(hsm).is_some() {
            return Ok(());
        }
        let pool = self.pool(hsm)?;
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
                let alg = [Alg::ES256, Alg::RS256].into_iter().find(|alg| algs.contains(alg)).ok_or_else(|| {
                    Error::new(Reason::AlgUnsupported, "the HSM has neither ES256 nor RS256, for its custody key")
                })?;
                self.reserve_custody(hsm, alg).await?
            }
        };
        // The record's own: it may have been reserved when the HSM had other algorithms.
        let spec = KeySpec { alg: record.alg, rsa_bits: KeySpec::DEFAULT_RSA_BITS };
        let author = Author { who: OWN_NAME, change: &record.id.to_string(), reason: "an HSM needs a custody key" };
        let born = self.generate(pool, &record, spec, Custody::Local, &author).await?;
        let step = Step::Move { key: born.id, to: KeyState::Active };
        let change = Change { step, reason: "custody key".into() };
        self.apply(vec![(born, change)], &author).await?;
        self.reload().await
    }
}
