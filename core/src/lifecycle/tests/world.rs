//! A sweeper with a clock, a store and HSMs that fail, signers that lag, and everyone who ever saw a key set.
//!
//! Besides verifiers of each kind there is one that has every copy of the set that could still be fresh anywhere: a key
//! that may have signed what is on its way must be in all of them. It needs no luck to find a hole.

mod making;
mod witnesses;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    fixture::{START, line, policy, rsa},
    verifiers::{KINDS, MINUTE, SECOND, Served, Verifier},
};
use crate::{
    key::{Alg, HsmName, KeyId, KeyLine, KeyRecord, KeyState, PublicPart},
    lifecycle::{Change, Elapsed, KeyPolicy, Now, Step, departed, gates, observe, sweep},
    time::Timestamp,
};

pub(super) const LEASE: i64 = MINUTE;
/// The lifetime of an assertion and the skew that a verifier allows.
const ON_ITS_WAY: i64 = 10 * MINUTE;

/// What the operator has configured.
#[derive(Clone, Debug)]
pub(super) struct Config {
    /// Of [`all_lines`].
    pub(super) lines: [bool; 3],
    pub(super) rotate: i64,
    pub(super) max_age: i64,
    pub(super) keep_for: i64,
    pub(super) destroy_after: Option<i64>,
    /// These do not change in the course of a history.
    pub(super) edge_ttl: i64,
    pub(super) profile_lead: i64,
    pub(super) first_rsa_key: bool,
}

/// Two algorithms on one HSM, and one of them on another.
pub(super) fn all_lines() -> [KeyLine; 3] {
    [rsa(), line(Alg::ES384, "h"), line(Alg::RS384, "i")]
}

pub(super) fn millis(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap())
}

#[derive(Debug)]
pub(super) struct World {
    /// True time, in milliseconds.
    pub(super) real: i64,
    /// How far the wall clock is ahead.
    pub(super) offset: i64,
    pub(super) config: Config,
    pub(super) records: Vec<KeyRecord>,
    pub(super) unreachable: BTreeSet<HsmName>,
    pub(super) gone: BTreeSet<HsmName>,
    pub(super) jwks_up: bool,
    /// How often a sweep is due, for the bound on what it observes.
    pub(super) interval: i64,
    process: Process,
    /// What was made on the HSMs, by `CKA_ID`, and what of it is still there.
    born: BTreeMap<Vec<u8>, PublicPart>,
    tokens: BTreeSet<Vec<u8>>,
    versions: Vec<Version>,
    signed: BTreeMap<KeyId, Signed>,
    ended: BTreeSet<KeyId>,
    verifiers: Vec<Verifier>,
}

/// What the sweeper knows until it dies.
#[derive(Debug)]
struct Process {
    started: (i64, i64),
    observed: Option<(i64, i64)>,
    served_since: bool,
    quiet_since: Option<i64>,
}

/// A key set, and when it could last be fetched.
#[derive(Debug)]
struct Version {
    set: Served,
    first_rsa: Option<KeyId>,
    last: Option<i64>,
}

/// When a key could sign, by the latest replica that did not hear of a change yet.
#[derive(Clone, Copy, Debug)]
struct Signed {
    last: i64,
    /// By those who know that signing pauses.
    last_unpaused: i64,
}

/// The process died.
pub(super) struct Died;

/// How many writes a process makes before it dies.
pub(super) type Life = Option<u32>;

impl World {
    pub(super) fn new(config: Config) -> Self {
        let process = Process { started: (0, 0), observed: None, served_since: true, quiet_since: None };
        Self {
            real: 0,
            offset: 0,
            config,
            records: Vec::new(),
            unreachable: BTreeSet::new(),
            gone: BTreeSet::new(),
            jwks_up: true,
            interval: 10 * SECOND,
            process,
            born: BTreeMap::new(),
            tokens: BTreeSet::new(),
            versions: Vec::new(),
            signed: BTreeMap::new(),
            ended: BTreeSet::new(),
            verifiers: KINDS.map(Verifier::new).into(),
        }
    }

    pub(super) fn wall(&self) -> i64 {
        self.real + self.offset
    }

    pub(super) fn policy(&self) -> KeyPolicy {
        let Config { edge_ttl, profile_lead, keep_for, max_age, .. } = self.config;
        // A copy in between may go on telling the old one for as long as it is kept.
        let told = self.versions.iter().filter(|v| v.last.is_some_and(|at| at + v.set.max_age + edge_ttl > self.real));
        let high_water = told.map(|version| version.set.max_age).max().unwrap_or(0).max(max_age);
        let lines: Vec<_> =
            all_lines().into_iter().zip(self.config.lines).filter_map(|(l, on)| on.then_some(l)).collect();
        let mut policy = KeyPolicy {
            lead: gates::lead(millis(high_water), millis(profile_lead), millis(edge_ttl)),
            keep: gates::keep(millis(keep_for), millis(LEASE), millis(high_water)),
            destroy_after: self.config.destroy_after.map(millis),
            first_rsa_key: self.config.first_rsa_key,
            ..policy(&lines)
        };
        policy.lines.iter_mut().for_each(|terms| terms.rotate = Some(millis(self.config.rotate)));
        policy
    }

    pub(super) fn now(&self) -> Now {
        let (wall, real) = self.process.started;
        let quiet = self.process.quiet_since.map(|since| ("c".parse().unwrap(), millis(self.real - since)));
        Now {
            held: departed(self.wall() - wall, millis(self.real - real)),
            unreachable: self.unreachable.clone(),
            gone: self.gone.clone(),
            quiet: quiet.into_iter().collect(),
            ..Now::at(Timestamp::from_millis(START.millis() + self.wall()))
        }
    }

    /// Time passes, nobody sweeps.
    pub(super) fn advance(&mut self, ms: i64) {
        self.real += ms;
        self.note();
        self.check();
    }

    /// A process that died is started anew, and knows nothing but the store.
    pub(super) fn restart(&mut self) {
        let now = (self.wall(), self.real);
        self.process = Process { started: now, observed: None, served_since: self.jwks_up, quiet_since: None };
        self.note();
    }

    pub(super) fn serve(&mut self, up: bool) {
        self.jwks_up = up;
        self.process.served_since &= up;
        self.note();
    }

    /// One sweep, with all that comes of it.
    pub(super) fn sweep(&mut self, mut life: Life) {
        if self.try_sweep(&mut life).is_err() {
            self.restart();
        }
        self.check();
    }

    fn try_sweep(&mut self, life: &mut Life) -> Result<(), Died> {
        self.observe();
        for _ in 0..12 {
            let (policy, now) = (self.policy(), self.now());
            let before = self.lines_that_sign();
            let changes = sweep(&policy, &self.records, &now);
            if changes.is_empty() {
                return Ok(());
            }
            self.make(&changes, life)?;
            self.check_lines(&policy, &before);
            let paused = self.process.quiet_since.is_some();
            if paused {
                self.advance(2 * SECOND);
            } else {
                let again = sweep(&policy, &self.records, &now);
                let made = |change: &Change| matches!(change.step, Step::Move { key, .. } if !self.is_newly_made(key));
                assert!(!again.iter().any(made), "said twice: {again:?} after {changes:?}");
            }
        }
        panic!("it never comes to rest: {:?}", sweep(&self.policy(), &self.records, &self.now()));
    }

    /// Generated since the last sweep, and so published by the next.
    fn is_newly_made(&self, key: KeyId) -> bool {
        self.records.iter().any(|record| record.id == key && record.times.published.is_none())
    }

    fn observe(&mut self) {
        if let Some((wall, real)) = self.process.observed {
            let elapsed = Elapsed {
                wall_ms: self.wall() - wall,
                monotonic: millis(self.real - real),
                interval: millis(self.interval),
                served: self.process.served_since && self.jwks_up,
            };
            for seen in observe(&self.policy(), &self.records, &elapsed) {
                let record = self.records.iter_mut().find(|record| record.id == seen.key).unwrap();
                record.served_for_ms = seen.served_for_ms;
                record.kept_for_ms = seen.kept_for_ms;
            }
        }
        self.process.observed = Some((self.wall(), self.real));
        self.process.served_since = self.jwks_up;
    }

    pub(super) fn has_signed(&self, key: KeyId) -> bool {
        self.signed.contains_key(&key)
    }

    pub(super) fn lines_that_sign(&self) -> Vec<KeyLine> {
        let active = self.records.iter().filter(|record| record.state == KeyState::Active);
        active.filter_map(KeyRecord::line).collect()
    }
}
