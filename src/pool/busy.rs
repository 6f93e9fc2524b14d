//! Who is inside the library, since when, and for how long that is no cause for worry.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// One slot a thread.
pub(super) struct Busy {
    started: Instant,
    slots: Vec<Slot>,
}

/// In milliseconds after `started`; 0 where the thread is outside.
#[derive(Default)]
struct Slot {
    since: AtomicU64,
    overdue: AtomicU64,
}

/// A thread inside the library; it is outside again when this is dropped, by a panic too.
pub(super) struct InCall<'a>(&'a Slot);

impl Drop for InCall<'_> {
    fn drop(&mut self) {
        self.0.since.store(0, Ordering::Relaxed);
    }
}

impl Busy {
    pub(super) fn new(threads: usize) -> Self {
        Self { started: Instant::now(), slots: (0..threads).map(|_| Slot::default()).collect() }
    }

    /// `thread` goes inside, and is stuck if it is not back within `limit`.
    pub(super) fn enter(&self, thread: usize, limit: Duration) -> InCall<'_> {
        let slot = &self.slots[thread];
        let now = self.now();
        slot.overdue.store(now.saturating_add(millis(limit)), Ordering::Relaxed);
        slot.since.store(now, Ordering::Relaxed);
        InCall(slot)
    }

    /// How many of the first `threads` are stuck.
    pub(super) fn stuck(&self, threads: usize) -> usize {
        let now = self.now();
        let stuck =
            |slot: &&Slot| slot.since.load(Ordering::Relaxed) != 0 && now > slot.overdue.load(Ordering::Relaxed);
        self.slots.iter().take(threads).filter(stuck).count()
    }

    /// How long the thread has been inside that went in first.
    pub(super) fn longest(&self) -> Duration {
        let since = self.slots.iter().map(|slot| slot.since.load(Ordering::Relaxed)).filter(|since| *since != 0).min();
        Duration::from_millis(since.map_or(0, |since| self.now().saturating_sub(since)))
    }

    fn now(&self) -> u64 {
        millis(self.started.elapsed()).max(1)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
