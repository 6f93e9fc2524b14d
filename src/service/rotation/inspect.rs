//! Beside the rounds: wakes the sweep when an HSM comes or goes, and looks from time to time at what is on it.

use std::time::Duration;

use futures_util::future::join_all;
use hallmark_core::key::HsmName;
use tokio_util::sync::CancellationToken;

use super::Rotation;
use crate::pool::Pool;

/// For all HSMs, until `end`.
pub(super) async fn all(rotation: &Rotation, end: &CancellationToken) {
    let pools = rotation.0.parts.context.pools.clone();
    let each = pools.iter().map(|(hsm, pool)| follow(rotation, hsm, pool));
    tokio::select! {
        () = end.cancelled() => {}
        _ = join_all(each) => {}
    }
}

async fn follow(rotation: &Rotation, hsm: &HsmName, pool: &Pool) {
    let mut up = pool.watch_up();
    loop {
        let is_up = *up.borrow_and_update();
        if is_up {
            inspect(rotation, hsm).await;
        }
        rotation.0.parts.rules.wake.notify_one();
        tokio::select! {
            changed = up.changed() => if changed.is_err() {
                return;
            },
            () = tokio::time::sleep(LOOK_EVERY), if is_up => {}
        }
    }
}

async fn inspect(rotation: &Rotation, hsm: &HsmName) {
    match rotation.0.parts.keys.look_at(hsm).await {
        Ok((strays, absent)) => {
            if !strays.is_empty() || !absent.is_empty() {
                let (strays, absent) = (strays.len(), absent.len());
                tracing::warn!(%hsm, strays, absent, "HSM and records differ; `hallmark keys list` says where");
            }
            rotation.0.parts.metrics.rotation().inventory(hsm.as_str(), strays.len(), absent.len());
        }
        Err(error) => tracing::debug!(%hsm, %error, "an HSM can't be looked at"),
    }
}

/// Objects that come or go without Hallmark are a person's work.
const LOOK_EVERY: Duration = Duration::from_secs(600);
