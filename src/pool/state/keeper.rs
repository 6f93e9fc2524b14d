//! What the keeper and the watchdog ask of the shared state, and how they change it.

use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

use hallmark_core::ports::{HsmFault, TokenFacts};

use super::{Inner, Phase, Shared, lock};
use crate::pool::{busy::InCall, refusal::down_error};

impl Shared {
    /// Blocks until the HSM is down; `false` at the end.
    pub(in crate::pool) fn wait_for_loss(&self) -> bool {
        let inner = lock(&self.inner);
        let up = |inner: &mut Inner| matches!(inner.phase, Phase::Up);
        let inner = self.keeper.wait_while(inner, up).unwrap_or_else(PoisonError::into_inner);
        !matches!(inner.phase, Phase::Ended)
    }

    pub(in crate::pool) fn keeper_enters(&self) -> InCall<'_> {
        self.busy.enter(self.settings.workers, self.settings.stuck_after)
    }

    /// Waits before the next try; `false` at the end.
    pub(in crate::pool) fn pause(&self, delay: Duration) -> bool {
        let inner = lock(&self.inner);
        let going_on = |inner: &mut Inner| !matches!(inner.phase, Phase::Ended);
        let waited = self.keeper.wait_timeout_while(inner, delay, going_on).unwrap_or_else(PoisonError::into_inner);
        !matches!(waited.0.phase, Phase::Ended)
    }

    pub(in crate::pool) fn still_down(&self, fault: &HsmFault) {
        let mut inner = lock(&self.inner);
        if let Phase::Down(error) = &mut inner.phase {
            *error = down_error(fault);
        }
        drop(inner);
        self.tried.cancel();
    }

    pub(in crate::pool) fn came_up(&self, facts: TokenFacts) {
        let mut inner = lock(&self.inner);
        if matches!(inner.phase, Phase::Ended) {
            return;
        }
        inner.facts = Some(facts);
        inner.phase = Phase::Up;
        lock(&self.judge).reconnected(Instant::now());
        inner.service_time = Duration::ZERO;
        // Told under the lock, so that a loss right after is told after.
        self.up.send_replace(true);
        drop(inner);
        self.tried.cancel();
        self.observer.up(&self.settings.hsm, true);
        self.came_up.notify_all();
    }

    /// Whether no worker that there is a session for comes back: one is stuck in a call, and the others take long.
    pub(in crate::pool) fn all_stuck(&self) -> bool {
        let workers = lock(&self.inner).worker_limit().min(self.settings.workers);
        self.busy.all_held_up(workers, self.settings.stuck_after)
    }

    pub(in crate::pool) fn longest_call(&self) -> Duration {
        self.busy.longest()
    }

    pub(in crate::pool) fn give_up(&self, why: &str) {
        self.observer.gave_up(&self.settings.hsm, why);
    }
}
