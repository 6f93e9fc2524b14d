//! What parts of the process hold to count without looking up.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use hallmark_core::{key::Alg, ports::HsmFault};
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

use super::declare::{Declarations, Declared};

/// Where the time of a signature went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobTimes {
    pub queued: Duration,
    pub hsm: Duration,
    pub verify: Duration,
}

/// What the audit log counted since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditFigures {
    pub events: u64,
    pub bytes: u64,
    /// Batches written, each with one sync.
    pub batches: u64,
    /// Time spent in all syncs.
    pub sync: Duration,
    /// Writes, syncs and creations of files that failed.
    pub failures: u64,
    /// Refusals, recorded one by one or by their number.
    pub refusals: u64,
    /// Records since the last checkpoint.
    pub since_checkpoint: u64,
    pub healthy: bool,
}

/// Of the audit log, which counts by itself; see [`super::Metrics::on_scrape`].
pub(super) struct AuditMetrics {
    events: Counter,
    bytes: Counter,
    batches: Counter,
    sync_seconds: Counter<f64, AtomicU64>,
    failures: Counter,
    refusals: Counter,
    since_checkpoint: Gauge,
    healthy: Gauge,
}

impl AuditMetrics {
    #[rustfmt::skip] // a table
    pub(super) fn new(d: &mut Declarations) -> Self {
        Self {
            events: d.counter("audit_events", "Lines written to the audit log", []).of([]),
            bytes: d.counter("audit_bytes", "Bytes written to the audit log", []).of([]),
            batches: d.counter("audit_batches", "Batches written to the audit log, each with one sync", []).of([]),
            refusals: d.counter("audit_refusals", "Refusals for the audit log, recorded one by one or by their number", []).of([]),
            sync_seconds: d.float_counter("audit_sync_seconds", "Time spent in syncs of the audit log", []).of([]),
            failures: d.counter("audit_failures", "Writes, syncs and creations of audit files that failed", []).of([]),
            since_checkpoint: d.gauge("audit_records_since_checkpoint", "Records in the audit log behind the last checkpoint that an HSM signed", []).of([]),
            healthy: d.gauge("audit_healthy", "1 while the audit log can be written; at 0 nothing is signed", []).of([]),
        }
    }

    pub(super) fn set(&self, figures: &AuditFigures) {
        let store = |counter: &Counter, value| counter.inner().store(value, Ordering::Relaxed);
        store(&self.events, figures.events);
        store(&self.bytes, figures.bytes);
        store(&self.batches, figures.batches);
        store(&self.failures, figures.failures);
        store(&self.refusals, figures.refusals);
        self.sync_seconds.inner().store(figures.sync.as_secs_f64().to_bits(), Ordering::Relaxed);
        self.since_checkpoint.set(i64::try_from(figures.since_checkpoint).unwrap_or(i64::MAX));
        self.healthy.set(figures.healthy.into());
    }
}

/// How it stands with the source of what is published, in `serve --role jwks`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceFigures {
    pub connected: bool,
    /// Since it was last heard from.
    pub silent: Duration,
    /// Whether that is longer than `max_stale`.
    pub stale: bool,
    /// Sets that could not be written to the disk.
    pub save_failures: u64,
}

/// Of `serve --role jwks`; see [`super::Metrics::on_scrape`]. Other processes have no series of these.
pub(super) struct SourceMetrics {
    connected: Declared<Gauge, 0>,
    silent_seconds: Declared<Gauge, 0>,
    stale: Declared<Gauge, 0>,
    save_failures: Declared<Counter, 0>,
}

impl SourceMetrics {
    #[rustfmt::skip] // a table
    pub(super) fn new(d: &mut Declarations) -> Self {
        Self {
            connected: d.gauge("jwks_source_connected", "`serve --role jwks`: 1 while the signer or the store answers", []),
            silent_seconds: d.gauge("jwks_source_silent_seconds", "`serve --role jwks`: since the signer or the store last answered", []),
            stale: d.gauge("jwks_source_stale", "`serve --role jwks`: 1 where that is longer than `max_stale`; the last set is still served", []),
            save_failures: d.counter("jwks_save_failures", "`serve --role jwks`: sets that could not be written to `state_dir`; they are served, and not acknowledged", []),
        }
    }

    pub(super) fn set(&self, figures: &SourceFigures) {
        self.connected.of([]).set(figures.connected.into());
        self.silent_seconds.of([]).set(i64::try_from(figures.silent.as_secs()).unwrap_or(i64::MAX));
        self.stale.of([]).set(figures.stale.into());
        self.save_failures.of([]).inner().store(figures.save_failures, Ordering::Relaxed);
    }
}

/// Handles by the name of a client or an HSM. To read takes no lock; a name that is new is rare.
#[derive(Default)]
pub(super) struct ByName<T>(ArcSwap<HashMap<String, Arc<T>>>);

impl<T: Default> ByName<T> {
    pub(super) fn get(&self, name: &str) -> Arc<T> {
        if let Some(found) = self.0.load().get(name) {
            return Arc::clone(found);
        }
        let new = Arc::<T>::default();
        self.0.rcu(|names| {
            let mut names = HashMap::clone(names);
            names.entry(name.to_owned()).or_insert_with(|| Arc::clone(&new));
            names
        });
        // Somebody may have been first.
        self.0.load().get(name).map_or(new, Arc::clone)
    }
}

/// Handles for each algorithm, made when first needed: a scrape has no series of algorithms that nobody uses.
pub(super) struct PerAlg<T>([OnceLock<T>; Alg::ALL.len()]);

impl<T> Default for PerAlg<T> {
    fn default() -> Self {
        Self(Default::default())
    }
}

impl<T> PerAlg<T> {
    pub(super) fn of(&self, alg: Alg, make: impl FnOnce() -> T) -> &T {
        // Unwrap safety: an index by an enum into an array of its length.
        self.0[alg as usize].get_or_init(make)
    }
}

/// The return value as a label: bounded, where a module's text is not.
pub(super) fn fault_code(fault: &HsmFault) -> &str {
    let is_name = |code: &str| code.len() <= 48 && code.bytes().all(|b| matches!(b, b'A'..=b'Z' | b'0'..=b'9' | b'_'));
    if is_name(&fault.code) { &fault.code } else { fault.class.as_str() }
}

/// Of one listener.
#[derive(Clone, Debug)]
pub struct ListenerMetrics {
    open: Gauge,
    accepted: Counter,
    refused: [Counter; Refusal::ALL.len()],
}

impl ListenerMetrics {
    pub(super) fn new(open: Gauge, accepted: Counter, refused: impl Fn(Refusal) -> Counter) -> Self {
        Self { open, accepted, refused: Refusal::ALL.map(refused) }
    }

    /// Counts a connection, as open until the guard is dropped.
    pub fn accepted(&self) -> OpenConnection {
        self.accepted.inc();
        self.open.inc();
        OpenConnection(self.open.clone())
    }

    /// Counts a connection that was not served.
    pub fn refused(&self, cause: Refusal) {
        // Unwrap safety: an index by an enum into an array of its length.
        self.refused[cause as usize].inc();
    }
}

/// A connection that counts as open.
#[derive(Debug)]
pub struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Why a connection was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There are as many as there may be.
    Limit,
    /// Its address has as many as it may.
    AddressLimit,
    /// It said nothing for longer than others, and there were too many of those.
    HalfOpen,
    /// It showed no identity, and others took the place that it had among those.
    UnidentifiedLimit,
    /// TLS failed.
    Handshake,
    HandshakeTimeout,
    /// The system could not hand over the connection (no free descriptor).
    Accept,
}

impl Refusal {
    const ALL: [Self; 7] = [
        Self::Limit,
        Self::AddressLimit,
        Self::HalfOpen,
        Self::UnidentifiedLimit,
        Self::Handshake,
        Self::HandshakeTimeout,
        Self::Accept,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::AddressLimit => "address-limit",
            Self::HalfOpen => "half-open",
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
pub(super) const JWKS_STATUS: [u16; 4] = [200, 304, 404, 405];

impl JwksMetrics {
    pub(super) fn new(counters: [Counter; JWKS_STATUS.len()]) -> Self {
        Self(counters)
    }

    /// Counts an answer by its HTTP status.
    pub fn answered(&self, status: u16) {
        if let Some(n) = JWKS_STATUS.iter().position(|known| *known == status) {
            self.0[n].inc();
        }
    }
}
