//! At which rate refusals are recorded: a flood of them must not fill the disk, nor go unseen.

use std::time::Duration;

use hallmark_core::time::Timestamp;

pub(super) struct Refusals {
    per_second: u32,
    since: Option<Timestamp>,
    recorded: u32,
    /// Refused, but not recorded one by one.
    more: u64,
}

impl Refusals {
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second, since: None, recorded: 0, more: 0 }
    }

    /// Whether a refusal may have a record of its own; otherwise it is counted.
    pub(super) fn admit(&mut self, now: Timestamp) -> bool {
        if self.is_over(now) {
            (self.since, self.recorded) = (Some(now), 0);
        }
        let admitted = self.recorded < self.per_second;
        if admitted {
            self.recorded += 1;
        } else {
            self.count();
        }
        admitted
    }

    /// Counts a refusal that could not be recorded.
    pub(super) fn count(&mut self) {
        self.more += 1;
    }

    pub(super) fn are_counted(&self) -> bool {
        self.more > 0
    }

    /// What was counted, once its second is over.
    pub(super) fn take(&mut self, now: Timestamp) -> u64 {
        if self.is_over(now) { self.take_all() } else { 0 }
    }

    pub(super) fn take_all(&mut self) -> u64 {
        std::mem::take(&mut self.more)
    }

    /// Also after a clock that was set back, or nothing would be recorded until it has caught up.
    fn is_over(&self, now: Timestamp) -> bool {
        self.since.is_none_or(|since| now < since || now.since(since) >= Duration::from_secs(1))
    }
}
