//! What the threads of a pool share: the queue, whether the HSM is up, and the verdicts on faults.
//!
//! What each side does with it is in a file of its own: the [`callers`], the [`workers`], and the [`keeper`].

mod callers;
mod keeper;
mod workers;

use std::{
    hash::RandomState,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hallmark_core::{
    error::Error,
    key::KeyId,
    ports::{HsmFault, TokenFacts},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Observer, Settings,
    busy::Busy,
    job::Job,
    judge::Judge,
    queue::Queue,
    reaction,
    refusal::{down_error, shutting_down},
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

/// Most HSMs are connected a moment after the start.
const CONNECTING: Duration = Duration::from_millis(100);

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
                phase: Phase::Down(reaction::unavailable(CONNECTING).with_detail("not connected yet")),
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

    pub(super) fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    pub(super) fn epoch(&self) -> u64 {
        lock(&self.inner).epoch
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
