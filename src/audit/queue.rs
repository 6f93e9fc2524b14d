//! What waits for the writer, and who waits for it.
//!
//! One short lock for each event. The writer is woken once for a batch: while it works nobody wakes it, and what
//! comes in the meantime is the next batch. An event that nobody waits for wakes it only from deep sleep, after which
//! it naps: most are followed within a millisecond or so by one that is waited for, and share its sync.

use std::{
    mem,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hallmark_core::{
    audit::{EncodedEvent, Event, Phase, checkpoint::Head},
    ports::{AuditUnavailable, Clock, WhenSynced},
    time::Timestamp,
};

use super::{
    AuditCounters, AuditOptions,
    batch::{Ended, Waiting},
    gather::Gather,
    refusals::Refusals,
};

pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    healthy: AtomicBool,
    /// Since when the writer is at the disk, in milliseconds after `opened`; 0 where it is not.
    at_disk: AtomicU64,
    opened: Instant,
    hung_after: Duration,
    counters: AuditCounters,
    clock: Arc<dyn Clock>,
    capacity: usize,
    gather: Duration,
    ended: Arc<Ended>,
    head: Mutex<Option<Head>>,
}

struct State {
    events: Vec<EncodedEvent>,
    /// Whom the next sync will be told to.
    waiting: Waiting,
    /// Signings whose outcome is still to come, and with it most often somebody who waits.
    under_way: usize,
    writer: WriterIs,
    gather: Gather,
    refusals: Refusals,
    /// Why nothing is taken at present.
    stopped: Option<AuditUnavailable>,
    closing: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WriterIs {
    /// Looks again by itself before it rests.
    Working,
    /// Rests for a moment, until so many wait.
    Gathering(usize),
    /// Rests for up to [`NAP`]; woken by who waits.
    Napping,
    /// Rests until any event.
    Asleep,
}

/// How long an event that nobody waits for may stay in memory.
const NAP: Duration = Duration::from_millis(100);

/// What the writer has to do.
pub(super) struct Work {
    pub(super) waiting: Waiting,
    pub(super) refused_more: u64,
    pub(super) closing: bool,
}

impl Queue {
    pub(super) fn new(options: &AuditOptions) -> Arc<Self> {
        let state = State {
            events: Vec::new(),
            waiting: Waiting::default(),
            under_way: 0,
            writer: WriterIs::Working,
            gather: Gather::new(options.sessions),
            refusals: Refusals::new(options.refusals_per_second),
            stopped: None,
            closing: false,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            wake: Condvar::new(),
            healthy: AtomicBool::new(true),
            at_disk: AtomicU64::new(0),
            opened: Instant::now(),
            hung_after: options.hung_after,
            counters: AuditCounters::default(),
            clock: Arc::clone(&options.clock),
            capacity: options.capacity,
            gather: options.gather,
            ended: Arc::default(),
            head: Mutex::default(),
        })
    }

    pub(super) fn push(&self, event: EncodedEvent) -> Result<(), AuditUnavailable> {
        let mut state = self.lock();
        self.enqueue(&mut state, event)?;
        let wanted = state.writer == WriterIs::Asleep || state.events.len() == self.plenty();
        self.wake_if(wanted, state);
        Ok(())
    }

    pub(super) fn push_then(&self, event: EncodedEvent, then: WhenSynced) {
        let mut state = self.lock();
        if let Err(refused) = self.enqueue(&mut state, event) {
            drop(state);
            return then(Err(refused));
        }
        state.waiting.push(then);
        let wanted = match state.writer {
            WriterIs::Gathering(wanted) => state.waiting.len() >= wanted,
            WriterIs::Working | WriterIs::Napping | WriterIs::Asleep => true,
        };
        self.wake_if(wanted, state);
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
        self.healthy.load(Ordering::Relaxed) && !self.hangs()
    }

    fn hangs(&self) -> bool {
        match self.at_disk.load(Ordering::Relaxed) {
            0 => false,
            since => self.opened.elapsed().saturating_sub(Duration::from_millis(since)) > self.hung_after,
        }
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

    /// The chain as it is on the disk; `None` before the first sync.
    pub(super) fn head(&self) -> Option<Head> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Completed when the writer has ended.
    pub(super) fn ended(&self) -> Arc<Ended> {
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
        match event.signing {
            Some(Phase::Begins) => state.under_way += 1,
            // An intent that was refused, or of before a failure, was not counted.
            Some(Phase::Ends) => state.under_way = state.under_way.saturating_sub(1),
            None => {}
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
    /// Does what may hang: a disk that does not answer returns no error.
    pub(super) fn at_disk<T>(&self, act: impl FnOnce() -> T) -> T {
        let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.at_disk.store(now.max(1), Ordering::Relaxed);
        let done = act();
        self.at_disk.store(0, Ordering::Relaxed);
        done
    }

    /// What was written survives a crash from now on.
    pub(super) fn synced(&self, head: Head) {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = Some(head);
    }

    /// Rests until there is work, and takes all of it; `events` must be empty.
    pub(super) fn take(&self, events: &mut Vec<EncodedEvent>) -> Work {
        let (mut state, mut refused_more) = self.rest();
        if !state.waiting.is_empty() && !state.closing {
            state = self.gather(state);
        }
        if state.closing {
            refused_more += state.refusals.take_all();
        }
        mem::swap(events, &mut state.events);
        Work { waiting: mem::take(&mut state.waiting), refused_more, closing: state.closing }
    }

    /// Waits until something should be written; with it, the number of refusals to record.
    fn rest(&self) -> (MutexGuard<'_, State>, u64) {
        let mut state = self.lock();
        let mut napped = false;
        loop {
            let refused_more = if state.refusals.are_counted() { state.refusals.take(self.clock.now()) } else { 0 };
            let full = state.events.len() >= self.plenty();
            let overdue = napped && !state.events.is_empty();
            if !state.waiting.is_empty() || state.closing || full || overdue || refused_more > 0 {
                return (state, refused_more);
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
    }

    /// Waits for company, if there is reason to expect it.
    fn gather<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let waiters = state.waiting.len();
        let under_way = state.under_way;
        let wanted = if self.gather.is_zero() { None } else { state.gather.wanted(waiters, under_way) };
        let Some(wanted) = wanted else { return state };
        state.writer = WriterIs::Gathering(wanted);
        let alone = |state: &mut State| state.waiting.len() < wanted && !state.closing;
        let waited = self.wake.wait_timeout_while(state, self.gather, alone);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.writer = WriterIs::Working;
        let waiters = state.waiting.len();
        state.gather.ended(waiters, wanted);
        state
    }

    /// Nothing is taken from now on, and nobody waits.
    pub(super) fn stop(&self, reason: AuditUnavailable) {
        self.healthy.store(false, Ordering::Relaxed);
        let mut state = self.lock();
        let waiting = mem::take(&mut state.waiting);
        // Their outcomes can't be queued, so they would count for ever.
        state.under_way = 0;
        if !state.closing {
            state.stopped = Some(reason.clone());
        }
        drop(state);
        waiting.finish(&Err(reason));
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
