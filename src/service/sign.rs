//! A workload asks for an assertion.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hallmark_core::{
    assertion::{self, SignedAssertion, TokenRequest},
    audit::Signing,
    client::Client,
    error::{Error, Reason},
    key::{Alg, KeyLine},
    policy::{AssertionRequest, Caller},
    ports::AuditUnavailable,
};

use super::{
    Context,
    intent::Intent,
    keyring::Reading,
    refusals::{Refusals, Refused},
};
use crate::{
    pool::{Pool, PoolKey, Signed, Timing},
    telemetry::{Metrics, metrics::JobTimes},
};

/// A signature older than this is not given out: its key may have been revoked elsewhere meanwhile.
const OLDEST_SIGNATURE: Duration = Duration::from_secs(30);

/// The use case; clones share everything.
#[derive(Clone, Debug)]
pub struct Sign {
    context: Context,
    refusals: Refusals,
    metrics: Arc<Metrics>,
}

/// What a workload gets.
#[derive(Debug)]
pub struct Reply {
    pub assertion: SignedAssertion,
    pub token_request: TokenRequest,
}

impl Sign {
    /// `metrics` are told of each signature and refusal.
    pub fn new(context: Context, metrics: Arc<Metrics>) -> Self {
        Self { refusals: Refusals::new(&context, metrics.clone()), context, metrics }
    }

    /// Signs one assertion, or says why not.
    ///
    /// `request_id` ties the audit records together. The reply is given only once they are on the disk.
    pub async fn sign(
        &self,
        caller: &Caller,
        request: AssertionRequest,
        deadline: Instant,
        request_id: &str,
    ) -> Result<Reply, Error> {
        let context = &self.context;
        let registered = context.registry.load_full();
        let client = registered.clients.get(&request.client);
        let (alg, scope) = (request.alg, request.scope.clone());
        let grant = registered.policy.authorise(caller, request, client, context.clock.now())?;
        let client = client.ok_or_else(|| Error::internal("a grant without a client"))?;
        let _admitted = registered.limits.admit(grant.identity())?;
        let (line, key, pool) = self.choose(client, alg, &*context.keyring.leased()?)?;
        let who = grant.identity().to_string();
        let audience = assertion::audience(client, grant.request().audience.as_deref()).to_owned();
        let input = assertion::prepare(grant, client, key.alg, &key.kid)?;

        // Nothing that the pool would not even queue is recorded as about to be done: an outage must not fill the disk.
        pool.check(&key, deadline).inspect_err(|error| {
            self.refusals.record(&Refused { request: request_id, who: &who, client: client.name.as_str() }, error);
        })?;
        let signing = Signing {
            request: request_id,
            who: &who,
            client: client.name.as_str(),
            kid: key.kid.as_str(),
            alg: key.alg.as_str(),
            kind: input.kind(),
            audience: &audience,
        };
        let intent = Intent::record(context, signing)?;
        let signed = pool.sign(key.clone(), input, deadline).await;
        let times = signed.as_ref().map(|signed| job_times(&signed.timing)).unwrap_or_default();
        let result = signed.and_then(|signed| self.release(signed, &line, &key));
        let result = self.recorded(intent, result, deadline).await;
        let outcome = result.as_ref().map(|_| times).map_err(|error| error.reason);
        self.metrics.signed(client.name.as_str(), line.hsm.as_str(), key.alg, outcome);
        let assertion = result?;
        let token_request = assertion::token_request(client, scope.as_deref(), &assertion.compact);
        Ok(Reply { assertion, token_request })
    }

    /// The first of the client's key lines with that algorithm whose HSM is up; the first at all where none is, so
    /// that the caller learns what is wrong.
    fn choose<'a>(
        &'a self,
        client: &Client,
        alg: Option<Alg>,
        keys: &Reading,
    ) -> Result<(KeyLine, Arc<PoolKey>, &'a Pool), Error> {
        let alg = alg.or_else(|| client.default_alg());
        let spec = client.keys.iter().find(|spec| Some(spec.alg) == alg);
        let alg = spec.map(|spec| spec.alg).ok_or_else(|| not_configured(client))?;
        let mut fallback = None;
        for hsm in &client.hsms {
            let line = KeyLine { client: client.name.clone(), alg, hsm: hsm.clone() };
            let (Some(key), Some(pool)) = (keys.active(&line), self.context.pools.get(hsm)) else { continue };
            if pool.is_up() {
                return Ok((line, key.clone(), pool));
            }
            fallback.get_or_insert((line, key.clone(), pool));
        }
        fallback.ok_or_else(|| {
            let text = format!(
                "client `{0}` has no active {alg} key; an operator can run `hallmark keys create {0} --reason TEXT`",
                client.name
            );
            Error::new(Reason::NoActiveKey, text)
        })
    }

    /// Looks once more before the signature leaves: the key may have been revoked while the HSM worked.
    fn release(&self, signed: Signed, line: &KeyLine, key: &PoolKey) -> Result<SignedAssertion, Error> {
        let keys = self.context.keyring.leased()?;
        if !keys.is_active(line, key.id) {
            let text = "the key stopped being active while it signed; ask again";
            return Err(Error::new(Reason::KeyChanged, text).retry_after(Duration::from_millis(10)));
        }
        if signed.timing.done.is_none_or(|done| done.elapsed() > OLDEST_SIGNATURE) {
            let text = "the HSM answered too late; ask again";
            return Err(Error::new(Reason::HsmUnavailable, text).retry_after(Duration::from_secs(1)));
        }
        signed.to_be_signed.into_signed(&signed.signature, key.kid.clone(), key.alg)
    }

    /// Gives `result` back once its outcome is in the log: nothing leaves before it is on the disk.
    async fn recorded(
        &self,
        intent: Intent<'_>,
        result: Result<SignedAssertion, Error>,
        deadline: Instant,
    ) -> Result<SignedAssertion, Error> {
        let outcome = intent.outcome(result.as_ref().map(|signed| Some(&signed.stamp)));
        let audit = &self.context.audit;
        if result.is_err() {
            // Nothing leaves, so nobody needs to wait for the disk.
            audit.append(outcome).map_err(audit_unavailable)?;
            return result;
        }
        // One sync covers the intent and this. A disk that hangs keeps nobody beyond the deadline.
        match tokio::time::timeout_at(deadline.into(), audit.append_synced(outcome)).await {
            Ok(synced) => synced.map_err(audit_unavailable).and(result),
            Err(_) => {
                let text = "the deadline passed before the signature was on record; it is not given out";
                Err(Error::new(Reason::DeadlineExceeded, text))
            }
        }
    }
}

fn job_times(timing: &Timing) -> JobTimes {
    JobTimes { queued: timing.queued, hsm: timing.hsm, verify: timing.verify }
}

fn not_configured(client: &Client) -> Error {
    let algs: Vec<_> = client.keys.iter().map(|spec| spec.alg.as_str()).collect();
    let text = format!("client `{}` has no key line with this algorithm; it has: {}", client.name, algs.join(", "));
    Error::new(Reason::AlgNotConfigured, text)
}

pub(super) fn audit_unavailable(error: AuditUnavailable) -> Error {
    let text = "the audit log can't be written, and nothing is signed without it; call the operator";
    Error::new(Reason::AuditUnavailable, text).with_detail(error)
}

#[cfg(test)]
mod tests;
