//! What every caller may ask beside signatures: lists, changes of keys, key sets.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use hallmark_core::error::{Error, Reason};

use super::check_rate;

/// The same for all: far above what a person, a pipeline or a follower does, far below what would slow signatures down.
/// Callers share a fixed number of counters, by a keyed hash: however many there are, no memory grows, and nobody can
/// choose whose counter is used up.
#[derive(Debug)]
pub struct CallLimits {
    counters: Box<[Counter]>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Counter {
    rate: DefaultDirectRateLimiter,
    under_way: AtomicU32,
}

/// A call that counts as under way until it is dropped.
#[derive(Debug)]
pub struct UnderWay {
    limits: Arc<CallLimits>,
    counter: usize,
}

impl Default for CallLimits {
    fn default() -> Self {
        let quota = Quota::per_second(PER_SECOND).allow_burst(BURST);
        let counter = |_| Counter { rate: RateLimiter::direct(quota), under_way: AtomicU32::new(0) };
        Self { counters: (0..COUNTERS).map(counter).collect(), hasher: RandomState::new() }
    }
}

impl CallLimits {
    /// Counts a call of `who`, or says when to try again.
    pub fn admit(self: &Arc<Self>, who: impl Hash) -> Result<UnderWay, Error> {
        let counter = usize::try_from(self.hasher.hash_one(who) % COUNTERS).unwrap_or_default();
        let Counter { rate, under_way } = &self.counters[counter];
        let before = under_way.fetch_add(1, Ordering::Relaxed);
        let admitted = UnderWay { limits: self.clone(), counter };
        if before >= MOST_UNDER_WAY {
            let text = format!("more than {MOST_UNDER_WAY} calls of this caller are under way");
            return Err(Error::new(Reason::ConcurrencyLimited, text).retry_after(Duration::from_millis(100)));
        }
        check_rate(Some(rate)).map_err(|wait| {
            let text = format!("more than {PER_SECOND} calls a second, other than for signatures");
            Error::new(Reason::RateLimited, text).retry_after(wait)
        })?;
        Ok(admitted)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.limits.counters[self.counter].under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

const COUNTERS: u64 = 1024;
// Unwrap safety: constants, and not zero.
const PER_SECOND: NonZeroU32 = NonZeroU32::new(200).unwrap();
const BURST: NonZeroU32 = NonZeroU32::new(400).unwrap();
const MOST_UNDER_WAY: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_all_the_time_is_told_when_to_come_back_and_others_are_not() {
        let limits = Arc::new(CallLimits::default());
        let refused = (0..10_000).find_map(|_| limits.admit("loud").err()).expect("there is a limit");
        assert_eq!(refused.reason, Reason::RateLimited);
        assert!(refused.retry_after.is_some_and(|wait| wait <= Duration::from_millis(10)), "{refused:?}");
        let others = (0..100).filter(|n| limits.admit(n).is_ok()).count();
        assert!(others >= 95, "{others}");
    }

    #[test]
    fn a_caller_has_only_so_many_calls_under_way() {
        let limits = Arc::new(CallLimits::default());
        let held: Vec<_> = (0..MOST_UNDER_WAY).map(|_| limits.admit("slow").unwrap()).collect();
        assert_eq!(limits.admit("slow").unwrap_err().reason, Reason::ConcurrencyLimited);
        drop(held);
        assert!(limits.admit("slow").is_ok(), "a refused one holds nothing");
    }
}
