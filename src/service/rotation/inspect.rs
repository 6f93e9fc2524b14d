//! Beside the rounds: wakes the sweep when an HSM comes or goes, and looks at what is on it: from time to time, when it
//! has come back, and a moment after keys were made or destroyed there. `keys list` shows what was seen.

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
            () = rotation.0.parts.keys.look_is_due(hsm), if is_up => {}
        }
    }
}

async fn inspect(rotation: &Rotation, hsm: &HsmName) {
    // An error was logged, and is tried again.
    if let Ok(seen) = rotation.0.parts.keys.look_at(hsm).await {
        let (strays, absent) = (seen.strays.len(), seen.absent.len());
        if strays > 0 || absent > 0 {
            tracing::warn!(%hsm, strays, absent, "HSM and records differ; `hallmark keys list` says where");
        }
        rotation.0.parts.metrics.rotation().inventory(hsm.as_str(), strays, absent);
    }
}

/// Objects that come or go without Hallmark are a person's work.
const LOOK_EVERY: Duration = Duration::from_secs(600);
