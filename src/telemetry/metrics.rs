//! Every metric, declared once.
//!
//! What happens for each request is a look-up without a lock, an atomic addition, and a short uncontended lock for a
//! histogram. A part that has one place for its figures keeps handles instead ([`Metrics::listener`], …).
//! `docs/metrics.md` lists them all, and a test compares.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use hallmark_core::{
    error::Reason,
    key::{Alg, KeyState},
    ports::HsmFault,
};
use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

mod declare;
mod handles;
mod rotation;

pub use declare::Described;
use declare::{Declarations, Declared};
pub use handles::{
    AuditFigures, JobTimes, JwksMetrics, ListenerMetrics, OpenConnection, Refusal, ReloadMetrics, SourceFigures,
};
use handles::{AuditMetrics, ByName, JWKS_STATUS, PerAlg, SourceMetrics, fault_code};
pub use rotation::RotationMetrics;

/// All metrics of one process.
pub struct Metrics {
    clients: ByName<PerAlg<Counter>>,
    /// Times in the queue, in the HSM, and of the check.
    lanes: ByName<PerAlg<[Histogram; 3]>>,
    signatures: Declared<Counter, 3>,
    refusals: Vec<Counter>,
    limited: Declared<Counter, 2>,
    under_way: Declared<Gauge, 1>,
    queue_jobs: Declared<Gauge, 1>,
    queue_workloads: Declared<Gauge, 1>,
    queue_seconds: Declared<Histogram, 2>,
    hsm_seconds: Declared<Histogram, 2>,
    verify_seconds: Declared<Histogram, 2>,
    hsm_faults: Declared<Counter, 3>,
    hsm_sessions: Declared<Gauge, 1>,
    hsm_breaker: Declared<Gauge, 1>,
    keys_quarantined: Declared<Counter, 2>,
    keys: Declared<Gauge, 1>,
    audit: AuditMetrics,
    connections: Declared<Gauge, 1>,
    accepted: Declared<Counter, 1>,
    refused: Declared<Counter, 2>,
    reloads: Declared<Counter, 2>,
    jwks_requests: Declared<Counter, 1>,
    jwks_generation: Declared<Gauge, 0>,
    followers_behind: Declared<Gauge, 0>,
    followers_forgotten: Declared<Gauge, 0>,
    source: SourceMetrics,
    rotation: RotationMetrics,
    hardening: Declared<Gauge, 1>,
    registry: Registry,
    list: Vec<Described>,
    samplers: Mutex<Vec<Sampler>>,
}

type Sampler = Box<dyn Fn(&Metrics) + Send + Sync>;

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Declares every metric; each process has one of these.
    #[rustfmt::skip] // a table
    pub fn new() -> Self {
        let mut d = Declarations::new();
        let build = d.gauge("build_info", "Always 1; the label says which version runs", ["version"]);
        build.of([env!("CARGO_PKG_VERSION")]).set(1);
        let refusals = d.counter("refusals", "Requests refused or failed, by the reason that the caller got", ["reason"]);
        Self {
            clients: ByName::default(),
    lanes: ByName::default(),
            signatures: d.counter("signatures", "Signatures asked of an HSM, by how it ended: `done`, or a reason as in `refusals`", ["client", "alg", "outcome"]),
            refusals: Reason::ALL.iter().map(|reason| refusals.of([reason.code()])).collect(),
            limited: d.counter("workload_limited", "Signatures refused to a workload for `RATE_LIMITED`, `CONCURRENCY_LIMITED` or `OVERLOADED`", ["workload", "reason"]),
            under_way: d.gauge("workload_under_way", "Requests for signatures under way; a workload without any has no series", ["workload"]),
            queue_jobs: d.gauge("queue_jobs", "Jobs that wait for a worker", ["hsm"]),
            queue_workloads: d.gauge("queue_workloads", "Workloads that have jobs waiting, which take turns; Hallmark's own count as one", ["hsm"]),
            queue_seconds: d.seconds("queue_seconds", "Time that a job waited for a worker", ["hsm", "alg"]),
            hsm_seconds: d.seconds("hsm_seconds", "Time that the HSM took for a signature", ["hsm", "alg"]),
            verify_seconds: d.seconds("verify_seconds", "Time that the check of a signature took", ["hsm", "alg"]),
            hsm_faults: d.counter("hsm_faults", "Calls to the HSM that did not succeed, by return value", ["hsm", "function", "code"]),
            hsm_sessions: d.gauge("hsm_sessions", "Sessions that workers hold open", ["hsm"]),
            hsm_breaker: d.gauge("hsm_breaker_state", "0: closed, the HSM is used; 1: open, waiting for its return", ["hsm"]),
            keys_quarantined: d.counter("keys_quarantined", "Keys set aside because they failed where others worked", ["hsm", "key"]),
            keys: d.gauge("keys", "Key records, by state", ["state"]),
            audit: AuditMetrics::new(&mut d),
            connections: d.gauge("connections", "Open connections", ["listener"]),
            accepted: d.counter("connections_accepted", "Connections accepted", ["listener"]),
            refused: d.counter("connections_refused", "Connections not served: `limit`, `address-limit` (`connections_per_address`), `half-open` where it said nothing and newer ones took its place, `unidentified-limit` where it showed no identity and others who ask took its place, `handshake`, `handshake-timeout`, or `accept` where the system gave none", ["listener", "cause"]),
            reloads: d.counter("reloads", "Changed files read again: `done`, or `failed` and the old ones stay in force", ["what", "outcome"]),
            jwks_requests: d.counter("jwks_requests", "Requests for a key set, by HTTP status", ["status"]),
            jwks_generation: d.gauge("jwks_generation", "Grows with each change of what is published here", []),
            followers_behind: d.gauge("followers_behind", "Followers of `[jwks] followers` that do not serve what is published here, or are not there; above 0 for long, new keys wait", []),
            followers_forgotten: d.gauge("followers_forgotten", "Followers that were not heard of for a day, by any replica: new keys no longer wait for them", []),
            source: SourceMetrics::new(&mut d),
            rotation: RotationMetrics::new(&mut d),
            hardening: d.gauge("hardening", "1 for each measure that protects the process and is in force: `core-dumps-off`, `not-dumpable`, `no-new-privileges`, `no-capabilities`, `not-root`, `memory-locked`, `seccomp`", ["measure"]),
            registry: d.registry,
            list: d.list,
            samplers: Mutex::new(Vec::new()),
        }
    }

    /// What there is, in the order of declaration.
    pub fn list(&self) -> &[Described] {
        &self.list
    }

    /// Has `sample` called before each scrape, for figures that another part counts by itself.
    pub fn on_scrape(&self, sample: impl Fn(&Self) + Send + Sync + 'static) {
        self.samplers.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(sample));
    }

    /// Everything in the OpenMetrics text format.
    pub fn encode(&self) -> String {
        for sample in self.samplers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            sample(self);
        }
        let mut out = String::new();
        // Writing to a String does not fail.
        let _ = text::encode(&mut out, &self.registry);
        out
    }

    /// Counts a signature that was asked of `hsm` for `client`: where its time went, or why there is none.
    pub fn signed(&self, client: &str, hsm: &str, alg: Alg, result: Result<JobTimes, Reason>) {
        let times = match result {
            Ok(times) => times,
            Err(reason) => {
                self.signatures.of([client, alg.as_str(), reason.code()]).inc();
                return;
            }
        };
        let clients = self.clients.get(client);
        clients.of(alg, || self.signatures.of([client, alg.as_str(), "done"])).inc();
        let lanes = self.lanes.get(hsm);
        let [queue, call, verify] = lanes.of(alg, || {
            [&self.queue_seconds, &self.hsm_seconds, &self.verify_seconds].map(|of| of.of([hsm, alg.as_str()]))
        });
        queue.observe(times.queued.as_secs_f64());
        call.observe(times.hsm.as_secs_f64());
        verify.observe(times.verify.as_secs_f64());
    }

    /// Counts a request that was refused or failed.
    pub fn refused(&self, reason: Reason) {
        // `Reason::ALL` is in the order of declaration, which is that of the discriminants.
        if let Some(counter) = self.refusals.get(reason as usize) {
            counter.inc();
        }
    }

    /// Counts a signature that one of the configured workloads was refused, for a limit or for a long queue.
    pub fn limited(&self, workload: &str, reason: Reason) {
        self.limited.of([workload, reason.code()]).inc();
    }

    /// Sets what is under way now: of workloads that are not named, nothing.
    pub fn set_under_way<'a>(&self, workloads: impl Iterator<Item = (&'a str, u32)>) {
        self.under_way.clear();
        for (workload, count) in workloads {
            self.under_way.of([workload]).set(count.into());
        }
    }

    /// Sets whether a measure that protects the process is in force.
    pub fn set_hardening(&self, measure: &str, in_force: bool) {
        self.hardening.of([measure]).set(in_force.into());
    }

    /// Sets what waits before `hsm`.
    pub fn set_queue(&self, hsm: &str, jobs: usize, workloads: usize) {
        self.queue_jobs.of([hsm]).set(i64::try_from(jobs).unwrap_or(i64::MAX));
        self.queue_workloads.of([hsm]).set(i64::try_from(workloads).unwrap_or(i64::MAX));
    }

    /// Counts a call to `hsm` that did not succeed.
    pub fn hsm_fault(&self, hsm: &str, fault: &HsmFault) {
        self.hsm_faults.of([hsm, fault.function, fault_code(fault)]).inc();
    }

    /// Sets how many sessions workers hold open on `hsm`.
    pub fn hsm_sessions(&self, hsm: &str, open: usize) {
        self.hsm_sessions.of([hsm]).set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    /// Sets whether `hsm` is used, or waited for.
    pub fn hsm_up(&self, hsm: &str, up: bool) {
        self.hsm_breaker.of([hsm]).set((!up).into());
    }

    /// Counts a key that was set aside.
    pub fn key_quarantined(&self, hsm: &str, key: &str) {
        self.keys_quarantined.of([hsm, key]).inc();
    }

    /// Sets how many key records are in `state`.
    pub fn set_keys(&self, state: KeyState, count: usize) {
        self.keys.of([state.as_str()]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets which generation is published, and how many of those who serve it elsewhere do not have it.
    pub fn set_published(&self, generation: u64, followers_behind: usize) {
        self.jwks_generation.of([]).set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.followers_behind.of([]).set(i64::try_from(followers_behind).unwrap_or(i64::MAX));
    }

    /// Sets how many followers are no longer waited for.
    pub fn set_followers_forgotten(&self, count: usize) {
        self.followers_forgotten.of([]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Takes over how it stands with the source of what is published here, where that is elsewhere.
    pub fn set_source(&self, figures: &SourceFigures) {
        self.source.set(figures);
    }

    /// Takes over what the audit log counted since it was opened.
    pub fn set_audit(&self, figures: &AuditFigures) {
        self.audit.set(figures);
    }

    /// Handles for the listener of that name.
    pub fn listener(&self, listener: &str) -> ListenerMetrics {
        ListenerMetrics::new(self.connections.of([listener]), self.accepted.of([listener]), |cause| {
            self.refused.of([listener, cause.as_str()])
        })
    }

    /// Handles for the files called `what`.
    pub fn reload(&self, what: &str) -> ReloadMetrics {
        ReloadMetrics { done: self.reloads.of([what, "done"]), failed: self.reloads.of([what, "failed"]) }
    }

    /// Those of the sweep.
    pub fn rotation(&self) -> &RotationMetrics {
        &self.rotation
    }

    /// Handles for the JWKS port.
    pub fn jwks(&self) -> JwksMetrics {
        JwksMetrics::new(JWKS_STATUS.map(|status| self.jwks_requests.of([&status.to_string()])))
    }
}
