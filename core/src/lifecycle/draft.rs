//! One client's keys as they will be after the changes so far: what the rules look at and write to.

use std::{cmp::Reverse, time::Duration};

use super::{Change, KeyPolicy, LinePolicy, Now, SWAP_QUIET, Step, gates};
use crate::{
    jwk,
    key::{KeyId, KeyLine, KeyRecord, KeyState, Origin},
    time::Timestamp,
};

/// The changes so far, and the keys as these leave them. A key is named by its place in the draft.
pub(super) struct Draft<'a> {
    pub(super) policy: &'a KeyPolicy,
    pub(super) now: &'a Now,
    pub(super) changes: Vec<Change>,
    keys: Vec<Key<'a>>,
    /// Verifiers may hold a set of this client.
    pub(super) began: bool,
}

struct Key<'a> {
    record: &'a KeyRecord,
    state: KeyState,
    published: bool,
}

impl<'a> Draft<'a> {
    pub(super) fn new(policy: &'a KeyPolicy, records: &'a [KeyRecord], now: &'a Now) -> Self {
        let ours = records.iter().filter(|record| policy.governs(record));
        let key = |record: &'a KeyRecord| Key { record, state: record.state, published: jwk::is_published(record) };
        let keys: Vec<_> = ours.map(key).collect();
        let began = has_begun(keys.iter().map(|key| key.record));
        Self { policy, now, changes: Vec::new(), keys, began }
    }

    /// Those of the policy first, in its order, then what else has records.
    pub(super) fn lines(&self) -> Vec<KeyLine> {
        let mut lines: Vec<_> = self.policy.lines.iter().map(|policy| policy.line.clone()).collect();
        for Key { record, .. } in &self.keys {
            if !lines.iter().any(|line| is_of(record, line)) {
                let client = self.policy.client.clone();
                lines.push(KeyLine { client, alg: record.alg, hsm: record.hsm.clone() });
            }
        }
        lines
    }

    pub(super) fn record(&self, key: usize) -> &'a KeyRecord {
        self.keys[key].record
    }

    pub(super) fn find(&self, id: KeyId) -> Option<usize> {
        self.keys.iter().position(|key| key.record.id == id)
    }

    pub(super) fn in_state(&self, line: &KeyLine, state: KeyState) -> Vec<usize> {
        let fits = |key: &Key<'_>| key.state == state && is_of(key.record, line);
        self.keys.iter().enumerate().filter(|(_, key)| fits(key)).map(|(place, _)| place).collect()
    }

    /// The active keys of `line`, the one that goes on first: there should be one at most.
    pub(super) fn active(&self, line: &KeyLine) -> Vec<usize> {
        let mut active = self.in_state(line, KeyState::Active);
        active.sort_by_key(|key| {
            let record = self.record(*key);
            Reverse((self.is_published(*key), record.times.activated, record.times.created, record.id))
        });
        active
    }

    /// What could become active in `line`, the best first. One that was active before went wrong once; one that an operator
    /// brought is meant to come next.
    pub(super) fn standbys(&self, line: &KeyLine) -> Vec<usize> {
        let mut standbys = self.in_state(line, KeyState::PreActive);
        standbys.sort_by_key(|place| {
            let Key { record, published, .. } = &self.keys[*place];
            let failed = record.times.activated.is_some();
            let served = Reverse(record.served_for_ms);
            let own = record.origin == Origin::Generated;
            (failed, !published, record.public.is_none(), own, served, record.times.created, record.id)
        });
        standbys
    }

    /// The standby of `line` that may sign now.
    pub(super) fn ready(&self, line: &KeyLine) -> Option<usize> {
        let mut standbys = self.standbys(line).into_iter();
        standbys.find(|key| gates::before_signing(self.policy, self.record(*key), self.now).is_empty())
    }

    /// Since when another key of the line should be active, if it is so.
    pub(super) fn due(&self, terms: &LinePolicy) -> Option<Timestamp> {
        let Some(active) = self.active(&terms.line).first().copied() else { return Some(self.now.wall) };
        let due = due_at(self.record(active), terms.rotate?);
        (due <= self.now.wall).then_some(due)
    }

    /// Whether `line` ever had a key that someone could know of, or that ended.
    pub(super) fn has_lived(&self, line: &KeyLine) -> bool {
        self.keys.iter().any(|key| is_of(key.record, line) && has_lived(key.record))
    }

    /// Whether `line` ever had an active key.
    pub(super) fn has_signed(&self, line: &KeyLine) -> bool {
        self.keys.iter().any(|Key { record, .. }| is_of(record, line) && record.times.activated.is_some())
    }

    /// Whether the client has another HSM that signs with this algorithm.
    pub(super) fn has_sibling(&self, line: &KeyLine) -> bool {
        let mut siblings = self.policy.lines.iter().filter(|other| other.line.alg == line.alg && other.line != *line);
        siblings.any(|LinePolicy { line, .. }| !self.is_cut_off(line) && !self.active(line).is_empty())
    }

    /// Whether nothing can be asked of the line's HSM.
    pub(super) fn is_cut_off(&self, line: &KeyLine) -> bool {
        self.now.unreachable.contains(&line.hsm) || self.now.gone.contains(&line.hsm)
    }

    pub(super) fn is_generated(&self, key: usize) -> bool {
        self.record(key).public.is_some()
    }

    pub(super) fn is_published(&self, key: usize) -> bool {
        self.keys[key].published
    }

    pub(super) fn is_beyond_lead(&self, key: usize) -> bool {
        self.is_published(key) && Duration::from_millis(self.record(key).served_for_ms) >= self.policy.lead
    }

    /// Whether the verifier would see a swap at once, and assertions of a moment ago are still on their way to it.
    pub(super) fn must_pause(&self, line: &KeyLine) -> bool {
        let quiet = self.now.quiet.get(&self.policy.client).copied().unwrap_or_default();
        self.policy.first_rsa_key && line.alg.is_rsa() && quiet < SWAP_QUIET
    }

    pub(super) fn pause(&mut self, reason: &str) {
        self.push(Step::Pause { client: self.policy.client.clone() }, reason);
    }

    /// Moves `key`. A record is moved once, so a second thought takes the place of the first.
    pub(super) fn to(&mut self, key: usize, to: KeyState, reason: &str) {
        let place = &mut self.keys[key];
        place.state = to;
        // Publishing is what moves to these states have in common; a key that was never published stays so elsewhere.
        place.published = match to {
            KeyState::PreActive | KeyState::Active => place.record.public.is_some(),
            KeyState::Deactivated => jwk::is_published(place.record),
            KeyState::Compromised | KeyState::Retired | KeyState::Destroyed => false,
        };
        let id = place.record.id;
        self.changes.retain(|change| !matches!(change.step, Step::Move { key, .. } if key == id));
        self.push(Step::Move { key: id, to }, reason);
    }

    pub(super) fn destroy(&mut self, key: usize, reason: &str) {
        let id = self.record(key).id;
        self.push(Step::Destroy { key: id }, reason);
    }

    /// Has keys made until `line` has `wanted` that could become active. Says how many are missing.
    pub(super) fn generate_missing(&mut self, line: &KeyLine, wanted: usize, first: bool, reason: &str) -> usize {
        let standbys = self.standbys(line);
        let reserved = standbys.iter().take(wanted).filter(|key| !self.is_generated(**key));
        let reserved: Vec<_> = reserved.map(|key| Some(self.record(*key).id)).collect();
        let new = std::iter::repeat_n(None, wanted.saturating_sub(standbys.len()));
        let missing: Vec<_> = reserved.into_iter().chain(new).collect();
        if !self.is_cut_off(line) {
            for reserved in &missing {
                self.push(Step::Generate { line: line.clone(), reserved: *reserved, first }, reason);
            }
        }
        missing.len()
    }

    fn push(&mut self, step: Step, reason: &str) {
        self.changes.push(Change { step, reason: reason.to_owned() });
    }
}

/// When the active `record` is to be replaced.
pub(super) fn due_at(record: &KeyRecord, rotate: Duration) -> Timestamp {
    record.times.activated.or(record.times.published).unwrap_or(record.times.created).plus(rotate)
}

pub(super) fn is_of(record: &KeyRecord, line: &KeyLine) -> bool {
    record.alg == line.alg && record.hsm == line.hsm
}

/// Whether someone may know of this key, or it ended.
pub(super) fn has_lived(record: &KeyRecord) -> bool {
    record.state != KeyState::PreActive || record.times.published.is_some()
}

/// Whether a set with one of these keys was ever published.
pub(super) fn has_begun<'a>(records: impl IntoIterator<Item = &'a KeyRecord>) -> bool {
    records.into_iter().any(|record| record.public.is_some() && record.times.published.is_some())
}
