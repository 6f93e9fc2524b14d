//! What waits for the writer, and who waits for it.
//!
//! One short lock for each event. The writer is woken once for a batch: while it works nobody wakes it, and what
//! comes in the meantime is the next batch. An event that nobody waits for wakes it only from deep sleep, after which
//! it naps: most are followed within a millisecond or so by one that is waited for, and share its sync.

use std::{
    mem,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hallmark_core::{
    audit::{EncodedEvent, Event},
    ports::{AuditUnavailable, Clock},
    time::Timestamp,
};
use tokio::sync::Notify;

use super::{AuditCounters, AuditOptions, refusals::Refusals};

pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    healthy: AtomicBool,
    counters: AuditCounters,
    clock: Arc<dyn Clock>,
    capacity: usize,
    ended: Arc<Batch>,
}

struct State {
    events: Vec<EncodedEvent>,
    /// Whom the next sync will wake, if anyone.
    batch: Option<Arc<Batch>>,
    writer: WriterIs,
    refusals: Refusals,
    /// Why nothing is taken at present.
    stopped: Option<AuditUnavailable>,
    closing: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WriterIs {
    /// Looks again by itself before it rests.
    Working,
    /// Rests for up to [`NAP`]; woken by who waits.
    Napping,
    /// Rests until any event.
    Asleep,
}

/// How long an event that nobody waits for may stay in memory.
const NAP: Duration = Duration::from_millis(100);

/// What the writer has to do.
pub(super) struct Work {
    pub(super) waiting: Option<Completion>,
    pub(super) refused_more: u64,
    pub(super) closing: bool,
}

impl Queue {
    pub(super) fn new(options: &AuditOptions) -> Arc<Self> {
        let state = State {
            events: Vec::new(),
            batch: None,
            writer: WriterIs::Working,
            refusals: Refusals::new(options.refusals_per_second),
            stopped: None,
            closing: false,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            wake: Condvar::new(),
            healthy: AtomicBool::new(true),
            counters: AuditCounters::default(),
            clock: Arc::clone(&options.clock),
            capacity: options.capacity,
            ended: Arc::default(),
        })
    }

    pub(super) fn push(&self, event: EncodedEvent) -> Result<(), AuditUnavailable> {
        let mut state = self.lock();
        self.enqueue(&mut state, event)?;
        let wanted = state.writer == WriterIs::Asleep || state.events.len() == self.plenty();
        self.wake_if(wanted, state);
        Ok(())
    }

    pub(super) fn push_awaited(&self, event: EncodedEvent) -> Result<Arc<Batch>, AuditUnavailable> {
        let mut state = self.lock();
        self.enqueue(&mut state, event)?;
        let batch = Arc::clone(state.batch.get_or_insert_default());
        self.wake_if(true, state);
        Ok(batch)
    }

    pub(super) fn refused(&self, time: Timestamp, refusal: &Event<'_>) {
        self.counters.refusals.fetch_add(1, Ordering::Relaxed);
        let mut state = self.lock();
        if !state.refusals.admit(time) {
            let asleep = state.writer == WriterIs::Asleep;
            return self.wake_if(asleep, state);
        }
        drop(state);
        if self.push(EncodedEvent::new(time, refusal)).is_err() {
            self.lock().refusals.count();
        }
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    pub(super) fn counters(&self) -> &AuditCounters {
        &self.counters
    }

    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        state.stopped = Some(AuditUnavailable("closed".into()));
        self.wake_if(true, state);
    }

    /// Completed when the writer has ended.
    pub(super) fn ended(&self) -> Arc<Batch> {
        Arc::clone(&self.ended)
    }

    fn enqueue(&self, state: &mut State, event: EncodedEvent) -> Result<(), AuditUnavailable> {
        if let Some(reason) = &state.stopped {
            return Err(reason.clone());
        }
        if state.events.len() >= self.capacity {
            let text = format!("the disk can't keep up: {} events are waiting", self.capacity);
            return Err(AuditUnavailable(text));
        }
        state.events.push(event);
        Ok(())
    }

    fn wake_if(&self, wanted: bool, mut state: MutexGuard<'_, State>) {
        if wanted && state.writer != WriterIs::Working {
            state.writer = WriterIs::Working;
            drop(state);
            self.wake.notify_one();
        }
    }

    /// So many events are written even if nobody waits for them.
    fn plenty(&self) -> usize {
        self.capacity.div_ceil(2)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No method panics while it holds the lock; were it so, the state would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer's side.
impl Queue {
    /// Rests until there is work, and takes all of it; `events` must be empty.
    pub(super) fn take(&self, events: &mut Vec<EncodedEvent>) -> Work {
        let mut state = self.lock();
        let (mut napped, mut refused_more) = (false, 0);
        loop {
            if state.refusals.are_counted() {
                refused_more = state.refusals.take(self.clock.now());
            }
            let full = state.events.len() >= self.plenty();
            let overdue = napped && !state.events.is_empty();
            if state.batch.is_some() || state.closing || full || overdue || refused_more > 0 {
                break;
            }
            if napped && !state.refusals.are_counted() {
                state.writer = WriterIs::Asleep;
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                napped = false;
            } else {
                state.writer = WriterIs::Napping;
                let (woken, timeout) = self.wake.wait_timeout(state, NAP).unwrap_or_else(PoisonError::into_inner);
                (state, napped) = (woken, timeout.timed_out());
            }
            state.writer = WriterIs::Working;
        }
        if state.closing {
            refused_more += state.refusals.take_all();
        }
        mem::swap(events, &mut state.events);
        Work { waiting: state.batch.take().map(Completion), refused_more, closing: state.closing }
    }

    /// Nothing is taken from now on, and nobody waits.
    pub(super) fn stop(&self, reason: AuditUnavailable) {
        self.healthy.store(false, Ordering::Relaxed);
        let mut state = self.lock();
        let waiting = state.batch.take().map(Completion);
        if !state.closing {
            state.stopped = Some(reason.clone());
        }
        drop(state);
        if let Some(waiting) = waiting {
            waiting.finish(Err(reason));
        }
    }

    /// Events are taken again.
    pub(super) fn resume(&self) {
        let mut state = self.lock();
        if !state.closing {
            state.stopped = None;
        }
        self.healthy.store(true, Ordering::Relaxed);
    }

    /// Waits, and returns early when the log is being closed.
    pub(super) fn pause(&self, delay: Duration) -> Continue {
        let mut state = self.lock();
        state.writer = WriterIs::Napping;
        let waited = self.wake.wait_timeout_while(state, delay, |state| !state.closing);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.writer = WriterIs::Working;
        if state.closing { Continue::Closing } else { Continue::Open }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Continue {
    Open,
    Closing,
}

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
