//! What the server does beside answering: reads the store again, makes custody keys, tells the health service.

use std::{sync::Arc, time::Duration};

use hallmark_core::{key::HsmName, ports::FollowerStore};
use tokio_util::sync::CancellationToken;

use crate::{
    pool::Pool,
    service::{
        Context,
        followers::Followers,
        keys::{Keys, Looked},
        publish::Publisher,
        readiness::Readiness,
        rotation::Rotation,
    },
    telemetry::Metrics,
    transport::grpc::HealthReporter,
};

/// How soon a chore that failed is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// How soon at the latest, where each try failed: each one that gets to the HSM is in the audit log.
const LONGEST_RETRY: Duration = Duration::from_secs(64);
/// How often replicas tell each other of their followers.
const SHARE_EVERY: Duration = Duration::from_secs(1);
/// How often the health service is told.
const HEALTH_EVERY: Duration = Duration::from_secs(1);

/// How often to look whether there is anything new: several times within the lease, and within the second in which all
/// replicas are to see a change.
pub(super) fn look_every(lease: Duration) -> Duration {
    (lease / 4).min(Duration::from_millis(400))
}

/// Keeps the reading of the store current, and with it the lease.
pub(super) async fn watch_store(
    keys: Keys,
    rotation: Rotation,
    metrics: Arc<Metrics>,
    every: Duration,
    end: CancellationToken,
) {
    let mut up = true;
    metrics.rotation().store_up(up);
    while wait(every, &end).await {
        let looked = keys.look().await;
        match &looked {
            Err(error) if up => {
                tracing::error!(%error, "the key store does not answer; signing stops when its lease ends");
            }
            Ok(_) if !up => tracing::error!("the key store answers again"),
            Ok(Looked::ReadAgain) => rotation.wake(),
            _ => {}
        }
        up = looked.is_ok();
        metrics.rotation().store_up(up);
    }
}

/// Tells the other replicas who follows this one, and hears who follows them.
pub(super) async fn share_followers(
    followers: Arc<Followers>,
    publisher: Arc<Publisher>,
    store: Arc<dyn FollowerStore>,
    instance: String,
    metrics: Arc<Metrics>,
    end: CancellationToken,
) {
    while followers.are_required() {
        let news = followers.news(|published| publisher.shown().stored(published));
        if !news.is_empty()
            && let Err(error) = store.acknowledged(&instance, &news).await
        {
            tracing::debug!(%error, "other replicas can't be told of followers");
            followers.not_told();
        }
        match store.followers().await {
            Ok(acks) => metrics.set_followers_forgotten(followers.take(acks, &instance)),
            Err(error) => tracing::debug!(%error, "followers of other replicas can't be heard of"),
        }
        if !wait(SHARE_EVERY, &end).await {
            return;
        }
    }
}

/// Makes each HSM's custody key. Resolves once all are made; an HSM that is down holds up no other.
pub(super) async fn make_custody_keys(context: Context, keys: Keys, end: CancellationToken) {
    let each = context.pools.iter().map(|(hsm, pool)| make_custody_key(hsm, pool, &keys, &end));
    futures_util::future::join_all(each).await;
}

async fn make_custody_key(hsm: &HsmName, pool: &Pool, keys: &Keys, end: &CancellationToken) {
    let mut retry = RETRY;
    loop {
        tokio::select! {
            () = pool.wait_until_up() => {}
            () = end.cancelled() => return,
        }
        match keys.ensure_custody_key(hsm).await {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(%hsm, %error, "there is no custody key yet; where only the HSM's own tools make keys, `custody_key` in [[hsm]] names one")
            }
        }
        if !wait(retry, end).await {
            return;
        }
        retry = (retry * 2).min(LONGEST_RETRY);
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
