//! A workload asks for an assertion.

mod late;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hallmark_core::{
    assertion::{self, SignedAssertion, SigningInput, TokenRequest},
    audit::Signing,
    certificate,
    client::Client,
    error::{Error, Reason},
    key::{Alg, KeyLine},
    policy::{AssertionRequest, Caller},
    ports::AuditUnavailable,
};

use super::{
    Context,
    intent::{Intent, SharedIntent, Waiting},
    keyring::Reading,
    refusals::{Refusals, Refused},
};
use crate::{
    pool::{Answer, Flow, Pool, PoolKey, Signed, Timing},
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
        let signed = self.sign_within_limits(caller, request, deadline, request_id).await;
        signed.inspect_err(|error| {
            // Only a workload of the configuration gets as far as to these.
            if matches!(error.reason, Reason::RateLimited | Reason::ConcurrencyLimited | Reason::Overloaded) {
                self.metrics.limited(&caller.identity.to_string(), error.reason);
            }
        })
    }

    async fn sign_within_limits(
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
        context.keyring.pauses().check(&client.name)?;
        let keys = context.keyring.leased()?;
        let completed = keys.completed(client);
        let client = &*completed;
        let chosen = self.choose(client, alg, &keys)?;
        drop(keys);
        let Chosen { key, pool, .. } = &chosen;
        certificate::check(client, key.validity(), context.clock.now())?;
        let (flow, who) = (pool.flow(grant.identity()), grant.identity().to_string());
        let audience = assertion::audience(client, grant.request().audience.as_deref()).to_owned();
        let input = assertion::prepare(grant, client, key.header())?;

        // Nothing that the pool would not even queue is recorded as about to be done: an outage must not fill the disk.
        pool.check_for(flow, key, deadline).inspect_err(|error| {
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
        let assertion = self.sign_recorded(&chosen, flow, input, deadline, intent).await?;
        let token_request = assertion::token_request(client, scope.as_deref(), &assertion.compact);
        Ok(Reply { assertion, token_request })
    }

    /// Signs what `intent` says, and records once what came of it.
    async fn sign_recorded(
        &self,
        chosen: &Chosen<'_>,
        flow: Flow,
        input: SigningInput,
        deadline: Instant,
        intent: Intent,
    ) -> Result<SignedAssertion, Error> {
        let (context, Chosen { line, key, pool }) = (&self.context, chosen);
        let intent = SharedIntent::new(intent);
        let waiting = Waiting(intent.clone());
        let job = Job { context: context.clone(), intent, line: line.clone(), key: key.clone() };
        let signed =
            pool.sign_then(flow, key.clone(), input, deadline, move |signed, answer| job.finish(signed, answer)).await;
        if let (Err(error), Some(intent)) = (&signed, waiting.0.take()) {
            // The job has not ended yet, and what comes of it is not given out.
            context.audit.append(intent.outcome(Err(error))).map_err(audit_unavailable)?;
        }
        let counted = signed.as_ref().map(|(_, times)| *times).map_err(|error| error.reason);
        self.metrics.signed(line.client.as_str(), line.hsm.as_str(), key.alg, counted);
        signed.map(|(assertion, _)| assertion)
    }

    /// The first of the client's key lines with that algorithm whose HSM is up; the first at all where none is, so
    /// that the caller learns what is wrong.
    fn choose<'a>(&'a self, client: &Client, alg: Option<Alg>, keys: &Reading) -> Result<Chosen<'a>, Error> {
        let alg = alg.or_else(|| client.default_alg());
        let spec = client.keys.iter().find(|spec| Some(spec.alg) == alg);
        let alg = spec.map(|spec| spec.alg).ok_or_else(|| not_configured(client))?;
        let (mut fallback, mut too_weak) = (None, None);
        for hsm in &client.hsms {
            let line = KeyLine { client: client.name.clone(), alg, hsm: hsm.clone() };
            too_weak = too_weak.or_else(|| keys.too_weak(&line));
            let (Some(key), Some(pool)) = (keys.active(&line), self.context.pools.get(hsm)) else { continue };
            let chosen = Chosen { line, key: key.clone(), pool };
            if pool.is_up() {
                return Ok(chosen);
            }
            fallback.get_or_insert(chosen);
        }
        fallback.ok_or_else(|| {
            if let Some(why) = too_weak {
                let text = "the key falls short of the client's custody; call the operator";
                return Error::new(Reason::CustodyTooWeak, text).with_detail(why);
            }
            let text = format!(
                "client `{0}` has no active {alg} key; an operator can run `hallmark keys create {0} --reason TEXT`",
                client.name
            );
            Error::new(Reason::NoActiveKey, text)
        })
    }
}

/// What signs.
struct Chosen<'a> {
    line: KeyLine,
    key: Arc<PoolKey>,
    pool: &'a Pool,
}

/// What is still to be done with a signature, on the thread of the worker that made it.
struct Job {
    context: Context,
    intent: SharedIntent,
    line: KeyLine,
    key: Arc<PoolKey>,
}

impl Job {
    /// Records how it ended, and answers: with an assertion only once that is on the disk. One sync covers the intent
    /// and the outcome.
    fn finish(self, signed: Result<Signed, Error>, answer: Answer<(SignedAssertion, JobTimes)>) {
        // Where it has ended, nobody waits any more.
        let Some(intent) = self.intent.take() else { return };
        let times = signed.as_ref().map(|signed| job_times(&signed.timing)).unwrap_or_default();
        let done = signed.as_ref().ok().and_then(|signed| signed.timing.done);
        let result = signed.and_then(|signed| self.release(signed));
        let outcome = intent.outcome(result.as_ref().map(|signed| Some(&signed.stamp)));
        let audit = self.context.audit.clone();
        match result {
            Ok(assertion) => audit.append_then(
                outcome,
                Box::new(move |synced| {
                    // A disk may hang for minutes, and the key may be revoked in them.
                    let good = synced.map_err(audit_unavailable).and_then(|()| self.check(done));
                    // The caller may have gone.
                    let _ = answer.send(good.map(|()| (assertion, times)));
                }),
            ),
            // Nothing leaves, so nobody needs to wait for the disk.
            Err(error) => {
                let recorded = audit.append(outcome).map_err(audit_unavailable);
                let _ = answer.send(Err(recorded.err().unwrap_or(error)));
            }
        }
    }

    fn release(&self, signed: Signed) -> Result<SignedAssertion, Error> {
        self.check(signed.timing.done)?;
        signed.to_be_signed.into_signed(&signed.signature, self.key.kid.clone(), self.key.alg)
    }

    /// Looks once more before a signature of `done` leaves: the key may have been revoked while the HSM worked.
    fn check(&self, done: Option<Instant>) -> Result<(), Error> {
        let (keys, key) = (self.context.keyring.leased()?, &self.key);
        if !keys.is_active(&self.line, key.id) && !self.may_leave(&keys) {
            let text = "the key stopped being active while it signed; ask again";
            return Err(Error::new(Reason::KeyChanged, text).retry_after(Duration::from_millis(10)));
        }
        if done.is_none_or(|done| done.elapsed() > OLDEST_SIGNATURE) {
            let text = "the signature came too late; ask again";
            return Err(Error::new(Reason::HsmUnavailable, text).retry_after(Duration::from_secs(1)));
        }
        Ok(())
    }

    /// Whether the key was only replaced, and just now.
    fn may_leave(&self, keys: &Reading) -> bool {
        let Context { keyring, clock, registry, .. } = &self.context;
        let (registered, now) = (registry.load(), || keyring.store_time(clock.now()));
        late::may_leave(keys, registered.clients.get(&self.line.client), &self.line, self.key.id, now)
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
