//! A sweeper with a clock, a store and HSMs that fail, signers that lag, and everyone who ever saw a key set.
//!
//! Besides verifiers of each kind there is one that has every copy of the set that could still be fresh anywhere: a key
//! that may have signed what is on its way must be in all of them. It needs no luck to find a hole.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use uuid::Uuid;

use super::{
    fixture::{START, generated, line, policy, rsa},
    verifiers::{KINDS, MINUTE, SECOND, Served, Verifier},
};
use crate::{
    jwk::JwkSet,
    key::{Alg, HsmName, KeyId, KeyLine, KeyRecord, KeyState, KeyTimes, PublicPart},
    lifecycle::{Change, Elapsed, KeyPolicy, Now, SWAP_QUIET, Step, apply, departed, gates, observe, sweep},
    public_key::PublicKey,
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

    /// Makes `changes` as the service does, until its life ends.
    pub(super) fn make(&mut self, changes: &[Change], life: &mut Life) -> Result<(), Died> {
        let mut write = || match life {
            Some(0) => Err(Died),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        };
        let wall = Timestamp::from_millis(START.millis() + self.wall());
        let pauses = changes.iter().any(|change| matches!(change.step, Step::Pause { .. }));
        assert!(changes.iter().all(|change| !change.reason.is_empty()), "a change without its reason: {changes:?}");
        let moves = changes.iter().filter(|change| matches!(change.step, Step::Move { .. }));
        if moves.clone().count() > 0 {
            write()?;
            for change in moves {
                let Step::Move { key, .. } = change.step else { continue };
                let record = self.records.iter_mut().find(|record| record.id == key).unwrap();
                *record = apply(record, change, wall).unwrap();
            }
            self.note();
        }
        self.process.quiet_since = pauses.then(|| self.process.quiet_since.unwrap_or(self.real));
        for change in changes {
            match &change.step {
                Step::Generate { line, reserved, .. } => {
                    let id = match reserved {
                        Some(id) => *id,
                        None => {
                            write()?;
                            self.reserve(line, wall)
                        }
                    };
                    write()?;
                    let cka_id = id.0.as_bytes().to_vec();
                    self.generate(&cka_id);
                    write()?;
                    let public = self.born[&cka_id].clone();
                    self.records.iter_mut().find(|record| record.id == id).unwrap().public = Some(public);
                }
                Step::Destroy { key } => {
                    write()?;
                    self.tokens.remove(key.0.as_bytes().as_slice());
                    write()?;
                    let record = self.records.iter_mut().find(|record| record.id == *key).unwrap();
                    *record = apply(record, change, wall).unwrap();
                }
                Step::Move { .. } | Step::Pause { .. } => {}
            }
        }
        self.note();
        Ok(())
    }

    fn reserve(&mut self, line: &KeyLine, wall: Timestamp) -> KeyId {
        let id = KeyId(Uuid::from_u128(self.records.len() as u128 + 1));
        let (cka_id, times) = (id.0.as_bytes().to_vec(), KeyTimes::created(wall));
        self.records.push(KeyRecord { id, cka_id, times, public: None, ..generated(0, line) });
        id
    }

    fn generate(&mut self, cka_id: &[u8]) {
        if !self.tokens.contains(cka_id) {
            let n = self.born.len();
            let mut bytes = [7; 32];
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            let key = PublicKey::from_ed25519(&bytes).unwrap();
            let before = self.born.insert(cka_id.to_vec(), PublicPart { kid: format!("k{n}").parse().unwrap(), key });
            assert!(before.is_none(), "a record's key was made twice");
            self.tokens.insert(cka_id.to_vec());
        }
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

    /// Writes down what everyone outside may have seen by now.
    fn note(&mut self) {
        let began = self.records.iter().any(|record| record.public.is_some() && record.times.published.is_some());
        if began {
            self.note_set();
        }
        let (real, paused) = (self.real, self.process.quiet_since.is_some());
        for record in self.records.iter().filter(|record| record.state == KeyState::Active) {
            let signed = self.signed.entry(record.id).or_insert(Signed { last: real, last_unpaused: real });
            signed.last = real;
            signed.last_unpaused = if paused { signed.last_unpaused } else { real };
        }
    }

    fn note_set(&mut self) {
        let set = JwkSet::of(&self.records);
        let id_of = |kid: &str| {
            let has = |record: &&KeyRecord| record.public.as_ref().is_some_and(|public| public.kid.as_str() == kid);
            self.records.iter().find(has).unwrap()
        };
        let records: Vec<_> = set.keys.iter().map(|jwk| id_of(jwk.kid().as_str())).collect();
        let keys: Vec<_> = records.iter().map(|record| record.id).collect();
        let first_rsa = records.iter().find(|record| record.alg.is_rsa()).map(|record| record.id);
        let set = Served { keys, max_age: self.config.max_age };
        let same = |old: &Version| old.set.keys == set.keys && old.set.max_age == set.max_age;
        if !self.versions.last().is_some_and(same) {
            self.versions.push(Version { set, first_rsa, last: None });
        }
        let (up, real) = (self.jwks_up, self.real);
        if let Some(current) = self.versions.last_mut().filter(|_| up) {
            current.last = Some(real);
        }
        // No cache is older than two days; what is served now stays, however long nobody could fetch it.
        let current = self.versions.pop();
        self.versions.retain(|version| version.last.is_none_or(|last| real - last < 48 * 60 * MINUTE));
        self.versions.extend(current);
    }

    /// Everything that must hold at any time.
    pub(super) fn check(&mut self) {
        for record in &self.records {
            let alive = matches!(record.state, KeyState::PreActive | KeyState::Active | KeyState::Deactivated);
            assert!(!alive || !self.ended.contains(&record.id), "{} came back as {}", record.id, record.state);
            if !alive {
                self.ended.insert(record.id);
            }
            let public = record.public.as_ref();
            assert!(
                public.is_none_or(|public| self.born.get(&record.cka_id) == Some(public)),
                "a kid was pointed elsewhere"
            );
        }
        for cka_id in &self.tokens {
            assert!(self.records.iter().any(|record| record.cka_id == *cka_id), "an object without a record");
        }
        if self.config.first_rsa_key { self.check_first_rsa() } else { self.check_verifiers() }
    }

    /// What is on its way is signed by keys that every verifier knows, whenever it last asked.
    fn check_verifiers(&mut self) {
        let Config { edge_ttl, profile_lead, .. } = self.config;
        let revoked = |key: KeyId| self.records.iter().any(|r| r.id == key && r.times.compromised.is_some());
        let on_its_way: Vec<_> = (self.signed.iter())
            .filter(|(key, signed)| self.real < signed.last + LEASE + ON_ITS_WAY && !revoked(**key))
            .map(|(key, _)| *key)
            .collect();
        for version in &self.versions {
            let ttl = version.set.max_age.max(MINUTE).max(profile_lead) + edge_ttl;
            let fresh = version.last.is_some_and(|last| last + ttl > self.real);
            for key in on_its_way.iter().filter(|_| fresh) {
                assert!(version.set.keys.contains(key), "{key} may sign at {} and is not in {version:?}", self.real);
            }
        }
        let url = self.versions.last().map(|version| &version.set).filter(|_| self.jwks_up);
        for (place, verifier) in self.verifiers.iter_mut().enumerate() {
            // Not all are asked each time, or all caches would be fresh at the same times.
            for key in on_its_way.iter().filter(|_| (self.real / SECOND + place as i64 * 7) % 3 != 0) {
                assert_ne!(verifier.knows(*key, self.real, url), Some(false), "{verifier:?} rejects {key}");
            }
        }
    }

    /// A verifier that takes the first RSA key takes what was signed within the last `swap_quiet`.
    fn check_first_rsa(&self) {
        let first = self.versions.last().and_then(|version| version.first_rsa);
        for record in self.records.iter().filter(|record| record.alg.is_rsa() && record.times.compromised.is_none()) {
            let Some(signed) = self.signed.get(&record.id) else { continue };
            let late = millis(self.real - signed.last_unpaused) >= SWAP_QUIET;
            assert!(
                late || first == Some(record.id),
                "{} signed {} ms ago",
                record.id,
                self.real - signed.last_unpaused
            );
        }
    }

    pub(super) fn has_signed(&self, key: KeyId) -> bool {
        self.signed.contains_key(&key)
    }

    pub(super) fn lines_that_sign(&self) -> Vec<KeyLine> {
        let active = self.records.iter().filter(|record| record.state == KeyState::Active);
        active.filter_map(KeyRecord::line).collect()
    }

    /// After a sweep no line has two active keys, and none lost its only one that it should have.
    fn check_lines(&self, policy: &KeyPolicy, before: &[KeyLine]) {
        let after = self.lines_that_sign();
        for line in &after {
            assert_eq!(after.iter().filter(|other| *other == line).count(), 1, "two active keys in {line}");
        }
        let kept = |line: &&KeyLine| policy.line(line).is_some() && !self.gone.contains(&line.hsm);
        for line in before.iter().filter(kept) {
            assert!(after.contains(line), "{line} has lost its active key");
        }
    }
}
