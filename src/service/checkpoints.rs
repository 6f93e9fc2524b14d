//! Has an HSM sign the head of the audit chain: at an interval while there is traffic, at each key change, and at the end.
//!
//! The first HSM that is up signs, in the order of the configuration. An HSM that is gone stops nothing: the log goes on,
//! and the next checkpoint comes when one is back, and says for how long it was due.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hallmark_core::{
    audit::{EncodedEvent, Event, checkpoint, checkpoint::Head},
    error::{Error, Reason},
    key::HsmName,
    ports::AuditHead,
};
use tokio_util::sync::CancellationToken;

use super::{Context, custody, sign::audit_unavailable};
use crate::pool::{Pool, PoolKey};

/// How often it is looked whether one is due: all changes of that time share it.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// As a probe: an HSM that takes longer is of no use now.
const SIGN_TIMEOUT: Duration = Duration::from_secs(5);
/// How soon one that failed is tried again, at first and at most: each try is recorded.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// What is later says so.
const OVERDUE_AFTER: Duration = Duration::from_secs(5);
/// At the end the process waits no longer.
const LAST_TIMEOUT: Duration = Duration::from_secs(2);

/// Makes the checkpoints of this process.
pub struct Checkpoints {
    context: Context,
    chain: Arc<dyn AuditHead>,
    hsms: Vec<HsmName>,
    every: Duration,
    /// When the last one was made, or the process began.
    last: Option<Instant>,
    /// What the one before this moment covers.
    key_changes: u64,
    rotations: u64,
    due: Option<Due>,
}

/// A checkpoint that should be made.
#[derive(Clone, Copy)]
struct Due {
    why: &'static str,
    since: Instant,
    not_before: Instant,
    delay: Duration,
}

impl Checkpoints {
    /// `hsms`: in the order in which they are asked. `every`: how long records stay without a checkpoint at most.
    pub fn new(context: Context, chain: Arc<dyn AuditHead>, hsms: Vec<HsmName>, every: Duration) -> Self {
        Self { context, chain, hsms, every, last: None, key_changes: 0, rotations: 0, due: None }
    }

    /// Makes them until `end`, and the last one then.
    pub async fn run(mut self, end: CancellationToken) {
        // Given up in the middle at the end: an HSM or a disk that hangs would hold the process up.
        let _ = end.run_until_cancelled(self.go_on()).await;
        if tokio::time::timeout(LAST_TIMEOUT, self.make_last()).await.is_err() {
            tracing::warn!("the last audit checkpoint was not made in time; the next start makes it");
        }
    }

    async fn go_on(&mut self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.look(Instant::now()).await;
        }
    }

    /// Makes one if it is due.
    async fn look(&mut self, now: Instant) {
        let Some(head) = self.chain.head().filter(has_news) else { return };
        if self.due.is_none() {
            let due = |why| Due { why, since: now, not_before: now, delay: RETRY.0 };
            self.due = self.why(&head, now).map(due);
        }
        let Some(due) = self.due.filter(|due| now >= due.not_before) else { return };
        let overdue = now.duration_since(due.since);
        if let Err(error) = self.make(&head, due.why, overdue).await {
            if due.delay == RETRY.1 {
                tracing::warn!(%error, ?overdue, "an audit checkpoint is overdue");
            }
            self.due = Some(Due { not_before: now + due.delay, delay: (due.delay * 2).min(RETRY.1), ..due });
            return;
        }
        (self.last, self.due) = (Some(now), None);
        (self.key_changes, self.rotations) = (head.key_changes, head.rotations);
    }

    fn why(&self, head: &Head, now: Instant) -> Option<&'static str> {
        let Some(last) = self.last else { return Some("start") };
        if head.key_changes != self.key_changes {
            return Some("key-change");
        }
        if head.rotations != self.rotations {
            return Some("file");
        }
        (now.duration_since(last) >= self.every).then_some("interval")
    }

    async fn make_last(&self) {
        let Some(head) = self.chain.head().filter(has_news) else { return };
        let overdue = self.due.map(|due| due.since.elapsed()).unwrap_or_default();
        if let Err(error) = self.make(&head, "end", overdue).await {
            tracing::warn!(%error, "no last audit checkpoint; the next start makes it");
        }
    }

    /// By the first HSM that can.
    async fn make(&self, head: &Head, why: &str, overdue: Duration) -> Result<(), Error> {
        let late = (overdue >= OVERDUE_AFTER).then(|| u64::try_from(overdue.as_millis()).unwrap_or(u64::MAX));
        let mut failed = None;
        for hsm in &self.hsms {
            let custody = self.context.keyring.keys().custody(hsm).cloned();
            let (Some(key), Some(pool)) = (custody, self.context.pools.get(hsm)) else { continue };
            match self.sign(head, why, late, key, pool).await {
                Ok(jws) => return self.record(hsm, why, late, &jws).await,
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| Error::new(Reason::HsmUnavailable, "no HSM has its custody key yet")))
    }

    async fn sign(
        &self,
        head: &Head,
        why: &str,
        late: Option<u64>,
        key: Arc<PoolKey>,
        pool: &Pool,
    ) -> Result<String, Error> {
        let input = checkpoint::prepare(head, why, late, key.alg, &key.kid)?;
        let signed = custody::sign(&self.context, pool, key, input, SIGN_TIMEOUT).await?;
        signed.to_be_signed.into_compact(&signed.signature).map(|(jws, _)| jws)
    }

    async fn record(&self, hsm: &HsmName, why: &str, overdue: Option<u64>, jws: &str) -> Result<(), Error> {
        let event = Event::Checkpoint { hsm: hsm.as_str(), why, overdue, jws };
        let event = EncodedEvent::new(self.context.clock.now(), &event);
        self.context.audit.append_synced(event).await.map_err(audit_unavailable)
    }
}

/// Whether anything was recorded since the last one.
fn has_news(head: &Head) -> bool {
    head.checkpoint.as_ref().is_none_or(|checkpoint| head.place.seq > checkpoint.seq)
}

#[cfg(test)]
mod tests {
    use hallmark_core::{
        audit::checkpoint::{CustodyKeys, Statement},
        ports::AuditSink,
    };
    use hallmark_testkit::fake_hsm::Call;

    use super::*;
    use crate::service::fixture::{PATIENCE, Rig, in_memory};

    const EVERY: Duration = Duration::from_secs(300);

    async fn rig(hsms: &[&str]) -> (Rig, Checkpoints) {
        let rig = Rig::on(hsms, in_memory().await).await;
        for hsm in hsms {
            rig.keys.ensure_custody_key(&hsm.parse().unwrap()).await.unwrap();
        }
        let hsms = hsms.iter().map(|hsm| hsm.parse().unwrap()).collect();
        let checkpoints = Checkpoints::new(rig.context.clone(), rig.audit.clone(), hsms, EVERY);
        (rig, checkpoints)
    }

    /// What was signed so far; panics where a signature does not hold.
    fn made(rig: &Rig) -> Vec<Statement> {
        let mut keys = CustodyKeys::default();
        let records = rig.context.keyring.keys().clone();
        records.records.iter().filter_map(|r| r.public.as_ref()).for_each(|public| keys.trust(&public.key));
        rig.audit.all("checkpoint", "jws").iter().map(|jws| keys.check(jws).unwrap()).collect()
    }

    fn whys(rig: &Rig) -> Vec<String> {
        made(rig).into_iter().map(|statement| statement.why).collect()
    }

    fn traffic(rig: &Rig) {
        let refusal = Event::Refused { request: "r", who: "w", client: "c", reason: "X" };
        rig.context.audit.refused(rig.context.clock.now(), &refusal);
    }

    #[tokio::test]
    async fn records_get_a_checkpoint_in_time_and_silence_gets_none() {
        let (rig, mut checkpoints) = rig(&["one"]).await;
        let start = Instant::now();
        checkpoints.look(start).await;
        checkpoints.look(start + EVERY * 3).await;
        assert_eq!(whys(&rig), ["start"], "nothing was recorded since");
        traffic(&rig);
        checkpoints.look(start + EVERY - Duration::from_secs(1)).await;
        assert_eq!(whys(&rig).len(), 1, "it is not time yet");
        checkpoints.look(start + EVERY).await;
        assert_eq!(whys(&rig), ["start", "interval"]);
        let made = made(&rig);
        assert_eq!(made[1].previous.as_ref().map(|place| place.seq > made[0].seq), Some(true));
        assert_eq!(rig.audit.all("sign-intent", "kind"), ["checkpoint", "checkpoint"], "every kind is audited");
    }

    #[tokio::test]
    async fn a_key_change_gets_one_at_once() {
        let (rig, mut checkpoints) = rig(&["one"]).await;
        let start = Instant::now();
        checkpoints.look(start).await;
        let author = super::super::fixture::caller("dns:o.example");
        rig.keys.create(&author, rig.create("r1")).await.unwrap();
        checkpoints.look(start + LOOK_EVERY).await;
        checkpoints.look(start + LOOK_EVERY * 2).await;
        assert_eq!(whys(&rig), ["start", "key-change"]);
    }

    #[tokio::test]
    async fn an_hsm_that_is_gone_delays_the_next_one_and_stops_nothing() {
        let (rig, mut checkpoints) = rig(&["one"]).await;
        let start = Instant::now();
        checkpoints.look(start).await;
        rig.token("one").fail_next(Call::Sign, 1, hallmark_core::ports::FaultClass::Request);
        traffic(&rig);
        checkpoints.look(start + EVERY).await;
        checkpoints.look(start + EVERY).await;
        assert_eq!(rig.token("one").calls(Call::Sign), 2, "it is not asked again at once");
        checkpoints.look(start + EVERY + Duration::from_secs(60)).await;
        let made = made(&rig);
        assert_eq!((made.len(), made[1].overdue), (2, Some(60_000)));
    }

    #[tokio::test]
    async fn the_next_hsm_signs_where_the_first_does_not() {
        let (rig, mut checkpoints) = rig(&["one", "two"]).await;
        rig.token("one").fail_next(Call::Sign, 1, hallmark_core::ports::FaultClass::Request);
        checkpoints.look(Instant::now()).await;
        assert_eq!(rig.audit.all("checkpoint", "hsm"), ["two"]);
        made(&rig);
    }

    #[tokio::test]
    async fn a_disk_that_hangs_does_not_hold_up_the_end() {
        let (rig, checkpoints) = rig(&["one"]).await;
        rig.audit.stuck.store(true, std::sync::atomic::Ordering::SeqCst);
        let end = CancellationToken::new();
        let running = tokio::spawn(checkpoints.run(end.clone()));
        let under_way = async {
            while rig.audit.all("checkpoint", "hsm").is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, under_way).await.expect("the first one waits for the disk");
        // There is news, so that a last one is to be made.
        rig.audit.append(EncodedEvent::new(rig.context.clock.now(), &Event::Start { version: "1" })).unwrap();
        end.cancel();
        tokio::time::timeout(PATIENCE, running).await.expect("it waits for no disk").unwrap();
        assert_eq!(rig.audit.all("checkpoint", "why"), ["start", "end"], "both waited");
    }

    #[tokio::test]
    async fn the_end_has_one_too() {
        let (rig, checkpoints) = rig(&["one"]).await;
        let end = CancellationToken::new();
        end.cancel();
        checkpoints.run(end).await;
        assert_eq!(whys(&rig), ["end"]);
    }
}
