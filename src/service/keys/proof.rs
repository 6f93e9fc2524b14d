//! A key that was not made for its record signs once before anyone relies on it.

#[cfg(test)]
mod tests;

use hallmark_core::{
    audit::Signing,
    client::Custody,
    error::{Error, Reason},
    evidence::{self, Nonce},
    key::KeyRecord,
};
use uuid::Uuid;

use super::Keys;
use crate::{
    pool::{Pool, PoolKey},
    service::{intent::Intent, sign::audit_unavailable},
};

impl Keys {
    /// Sees `record`'s key, which is to be taken in, prove its possession. Objects with one `CKA_ID` need not be halves of
    /// one key, and a token may keep a key for other uses, or for people: verifiers would be the first to notice.
    ///
    /// # Errors
    /// `KEY_ABSENT` where the signature does not verify, and what keeps the HSM from signing.
    pub(super) async fn prove(&self, pool: &Pool, record: &KeyRecord, who: &str) -> Result<(), Error> {
        let public = record.public.as_ref().ok_or_else(|| Error::internal("a key without its public part"))?;
        let key = PoolKey::new(record, public, Custody::Imported).map_err(Error::internal)?;
        let nonce = Nonce::new(Uuid::new_v4().as_bytes().to_vec())?;
        let input = evidence::possession(&public.kid, record.purpose, &nonce);
        let request = Uuid::new_v4().to_string();
        let signing = Signing {
            request: &request,
            who,
            client: record.client.as_ref().map_or("", |client| client.as_str()),
            kid: public.kid.as_str(),
            alg: record.alg.as_str(),
            kind: input.kind(),
            audience: "",
        };
        let intent = Intent::record(&self.context, signing)?;
        let tried = pool.try_out(key, input, self.now()).await.map_err(not_taken_in);
        let proven = tried.and_then(|verifies| if verifies { Ok(()) } else { Err(not_its_half()) });
        let outcome = intent.outcome(proven.as_ref().map(|()| None));
        self.context.audit.append_synced(outcome).await.map_err(audit_unavailable)?;
        proven
    }
}

fn not_its_half() -> Error {
    let text = "the key is not taken in: what its private object signs does not verify with its public object, so they \
        are not of one key, whatever their CKA_ID says";
    Error::new(Reason::KeyAbsent, text)
}

/// What concerns this key is for the operator to hear, who would have to search the log for it.
pub(super) fn not_taken_in(error: Error) -> Error {
    match (error.reason, &error.detail) {
        (Reason::HsmRefused | Reason::AlgUnsupported | Reason::KeyAbsent, Some(detail)) => {
            Error { message: format!("the key is not taken in: the HSM does not sign with it: {detail}"), ..error }
        }
        _ => error,
    }
}
