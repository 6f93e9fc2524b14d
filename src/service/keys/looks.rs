//! What each HSM was last seen to hold, so that whoever lists keys needs no HSM.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use hallmark_core::{
    key::{HsmName, KeyId},
    time::Timestamp,
};
use tokio::sync::{Mutex, Notify};

use super::Stray;

/// Between two looks at one HSM, unless the sweep wants it otherwise: a listing keeps one of its sessions busy for
/// a second, and nobody who may only view or rotate is to keep it busy all the time.
const LOOK_PAUSE: Duration = Duration::from_secs(10);

/// What one look at an HSM has shown.
#[derive(Debug)]
pub(in crate::service) struct Seen {
    pub(in crate::service) at: Timestamp,
    pub(in crate::service) strays: Vec<Stray>,
    /// Keys whose objects are missing or incomplete.
    pub(in crate::service) absent: BTreeSet<KeyId>,
}

/// The last look at each HSM.
#[derive(Debug)]
pub(super) struct Looks(HashMap<HsmName, Look>);

/// The last look at one HSM.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// One at a time. Holds when the last one began: who asks and hangs up has kept the HSM busy all the same.
    pub(super) began: Mutex<Option<Instant>>,
    pub(super) seen: ArcSwapOption<Seen>,
    /// The last one failed; what was seen is of an earlier one.
    failed: AtomicBool,
    outdated: Notify,
}

impl Looks {
    pub(super) fn new<'a>(hsms: impl Iterator<Item = &'a HsmName>) -> Self {
        Self(hsms.map(|hsm| (hsm.clone(), Look::default())).collect())
    }

    pub(super) fn of(&self, hsm: &HsmName) -> Option<&Look> {
        self.0.get(hsm)
    }

    /// Something was made or destroyed there: it is worth another look.
    pub(super) fn outdate(&self, hsm: &HsmName) {
        if let Some(look) = self.of(hsm) {
            look.outdated.notify_one();
        }
    }
}

impl Look {
    pub(super) fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    pub(super) fn end<E>(&self, looked: Result<Arc<Seen>, E>) -> Result<Arc<Seen>, E> {
        self.failed.store(looked.is_err(), Ordering::Relaxed);
        if let Ok(seen) = &looked {
            self.seen.store(Some(seen.clone()));
        }
        looked
    }

    /// Resolves when something has changed since the last look, and that is long enough ago. Several changes in a row
    /// are one.
    pub(super) async fn due(&self) {
        self.outdated.notified().await;
        let began = *self.began.lock().await;
        let pause = pause(began, Instant::now());
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
}

/// Until another look may follow one that began then.
pub(super) fn pause(began: Option<Instant>, now: Instant) -> Duration {
    began.map_or(Duration::ZERO, |began| LOOK_PAUSE.saturating_sub(now.duration_since(began)))
}

#[cfg(test)]
mod tests {
    use futures_util::future::FutureExt;

    use super::*;

    #[test]
    fn several_changes_are_one_look() {
        let hsm: HsmName = "one".parse().unwrap();
        let looks = Looks::new(std::iter::once(&hsm));
        let look = looks.of(&hsm).unwrap();
        assert_eq!(look.due().now_or_never(), None, "nothing has changed yet");
        looks.outdate(&hsm);
        looks.outdate(&hsm);
        assert_eq!(look.due().now_or_never(), Some(()));
        assert_eq!(look.due().now_or_never(), None, "nothing has changed since");
    }

    #[test]
    fn looks_are_ten_seconds_apart() {
        let began = Instant::now();
        let left = |ms| pause(Some(began), began + Duration::from_millis(ms)).as_millis();
        assert_eq!([0, 9_999, 10_000, 10_001].map(left), [10_000, 1, 0, 0]);
        assert_eq!(pause(None, began), Duration::ZERO);
    }
}
