//! What the server does beside answering: reads the store again, makes keys that are due, tells the health service.

use std::{sync::Arc, time::Duration};

use hallmark_core::key::HsmName;
use tokio_util::sync::CancellationToken;

use crate::{
    pool::Pool,
    service::{Context, keys::Keys, readiness::Readiness},
    transport::grpc::HealthReporter,
};

/// How soon a chore that failed is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// How often the health service is told.
const HEALTH_EVERY: Duration = Duration::from_secs(1);

/// Reads the store again, several times within its lease.
pub(super) async fn renew_lease(keys: Keys, lease: Duration, end: CancellationToken) {
    let every = (lease / 4).min(Duration::from_secs(5));
    while wait(every, &end).await {
        if let Err(error) = keys.reload().await {
            tracing::error!(%error, "the key store can't be read; signing stops when its lease ends");
        }
    }
}

/// Makes each HSM's custody key, and what clients with `provision = "auto"` lack on it. Resolves once all is made; an
/// HSM that is down holds up no other.
pub(super) async fn make_keys(context: Context, keys: Keys, end: CancellationToken) {
    let each = context.pools.iter().map(|(hsm, pool)| make_keys_on(hsm, pool, &keys, &end));
    futures_util::future::join_all(each).await;
}

async fn make_keys_on(hsm: &HsmName, pool: &Pool, keys: &Keys, end: &CancellationToken) {
    loop {
        tokio::select! {
            () = pool.wait_until_up() => {}
            () = end.cancelled() => return,
        }
        let custody = keys.ensure_custody_key(hsm).await;
        if let Err(error) = &custody {
            tracing::warn!(%hsm, %error, "the custody key can't be made yet");
        }
        let provisioned = keys.provision(hsm).await;
        if provisioned.made > 0 {
            tracing::info!(%hsm, made = provisioned.made, "key lines made");
        }
        for (line, error) in &provisioned.failed {
            tracing::warn!(%line, %error, "keys can't be made yet");
        }
        let done = custody.is_ok() && provisioned.failed.is_empty();
        if done || !wait(RETRY, end).await {
            return;
        }
    }
}

/// Tells the gRPC health service what [`Readiness`] finds.
pub(super) async fn report_health(readiness: Arc<Readiness>, reporter: HealthReporter, end: CancellationToken) {
    loop {
        reporter.set_signing(readiness.sign().await.is_ok()).await;
        if !wait(HEALTH_EVERY, &end).await {
            return;
        }
    }
}

/// Waits; `false` at the end.
async fn wait(delay: Duration, end: &CancellationToken) -> bool {
    tokio::select! {
        () = tokio::time::sleep(delay) => true,
        () = end.cancelled() => false,
    }
}
