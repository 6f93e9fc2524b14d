//! Those who wait for one sync, and the writer's promise to them.

use std::{mem, sync::OnceLock};

use hallmark_core::ports::{AuditUnavailable, WhenSynced};
use tokio::{runtime::Handle, sync::Notify};

/// Those who wait for the same sync. They are told even if it is only dropped.
#[derive(Default)]
pub(super) struct Waiting(Vec<WhenSynced>);

impl Waiting {
    pub(super) fn push(&mut self, then: WhenSynced) {
        self.0.push(then);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn finish(mut self, outcome: &Result<(), AuditUnavailable>) {
        self.tell(outcome);
    }

    /// As [`Self::finish`], on a runtime where there is one: all are told in one go there. Told from here one by one, each
    /// would be woken, and its answer sent, by itself.
    pub(super) fn finish_on(self, runtime: Option<&Handle>, outcome: Result<(), AuditUnavailable>) {
        match runtime {
            Some(runtime) if !self.is_empty() => drop(runtime.spawn(async move { self.finish(&outcome) })),
            _ => self.finish(&outcome),
        }
    }

    fn tell(&mut self, outcome: &Result<(), AuditUnavailable>) {
        mem::take(&mut self.0).into_iter().for_each(|then| then(outcome.clone()));
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            self.tell(&Err(AuditUnavailable("the writer has ended".into())));
        }
    }
}

/// How the writer ended, once it has.
#[derive(Default)]
pub(super) struct Ended {
    outcome: OnceLock<Result<(), AuditUnavailable>>,
    done: Notify,
}

impl Ended {
    pub(super) async fn wait(&self) -> Result<(), AuditUnavailable> {
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
