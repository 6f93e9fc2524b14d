//! What the workers take from the shared state, and what they tell it of the faults that they met.

use std::{
    sync::{PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use hallmark_core::{error::Error, key::KeyId, ports::HsmFault};

use super::{Phase, Shared, lock};
use crate::pool::{
    busy::InCall,
    job::Job,
    judge::{QUARANTINE, Verdict},
    refusal::quarantined,
};

impl Shared {
    /// Blocks until the HSM is up; gives the epoch, or `None` at the end.
    pub(in crate::pool) fn wait_until_up(&self, worker: usize) -> Option<u64> {
        let mut inner = lock(&self.inner);
        loop {
            match inner.phase {
                Phase::Ended => return None,
                Phase::Up if worker < inner.worker_limit() => return Some(inner.epoch),
                Phase::Up | Phase::Down(_) => {
                    inner = self.came_up.wait(inner).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// The next job of `epoch`; `None` once that is over.
    pub(in crate::pool) fn next_job(&self, epoch: u64) -> Option<Job> {
        let mut inner = lock(&self.inner);
        loop {
            if inner.epoch != epoch {
                return None;
            }
            if let Some(job) = inner.queue.pop() {
                return Some(job);
            }
            inner.idle += 1;
            inner = self.work.wait(inner).unwrap_or_else(PoisonError::into_inner);
            inner.idle -= 1;
        }
    }

    pub(in crate::pool) fn is_current(&self, epoch: u64) -> bool {
        lock(&self.inner).epoch == epoch
    }

    pub(in crate::pool) fn session_opened(&self) -> u64 {
        let open = self.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        self.observer.sessions(&self.settings.hsm, open);
        self.next_session.fetch_add(1, Ordering::Relaxed)
    }

    pub(in crate::pool) fn session_closed(&self) {
        let open = self.sessions.fetch_sub(1, Ordering::Relaxed).saturating_sub(1);
        self.observer.sessions(&self.settings.hsm, open);
    }

    pub(in crate::pool) fn worker_enters(&self, worker: usize, limit: Duration) -> InCall<'_> {
        self.busy.enter(worker, limit)
    }

    /// Whether `key` may be tried now: the one try of a key whose quarantine is over begins here.
    pub(in crate::pool) fn begin_try(&self, key: KeyId) -> Result<(), Error> {
        let (now, mut judge) = (Instant::now(), lock(&self.judge));
        if judge.begin_try(now, key) {
            return Ok(());
        }
        Err(quarantined(judge.quarantined_for(now, key).unwrap_or_default()))
    }

    pub(in crate::pool) fn observe_service_time(&self, took: Duration) {
        let mut inner = lock(&self.inner);
        inner.service_time = if inner.service_time.is_zero() { took } else { (inner.service_time * 7 + took) / 8 };
    }

    pub(in crate::pool) fn key_succeeded(&self, key: KeyId) {
        lock(&self.judge).success(Instant::now(), key);
    }

    /// Counts an unspecific fault, and acts on the verdict.
    pub(in crate::pool) fn key_faulted(&self, session: u64, key: KeyId, fault: &HsmFault, epoch: u64) {
        let verdict = lock(&self.judge).fault(Instant::now(), session, key);
        match verdict {
            Verdict::Wait => {}
            Verdict::Gone => self.trip(epoch, fault),
            Verdict::Quarantine(key) => self.alarm_quarantine(key, fault.to_string()),
        }
    }

    /// Whether the HSM, which a signature with `key` found gone, is so for this key alone. It is set aside then.
    pub(in crate::pool) fn is_gone_for_one_key(&self, key: KeyId, fault: &HsmFault, epoch: u64) -> bool {
        let verdict = if self.is_current(epoch) { lock(&self.judge).gone(Instant::now(), key) } else { Verdict::Gone };
        if verdict != Verdict::Quarantine(key) {
            return false;
        }
        self.alarm_quarantine(key, fault.to_string());
        true
    }

    /// Sets a key aside whose signatures do not verify; what its caller is told.
    pub(in crate::pool) fn quarantine(&self, key: KeyId, why: &str) -> Error {
        lock(&self.judge).quarantine(Instant::now(), key);
        self.alarm_quarantine(key, why.to_owned());
        quarantined(QUARANTINE).with_detail(why)
    }

    fn alarm_quarantine(&self, key: KeyId, why: String) {
        tracing::error!(hsm = %self.settings.hsm, %key, why, "key set aside");
        self.observer.quarantined(&self.settings.hsm, key);
    }
}
