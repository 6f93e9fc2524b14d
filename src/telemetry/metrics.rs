//! Every metric, declared once.
//!
//! A part of the process asks for its handles when it starts ([`Metrics::hsm`], [`Metrics::listener`], …) and keeps
//! them: what happens for each request is an atomic addition, or a short uncontended lock for a histogram.
//! `docs/metrics.md` lists them all, and a test compares.

use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hallmark_core::{
    error::Reason,
    key::{Alg, ClientName, HsmName, KeyState},
};
use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

pub use declare::Described;
use declare::{Declarations, Declared};

mod declare;

/// All metrics of one process.
pub struct Metrics {
    signatures: Declared<Counter, 3>,
    refusals: Vec<Counter>,
    queue_seconds: Declared<Histogram, 2>,
    hsm_seconds: Declared<Histogram, 2>,
    hsm_returns: Declared<Counter, 3>,
    hsm_sessions: Declared<Gauge, 1>,
    hsm_breaker: Declared<Gauge, 1>,
    hsm_queue: Declared<Gauge, 1>,
    hsm_stuck: Declared<Gauge, 1>,
    keys_quarantined: Declared<Gauge, 1>,
    keys: Declared<Gauge, 1>,
    audit: AuditMetrics,
    connections: Declared<Gauge, 1>,
    accepted: Declared<Counter, 1>,
    refused: Declared<Counter, 2>,
    reloads: Declared<Counter, 2>,
    jwks_requests: Declared<Counter, 1>,
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
    #[rustfmt::skip] // a table
    pub fn new() -> Self {
        let mut d = Declarations::new();
        let build = d.gauge("build_info", "Always 1; the label says which version runs", ["version"]);
        build.of([env!("CARGO_PKG_VERSION")]).set(1);
        let refusals = d.counter("refusals", "Requests refused or failed, by the reason that the caller got", ["reason"]);
        Self {
            signatures: d.counter("signatures", "Signatures asked of an HSM, by how it ended: `done` or `failed`", ["client", "alg", "outcome"]),
            refusals: Reason::ALL.iter().map(|reason| refusals.of([reason.code()])).collect(),
            queue_seconds: d.seconds("queue_seconds", "Time that a job waited for a worker", ["hsm", "alg"]),
            hsm_seconds: d.seconds("hsm_seconds", "Time that the HSM took for a signature", ["hsm", "alg"]),
            hsm_returns: d.counter("hsm_returns", "Calls to the HSM, by return value", ["hsm", "function", "code"]),
            hsm_sessions: d.gauge("hsm_sessions", "Sessions that workers hold open", ["hsm"]),
            hsm_breaker: d.gauge("hsm_breaker_state", "0: closed, the HSM is used; 1: a first try after a loss; 2: open, waiting for its return", ["hsm"]),
            hsm_queue: d.gauge("hsm_queue_length", "Jobs waiting for a worker", ["hsm"]),
            hsm_stuck: d.gauge("hsm_stuck_threads", "Workers inside a call that does not return", ["hsm"]),
            keys_quarantined: d.gauge("keys_quarantined", "Keys set aside because they failed where others worked", ["hsm"]),
            keys: d.gauge("keys", "Key records, by state", ["state"]),
            audit: AuditMetrics::new(&mut d),
            connections: d.gauge("connections", "Open connections", ["listener"]),
            accepted: d.counter("connections_accepted", "Connections accepted", ["listener"]),
            refused: d.counter("connections_refused", "Connections not served: `limit`, `unidentified-limit`, `handshake`, `handshake-timeout`, or `accept` where the system gave none", ["listener", "cause"]),
            reloads: d.counter("reloads", "Changed files read again: `done`, or `failed` and the old ones stay in force", ["what", "outcome"]),
            jwks_requests: d.counter("jwks_requests", "Requests for a key set, by HTTP status", ["status"]),
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

    /// For each signature of `client` with `alg`.
    pub fn sign(&self, client: &ClientName, alg: Alg) -> SignMetrics {
        let of = |outcome| self.signatures.of([client.as_str(), alg.as_str(), outcome]);
        SignMetrics { done: of("done"), failed: of("failed") }
    }

    /// Counts a request that was refused or failed.
    pub fn refused(&self, reason: Reason) {
        // `Reason::ALL` is in the order of declaration, which is that of the discriminants.
        if let Some(counter) = self.refusals.get(reason as usize) {
            counter.inc();
        }
    }

    pub fn hsm(&self, hsm: &HsmName) -> HsmMetrics {
        let name = [hsm.as_str()];
        HsmMetrics {
            sessions: self.hsm_sessions.of(name),
            breaker: self.hsm_breaker.of(name),
            queue_length: self.hsm_queue.of(name),
            stuck_threads: self.hsm_stuck.of(name),
            quarantined: self.keys_quarantined.of(name),
            lanes: Arc::default(),
            queue_seconds: self.queue_seconds.clone(),
            hsm_seconds: self.hsm_seconds.clone(),
            returns: self.hsm_returns.clone(),
            hsm: hsm.clone(),
        }
    }

    /// Sets how many key records are in `state`.
    pub fn set_keys(&self, state: KeyState, count: usize) {
        self.keys.of([state.as_str()]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub fn audit(&self) -> &AuditMetrics {
        &self.audit
    }

    pub fn listener(&self, listener: &str) -> ListenerMetrics {
        ListenerMetrics {
            open: self.connections.of([listener]),
            accepted: self.accepted.of([listener]),
            refused: Refusal::ALL.map(|cause| self.refused.of([listener, cause.as_str()])),
        }
    }

    pub fn reload(&self, what: &str) -> ReloadMetrics {
        ReloadMetrics { done: self.reloads.of([what, "done"]), failed: self.reloads.of([what, "failed"]) }
    }

    pub fn jwks(&self) -> JwksMetrics {
        JwksMetrics(JWKS_STATUS.map(|status| self.jwks_requests.of([&status.to_string()])))
    }
}

/// Of one client and algorithm.
#[derive(Clone, Debug)]
pub struct SignMetrics {
    pub done: Counter,
    pub failed: Counter,
}

/// Of one HSM.
#[derive(Clone, Debug)]
pub struct HsmMetrics {
    pub sessions: Gauge,
    breaker: Gauge,
    pub queue_length: Gauge,
    pub stuck_threads: Gauge,
    pub quarantined: Gauge,
    /// Made when first asked for: a scrape has no series of algorithms that nobody uses.
    lanes: Arc<[OnceLock<LaneMetrics>; Alg::ALL.len()]>,
    queue_seconds: Declared<Histogram, 2>,
    hsm_seconds: Declared<Histogram, 2>,
    returns: Declared<Counter, 3>,
    hsm: HsmName,
}

impl HsmMetrics {
    /// The times of one algorithm.
    pub fn lane(&self, alg: Alg) -> &LaneMetrics {
        // Unwrap safety: an index by an enum into an array of its length.
        self.lanes[alg as usize].get_or_init(|| {
            let labels = [self.hsm.as_str(), alg.as_str()];
            LaneMetrics { queue: self.queue_seconds.of(labels), hsm: self.hsm_seconds.of(labels) }
        })
    }

    pub fn set_breaker(&self, state: Breaker) {
        self.breaker.set(state as i64);
    }

    /// The counter of one return value of one function. Looks it up: keep that of the usual case.
    pub fn returns(&self, function: &str, code: &str) -> Counter {
        self.returns.of([self.hsm.as_str(), function, code])
    }
}

/// Whether an HSM is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaker {
    Closed = 0,
    HalfOpen = 1,
    Open = 2,
}

/// Times of one algorithm on one HSM.
#[derive(Clone, Debug)]
pub struct LaneMetrics {
    queue: Histogram,
    hsm: Histogram,
}

impl LaneMetrics {
    /// One job: how long it waited, and how long the HSM took.
    pub fn observe(&self, queue: Duration, hsm: Duration) {
        self.queue.observe(queue.as_secs_f64());
        self.hsm.observe(hsm.as_secs_f64());
    }
}

/// Of the audit log, which counts by itself; see [`Metrics::on_scrape`].
#[derive(Clone, Debug)]
pub struct AuditMetrics {
    events: Counter,
    batches: Counter,
    sync_seconds: Counter<f64, AtomicU64>,
    bytes: Counter,
    failures: Counter,
    healthy: Gauge,
}

/// What the audit log counted since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AuditFigures {
    pub events: u64,
    /// Batches written, each with one sync.
    pub batches: u64,
    /// Time spent in all syncs.
    pub sync: Duration,
    pub bytes: u64,
    /// Writes and syncs that failed.
    pub failures: u64,
    pub healthy: bool,
}

impl AuditMetrics {
    #[rustfmt::skip] // a table
    fn new(d: &mut Declarations) -> Self {
        Self {
            events: d.counter("audit_events", "Lines written to the audit log", []).of([]),
            batches: d.counter("audit_batches", "Batches written to the audit log, each with one sync", []).of([]),
            sync_seconds: d.float_counter("audit_sync_seconds", "Time spent in syncs of the audit log", []).of([]),
            bytes: d.counter("audit_bytes", "Bytes written to the audit log", []).of([]),
            failures: d.counter("audit_failures", "Writes and syncs of the audit log that failed", []).of([]),
            healthy: d.gauge("audit_healthy", "1 while the audit log can be written; at 0 nothing is signed", []).of([]),
        }
    }

    pub fn set(&self, figures: &AuditFigures) {
        let store = |counter: &Counter, value| counter.inner().store(value, Ordering::Relaxed);
        store(&self.events, figures.events);
        store(&self.batches, figures.batches);
        store(&self.bytes, figures.bytes);
        store(&self.failures, figures.failures);
        self.sync_seconds.inner().store(figures.sync.as_secs_f64().to_bits(), Ordering::Relaxed);
        self.healthy.set(figures.healthy.into());
    }
}

/// Of one listener.
#[derive(Clone, Debug)]
pub struct ListenerMetrics {
    pub open: Gauge,
    pub accepted: Counter,
    refused: [Counter; Refusal::ALL.len()],
}

impl ListenerMetrics {
    pub fn refused(&self, cause: Refusal) {
        // Unwrap safety: an index by an enum into an array of its length.
        self.refused[cause as usize].inc();
    }
}

/// Why a connection was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There are as many as there may be.
    Limit,
    /// There are as many without an accepted identity as there may be.
    UnidentifiedLimit,
    /// TLS failed.
    Handshake,
    HandshakeTimeout,
    /// The system could not hand over the connection (no free descriptor).
    Accept,
}

impl Refusal {
    const ALL: [Self; 5] =
        [Self::Limit, Self::UnidentifiedLimit, Self::Handshake, Self::HandshakeTimeout, Self::Accept];

    fn as_str(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::UnidentifiedLimit => "unidentified-limit",
            Self::Handshake => "handshake",
            Self::HandshakeTimeout => "handshake-timeout",
            Self::Accept => "accept",
        }
    }
}

/// Of files that are read again when they change.
#[derive(Clone, Debug)]
pub struct ReloadMetrics {
    pub done: Counter,
    pub failed: Counter,
}

/// Of the HTTP listener that serves key sets.
#[derive(Clone, Debug)]
pub struct JwksMetrics([Counter; JWKS_STATUS.len()]);

/// All that it answers with.
const JWKS_STATUS: [u16; 4] = [200, 304, 404, 405];

impl JwksMetrics {
    pub fn answered(&self, status: u16) {
        if let Some(n) = JWKS_STATUS.iter().position(|known| *known == status) {
            self.0[n].inc();
        }
    }
}
