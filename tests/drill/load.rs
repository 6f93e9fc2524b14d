//! Callers that sign without pause, each with a verifier that keeps key sets for as long as it may.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use crate::{
    rotation::Verifier,
    support::{
        Caller, PATIENCE, Server,
        caller::{for_client, within},
        eventually,
    },
};

/// What callers and verifiers saw so far.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) verified: usize,
    /// What verifiers said of assertions that they refused.
    pub(super) not_verified: Vec<String>,
    signed: Vec<(Instant, String)>,
    refused: Vec<(Instant, String)>,
}

/// Stops when dropped.
pub(super) struct Load {
    pub(super) callers: usize,
    tally: Arc<Mutex<Tally>>,
    _tasks: JoinSet<()>,
}

impl Load {
    pub(super) fn start(server: &Server, callers: usize) -> Self {
        let (tally, mut tasks) = (Arc::new(Mutex::new(Tally::default())), JoinSet::new());
        for _ in 0..callers {
            tasks.spawn(call(server.app(), Verifier::new(server), tally.clone()));
        }
        Self { callers, tally, _tasks: tasks }
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap()
    }

    /// Waits until one of these keys signs, and says when it first did since then.
    pub(super) async fn signs_with(&self, kids: &BTreeSet<String>, since: Instant) -> Instant {
        eventually("one of those keys signs", PATIENCE, async || {
            let tally = self.tally();
            let found = tally.signed.iter().find(|(at, kid)| *at >= since && kids.contains(kid));
            found.map(|(at, _)| *at)
        })
        .await
    }

    /// Waits for so many more signatures.
    pub(super) async fn signs_times(&self, times: usize) {
        let wanted = self.tally().signed.len() + times;
        eventually("callers sign", PATIENCE, async || (self.tally().signed.len() >= wanted).then_some(())).await;
    }

    /// The reasons of refusals since then.
    pub(super) fn refused_since(&self, since: Instant) -> Vec<String> {
        self.tally().refused.iter().filter(|(at, _)| *at >= since).map(|(_, reason)| reason.clone()).collect()
    }

    /// The longest time since then in which nobody got a signature.
    pub(super) fn longest_pause_since(&self, since: Instant) -> Duration {
        let tally = self.tally();
        let times: Vec<_> = tally.signed.iter().map(|(at, _)| *at).filter(|at| *at >= since).collect();
        let from = std::iter::once(since).chain(times.iter().copied());
        from.zip(&times).map(|(from, to)| to.saturating_duration_since(from)).max().unwrap_or_default()
    }

    pub(super) fn finish(self) -> Tally {
        std::mem::take(&mut *self.tally())
    }
}

async fn call(app: Caller, mut verifier: Verifier, tally: Arc<Mutex<Tally>>) {
    loop {
        let request = within(Duration::from_secs(5), for_client("demo"));
        let answer = app.sign(request).await;
        let at = Instant::now();
        let signed = match answer {
            Ok(signed) => signed,
            Err(refusal) => {
                tally.lock().unwrap().refused.push((at, refusal.reason));
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let verdict = verifier.verify(&signed.assertion).await;
        let mut tally = tally.lock().unwrap();
        tally.signed.push((at, signed.kid));
        match verdict {
            Ok(_) => tally.verified += 1,
            Err(why) => tally.not_verified.push(why),
        }
    }
}
