//! Whether signatures are made and verified lately: by real traffic, else by a probe with the custody key.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use hallmark_core::{assertion, key::HsmName};
use tokio::sync::Mutex;

use super::{Context, custody};
use crate::pool::Pool;

/// At most one probe in this time for each HSM.
const PROBE_EVERY: Duration = Duration::from_secs(30);
/// While probes fail: soon enough to see that it works again, and too seldom to fill the audit log.
const FAILING_PROBE_EVERY: Duration = Duration::from_secs(3);
/// A probe is cheap; one that takes longer shows an HSM that is of no use.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

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
        let mut trouble = Vec::new();
        for (name, pool) in self.context.pools.iter() {
            match self.signs(name, pool).await {
                Ok(()) => return Ok(()),
                Err(why) => trouble.push(format!("HSM `{name}`: {why}")),
            }
        }
        Err(if trouble.is_empty() { "no HSM is configured".into() } else { trouble.join("; ") })
    }

    async fn signs(&self, name: &HsmName, pool: &Pool) -> Result<(), String> {
        if let Some(why) = pool.down_because() {
            return Err(why);
        }
        let signed_lately = || pool.last_signed().is_some_and(|at| at.elapsed() < PROBE_EVERY);
        if signed_lately() {
            return Ok(());
        }
        let key = self.context.keyring.keys().custody(name).cloned();
        let key = key.ok_or("the custody key is not there yet")?;
        let mut last = self.probes.get(name).ok_or("it is not configured")?.lock().await;
        if signed_lately() {
            return Ok(());
        }
        if let Some(Probed { at, result }) = &*last
            && at.elapsed() < if result.is_ok() { PROBE_EVERY } else { FAILING_PROBE_EVERY }
        {
            return result.clone();
        }
        let signed = custody::sign(&self.context, pool, key, assertion::probe(), PROBE_TIMEOUT).await;
        let result = signed.map(drop).map_err(|error| error.to_string());
        *last = Some(Probed { at: Instant::now(), result: result.clone() });
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use hallmark_core::ports::FaultClass;
    use hallmark_testkit::fake_hsm::Call;

    use super::*;
    use crate::service::fixture::Rig;

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

    #[tokio::test]
    async fn an_audit_log_that_can_not_be_written_is_not_ready() {
        let (rig, readiness) = with_custody_key().await;
        rig.audit.sick.store(true, Ordering::SeqCst);
        assert!(readiness.sign().await.unwrap_err().contains("audit log"));
    }
}
