//! What the server does beside answering: reads the store again, makes keys that are due, tells the health service.

use std::{sync::Arc, time::Duration};

use hallmark_core::key::HsmName;
use tokio_util::sync::CancellationToken;

use crate::{
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

/// Makes each HSM's custody key, and what clients with `provision = "auto"` lack. Resolves once all is made.
pub(super) async fn make_keys(context: Context, keys: Keys, end: CancellationToken) {
    let hsms: Vec<HsmName> = context.pools.keys().cloned().collect();
    let custody = futures_util::future::join_all(hsms.iter().map(|hsm| custody_key(&context, &keys, hsm, &end)));
    custody.await;
    loop {
        match keys.provision().await {
            Ok(0) => return,
            Ok(made) => tracing::info!(made, "key lines made"),
            Err(error) => {
                tracing::warn!(%error, "keys can't be made yet");
                if !wait(RETRY, &end).await {
                    return;
                }
            }
        }
    }
}

async fn custody_key(context: &Context, keys: &Keys, hsm: &HsmName, end: &CancellationToken) {
    let Some(pool) = context.pools.get(hsm) else { return };
    loop {
        tokio::select! {
            () = pool.wait_until_up() => {}
            () = end.cancelled() => return,
        }
        match keys.ensure_custody_key(hsm).await {
            Ok(()) => return,
            Err(error) => tracing::warn!(%hsm, %error, "the custody key can't be made yet"),
        }
        if !wait(RETRY, end).await {
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
