//! When to try again.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::{Error, Remedy};

/// Counts tries and waits between them: as long as the error says, else longer each time; always with jitter, so that
/// callers that failed together do not come back together.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    failures: u32,
}

impl Retry {
    /// Waits for the next try. False where there should be none: the error does not call for it, or the time until
    /// `deadline` is too short.
    pub(crate) async fn again(&mut self, error: &Error, deadline: Instant) -> bool {
        if error.remedy() != Remedy::RetryLater {
            return false;
        }
        let delay = self.delay(error.retry_after(), rand::random());
        self.failures += 1;
        let next = Instant::now() + delay;
        if next >= deadline {
            return false;
        }
        sleep_until(next).await;
        true
    }

    /// `chance` is in 0..1. Never sooner than the error says; else between half and all of the step.
    fn delay(&self, told: Option<Duration>, chance: f64) -> Duration {
        let step = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        match told {
            // Bounded, for it comes from outside, and times that are too far off can't be added up.
            Some(told) => told.min(LONGEST_TOLD) + (told / 5).min(LONGEST).mul_f64(chance),
            None => step.mul_f64(0.5 + chance / 2.0),
        }
    }
}

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);
/// As good as never: no caller waits that long for an access token.
pub(crate) const LONGEST_TOLD: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason;

    #[test]
    fn waits_as_told_and_else_longer_each_time() {
        let mut retry = Retry::default();
        assert_eq!(retry.delay(None, 0.0), Duration::from_millis(25));
        assert_eq!(retry.delay(Some(Duration::from_secs(5)), 0.0), Duration::from_secs(5));
        assert_eq!(retry.delay(Some(Duration::from_secs(5)), 0.5), Duration::from_millis(5_500));
        let told = retry.delay(Some(Duration::MAX), 1.0);
        assert!(told >= LONGEST_TOLD && Instant::now().checked_add(told).is_some(), "{told:?}");
        retry.failures = 3;
        assert_eq!(retry.delay(None, 1.0), Duration::from_millis(400));
        retry.failures = 60;
        assert_eq!(retry.delay(None, 1.0), LONGEST);
    }

    #[tokio::test]
    async fn does_not_wait_past_the_deadline() {
        let error = Error::new(Remedy::RetryLater, reason::UNREACHABLE, "text");
        let error = error.with_retry_after(Some(Duration::from_secs(60)));
        let soon = Instant::now() + Duration::from_secs(5);
        assert!(!Retry::default().again(&error, soon).await);
        assert!(Instant::now() < soon);
    }
}
