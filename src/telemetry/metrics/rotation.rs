//! What the sweep counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    sync::PoisonError,
    time::Duration,
};

use hallmark_core::time::Timestamp;
use prometheus_client::metrics::{counter::Counter, gauge::Gauge, histogram::Histogram};

use super::declare::{Declarations, Declared};

/// Of the sweep, and of the store that replicas share.
pub struct RotationMetrics {
    store_up: Gauge,
    leader: Gauge,
    sweep_seconds: Histogram,
    last_sweep: Gauge,
    held: Gauge,
    moves: [Counter; 2],
    acts: [Counter; 2],
    overdue: Declared<Gauge, 1>,
    was_overdue: Mutex<BTreeSet<String>>,
    alarms: Declared<Gauge, 1>,
    changes_waiting: Gauge,
    replicas: Gauge,
    differences: Gauge,
    strays: Declared<Gauge, 1>,
    absent: Declared<Gauge, 1>,
    certificates: Declared<Gauge, 2>,
    known_certificates: Mutex<BTreeMap<(String, String), i64>>,
}

impl RotationMetrics {
    #[rustfmt::skip] // a table
    pub(super) fn new(d: &mut Declarations) -> Self {
        let store_up = d.gauge("store_up", "1 while the key store answers; at 0 signing goes on until the lease ends", []).of([]);
        let leader = d.gauge("rotation_leader", "1 while this replica is the one that sweeps", []).of([]);
        let sweep_seconds = d.seconds("rotation_sweep_seconds", "Time that a sweep of all clients took", []).of([]);
        let last_sweep = d.gauge("rotation_last_sweep_timestamp_seconds", "When a sweep last went through, by this machine's clock", []).of([]);
        let held = d.gauge("rotation_clock_held", "1 while the wall clock can't be trusted, and nothing that waits for a time happens", []).of([]);
        let moves = d.counter("rotation_moves", "Keys moved by the sweep to another state: `done`, or `failed` and tried again", ["outcome"]);
        let acts = d.counter("rotation_acts", "Key lines for which the sweep had keys made or destroyed on an HSM: `done`, or `failed` and tried again", ["outcome"]);
        let overdue = d.gauge("rotation_overdue", "1 for each client in which another key should sign by now, and none can", ["client"]);
        let alarms = d.gauge("alarms", "How many of a kind are on: `sweep`, `clock`, `policies`, `overdue`, `act`, `moves`, `hsm-gone`, `certificate`, `revocation`, `public-url`, `client-id`", ["alarm"]);
        let changes_waiting = d.gauge("changes_waiting", "Changes that wait for a second operator's approval; the same at all replicas", []).of([]);
        let replicas = d.gauge("replicas", "Replicas that live", []).of([]);
        let differences = d.gauge("rotation_policy_differences", "Clients that replicas have different policies for; they are not swept", []).of([]);
        let strays = d.gauge("hsm_strays", "Objects on the HSM that no record knows", ["hsm"]);
        let absent = d.gauge("hsm_absent_keys", "Keys whose objects are not on the HSM", ["hsm"]);
        let certificates = d.gauge("certificate_expires_timestamp_seconds", "When the certificate of a key ends; keys without one, and keys that ended, have no series", ["client", "kid"]);
        let outcomes = |of: &Declared<Counter, 1>| [of.of(["done"]), of.of(["failed"])];
        Self {
            store_up, leader, sweep_seconds, last_sweep, held,
            moves: outcomes(&moves), acts: outcomes(&acts),
            overdue, was_overdue: Mutex::default(), alarms, changes_waiting, replicas, differences, strays, absent,
            certificates, known_certificates: Mutex::default(),
        }
    }

    /// Whether the key store answers.
    pub fn store_up(&self, up: bool) {
        self.store_up.set(up.into());
    }

    /// Whether this replica sweeps.
    pub fn leads(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    /// A sweep went through.
    pub fn swept(&self, took: Duration, at: Timestamp) {
        self.sweep_seconds.observe(took.as_secs_f64());
        self.last_sweep.set(at.secs());
    }

    /// Whether the wall clock can't be trusted.
    pub fn held(&self, held: bool) {
        self.held.set(held.into());
    }

    /// Keys of one client were moved, or could not be.
    pub fn moved(&self, keys: usize, done: bool) {
        self.moves[usize::from(!done)].inc_by(u64::try_from(keys).unwrap_or(u64::MAX));
    }

    /// An HSM was asked for something.
    pub fn act(&self, done: bool) {
        self.acts[usize::from(!done)].inc();
    }

    /// The clients that are overdue, all of them.
    pub fn overdue<'a>(&self, clients: impl Iterator<Item = &'a String>) {
        let now: BTreeSet<String> = clients.cloned().collect();
        let mut before = self.was_overdue.lock().unwrap_or_else(PoisonError::into_inner);
        for client in before.difference(&now) {
            self.overdue.of([client]).set(0);
        }
        for client in now.difference(&before) {
            self.overdue.of([client]).set(1);
        }
        *before = now;
    }

    /// How many alarms of a kind are on.
    pub fn alarms(&self, kind: &str, count: usize) {
        self.alarms.of([kind]).set(gauge(count));
    }

    /// How many changes wait for a second operator.
    pub fn changes_waiting(&self, count: usize) {
        self.changes_waiting.set(gauge(count));
    }

    /// How many replicas live, and about how many clients they differ.
    pub fn replicas(&self, live: usize, differing: usize) {
        self.replicas.set(gauge(live));
        self.differences.set(gauge(differing));
    }

    /// When certificates end, by client and `kid`: all of them.
    pub fn certificates(&self, now: BTreeMap<(String, String), i64>) {
        let mut before = self.known_certificates.lock().unwrap_or_else(PoisonError::into_inner);
        if *before == now {
            return;
        }
        for (client, kid) in before.keys().filter(|key| !now.contains_key(*key)) {
            self.certificates.remove([client, kid]);
        }
        for ((client, kid), end) in &now {
            self.certificates.of([client, kid]).set(*end);
        }
        *before = now;
    }

    /// What was found on an HSM.
    pub fn inventory(&self, hsm: &str, strays: usize, absent: usize) {
        self.strays.of([hsm]).set(gauge(strays));
        self.absent.of([hsm]).set(gauge(absent));
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
