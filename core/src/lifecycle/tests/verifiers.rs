//! Verifiers that cache as the real ones do. Times are in milliseconds of true time.

use crate::key::KeyId;

pub(super) const SECOND: i64 = 1000;
pub(super) const MINUTE: i64 = 60 * SECOND;
pub(super) const HOUR: i64 = 60 * MINUTE;

/// A key set as it was served.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) keys: Vec<KeyId>,
    pub(super) max_age: i64,
}

/// How one kind of verifier keeps a key set.
#[derive(Clone, Copy, Debug)]
pub(super) enum Caching {
    /// For as long as the headers say, and for a minute at least; asks again only then (oidc-provider, SMART).
    Obeys,
    /// For a fixed time; asks once more for a `kid` that it lacks (Hydra: 1 h, Spring: 5 min, Epic: 29 h).
    Fixed { ttl: i64 },
    /// For ever; asks again for a `kid` that it lacks, but not within 10 s (Keycloak).
    Forever,
    /// For a fixed time, and never asks in between (Canaille: 50 s).
    Stubborn { ttl: i64 },
    /// Not at all (bulk-data-server, Glewlwyd, smart-launcher).
    Never,
}

pub(super) const KINDS: [Caching; 8] = [
    Caching::Obeys,
    Caching::Fixed { ttl: HOUR },
    Caching::Fixed { ttl: 5 * MINUTE },
    Caching::Fixed { ttl: 29 * HOUR },
    Caching::Forever,
    Caching::Stubborn { ttl: 50 * SECOND },
    Caching::Never,
    // A second one, to ask at other times than the first.
    Caching::Obeys,
];

#[derive(Clone, Debug)]
pub(super) struct Verifier {
    caching: Caching,
    cache: Option<(i64, Served)>,
}

impl Verifier {
    pub(super) fn new(caching: Caching) -> Self {
        Self { caching, cache: None }
    }

    /// Whether it knows `key`, which an assertion names; `None` where it can't tell, for the URL does not answer.
    pub(super) fn knows(&mut self, key: KeyId, now: i64, url: Option<&Served>) -> Option<bool> {
        if !self.is_fresh(now) {
            self.fetch(now, url?);
        }
        let (fetched, set) = self.cache.as_ref()?;
        if set.keys.contains(&key) || !self.asks_again(now - fetched) {
            return Some(set.keys.contains(&key));
        }
        self.fetch(now, url?);
        self.cache.as_ref().map(|(_, set)| set.keys.contains(&key))
    }

    fn is_fresh(&self, now: i64) -> bool {
        let Some((fetched, set)) = &self.cache else { return false };
        let ttl = match self.caching {
            Caching::Obeys => set.max_age.max(MINUTE),
            Caching::Fixed { ttl } | Caching::Stubborn { ttl } => ttl,
            Caching::Forever => i64::MAX,
            Caching::Never => 0,
        };
        now - fetched < ttl
    }

    fn asks_again(&self, age: i64) -> bool {
        match self.caching {
            Caching::Fixed { .. } => true,
            Caching::Forever => age >= 10 * SECOND,
            Caching::Obeys | Caching::Stubborn { .. } | Caching::Never => false,
        }
    }

    fn fetch(&mut self, now: i64, url: &Served) {
        self.cache = Some((now, url.clone()));
    }
}
