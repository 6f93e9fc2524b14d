//! The wall clock held against the monotonic one.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use hallmark_core::{lifecycle, time::Timestamp};

/// A clock that nobody sets.
pub trait Monotonic: fmt::Debug + Send + Sync + 'static {
    /// What passed since some moment in the past, always the same one.
    fn elapsed(&self) -> Duration;
}

impl Monotonic for Instant {
    fn elapsed(&self) -> Duration {
        Self::elapsed(self)
    }
}

/// A moment by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) wall: Timestamp,
    pub(super) monotonic: Duration,
}

impl Moment {
    /// What passed since `earlier`, by the wall clock in milliseconds and by the monotonic one.
    pub(super) fn since(&self, earlier: &Self) -> (i64, Duration) {
        let wall = self.wall.millis().saturating_sub(earlier.wall.millis());
        (wall, self.monotonic.saturating_sub(earlier.monotonic))
    }
}

/// The wall clock held against the monotonic one, from some moment on.
#[derive(Clone, Debug)]
pub struct Watched {
    start: Moment,
    monotonic: Arc<dyn Monotonic>,
}

impl Watched {
    pub(super) fn from(start: Moment, monotonic: Arc<dyn Monotonic>) -> Self {
        Self { start, monotonic }
    }

    /// By how much the wall clock, which says `wall` now, went another way, if by too much to trust it.
    pub fn departed(&self, wall: Timestamp) -> Option<String> {
        let now = Moment { wall, monotonic: self.monotonic.elapsed() };
        let (wall, monotonic) = now.since(&self.start);
        let ahead = wall.saturating_sub(i64::try_from(monotonic.as_millis()).unwrap_or(i64::MAX)) / 1000;
        lifecycle::departed(wall, monotonic).then(|| {
            let way = if ahead < 0 { "behind" } else { "ahead" };
            format!("since the start of this process, the wall clock got {} s {way} of what passed", ahead.abs())
        })
    }
}
