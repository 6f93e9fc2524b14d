//! Whether signatures are made and verified lately: by real traffic, else by a probe with the custody key. Where an HSM has
//! none, for Hallmark can't make keys on every token, a client's key proves its possession instead.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use hallmark_core::{
    assertion::{self, SigningInput},
    evidence::{self, Nonce},
    key::{HsmName, Purpose},
};
use tokio::sync::Mutex;

use super::{Context, custody};
use crate::pool::{Pool, PoolKey};

/// At most one probe in this time for each HSM.
const PROBE_EVERY: Duration = Duration::from_secs(30);
/// While probes fail: soon enough to see that it works again, and too seldom to fill the audit log.
const FAILING_PROBE_EVERY: Duration = Duration::from_secs(3);
/// A probe is cheap; one that takes longer shows an HSM that is of no use.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// An HSM that hangs holds up the answer of another for so long: whoever asks gives up after a second or so.
const NEXT_AFTER: Duration = Duration::from_millis(200);

/// Knows of the last signatures, and makes a probe where there were none lately.
#[derive(Debug)]
pub struct Readiness {
    context: Context,
    /// The last probe of each HSM. Locked while one is under way: whoever asks meanwhile gets its result.
    probes: HashMap<HsmName, Mutex<Option<Probed>>>,
}

#[derive(Debug)]
struct Probed {
    at: Instant,
    result: Result<(), String>,
}

impl Readiness {
    /// Asks nothing of any HSM yet.
    pub fn new(context: Context) -> Self {
        let probes = context.pools.keys().map(|hsm| (hsm.clone(), Mutex::default())).collect();
        Self { context, probes }
    }

    /// Ready to sign: the lease holds, the audit log can be written, and at least one HSM signs.
    pub async fn sign(&self) -> Result<(), String> {
        self.context.keyring.leased().map_err(|error| error.to_string())?;
        if !self.context.audit.is_healthy() {
            return Err("the audit log can't be written".into());
        }
        // One that signs says all there is to ask: the others may hang.
        if self.context.pools.values().any(|pool| pool.is_up() && signed_lately(pool)) {
            return Ok(());
        }
        self.one_signs().await
    }

    /// Asks them until one signs, the next one when the last has answered or takes long.
    async fn one_signs(&self) -> Result<(), String> {
        let mut left = self.context.pools.iter();
        let (mut asked, mut trouble) = (FuturesUnordered::new(), Vec::new());
        loop {
            if let Some((name, pool)) = left.next() {
                asked.push(async move { (name, self.signs(name, pool).await) });
            } else if asked.is_empty() {
                break;
            }
            let hurry = left.len() > 0;
            tokio::select! {
                Some((name, answer)) = asked.next() => match answer {
                    Ok(()) => return Ok(()),
                    Err(why) => trouble.push(format!("HSM `{name}`: {why}")),
                },
                () = tokio::time::sleep(NEXT_AFTER), if hurry => {}
            }
        }
        trouble.sort_unstable();
        Err(if trouble.is_empty() { "no HSM is configured".into() } else { trouble.join("; ") })
    }

    async fn signs(&self, name: &HsmName, pool: &Pool) -> Result<(), String> {
        if let Some(why) = pool.down_because() {
            return Err(why);
        }
        if signed_lately(pool) {
            return Ok(());
        }
        let (key, input) = self.prober(name)?;
        let mut last = self.probes.get(name).ok_or("it is not configured")?.lock().await;
        if signed_lately(pool) {
            return Ok(());
        }
        if let Some(Probed { at, result }) = &*last
            && at.elapsed() < if result.is_ok() { PROBE_EVERY } else { FAILING_PROBE_EVERY }
        {
            return result.clone();
        }
        let signed = custody::sign(&self.context, pool, key, input, PROBE_TIMEOUT).await;
        let result = signed.map(drop).map_err(|error| error.to_string());
        *last = Some(Probed { at: Instant::now(), result: result.clone() });
        result
    }

    /// A key to try the HSM with, and what it is to sign: nothing that passes for an assertion.
    fn prober(&self, hsm: &HsmName) -> Result<(Arc<PoolKey>, SigningInput), String> {
        let keys = self.context.keyring.keys();
        if let Some(key) = keys.custody(hsm) {
            return Ok((key.clone(), assertion::probe()));
        }
        let key = keys.any_active(hsm).ok_or("it has no custody key yet, and no other that signs")?;
        let nonce = Nonce::new(uuid::Uuid::new_v4().as_bytes().to_vec()).map_err(|error| error.to_string())?;
        Ok((key.clone(), evidence::possession(&key.kid, Purpose::Assertion, &nonce)))
    }
}

fn signed_lately(pool: &Pool) -> bool {
    pool.last_signed().is_some_and(|at| at.elapsed() < PROBE_EVERY)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use hallmark_core::ports::FaultClass;
    use hallmark_testkit::fake_hsm::Call;

    use super::*;
    use crate::service::fixture::{Rig, caller, in_memory};

    async fn with_custody_key() -> (Rig, Readiness) {
        let rig = Rig::new().await;
        rig.keys.ensure_custody_key(&"one".parse().unwrap()).await.unwrap();
        let readiness = Readiness::new(rig.context.clone());
        (rig, readiness)
    }

    #[tokio::test]
    async fn many_who_ask_share_one_probe() {
        let (rig, readiness) = with_custody_key().await;
        let answers = futures_util::future::join_all((0..20).map(|_| readiness.sign())).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        assert_eq!(rig.token("one").calls(Call::Sign), 1);
    }

    #[tokio::test]
    async fn a_probe_that_failed_is_not_made_again_at_once() {
        let (rig, readiness) = with_custody_key().await;
        rig.token("one").fail_next(Call::Sign, 1, FaultClass::Request);
        let answers = futures_util::future::join_all((0..20).map(|_| readiness.sign())).await;
        assert!(answers.iter().all(Result::is_err), "{answers:?}");
        assert_eq!(rig.token("one").calls(Call::Sign), 1);
        assert_eq!(rig.audit.all("sign-intent", "kind"), ["probe"]);
    }

    /// No traffic comes before it is ready, and it is not ready before there is traffic: nobody would ever get out of that.
    #[tokio::test]
    async fn an_hsm_without_a_custody_key_is_tried_with_a_key_that_signs_for_a_client() {
        let rig = Rig::new().await;
        let readiness = Readiness::new(rig.context.clone());
        let why = readiness.sign().await.unwrap_err();
        assert!(why.contains("no custody key yet, and no other"), "{why}");
        rig.keys.create(&caller("dns:o.example"), rig.create("r1")).await.unwrap();
        assert_eq!(readiness.sign().await, Ok(()));
        assert_eq!(rig.audit.all("sign-intent", "kind"), ["possession"]);
    }

    #[tokio::test]
    async fn hsms_that_hang_do_not_hold_up_the_answer_of_one_that_signs() {
        let hsms = ["a", "b", "c", "d", "e", "good"];
        let rig = Rig::on(&hsms, in_memory().await).await;
        for hsm in hsms {
            rig.keys.ensure_custody_key(&hsm.parse().unwrap()).await.unwrap();
        }
        let _hanging: Vec<_> = hsms[..5].iter().map(|hsm| rig.token(hsm).hang(Call::Sign)).collect();
        let readiness = Readiness::new(rig.context.clone());
        let began = Instant::now();
        readiness.sign().await.unwrap();
        assert!(began.elapsed() < PROBE_TIMEOUT, "{:?}", began.elapsed());
        let asked = || rig.audit.all("sign-intent", "kind").len();
        let before = asked();
        readiness.sign().await.unwrap();
        assert_eq!(asked(), before, "who signs need not be asked, and nobody else");
    }

    #[tokio::test]
    async fn an_audit_log_that_can_not_be_written_is_not_ready() {
        let (rig, readiness) = with_custody_key().await;
        rig.audit.sick.store(true, Ordering::SeqCst);
        assert!(readiness.sign().await.unwrap_err().contains("audit log"));
    }
}
