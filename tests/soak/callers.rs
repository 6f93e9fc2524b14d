//! Workloads that sign without pause, and show each assertion to a verifier at once, some again just before their end.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    clock::{Clock, real},
    tally::Tally,
    verify::{Signed, Verdict, Verifier, Verifiers},
    watch::{Timeline, short},
};
use crate::support::{
    Caller, Refusal,
    caller::{for_client, within},
};

/// What all callers share.
pub(super) struct Field {
    pub(super) clients: Vec<String>,
    /// One for each replica; another after each restart.
    pub(super) replicas: watch::Receiver<Vec<Caller>>,
    pub(super) verifiers: Verifiers,
    pub(super) timeline: Arc<Timeline>,
    pub(super) tally: Arc<Tally>,
    pub(super) clock: Clock,
    /// Assertions that wait for their end.
    pub(super) later: TaskTracker,
    pub(super) end: CancellationToken,
}

impl Field {
    /// Signs for all clients in turn until the end.
    pub(super) async fn call(self: Arc<Self>, who: usize, pause: Duration) {
        let mut turn = who * SPREAD;
        while !self.end.is_cancelled() {
            turn += 1;
            let client = &self.clients[turn % self.clients.len()];
            match self.sign(client, turn).await {
                Ok(signed) => self.show_around(signed, turn).await,
                Err(wait) => sleep(wait).await,
            }
            sleep(pause).await;
        }
    }

    /// Gives how long to wait where it fails.
    async fn sign(&self, client: &str, turn: usize) -> Result<Signed, Duration> {
        let replicas = self.replicas.borrow().clone();
        let request = within(DEADLINE, for_client(client));
        // Any other replica the next time.
        let asked = timeout(GIVE_UP, replicas[turn % replicas.len()].sign(request)).await;
        let (reason, wait) = match asked {
            Ok(Ok(reply)) => {
                let signed = Signed::new(client, reply);
                self.tally.signed(client, &signed.kid);
                return Ok(signed);
            }
            Ok(Err(refusal)) => (name(&refusal), refusal.retry_after.map(real)),
            Err(_) => ("no answer".to_owned(), None),
        };
        self.tally.note(|seen| *seen.failures.entry(reason).or_default() += 1);
        Err(wait.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT))
    }

    /// At once to one verifier; for half of them, shortly before its end to the other.
    async fn show_around(self: &Arc<Self>, signed: Signed, turn: usize) {
        // The authorization server takes no assertion twice.
        let (first, second) = match turn / self.clients.len() % 4 {
            0 => (Verifier::Server, Some(Verifier::Library)),
            1 => (Verifier::Library, Some(Verifier::Server)),
            2 => (Verifier::Server, None),
            _ => (Verifier::Library, None),
        };
        self.show(&signed, first, "at once").await;
        if let Some(second) = second {
            let shared = self.clone();
            self.later.spawn(async move {
                let margin_ms = MARGINS_MS[turn % MARGINS_MS.len()];
                let left_ms = signed.expires_ms - margin_ms - shared.clock.now_ms();
                sleep(real(Duration::from_millis(u64::try_from(left_ms).unwrap_or(0)))).await;
                shared.show(&signed, second, "before its end").await;
            });
        }
    }

    async fn show(&self, signed: &Signed, to: Verifier, when: &'static str) {
        let retry = || self.tally.note(|seen| seen.unreachable += 1);
        match self.verifiers.show(signed, to, retry).await {
            Verdict::Accepted => self.tally.note(|seen| *seen.accepted.entry(when).or_default() += 1),
            Verdict::Expired => self.tally.note(|seen| seen.expired += 1),
            Verdict::Refused(reason) | Verdict::Unreachable(reason) => {
                let now_ms = self.clock.now_ms();
                let (client, kid) = (&signed.client, short(&signed.kid));
                let age = (now_ms - signed.issued_ms) / 1000;
                let timeline = self.timeline.of(client, now_ms);
                self.tally.refused(format!(
                    "{when} by {to:?}: client `{client}`, kid {kid}, {age} s old: {reason}\n  key set, in seconds from \
                     now:\n{timeline}"
                ));
            }
        }
    }
}

fn name(refusal: &Refusal) -> String {
    let Refusal { code, reason, .. } = refusal;
    if reason.is_empty() { format!("{code:?}, connection") } else { format!("{code:?} {reason}") }
}

/// So that the callers are not all at the same client.
const SPREAD: usize = 7;
/// By the server's fast clock.
const DEADLINE: Duration = Duration::from_secs(60);
/// By ours.
const GIVE_UP: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_millis(100);
/// How long before its end an assertion is shown again, by the fast clock: as short as a busy machine allows.
const MARGINS_MS: [i64; 3] = [20_000, 40_000, 80_000];
