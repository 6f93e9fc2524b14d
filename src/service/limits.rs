//! Rate and concurrency: of each workload for its signatures, and of every caller for all other calls.

mod calls;

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter, clock::Clock, clock::DefaultClock};
use hallmark_core::{
    error::{Error, Reason},
    policy::{Identity, Rate, Workload},
};

pub use self::calls::{CallLimits, UnderWay};

/// What each workload has under way and has used up. Whoever is no configured workload has nothing here, so that there
/// is no more of it than there is configuration.
#[derive(Debug, Default)]
pub struct Limits(HashMap<Identity, Limit>);

#[derive(Debug)]
struct Limit {
    rate: Option<DefaultDirectRateLimiter>,
    concurrency: Option<u32>,
    under_way: AtomicU32,
    /// Moving average of how long a request is under way, in microseconds; measured where there is a `concurrency`.
    takes: AtomicU64,
}

/// A request of a workload that counts as under way until it is dropped.
#[derive(Debug)]
pub struct Admitted<'a> {
    limit: Option<&'a Limit>,
    since: Option<Instant>,
}

impl Limits {
    /// With nothing used up.
    pub fn new(workloads: &[Workload]) -> Self {
        Self(workloads.iter().map(|workload| (workload.id.clone(), Limit::new(workload))).collect())
    }

    /// Takes one from the workload's rate and one of its slots, or says when to try again.
    pub fn admit(&self, workload: &Identity) -> Result<Admitted<'_>, Error> {
        let Some(limit) = self.0.get(workload) else { return Ok(Admitted { limit: None, since: None }) };
        let admitted = limit.enter().ok_or_else(|| {
            let text = format!("`{workload}` has as many requests under way as its `concurrency` lets it");
            Error::new(Reason::ConcurrencyLimited, text).retry_after(limit.until_free())
        })?;
        check_rate(limit.rate.as_ref()).map_err(|wait| {
            let text = format!("`{workload}` has used up its `rate`");
            Error::new(Reason::RateLimited, text).retry_after(wait)
        })?;
        Ok(admitted)
    }

    /// Workloads that have requests under way, and how many.
    pub fn under_way(&self) -> impl Iterator<Item = (&Identity, u32)> {
        let counted = self.0.iter().map(|(id, limit)| (id, limit.under_way.load(Ordering::Relaxed)));
        counted.filter(|(_, count)| *count > 0)
    }
}

impl Limit {
    fn new(workload: &Workload) -> Self {
        Self {
            rate: workload.rate.and_then(quota).map(RateLimiter::direct),
            concurrency: workload.concurrency,
            under_way: AtomicU32::new(0),
            takes: AtomicU64::new(0),
        }
    }

    fn enter(&self) -> Option<Admitted<'_>> {
        let before = self.under_way.fetch_add(1, Ordering::Relaxed);
        let admitted = Admitted { limit: Some(self), since: self.concurrency.map(|_| Instant::now()) };
        // Dropped where it is one too many.
        self.concurrency.is_none_or(|most| before < most).then_some(admitted)
    }

    /// When one of its requests will have ended, by how long they took lately.
    fn until_free(&self) -> Duration {
        let (takes, most) = (self.takes.load(Ordering::Relaxed), u64::from(self.concurrency.unwrap_or(1).max(1)));
        if takes == 0 { UNKNOWN } else { Duration::from_micros(takes / most).clamp(SHORTEST, LONGEST) }
    }

    fn left(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX / 8);
        let before = self.takes.load(Ordering::Relaxed);
        // One of two that end at once may be lost; it is an average.
        self.takes.store(if before == 0 { took } else { (before * 7 + took) / 8 }, Ordering::Relaxed);
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        let Some(limit) = self.limit else { return };
        limit.under_way.fetch_sub(1, Ordering::Relaxed);
        if let Some(since) = self.since {
            limit.left(since.elapsed());
        }
    }
}

/// Takes one, or says how long until there is one.
fn check_rate(rate: Option<&DefaultDirectRateLimiter>) -> Result<(), Duration> {
    let checked = rate.map_or(Ok(()), RateLimiter::check);
    checked.map_err(|until| until.wait_time_from(DefaultClock::default().now()))
}

fn quota(rate: Rate) -> Option<Quota> {
    let count = NonZeroU32::new(rate.count)?;
    Some(Quota::with_period(rate.per / rate.count)?.allow_burst(count))
}

/// Until one has ended nobody knows how long they take.
const UNKNOWN: Duration = Duration::from_millis(50);
const SHORTEST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(rate: Option<Rate>, concurrency: Option<u32>) -> (Limits, Identity) {
        let id: Identity = "dns:w.example".parse().unwrap();
        let workload =
            Workload { id: id.clone(), clients: vec![], audiences: vec![], claims: vec![], rate, concurrency };
        (Limits::new(&[workload]), id)
    }

    #[test]
    fn a_slot_is_free_again_when_its_request_ends() {
        let (limits, id) = limits(None, Some(2));
        let held = [limits.admit(&id).unwrap(), limits.admit(&id).unwrap()];
        for _ in 0..3 {
            assert_eq!(limits.admit(&id).unwrap_err().reason, Reason::ConcurrencyLimited);
        }
        assert_eq!(limits.under_way().collect::<Vec<_>>(), [(&id, 2)]);
        drop(held);
        assert_eq!(limits.under_way().count(), 0);
        assert!(limits.admit(&id).is_ok());
    }

    #[test]
    fn a_used_up_rate_says_when_to_try_again_and_holds_no_slot() {
        let (limits, id) = limits(Some(Rate { count: 2, per: Duration::from_secs(60) }), Some(1));
        drop(limits.admit(&id).unwrap());
        drop(limits.admit(&id).unwrap());
        for _ in 0..2 {
            let refused = limits.admit(&id).unwrap_err();
            assert_eq!(refused.reason, Reason::RateLimited);
            assert!(refused.retry_after.is_some_and(|wait| wait > Duration::from_secs(20)), "{refused:?}");
        }
    }

    #[test]
    fn a_taken_slot_says_when_one_is_free_by_how_long_requests_take() {
        let (limits, id) = limits(None, Some(4));
        let limit = &limits.0[&id];
        let held: Vec<_> = (0..4).map(|_| limits.admit(&id).unwrap()).collect();
        let delay = || limits.admit(&id).unwrap_err().retry_after.unwrap();
        limit.takes.store(0, Ordering::Relaxed);
        assert_eq!(delay(), UNKNOWN);
        (0..100).for_each(|_| limit.left(Duration::from_secs(2)));
        let wait = delay();
        assert!(wait > Duration::from_millis(400) && wait <= Duration::from_millis(500), "a quarter of 2 s: {wait:?}");
        drop(held);
    }
}
