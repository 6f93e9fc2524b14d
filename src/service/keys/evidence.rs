//! Evidence of where a key was born and what keeps it there, signed for whoever audits.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hallmark_core::{
    assertion::{HeaderKey, SigningInput, Stamp},
    audit::Signing,
    client::Custody,
    error::{Error, Reason},
    evidence::{
        self, Nonce,
        document::{About, Document, judge},
    },
    key::{HsmName, KeyRecord, Kid},
    policy::Caller,
};
use uuid::Uuid;

use super::{Keys, choice::check_alive, no_such_key};
use crate::{
    pool::{Pool, PoolKey, Signed},
    service::{intent::Intent, sign::audit_unavailable},
};

/// Evidence as it is handed out.
#[derive(Clone, Debug)]
pub struct SignedEvidence {
    /// A JWS in compact serialisation.
    pub compact: String,
    /// Of the key that signed it.
    pub custody_kid: Kid,
    pub stamp: Stamp,
}

/// An HSM that takes longer for a signature is of no use to an auditor either.
const PATIENCE: Duration = Duration::from_secs(30);

impl Keys {
    /// What can be shown of the key with that `kid`, with `nonce` in it. Role "view": it changes nothing, and neither
    /// signature in it passes for an assertion.
    ///
    /// # Errors
    /// `KEY_NOT_FOUND`; `KEY_STATE` for a key that ended; `CUSTODY_TOO_WEAK` for one that can leave its HSM, with which
    /// nothing is ever signed; and what keeps an HSM from signing.
    pub async fn evidence(&self, caller: &Caller, kid: &str, nonce: Nonce) -> Result<SignedEvidence, Error> {
        let record = self.get(caller, kid)?;
        check_alive(&record)?;
        let public = record.public.as_ref().ok_or_else(|| no_such_key(kid))?;
        let pool = self.pool(&record.hsm)?;
        let custody = self.custody_key(&record.hsm)?;
        // The least that Hallmark signs with at all: what the client's policy says of it is another matter.
        let key = Arc::new(PoolKey::new(&record, public, Custody::Imported).map_err(Error::internal)?);
        let shown = pool.evidence(key.clone()).await?;
        let roots = self.context.registry.load().roots.clone();
        if let Some(why) = judge(&shown, &public.key, &roots, self.now()).shortfall.filter(|_| shown.custody().is_err())
        {
            return Err(Error::new(Reason::CustodyTooWeak, format!("there is no custody to show of this key: {why}")));
        }
        let who = Signer { who: &caller.identity.to_string(), record: &record };
        let input = evidence::possession(&public.kid, record.purpose, &nonce);
        let possession = self.sign_for_evidence(pool, &key, input, &who).await?;
        self.still_there(&record)?;
        let facts = pool.facts();
        let about = About { record: &record, public, hsm: facts.as_ref(), roots: &roots };
        let document = Document::new(&about, &nonce, &possession.signature, &shown, self.now());
        let document = document.map_err(Error::internal)?;
        let header = HeaderKey { certificates: &[], ..custody.header() };
        let input = evidence::prepare(&document, header, custody.public())?;
        let signed = self.sign_for_evidence(pool, &custody, input, &who).await?;
        let (compact, stamp) = signed.to_be_signed.into_compact(&signed.signature)?;
        Ok(SignedEvidence { compact, custody_kid: custody.kid.clone(), stamp })
    }

    fn custody_key(&self, hsm: &HsmName) -> Result<Arc<PoolKey>, Error> {
        self.context.keyring.leased()?.custody(hsm).cloned().ok_or_else(|| {
            let text = format!("HSM `{hsm}` has no custody key yet: it is made once the HSM is up");
            Error::new(Reason::HsmUnavailable, text).retry_after(Duration::from_secs(1))
        })
    }

    /// The key may have been revoked while the HSM worked.
    fn still_there(&self, record: &KeyRecord) -> Result<(), Error> {
        let keys = self.context.keyring.leased()?;
        keys.find(record.id).map_or_else(|| Err(no_such_key("")), check_alive)
    }

    /// Given out only once it is on the disk who wanted it.
    async fn sign_for_evidence(
        &self,
        pool: &Pool,
        key: &Arc<PoolKey>,
        input: SigningInput,
        by: &Signer<'_>,
    ) -> Result<Signed, Error> {
        let deadline = Instant::now() + PATIENCE;
        pool.check(key, deadline)?;
        let signing = Signing {
            request: &Uuid::new_v4().to_string(),
            who: by.who,
            client: by.record.client.as_ref().map_or("", |client| client.as_str()),
            kid: key.kid.as_str(),
            alg: key.alg.as_str(),
            kind: input.kind(),
            audience: "",
        };
        let intent = Intent::record(&self.context, signing)?;
        let signed = pool.sign(key.clone(), input, deadline).await;
        let outcome = intent.outcome(signed.as_ref().map(|signed| Some(&signed.to_be_signed.stamp)));
        self.context.audit.append_synced(outcome).await.map_err(audit_unavailable)?;
        signed
    }
}

/// For the audit log: who asks, and about which key.
struct Signer<'a> {
    who: &'a str,
    record: &'a KeyRecord,
}

#[cfg(test)]
mod tests;
