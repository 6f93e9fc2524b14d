//! Whether signatures are made and verified lately: by real traffic, else by a probe with the custody key.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use hallmark_core::{
    assertion,
    audit::{EncodedEvent, Event, Outcome, Signing},
    error::Error,
    key::HsmName,
};

use super::Context;
use crate::pool::Pool;

/// At most one probe in this time for each HSM.
const PROBE_EVERY: Duration = Duration::from_secs(30);
/// A probe is cheap; one that takes longer shows an HSM that is of no use.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Readiness {
    context: Context,
    /// When each HSM was probed last with success.
    probed: Mutex<HashMap<HsmName, Instant>>,
}

impl Readiness {
    pub fn new(context: Context) -> Self {
        Self { context, probed: Mutex::default() }
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
        let lately = |at: Option<Instant>| at.is_some_and(|at| at.elapsed() < PROBE_EVERY);
        let probed = self.probed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(name).copied();
        if lately(pool.last_signed()) || lately(probed) {
            return Ok(());
        }
        self.probe(name, pool).await.map_err(|error| error.to_string())?;
        self.probed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(name.clone(), Instant::now());
        Ok(())
    }

    async fn probe(&self, name: &HsmName, pool: &Pool) -> Result<(), Error> {
        let keys = self.context.keyring.keys().clone();
        let key = keys.custody(name).ok_or_else(|| Error::internal("the custody key is not there yet"))?;
        let input = assertion::probe();
        let request = uuid::Uuid::new_v4().to_string();
        let record = |event: &Event<'_>| {
            let event = EncodedEvent::new(self.context.clock.now(), event);
            self.context.audit.append(event).map_err(super::sign::audit_unavailable)
        };
        record(&Event::SignIntent(Signing {
            request: &request,
            who: "hallmark",
            client: "",
            kid: key.kid.as_str(),
            alg: key.alg.as_str(),
            kind: input.kind(),
            audience: "",
        }))?;
        let signed = pool.sign(key.clone(), input, Instant::now() + PROBE_TIMEOUT).await;
        record(&Event::SignOutcome {
            request: &request,
            outcome: if signed.is_ok() { Outcome::Done } else { Outcome::Failed },
            reason: signed.as_ref().err().map(|error| error.reason.code()),
            jti: None,
            iat: None,
            exp: None,
        })?;
        signed.map(drop)
    }
}
