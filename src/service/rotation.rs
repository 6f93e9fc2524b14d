//! The sweep: does what is due to all clients' keys, with nobody's help.
//!
//! ```text
//! round.rs      one round: who sweeps, clocks, observed time, moves
//! decide.rs     what is due, client by client
//! others.rs     what replicas tell each other of their HSMs
//! acts.rs       keys made and destroyed: beside the rounds, each HSM for itself
//! clocks.rs     the wall clock held against the monotonic one
//! inspect.rs    what is on the HSMs, looked at from time to time
//! looks.rs      public URLs of static hosts, fetched from outside
//! sightings.rs  what was seen there, and since when
//! alarms.rs     what an operator should hear of
//! certificates.rs  certificates that run out
//! forecast.rs   what will happen when
//! ```

mod acts;
mod alarms;
mod certificates;
mod clocks;
mod decide;
mod forecast;
mod inspect;
mod looks;
mod others;
mod round;
mod sightings;
#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use hallmark_core::{
    client::Provision,
    lifecycle::SWAP_QUIET,
    ports::{ReplicaStore, SweepStore},
};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use self::{acts::Acts, alarms::Alarms, round::Sweeper, sightings::Sightings};
pub use self::{
    clocks::{Monotonic, Watched},
    forecast::{Outlook, Upcoming},
    looks::{Look, PublicView},
    round::max_ages,
};
use super::{Context, keys::Keys, rules::Rules};
use crate::{pool::Pool, telemetry::Metrics};

/// What a rotation stands on.
pub struct Parts {
    pub context: Context,
    pub keys: Keys,
    pub rules: Arc<Rules>,
    pub sweeps: Arc<dyn SweepStore>,
    pub replicas: Arc<dyn ReplicaStore>,
    pub metrics: Arc<Metrics>,
    /// The name of this replica.
    pub instance: String,
    /// How often it is swept.
    pub every: Duration,
    /// Whether verifiers can read what the store says; observed time counts only then.
    pub served: Box<dyn Fn() -> bool + Send + Sync>,
    /// What verifiers see of clients whose sets a static host serves; observed time counts only while it has them.
    pub public_view: Arc<dyn PublicView>,
    /// Where their paths begin.
    pub public_url: String,
    pub monotonic: Arc<dyn Monotonic>,
}

/// The service; clones share everything.
#[derive(Clone)]
pub struct Rotation(Arc<Inner>);

struct Inner {
    parts: Parts,
    alarms: Alarms,
    acts: Acts,
    sightings: Sightings,
    /// One round at a time.
    sweeper: Mutex<Sweeper>,
}

/// Why a round begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its time has come: what failed is tried again.
    Time,
    /// Something changed.
    Woken,
}

impl std::fmt::Debug for Rotation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rotation")
    }
}

impl Rotation {
    /// Does nothing before [`Rotation::run`].
    pub fn new(parts: Parts) -> Self {
        let alarms = Alarms::new(parts.metrics.clone());
        let sweeper = Mutex::new(Sweeper::default());
        Self(Arc::new(Inner { parts, alarms, acts: Acts::default(), sightings: Sightings::default(), sweeper }))
    }

    /// Sweeps until `end`: from time to time, and early when something changed.
    pub async fn run(self, end: CancellationToken) {
        let beside = async { tokio::join!(inspect::all(&self, &end), looks::all(&self, &end)) };
        let rounds = async {
            let mut cause = Cause::Time;
            let mut timed = Instant::now();
            self.first_tries().await;
            loop {
                self.round(cause).await;
                let due = timed + self.0.parts.every;
                let wait = due.saturating_duration_since(Instant::now()).min(self.next_swap());
                tokio::select! {
                    () = tokio::time::sleep(wait.max(BREATH)) => {}
                    () = self.woken() => {}
                }
                cause = if Instant::now() >= due { Cause::Time } else { Cause::Woken };
                if cause == Cause::Time {
                    timed = Instant::now();
                }
            }
        };
        tokio::select! {
            () = end.cancelled() => {}
            _ = async { tokio::join!(rounds, beside) } => {}
        }
        // What is under way on an HSM is found again from its record; the lock is for others to take now.
        self.0.acts.stop();
        self.0.sweeper.lock().await.lead = None;
    }

    /// Has it look again soon: something changed.
    pub fn wake(&self) {
        self.0.parts.rules.wake.notify_one();
    }

    /// Whether every client that the server makes keys for can sign.
    pub fn is_provisioned(&self) -> bool {
        let Parts { context, .. } = &self.0.parts;
        let (registered, keys) = (context.registry.load(), context.keyring.keys());
        let mut automatic = registered.clients.values().filter(|client| client.provision == Provision::Auto);
        automatic.all(|client| client.key_lines().iter().all(|(line, _)| keys.has_lived(line)))
    }

    /// Until it is known of each HSM whether it answers. All first keys of a client sign at once if they are published as
    /// one: an HSM that takes a moment longer than its siblings must not be left out for a day.
    async fn first_tries(&self) {
        let tries = self.0.parts.context.pools.values().map(Pool::first_try);
        let _ = tokio::time::timeout(CONNECTING, join_all(tries)).await;
    }

    /// Something changed. Several in a row are one.
    async fn woken(&self) {
        self.0.parts.rules.wake.notified().await;
        tokio::time::sleep(BREATH).await;
    }

    /// When the next pause of signing has lasted long enough.
    fn next_swap(&self) -> Duration {
        let quiet = self.0.parts.context.keyring.pauses().all();
        let left = quiet.values().map(|quiet| SWAP_QUIET.saturating_sub(*quiet));
        left.min().unwrap_or(Duration::MAX)
    }
}

/// For how long HSMs that neither answer nor fail are waited for at start.
const CONNECTING: Duration = Duration::from_secs(10);

/// Between two rounds at least.
const BREATH: Duration = Duration::from_millis(20);
