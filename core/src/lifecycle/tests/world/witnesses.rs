//! Who sees the key sets and the signatures, and what must hold for all of them.

use super::{Config, LEASE, ON_ITS_WAY, Signed, Version, World, millis};
use crate::{
    jwk::JwkSet,
    key::{KeyId, KeyLine, KeyRecord, KeyState},
    lifecycle::{
        KeyPolicy, SWAP_QUIET,
        tests::verifiers::{MINUTE, SECOND, Served},
    },
};

impl World {
    /// Writes down what everyone outside may have seen by now.
    pub(super) fn note(&mut self) {
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
    pub(in crate::lifecycle::tests) fn check(&mut self) {
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

    /// After a sweep no line has two active keys, and none lost its only one that it should have.
    pub(super) fn check_lines(&self, policy: &KeyPolicy, before: &[KeyLine]) {
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
