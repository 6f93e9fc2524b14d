//! What the parts report, as metrics and as health.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use hallmark_core::{
    key::{HsmName, KeyId, KeyState},
    ports::{AuditHead, HsmFault},
};

use super::Hopeless;
use crate::{
    audit::AuditLog,
    hardening::Measure,
    pool::Observer,
    service::{Context, followers::Followers, keyring::Keyring, publish::Publisher, readiness::Readiness},
    telemetry::{Metrics, metrics::AuditFigures},
    transport::http::health::Health,
};

pub(super) struct PoolObserver {
    pub(super) metrics: Arc<Metrics>,
    pub(super) hopeless: Arc<Hopeless>,
}

impl Observer for PoolObserver {
    fn fault(&self, hsm: &HsmName, fault: &HsmFault) {
        self.metrics.hsm_fault(hsm.as_str(), fault);
    }

    fn sessions(&self, hsm: &HsmName, open: usize) {
        self.metrics.hsm_sessions(hsm.as_str(), open);
    }

    fn up(&self, hsm: &HsmName, up: bool) {
        self.metrics.hsm_up(hsm.as_str(), up);
    }

    fn quarantined(&self, hsm: &HsmName, key: KeyId) {
        self.metrics.key_quarantined(hsm.as_str(), &key.to_string());
    }

    fn gave_up(&self, hsm: &HsmName, why: &str) {
        tracing::error!(%hsm, why, "only a new process can bring the HSM back: exiting with code 75");
        self.hopeless.declare();
    }
}

pub(super) struct ServerHealth {
    pub(super) readiness: Arc<Readiness>,
}

impl Health for ServerHealth {
    fn sign(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        Box::pin(self.readiness.sign())
    }

    fn jwks(&self) -> Result<(), String> {
        // The documents are in memory from the first reading of the store on, which the start waits for.
        Ok(())
    }
}

/// Has the key records counted at each scrape.
pub(super) fn observe_keys(metrics: &Metrics, keyring: &Arc<Keyring>) {
    // Weak: the metrics outlive everything, and would keep the store open at the end.
    let keyring = Arc::downgrade(keyring);
    metrics.on_scrape(move |metrics| {
        let Some(keyring) = keyring.upgrade() else { return };
        let keys = keyring.keys();
        for state in KeyState::ALL {
            metrics.set_keys(state, keys.records.iter().filter(|record| record.state == state).count());
        }
    });
}

/// Says once what protects the process: nothing of it changes while it runs.
pub(super) fn tell_hardening(metrics: &Metrics) {
    for measure in Measure::ALL {
        metrics.set_hardening(measure.name(), measure.is_in_force());
    }
}

/// Has what waits before each HSM, and what each workload has under way, counted at each scrape.
pub(super) fn observe_load(metrics: &Metrics, context: &Context) {
    // Weak, as above: threads of a pool end with it.
    let (pools, registry) = (Arc::downgrade(&context.pools), context.registry.clone());
    metrics.on_scrape(move |metrics| {
        let registered = registry.load_full();
        let under_way: Vec<_> = registered.limits.under_way().map(|(id, count)| (id.to_string(), count)).collect();
        metrics.set_under_way(under_way.iter().map(|(id, count)| (id.as_str(), *count)));
        let Some(pools) = pools.upgrade() else { return };
        for (hsm, pool) in &*pools {
            let waiting = pool.waiting();
            metrics.set_queue(hsm.as_str(), waiting.jobs, waiting.flows);
        }
    });
}

/// Has the published generation read at each scrape, and who does not serve it.
pub(super) fn observe_followers(metrics: &Metrics, publisher: &Arc<Publisher>, followers: &Arc<Followers>) {
    let (publisher, followers) = (publisher.clone(), followers.clone());
    metrics.on_scrape(move |metrics| {
        let wanted = publisher.wanted();
        metrics.set_published(wanted.published, followers.behind(wanted).len());
    });
}

/// Has the audit log's own figures read at each scrape.
pub(super) fn observe_audit(metrics: &Metrics, audit: &AuditLog) {
    let audit = audit.clone();
    metrics.on_scrape(move |metrics| {
        let counters = audit.counters();
        metrics.set_audit(&AuditFigures {
            events: counters.events.load(Ordering::Relaxed),
            batches: counters.batches.load(Ordering::Relaxed),
            sync: Duration::from_nanos(counters.sync_nanos.load(Ordering::Relaxed)),
            bytes: counters.bytes.load(Ordering::Relaxed),
            failures: counters.failures.load(Ordering::Relaxed),
            refusals: counters.refusals.load(Ordering::Relaxed),
            since_checkpoint: audit.head().map_or(0, |head| {
                head.place.seq.saturating_sub(head.checkpoint.map_or(0, |checkpoint| checkpoint.seq))
            }),
            healthy: audit.is_healthy(),
        });
    });
}
