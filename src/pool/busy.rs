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

    /// Whether one of the first `threads` is stuck, and all others have been inside for longer than `patience`: a list of
    /// many keys may take that long, but who waits for a signature can't tell it from one that is stuck too.
    pub(super) fn all_held_up(&self, threads: usize, patience: Duration) -> bool {
        let (now, patience) = (self.now(), millis(patience));
        let slots = || self.slots.iter().take(threads);
        let since = |slot: &Slot| slot.since.load(Ordering::Relaxed);
        let is_stuck = |slot: &Slot| since(slot) != 0 && now > slot.overdue.load(Ordering::Relaxed);
        slots().any(is_stuck) && slots().all(|slot| since(slot) != 0 && now.saturating_sub(since(slot)) > patience)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread that went inside so many seconds ago, with so many left.
    fn inside(busy: &Busy, thread: usize, since: u64, left: i64) {
        let now = busy.now();
        busy.slots[thread].since.store(now - since * 1000, Ordering::Relaxed);
        busy.slots[thread].overdue.store(now.saturating_add_signed(left * 1000), Ordering::Relaxed);
    }

    #[test]
    fn a_list_that_takes_long_does_not_hide_that_nothing_is_signed() {
        let patience = Duration::from_secs(10);
        let busy = Busy { started: Instant::now() - Duration::from_mins(5), ..Busy::new(2) };
        assert!(!busy.all_held_up(2, patience), "nobody is inside");
        inside(&busy, 0, 20, 160);
        assert!(!busy.all_held_up(1, patience), "a list may take so long");
        inside(&busy, 1, 11, -1);
        assert!(busy.all_held_up(2, patience));
        inside(&busy, 0, 5, 175);
        assert!(!busy.all_held_up(2, patience), "the list has only just begun");
        busy.slots[0].since.store(0, Ordering::Relaxed);
        assert!(!busy.all_held_up(2, patience), "one is outside");
    }
}
