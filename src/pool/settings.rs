//! How a pool behaves: its size, and how long it bears with an HSM.

use std::time::Duration;

use hallmark_core::key::HsmName;

/// How a pool behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    pub hsm: HsmName,
    /// Sessions that sign; fewer where the token has fewer.
    pub workers: usize,
    /// Jobs that may wait, for each worker.
    pub queue_per_worker: usize,
    /// A call that takes longer counts its worker as stuck.
    pub stuck_after: Duration,
    /// As `stuck_after`, for anything but signing: some tokens take a minute to make an RSA key.
    pub task_limit: Duration,
    /// How long the library may be kept from being started anew by a call that does not return, with the HSM down.
    /// A new process is back within seconds.
    pub reset_patience: Duration,
    /// With a call inside the library for so long, and no signature meanwhile, only a new process helps.
    pub give_up_after: Duration,
}

impl Settings {
    /// The limits of production.
    pub fn new(hsm: HsmName, workers: usize) -> Self {
        Self {
            hsm,
            workers: workers.max(1),
            // A queue longer than a deadline is an outage in waiting; this is about a second of a soft token's work.
            queue_per_worker: 512,
            stuck_after: Duration::from_secs(10),
            task_limit: Duration::from_secs(180),
            reset_patience: Duration::from_secs(30),
            give_up_after: Duration::from_secs(300),
        }
    }

    /// As if a call were stuck after so long: the limits that follow from it stand in the same proportion to it as in
    /// production. For tests.
    pub fn scaled_to(self, stuck_after: Duration) -> Self {
        let scaled = |limit: Duration| limit.mul_f64(stuck_after.as_secs_f64() / self.stuck_after.as_secs_f64());
        let (reset_patience, give_up_after) = (scaled(self.reset_patience), scaled(self.give_up_after));
        Self { stuck_after, reset_patience, give_up_after, ..self }
    }

    /// How many signatures may wait.
    pub(super) fn places(&self) -> usize {
        self.queue_per_worker * self.workers
    }
}
