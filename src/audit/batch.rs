//! Those who wait for one sync, and the writer's promise to them. One allocation for all of them.

use std::sync::{Arc, OnceLock};

use hallmark_core::ports::AuditUnavailable;
use tokio::sync::Notify;

/// Those who wait for the same sync.
#[derive(Default)]
pub(super) struct Batch {
    outcome: OnceLock<Result<(), AuditUnavailable>>,
    done: Notify,
}

impl Batch {
    pub(super) async fn synced(&self) -> Result<(), AuditUnavailable> {
        loop {
            // Before looking: a completion in between is then not missed.
            let done = self.done.notified();
            if let Some(outcome) = self.outcome.get() {
                return outcome.clone();
            }
            done.await;
        }
    }

    pub(super) fn complete(&self, outcome: Result<(), AuditUnavailable>) {
        // The first outcome counts.
        let _ = self.outcome.set(outcome);
        self.done.notify_waiters();
    }
}

/// The writer's promise to a batch: kept even if it is only dropped.
pub(super) struct Completion(Arc<Batch>);

impl Completion {
    pub(super) fn of(batch: Arc<Batch>) -> Self {
        Self(batch)
    }

    pub(super) fn finish(self, outcome: Result<(), AuditUnavailable>) {
        self.0.complete(outcome);
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if self.0.outcome.get().is_none() {
            self.0.complete(Err(AuditUnavailable("the writer has ended".into())));
        }
    }
}
