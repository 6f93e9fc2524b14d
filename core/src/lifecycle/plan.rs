//! What will happen, when all goes well: the sweeps to come, told in advance.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use uuid::Uuid;

use super::{
    Change, Gate, KeyPolicy, Now, SWAP_QUIET, Step, apply,
    draft::{self, Draft},
    gates, sweep,
};
use crate::{
    key::{KeyId, KeyLine, KeyRecord, KeyState, PublicPart},
    profile::Binding,
    public_key::PublicKey,
    time::Timestamp,
};

/// A change to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub at: Timestamp,
    pub line: KeyLine,
    pub change: Change,
    /// The key does not exist yet, and its id stands for one that will.
    pub imagined: bool,
    /// An operator must do something before.
    pub waits_for: Vec<Gate>,
}

/// A line whose active key should have been replaced, and what is in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    pub line: KeyLine,
    pub since: Timestamp,
    pub gates: Vec<Gate>,
}

/// Everything from now until then, were the clocks to agree and all HSMs that answer now to go on answering.
pub fn plan(policy: &KeyPolicy, records: &[KeyRecord], now: &Now, until: Timestamp) -> Vec<Planned> {
    let mut future = Future::new(policy, records, now);
    while future.run_sweeps() && future.skip_to_next(until) {}
    future.planned
}

/// What happens next to this client's keys.
pub fn next_step(policy: &KeyPolicy, records: &[KeyRecord], now: &Now) -> Option<Planned> {
    let mut future = Future::new(policy, records, now);
    while future.run_sweeps() && future.planned.is_empty() && future.skip_to_next(LATEST) {}
    future.planned.into_iter().next()
}

/// When the published set of this client changes next by the passing of time.
pub fn next_jwks_change(policy: &KeyPolicy, records: &[KeyRecord], now: &Now) -> Option<Timestamp> {
    let mut future = Future::new(policy, records, now);
    // What is due at this moment changes the set at a time that nobody knows: when its act is done.
    future.run_sweeps();
    let changes = |planned: &Planned| planned.at > now.wall && matches!(planned.change.step, Step::Move { .. });
    loop {
        if let Some(change) = future.planned.iter().find(|planned| changes(planned)) {
            return Some(change.at);
        }
        if !future.skip_to_next(LATEST) || !future.run_sweeps() {
            return None;
        }
    }
}

/// The lines in which another key should be active by now, but for some gate. A line that has not signed yet is none of
/// them while nothing but the passing of time is in the way and another HSM signs.
pub fn blocked(policy: &KeyPolicy, records: &[KeyRecord], now: &Now) -> Vec<Blocked> {
    let draft = Draft::new(policy, records, now);
    let lived = policy.lines.iter().filter(|terms| draft.has_lived(&terms.line));
    let overdue = lived.filter(|terms| draft.ready(&terms.line).is_none());
    let blocked = overdue.filter_map(|terms| {
        let since = draft.due(terms)?;
        let best = draft.standbys(&terms.line).first().map(|key| draft.record(*key));
        let gates = best.map_or_else(|| vec![Gate::NoStandby], |next| gates::before_signing(policy, next, now));
        let is_young = !draft.has_signed(&terms.line) && draft.has_sibling(&terms.line);
        let grows = gates.iter().all(|gate| matches!(gate, Gate::Lead { .. }));
        (!(is_young && grows)).then(|| Blocked { line: terms.line.clone(), since, gates })
    });
    blocked.collect()
}

const LATEST: Timestamp = Timestamp::from_millis(i64::MAX);

/// Nobody reads further, and times as short as in tests would fill the memory.
const MOST: usize = 10_000;

/// Sweeps of one moment: move, generate, publish, and some to spare. More would be a mistake in the rules, and must not
/// keep whoever asks.
const ROUNDS: usize = 16;

struct Future<'a> {
    policy: &'a KeyPolicy,
    now: Now,
    /// Keys that have a certificate already.
    certified: BTreeSet<KeyId>,
    records: Vec<KeyRecord>,
    planned: Vec<Planned>,
    imagined: Vec<KeyId>,
}

impl<'a> Future<'a> {
    fn new(policy: &'a KeyPolicy, records: &[KeyRecord], now: &Now) -> Self {
        let records: Vec<_> = records.iter().filter(|record| policy.governs(record)).cloned().collect();
        let ids = || records.iter().map(|record| record.id);
        let certified = ids().filter(|key| now.certified.contains(key)).collect();
        let now = Now {
            // What an operator must do counts as done; `waits_for` says so.
            registered: ids().collect(),
            certified: ids().collect(),
            rehearsed: ids().collect(),
            quiet: BTreeMap::from([(policy.client.clone(), SWAP_QUIET)]),
            // Of this client alone: all of them are too many to be copied for each of ten thousand clients.
            unusable: ids().filter(|key| now.unusable.contains(key)).collect(),
            unreachable: now.unreachable.clone(),
            gone: now.gone.clone(),
            ..Now::at(now.wall)
        };
        Self { policy, now, certified, records, planned: Vec::new(), imagined: Vec::new() }
    }

    /// Does all that is due. False where there is more than anyone reads, or no end to it.
    fn run_sweeps(&mut self) -> bool {
        for _ in 0..ROUNDS {
            let changes = sweep(self.policy, &self.records, &self.now);
            if changes.is_empty() {
                return self.planned.len() < MOST;
            }
            for change in changes {
                self.make(change);
            }
        }
        false
    }

    fn make(&mut self, change: Change) {
        let (line, key) = match &change.step {
            Step::Pause { .. } => return,
            Step::Generate { line, reserved, .. } => (line.clone(), self.generate(line, *reserved)),
            Step::Move { key, .. } | Step::Destroy { key } => {
                let Some(place) = self.records.iter().position(|record| record.id == *key) else { return };
                let Ok(next) = apply(&self.records[place], &change, self.now.wall) else { return };
                self.records[place] = next;
                let KeyRecord { alg, hsm, .. } = &self.records[place];
                (KeyLine { client: self.policy.client.clone(), alg: *alg, hsm: hsm.clone() }, *key)
            }
        };
        let waits_for = self.waits_for(&change, key);
        let imagined = self.imagined.contains(&key);
        self.planned.push(Planned { at: self.now.wall, line, change, imagined, waits_for });
    }

    fn waits_for(&self, change: &Change, key: KeyId) -> Vec<Gate> {
        if !matches!(change.step, Step::Move { to: KeyState::Active, .. }) {
            return Vec::new();
        }
        let waits = [
            (self.policy.certificate && !self.certified.contains(&key), Gate::Certificate),
            (self.policy.binding != Binding::Jwks, Gate::Registration),
            (self.policy.rehearse, Gate::Rehearsal),
        ];
        waits.into_iter().filter_map(|(waits, gate)| waits.then_some(gate)).collect()
    }

    fn generate(&mut self, line: &KeyLine, reserved: Option<KeyId>) -> KeyId {
        let public = imagined_key(self.imagined.len());
        if let Some(record) = self.records.iter_mut().find(|record| Some(record.id) == reserved) {
            record.public = public;
            return record.id;
        }
        let id = KeyId(Uuid::from_u128(u128::MAX - self.imagined.len() as u128));
        self.imagined.push(id);
        self.now.registered.insert(id);
        self.now.certified.insert(id);
        self.now.rehearsed.insert(id);
        self.records.push(KeyRecord { public, ..KeyRecord::of_line(id, line, self.now.wall) });
        id
    }

    /// To the next moment at which something can become due, with all that passes until then observed. False where
    /// there is none by `until`.
    fn skip_to_next(&mut self, until: Timestamp) -> bool {
        let times = self.records.iter().filter_map(|record| self.next_of(record));
        let Some(next) = times.filter(|at| *at > self.now.wall).min().filter(|at| *at <= until) else { return false };
        let passed = u64::try_from(next.since(self.now.wall).as_millis()).unwrap_or(u64::MAX);
        for record in &mut self.records {
            record.served_for_ms = record.served_for_ms.saturating_add(passed);
            if record.state == KeyState::Deactivated {
                record.kept_for_ms = record.kept_for_ms.saturating_add(passed);
            }
        }
        self.now.wall = next;
        true
    }

    /// When `record` may be due for something.
    fn next_of(&self, record: &KeyRecord) -> Option<Timestamp> {
        let left =
            |gate: Duration, passed_ms| self.now.wall.plus(gate.saturating_sub(Duration::from_millis(passed_ms)));
        let lead = left(self.policy.lead, record.served_for_ms);
        match record.state {
            KeyState::PreActive => Some(lead),
            KeyState::Active => {
                let terms = self.policy.lines.iter().find(|terms| draft::is_of(record, &terms.line))?;
                Some(draft::due_at(record, terms.rotate?))
            }
            KeyState::Deactivated => {
                let by_date = record.times.deactivated.unwrap_or(self.now.wall).plus(self.policy.keep);
                Some(left(self.policy.keep, record.kept_for_ms).max(by_date))
            }
            KeyState::Retired | KeyState::Compromised => Some(record.ended()?.plus(self.policy.destroy_after?)),
            KeyState::Destroyed => None,
        }
    }
}

/// Stands for a key that is not there yet; nobody sees it.
fn imagined_key(n: usize) -> Option<PublicPart> {
    let key = PublicKey::from_ed25519(&[0; 32]).ok()?;
    Some(PublicPart { kid: format!("imagined-{n}").parse().ok()?, key })
}
