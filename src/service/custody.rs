//! What Hallmark itself has signed with an HSM's custody key: checkpoints, and probes for readiness, which another key makes
//! where there is none.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hallmark_core::{assertion::SigningInput, audit::Signing, error::Error};

use super::{Context, intent::Intent, sign::audit_unavailable};
use crate::pool::{Pool, PoolKey, Signed};

/// As any signature it is recorded: as about to be made, and how it ended. The records are not waited for.
///
/// # Errors
/// `AUDIT_UNAVAILABLE`, and what keeps an HSM from signing: past `patience` too.
pub(super) async fn sign(
    context: &Context,
    pool: &Pool,
    key: Arc<PoolKey>,
    input: SigningInput,
    patience: Duration,
) -> Result<Signed, Error> {
    let deadline = Instant::now() + patience;
    // Nothing that the pool would not even queue is recorded as about to be done: an outage must not fill the disk.
    pool.check(&key, deadline)?;
    let signing = Signing {
        request: &uuid::Uuid::new_v4().to_string(),
        who: "hallmark",
        client: "",
        kid: key.kid.as_str(),
        alg: key.alg.as_str(),
        kind: input.kind(),
        audience: "",
    };
    let intent = Intent::record(context, signing)?;
    let signed = pool.sign(key, input, deadline).await;
    let outcome = intent.outcome(signed.as_ref().map(|_| None));
    context.audit.append(outcome).map_err(audit_unavailable)?;
    signed
}
