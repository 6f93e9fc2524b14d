//! Rate and concurrency of each workload.

use std::{collections::HashMap, num::NonZeroU32, sync::Arc, time::Duration};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter, clock::Clock, clock::DefaultClock};
use hallmark_core::{
    error::{Error, Reason},
    policy::{Identity, Rate, Workload},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What each workload has under way and has used up.
#[derive(Debug, Default)]
pub struct Limits(HashMap<Identity, Limit>);

#[derive(Debug)]
struct Limit {
    rate: Option<DefaultDirectRateLimiter>,
    slots: Option<Arc<Semaphore>>,
}

/// Holds one of a workload's slots until it is dropped.
#[derive(Debug)]
pub struct Admitted(#[expect(dead_code, reason = "held, not read")] Option<OwnedSemaphorePermit>);

impl Limits {
    /// With nothing used up.
    pub fn new(workloads: &[Workload]) -> Self {
        let limit = |workload: &Workload| Limit {
            rate: workload.rate.and_then(quota).map(RateLimiter::direct),
            slots: workload.concurrency.map(|slots| Arc::new(Semaphore::new(slots as usize))),
        };
        Self(workloads.iter().map(|workload| (workload.id.clone(), limit(workload))).collect())
    }

    /// Takes one from the workload's rate and one of its slots, or says when to try again.
    pub fn admit(&self, workload: &Identity) -> Result<Admitted, Error> {
        let Some(limit) = self.0.get(workload) else { return Ok(Admitted(None)) };
        let slot = limit.slots.as_ref().map(|slots| slots.clone().try_acquire_owned()).transpose();
        let slot = slot.map_err(|_| {
            let text = format!("`{workload}` has as many requests under way as its `concurrency` lets it");
            Error::new(Reason::ConcurrencyLimited, text).retry_after(Duration::from_millis(50))
        })?;
        if let Some(Err(until)) = limit.rate.as_ref().map(RateLimiter::check) {
            let wait = until.wait_time_from(DefaultClock::default().now());
            let text = format!("`{workload}` has used up its `rate`");
            return Err(Error::new(Reason::RateLimited, text).retry_after(wait));
        }
        Ok(Admitted(slot))
    }
}

fn quota(rate: Rate) -> Option<Quota> {
    let count = NonZeroU32::new(rate.count)?;
    Some(Quota::with_period(rate.per / rate.count)?.allow_burst(count))
}

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
        let (limits, id) = limits(None, Some(1));
        let held = limits.admit(&id).unwrap();
        assert_eq!(limits.admit(&id).unwrap_err().reason, Reason::ConcurrencyLimited);
        drop(held);
        assert!(limits.admit(&id).is_ok());
    }

    #[test]
    fn a_used_up_rate_says_when_to_try_again() {
        let (limits, id) = limits(Some(Rate { count: 2, per: Duration::from_secs(60) }), None);
        assert!(limits.admit(&id).is_ok() && limits.admit(&id).is_ok());
        let refused = limits.admit(&id).unwrap_err();
        assert_eq!(refused.reason, Reason::RateLimited);
        assert!(refused.retry_after.is_some_and(|wait| wait > Duration::from_secs(20)), "{refused:?}");
    }
}
