//! What the threads of a pool share: the queue, whether the HSM is up, and the verdicts on faults.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hallmark_core::{
    error::{Error, Reason},
    key::KeyId,
    ports::{FaultClass, HsmFault, TokenFacts},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Observer, Settings, Waiting,
    busy::{Busy, InCall},
    job::Job,
    judge::{Judge, QUARANTINE, Verdict},
    queue::{Flow, Queue},
    reaction,
};

pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) observer: Arc<dyn Observer>,
    inner: Mutex<Inner>,
    flows: RandomState,
    /// Wakes a worker with a session: a job, the loss of the HSM, or the end.
    work: Condvar,
    /// Wakes workers without one: the HSM came up, or the end.
    came_up: Condvar,
    /// Wakes the keeper: the HSM went down, or the end.
    keeper: Condvar,
    up: watch::Sender<bool>,
    judge: Mutex<Judge>,
    /// The workers, then the keeper.
    busy: Busy,
    /// Cancelled when the first try to connect has ended, well or not.
    tried: CancellationToken,
    /// Cancelled at the end; callers do not wait for what is inside the library then.
    ended: CancellationToken,
    sessions: AtomicUsize,
    next_session: AtomicU64,
}

struct Inner {
    queue: Queue<Job>,
    phase: Phase,
    /// Goes up with each loss; what belongs to an older one is dropped.
    epoch: u64,
    facts: Option<TokenFacts>,
    /// Moving average of the time that a job takes a worker.
    service_time: Duration,
    idle: usize,
}

enum Phase {
    Down(Error),
    Up,
    Ended,
}

impl Shared {
    pub(super) fn new(settings: Settings, observer: Arc<dyn Observer>) -> Self {
        let workers = settings.workers;
        Self {
            settings,
            observer,
            inner: Mutex::new(Inner {
                queue: Queue::default(),
                phase: Phase::Down(reaction::unavailable(Duration::from_secs(1)).with_detail("not connected yet")),
                epoch: 0,
                facts: None,
                service_time: Duration::ZERO,
                idle: 0,
            }),
            flows: RandomState::new(),
            work: Condvar::new(),
            came_up: Condvar::new(),
            keeper: Condvar::new(),
            up: watch::Sender::new(false),
            judge: Mutex::new(Judge::default()),
            busy: Busy::new(workers + 1),
            tried: CancellationToken::new(),
            ended: CancellationToken::new(),
            sessions: AtomicUsize::new(0),
            next_session: AtomicU64::new(1),
        }
    }

    // The async side.

    /// The line in which what `who` asks for waits.
    pub(super) fn flow(&self, who: impl Hash) -> Flow {
        Flow::of_hash(self.flows.hash_one(who))
    }

    /// Queues a job. One that can't be done fails at once.
    pub(super) fn submit(&self, job: Job) {
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
    pub(super) fn check(&self, flow: Flow, key: KeyId, deadline: Instant) -> Result<(), Error> {
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
    pub(super) fn waiting(&self) -> Waiting {
        let inner = lock(&self.inner);
        Waiting { jobs: inner.queue.len(), flows: inner.queue.flows() }
    }

    fn check_quarantine(&self, key: KeyId) -> Result<(), Error> {
        match lock(&self.judge).quarantined_for(Instant::now(), key) {
            Some(left) => Err(quarantined(left)),
            None => Ok(()),
        }
    }

    pub(super) fn quarantined(&self) -> Vec<KeyId> {
        lock(&self.judge).quarantined()
    }

    pub(super) fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    /// Resolves at the end.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Resolves when the first try to connect has ended, well or not.
    pub(super) async fn tried(&self) {
        self.tried.cancelled().await;
    }

    pub(super) fn watch_up(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }

    pub(super) fn last_signed(&self) -> Option<Instant> {
        lock(&self.judge).last_success()
    }

    pub(super) fn facts(&self) -> Option<TokenFacts> {
        lock(&self.inner).facts.clone()
    }

    pub(super) fn down_because(&self) -> Option<String> {
        match &lock(&self.inner).phase {
            Phase::Down(error) => Some(error.to_string()),
            Phase::Up | Phase::Ended => None,
        }
    }

    pub(super) fn shut_down(&self) {
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

    // The workers' side.

    /// Blocks until the HSM is up; gives the epoch, or `None` at the end.
    pub(super) fn wait_until_up(&self, worker: usize) -> Option<u64> {
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
    pub(super) fn next_job(&self, epoch: u64) -> Option<Job> {
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

    pub(super) fn is_current(&self, epoch: u64) -> bool {
        lock(&self.inner).epoch == epoch
    }

    pub(super) fn session_opened(&self) -> u64 {
        let open = self.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        self.observer.sessions(&self.settings.hsm, open);
        self.next_session.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn session_closed(&self) {
        let open = self.sessions.fetch_sub(1, Ordering::Relaxed).saturating_sub(1);
        self.observer.sessions(&self.settings.hsm, open);
    }

    pub(super) fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    pub(super) fn worker_enters(&self, worker: usize, limit: Duration) -> InCall<'_> {
        self.busy.enter(worker, limit)
    }

    /// Whether `key` may be tried now: the one try of a key whose quarantine is over begins here.
    pub(super) fn begin_try(&self, key: KeyId) -> Result<(), Error> {
        let (now, mut judge) = (Instant::now(), lock(&self.judge));
        if judge.begin_try(now, key) {
            return Ok(());
        }
        Err(quarantined(judge.quarantined_for(now, key).unwrap_or_default()))
    }

    pub(super) fn observe_service_time(&self, took: Duration) {
        let mut inner = lock(&self.inner);
        inner.service_time = if inner.service_time.is_zero() { took } else { (inner.service_time * 7 + took) / 8 };
    }

    pub(super) fn key_succeeded(&self, key: KeyId) {
        lock(&self.judge).success(Instant::now(), key);
    }

    /// Counts an unspecific fault, and acts on the verdict.
    pub(super) fn key_faulted(&self, session: u64, key: KeyId, fault: &HsmFault, epoch: u64) {
        let verdict = lock(&self.judge).fault(Instant::now(), session, key);
        match verdict {
            Verdict::Wait => {}
            Verdict::Gone => self.trip(epoch, fault),
            Verdict::Quarantine(key) => self.alarm_quarantine(key, fault.to_string()),
        }
    }

    /// Whether the HSM, which a signature with `key` found gone, is so for this key alone. It is set aside then.
    pub(super) fn is_gone_for_one_key(&self, key: KeyId, fault: &HsmFault, epoch: u64) -> bool {
        let verdict = if self.is_current(epoch) { lock(&self.judge).gone(Instant::now(), key) } else { Verdict::Gone };
        if verdict != Verdict::Quarantine(key) {
            return false;
        }
        self.alarm_quarantine(key, fault.to_string());
        true
    }

    /// Sets a key aside whose signatures do not verify; what its caller is told.
    pub(super) fn quarantine(&self, key: KeyId, why: &str) -> Error {
        lock(&self.judge).quarantine(Instant::now(), key);
        self.alarm_quarantine(key, why.to_owned());
        quarantined(QUARANTINE).with_detail(why)
    }

    fn alarm_quarantine(&self, key: KeyId, why: String) {
        tracing::error!(hsm = %self.settings.hsm, %key, why, "key set aside");
        self.observer.quarantined(&self.settings.hsm, key);
    }

    /// The HSM of `epoch` is gone: fails what waits, and wakes the keeper.
    pub(super) fn trip(&self, epoch: u64, fault: &HsmFault) {
        let mut inner = lock(&self.inner);
        if inner.epoch != epoch || !matches!(inner.phase, Phase::Up) {
            return;
        }
        let error = down_error(fault);
        inner.phase = Phase::Down(error.clone());
        inner.epoch += 1;
        let waiting = std::mem::take(&mut inner.queue);
        self.up.send_replace(false);
        drop(inner);
        tracing::error!(hsm = %self.settings.hsm, %fault, failed = waiting.len(), "HSM lost");
        self.observer.up(&self.settings.hsm, false);
        self.work.notify_all();
        self.keeper.notify_all();
        waiting.into_iter().for_each(|job| job.fail(error.clone()));
    }

    // The keeper's side.

    /// Blocks until the HSM is down; `false` at the end.
    pub(super) fn wait_for_loss(&self) -> bool {
        let inner = lock(&self.inner);
        let up = |inner: &mut Inner| matches!(inner.phase, Phase::Up);
        let inner = self.keeper.wait_while(inner, up).unwrap_or_else(PoisonError::into_inner);
        !matches!(inner.phase, Phase::Ended)
    }

    pub(super) fn keeper_enters(&self) -> InCall<'_> {
        self.busy.enter(self.settings.workers, self.settings.stuck_after)
    }

    /// Waits before the next try; `false` at the end.
    pub(super) fn pause(&self, delay: Duration) -> bool {
        let inner = lock(&self.inner);
        let going_on = |inner: &mut Inner| !matches!(inner.phase, Phase::Ended);
        let waited = self.keeper.wait_timeout_while(inner, delay, going_on).unwrap_or_else(PoisonError::into_inner);
        !matches!(waited.0.phase, Phase::Ended)
    }

    pub(super) fn still_down(&self, fault: &HsmFault) {
        let mut inner = lock(&self.inner);
        if let Phase::Down(error) = &mut inner.phase {
            *error = down_error(fault);
        }
        drop(inner);
        self.tried.cancel();
    }

    pub(super) fn came_up(&self, facts: TokenFacts) {
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

    pub(super) fn epoch(&self) -> u64 {
        lock(&self.inner).epoch
    }

    /// Whether no worker that there is a session for comes back: one is stuck in a call, and the others take long.
    pub(super) fn all_stuck(&self) -> bool {
        let workers = lock(&self.inner).worker_limit().min(self.settings.workers);
        self.busy.all_held_up(workers, self.settings.stuck_after)
    }

    pub(super) fn longest_call(&self) -> Duration {
        self.busy.longest()
    }

    pub(super) fn give_up(&self, why: &str) {
        self.observer.gave_up(&self.settings.hsm, why);
    }
}

impl Inner {
    fn check_up(&self) -> Result<(), Error> {
        match &self.phase {
            Phase::Down(error) => Err(error.clone()),
            Phase::Ended => Err(shutting_down()),
            Phase::Up => Ok(()),
        }
    }

    fn worker_limit(&self) -> usize {
        self.facts.as_ref().and_then(|facts| facts.max_sessions).map_or(usize::MAX, |max| max.max(1))
    }
}

/// Locks, whatever became of the thread that held it last: what is inside is consistent between statements.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says to come back when those are done who would be served before.
fn overloaded(wait: Duration) -> Error {
    let text = format!("the queue before the HSM is too long for the deadline: about {} ms", wait.as_millis());
    Error::new(Reason::Overloaded, text).retry_after(wait.max(Duration::from_millis(20)))
}

pub(super) fn deadline_passed() -> Error {
    Error::new(Reason::DeadlineExceeded, "the deadline passed before the signature was made")
}

pub(super) fn task_overdue() -> Error {
    reaction::unavailable(Duration::from_secs(10)).with_detail("the HSM did not finish in time")
}

/// It is tried again in `left`, by whoever comes first.
pub(super) fn quarantined(left: Duration) -> Error {
    // Rounded up: who comes a moment too early is refused again.
    let left = Duration::from_secs(left.as_secs() + 1);
    let text = format!("the key failed repeatedly and is set aside for {} s; call the operator", left.as_secs());
    Error::new(Reason::KeyQuarantined, text).retry_after(left)
}

pub(super) fn shutting_down() -> Error {
    Error::new(Reason::ShuttingDown, "the server is going down; try another one, or again")
        .retry_after(Duration::from_secs(1))
}

fn down_error(fault: &HsmFault) -> Error {
    match fault.class {
        FaultClass::Pin => reaction::error(fault),
        _ => reaction::unavailable(Duration::from_secs(1)).with_detail(fault),
    }
}
