//! What the async side asks of the shared state: a place in the queue, or why there is none.

use std::{
    hash::{BuildHasher, Hash},
    sync::MutexGuard,
    time::{Duration, Instant},
};

use hallmark_core::{error::Error, key::KeyId};

use super::{Inner, Phase, Shared, lock};
use crate::pool::{
    Waiting,
    job::Job,
    queue::Flow,
    refusal::{deadline_passed, overloaded, quarantined, shutting_down},
};

impl Shared {
    /// The line in which what `who` asks for waits.
    pub(in crate::pool) fn flow(&self, who: impl Hash) -> Flow {
        Flow::of_hash(self.flows.hash_one(who))
    }

    /// Queues a job. One that can't be done fails at once.
    pub(in crate::pool) fn submit(&self, job: Job) {
        let mut inner = match self.admit(&job) {
            Ok(inner) => inner,
            Err(error) => return job.fail(error),
        };
        let (flow, deadline) = job.place();
        let too_many = matches!(job, Job::Sign(_)) && inner.queue.len() >= self.settings.places();
        let pushed_out = if too_many { inner.queue.push_out(flow) } else { None };
        let refusal = pushed_out.map(|job| (job, overloaded(self.time_for(&inner, inner.queue.len()))));
        inner.queue.push(flow, deadline, job);
        let wake = inner.idle > 0;
        drop(inner);
        if wake {
            self.work.notify_one();
        }
        if let Some((job, error)) = refusal {
            job.fail(error);
        }
    }

    fn admit(&self, job: &Job) -> Result<MutexGuard<'_, Inner>, Error> {
        if let Job::Sign(job) = job {
            return self.admit_signature(job.flow, job.key.id, job.deadline);
        }
        let inner = lock(&self.inner);
        inner.check_up()?;
        if inner.queue.len_of(Flow::HOUSE) >= self.settings.places() {
            return Err(overloaded(self.time_for(&inner, inner.queue.len())));
        }
        Ok(inner)
    }

    fn admit_signature(&self, flow: Flow, key: KeyId, deadline: Instant) -> Result<MutexGuard<'_, Inner>, Error> {
        self.check_quarantine(key)?;
        let inner = lock(&self.inner);
        inner.check_up()?;
        self.check_room(&inner, flow, deadline)?;
        Ok(inner)
    }

    /// What [`Shared::submit`] would say to a signature.
    pub(in crate::pool) fn check(&self, flow: Flow, key: KeyId, deadline: Instant) -> Result<(), Error> {
        self.admit_signature(flow, key, deadline).map(drop)
    }

    /// Refuses early what would only time out in the queue, and who has a fair share of a full one.
    fn check_room(&self, inner: &Inner, flow: Flow, deadline: Instant) -> Result<(), Error> {
        let (now, waiting) = (Instant::now(), inner.queue.len());
        if deadline <= now {
            return Err(deadline_passed());
        }
        let full = waiting >= self.settings.places();
        // Lines are only looked at where it may matter.
        if !full && now + self.time_for(inner, waiting) * 4 <= deadline {
            return Ok(());
        }
        let wait = self.wait(inner, flow, deadline);
        if (full && !inner.queue.can_push_out(flow)) || now + Self::patience_for(inner, wait) > deadline {
            return Err(overloaded(wait));
        }
        Ok(())
    }

    /// How long one more of `flow` would wait: by who is served before it, and by how fast its line moved lately.
    fn wait(&self, inner: &Inner, flow: Flow, deadline: Instant) -> Duration {
        let queue = &inner.queue;
        self.time_for(inner, queue.ahead(flow, deadline)).max(queue.wait_of(flow, deadline))
    }

    /// How long the workers need for so many jobs, by what they needed lately.
    fn time_for(&self, inner: &Inner, jobs: usize) -> Duration {
        let workers = u32::try_from(self.sessions().max(1)).unwrap_or(1);
        inner.service_time.saturating_mul(u32::try_from(jobs).unwrap_or(u32::MAX)) / workers
    }

    /// How far the deadline of a job must be that waits so long. Under a flood all that are let in only just fit: without
    /// some slack half of them would be signed for nobody. One that need not wait is always let in, or an HSM that was
    /// slow once would never be seen to be fast again.
    fn patience_for(inner: &Inner, wait: Duration) -> Duration {
        if wait.is_zero() { wait } else { wait + wait / 8 + inner.service_time }
    }

    /// How many jobs wait, and of how many workloads.
    pub(in crate::pool) fn waiting(&self) -> Waiting {
        let inner = lock(&self.inner);
        Waiting { jobs: inner.queue.len(), flows: inner.queue.flows() }
    }

    fn check_quarantine(&self, key: KeyId) -> Result<(), Error> {
        match lock(&self.judge).quarantined_for(Instant::now(), key) {
            Some(left) => Err(quarantined(left)),
            None => Ok(()),
        }
    }

    pub(in crate::pool) fn shut_down(&self) {
        let mut inner = lock(&self.inner);
        inner.phase = Phase::Ended;
        inner.epoch += 1;
        let left = std::mem::take(&mut inner.queue);
        drop(inner);
        self.ended.cancel();
        self.work.notify_all();
        self.came_up.notify_all();
        self.keeper.notify_all();
        left.into_iter().for_each(|job| job.fail(shutting_down()));
    }
}
