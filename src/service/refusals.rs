//! What callers are refused: every refusal is counted, and those of policy are recorded, as far as the audit log's
//! bounded rate goes.

use std::sync::Arc;

use hallmark_core::{
    audit::Event,
    error::{Error, Reason, Remedy},
    ports::{AuditSink, Clock},
};

use super::Context;
use crate::telemetry::Metrics;

/// Every front tells it of each call that gets an error for an answer, once.
#[derive(Clone)]
pub struct Refusals {
    clock: Arc<dyn Clock>,
    audit: Arc<dyn AuditSink>,
    metrics: Arc<Metrics>,
}

/// A call that is refused.
#[derive(Clone, Copy, Debug)]
pub struct Refused<'a> {
    pub request: &'a str,
    /// The caller's identity, or where an unidentified one calls from.
    pub who: &'a str,
    /// As the caller wrote it; empty where there is none.
    pub client: &'a str,
}

impl std::fmt::Debug for Refusals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Refusals")
    }
}

impl Refusals {
    /// Counts in `metrics`, and records in the audit log of `context`.
    pub fn new(context: &Context, metrics: Arc<Metrics>) -> Self {
        Self { clock: context.clock.clone(), audit: context.audit.clone(), metrics }
    }

    /// Counts the refusal, and records it where policy was the reason.
    pub fn note(&self, refused: &Refused<'_>, error: &Error) {
        self.metrics.refused(error.reason);
        // A reserved claim is a fault of the request, and may be an attack on what the signature says.
        if error.reason.remedy() == Remedy::AskPermission || error.reason == Reason::ReservedClaim {
            self.record(refused, error);
        }
    }

    /// Records a refusal, whatever its reason.
    pub fn record(&self, refused: &Refused<'_>, error: &Error) {
        let Refused { request, who, client } = *refused;
        // Bounded: it may be anything that fits into a message.
        let client: String = client.chars().take(64).collect();
        let event = Event::Refused { request, who, client: &client, reason: error.reason.code() };
        self.audit.refused(self.clock.now(), &event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::fixture::Rig;

    #[tokio::test]
    async fn all_are_counted_and_those_of_policy_are_recorded() {
        let rig = Rig::new().await;
        let metrics = Arc::new(Metrics::new());
        let refusals = Refusals::new(&rig.context, metrics.clone());
        let refused = Refused { request: "r", who: "192.0.2.1:5", client: &"c".repeat(500) };
        for reason in [Reason::NotAuthenticated, Reason::NotAnOperator, Reason::ReservedClaim, Reason::InvalidRequest] {
            refusals.note(&refused, &Error::new(reason, "no"));
        }
        assert_eq!(rig.audit.all("refused", "reason"), ["NOT_AUTHENTICATED", "NOT_AN_OPERATOR", "RESERVED_CLAIM"]);
        assert_eq!(rig.audit.all("refused", "client")[0].len(), 64);
        let text = metrics.encode();
        assert!(text.contains("refusals_total{reason=\"INVALID_REQUEST\"} 1"), "{text}");
    }
}
