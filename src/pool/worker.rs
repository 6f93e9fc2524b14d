//! A thread that owns a session: takes jobs, calls the HSM, reacts, verifies.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use hallmark_core::{
    error::Error,
    ports::{Clock, FaultClass, Hsm, HsmFault, HsmSession},
};

use super::{
    Signed, Timing,
    busy::InCall,
    job::{Job, SignJob, TaskJob},
    reaction::{self, Reaction, reaction},
    refusal::{deadline_passed, task_overdue},
    state::Shared,
};

pub(super) struct Worker {
    index: usize,
    hsm: Arc<dyn Hsm>,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
}

/// An open session of one epoch. Dropping it closes it.
struct Open<'a> {
    shared: &'a Shared,
    worker: usize,
    number: u64,
    epoch: u64,
    session: Box<dyn HsmSession>,
    /// Dropped after the session.
    closing: Option<InCall<'a>>,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.shared.session_closed();
        // To close a session is a call like any other, and may hang.
        self.closing = Some(self.shared.worker_enters(self.worker, self.shared.settings.stuck_after));
    }
}

/// How an attempt failed.
enum Failure {
    Fault(HsmFault),
    /// The signature did not verify. It was discarded: a faulty one can reveal the key.
    BadSignature,
    /// Nothing that the HSM did.
    Other(Error),
}

impl Failure {
    fn into_error(self) -> Error {
        match self {
            Self::Fault(fault) => reaction::error(&fault),
            Self::BadSignature => {
                reaction::unavailable(Duration::from_secs(1)).with_detail("the signature did not verify")
            }
            Self::Other(error) => error,
        }
    }
}

impl Worker {
    pub(super) fn new(index: usize, hsm: Arc<dyn Hsm>, shared: Arc<Shared>, clock: Arc<dyn Clock>) -> Self {
        Self { index, hsm, shared, clock }
    }

    pub(super) fn run(&self) {
        while let Some(epoch) = self.shared.wait_until_up(self.index) {
            match self.open(epoch) {
                Ok(open) => self.serve(open),
                Err(fault) => self.open_failed(epoch, &fault),
            }
        }
    }

    fn serve<'a>(&'a self, open: Open<'a>) {
        let epoch = open.epoch;
        let mut open = Some(open);
        while open.is_some() {
            let Some(job) = self.shared.next_job(epoch) else { return };
            match job {
                Job::Sign(job) => self.sign(&mut open, job),
                Job::Task(job) => self.perform(&mut open, job),
            }
        }
    }

    fn open(&self, epoch: u64) -> Result<Open<'_>, HsmFault> {
        let session = self.inside(self.shared.settings.stuck_after, || self.hsm.open())?;
        let number = self.shared.session_opened();
        Ok(Open { shared: &self.shared, worker: self.index, number, epoch, session, closing: None })
    }

    /// A call into the library, watched. A panic in there costs the session, not the thread.
    fn inside<T>(&self, limit: Duration, call: impl FnOnce() -> Result<T, HsmFault>) -> Result<T, HsmFault> {
        let _inside = self.shared.worker_enters(self.index, limit);
        let result = catch_unwind(AssertUnwindSafe(call));
        result.unwrap_or_else(|_| Err(HsmFault::new(FaultClass::Unspecific, "call", "panic")))
    }

    /// With other sessions open this worker waits for its own; with none the HSM is of no use as it is.
    fn open_failed(&self, epoch: u64, fault: &HsmFault) {
        self.shared.observer.fault(&self.shared.settings.hsm, fault);
        if reaction(fault.class) == Reaction::Trip || self.shared.sessions() == 0 {
            self.shared.trip(epoch, fault);
        } else {
            tracing::warn!(hsm = %self.shared.settings.hsm, %fault, "no session for this worker");
            self.shared.pause(Duration::from_millis(500));
        }
    }

    fn sign<'a>(&'a self, open: &mut Option<Open<'a>>, job: SignJob) {
        let started = Instant::now();
        if job.deadline <= started || job.reply.is_abandoned() {
            return job.reply.finish(Err(deadline_passed()));
        }
        if let Err(quarantined) = self.shared.begin_try(job.key.id) {
            return job.reply.finish(Err(quarantined));
        }
        let queued = started - job.queued_at;
        let result = self.attempt(open, &job, queued).or_else(|first| self.try_again(open, &job, queued, first));
        if result.is_ok() {
            self.shared.observe_service_time(started.elapsed());
            self.shared.key_succeeded(job.key.id);
        }
        job.reply.finish(result.map_err(Failure::into_error));
    }

    fn try_again<'a>(
        &'a self,
        open: &mut Option<Open<'a>>,
        job: &SignJob,
        queued: Duration,
        first: Failure,
    ) -> Result<Signed, Failure> {
        if !self.mend(open, job, &first) {
            return Err(first);
        }
        let second = match self.attempt(open, job, queued) {
            Ok(signed) => return Ok(signed),
            Err(second) => second,
        };
        if let (Failure::BadSignature, Failure::BadSignature) = (&first, &second) {
            let set_aside = self.shared.quarantine(job.key.id, "two signatures did not verify");
            return Err(Failure::Other(set_aside));
        }
        // It is not tried a third time, but the session is mended for the next job.
        self.mend(open, job, &second);
        Err(second)
    }

    fn attempt(&self, open: &mut Option<Open<'_>>, job: &SignJob, queued: Duration) -> Result<Signed, Failure> {
        let Some(open) = open else { return Err(Failure::Other(reaction::unavailable(Duration::from_secs(1)))) };
        let random = random_bytes().map_err(Failure::Other)?;
        // Times are set now, when the job has left the queue.
        let to_be_signed = job.input.encode(self.clock.now(), random).map_err(Failure::Other)?;
        let before = Instant::now();
        let limit = self.shared.settings.stuck_after;
        let signature = self.inside(limit, || open.session.sign(&job.key.key_ref(), job.key.alg, &to_be_signed.bytes));
        let done = Instant::now();
        let signature = signature.map_err(|fault| Failure::Fault(self.observed(fault)))?;
        if !job.key.verifier.verifies(&to_be_signed.bytes, &signature) {
            self.observed(HsmFault::new(FaultClass::Unspecific, "C_Sign", "BAD_SIGNATURE"));
            return Err(Failure::BadSignature);
        }
        let timing = Timing { queued, hsm: done - before, verify: done.elapsed(), done: Some(done) };
        Ok(Signed { to_be_signed, signature, timing })
    }

    /// Does what the failure asks for; `true` where a second attempt makes sense.
    fn mend<'a>(&'a self, open: &mut Option<Open<'a>>, job: &SignJob, failure: &Failure) -> bool {
        match failure {
            Failure::Other(_) => false,
            Failure::BadSignature => self.reopen(open),
            Failure::Fault(fault) => match reaction(fault.class) {
                Reaction::Fail => false,
                Reaction::RetrySame => true,
                Reaction::RetryReopened => self.reopen(open),
                Reaction::CountAndRetryReopened => {
                    self.count(open, job, fault);
                    self.reopen(open)
                }
                Reaction::Trip => {
                    self.lose_for(open, job, fault);
                    false
                }
            },
        }
    }

    /// The HSM is gone, unless it is only so for this key.
    fn lose_for<'a>(&'a self, open: &mut Option<Open<'a>>, job: &SignJob, fault: &HsmFault) {
        let is_the_key =
            open.as_ref().is_some_and(|open| self.shared.is_gone_for_one_key(job.key.id, fault, open.epoch));
        if is_the_key {
            self.reopen(open);
        } else {
            self.lose(open, fault);
        }
    }

    fn perform<'a>(&'a self, open: &mut Option<Open<'a>>, mut job: TaskJob) {
        // Whoever asked was told that it took too long: a key must not be made or destroyed after that.
        if job.deadline <= Instant::now() || job.reply.is_abandoned() {
            return job.reply.finish(Err(task_overdue()));
        }
        let mut result = self.run_task(open, &mut job);
        if let Err(fault) = &result {
            let again = match reaction(fault.class) {
                Reaction::Fail => false,
                Reaction::RetrySame => true,
                Reaction::RetryReopened | Reaction::CountAndRetryReopened => self.reopen(open),
                Reaction::Trip => {
                    self.lose(open, fault);
                    false
                }
            };
            if again {
                result = self.run_task(open, &mut job);
                if let Err(fault) = &result
                    && reaction(fault.class) == Reaction::Trip
                {
                    self.lose(open, fault);
                }
            }
        }
        job.reply.finish(result.map_err(|fault| reaction::error(&fault)));
    }

    fn run_task(&self, open: &mut Option<Open<'_>>, job: &mut TaskJob) -> Result<(), HsmFault> {
        let Some(open) = open else {
            return Err(HsmFault::new(FaultClass::Gone, "C_OpenSession", "no session"));
        };
        let result = self.inside(self.shared.settings.task_limit, || (job.run)(open.session.as_mut()));
        result.map_err(|fault| self.observed(fault))
    }

    fn reopen<'a>(&'a self, open: &mut Option<Open<'a>>) -> bool {
        let Some(epoch) = open.take().map(|old| old.epoch) else { return false };
        if !self.shared.is_current(epoch) {
            return false;
        }
        match self.open(epoch) {
            Ok(new) => {
                *open = Some(new);
                true
            }
            Err(fault) => {
                self.open_failed(epoch, &fault);
                false
            }
        }
    }

    fn lose(&self, open: &mut Option<Open<'_>>, fault: &HsmFault) {
        if let Some(open) = open.take() {
            self.shared.trip(open.epoch, fault);
        }
    }

    fn count(&self, open: &Option<Open<'_>>, job: &SignJob, fault: &HsmFault) {
        if let Some(open) = open {
            self.shared.key_faulted(open.number, job.key.id, fault, open.epoch);
        }
    }

    fn observed(&self, fault: HsmFault) -> HsmFault {
        self.shared.observer.fault(&self.shared.settings.hsm, &fault);
        tracing::warn!(hsm = %self.shared.settings.hsm, %fault, class = fault.class.as_str(), "HSM call failed");
        fault
    }
}

pub(super) fn random_bytes() -> Result<[u8; 16], Error> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::internal("the random generator failed"))?;
    Ok(bytes)
}
