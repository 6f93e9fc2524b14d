//! What was seen at the public URLs of clients whose sets a static host serves.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hallmark_core::{
    jwk::{self, JwkSet},
    key::{ClientName, KeyId, KeyRecord, KeyState},
};
use serde_json::{Map, Value};
use tokio::sync::watch;

/// When each key was seen, by the monotonic clock.
#[derive(Debug)]
pub(super) struct Sightings {
    by_client: Mutex<HashMap<ClientName, Sighting>>,
    /// Whether this replica is the one that sweeps, and so the one that looks.
    leads: watch::Sender<bool>,
}

/// What the last look showed.
#[derive(Debug)]
struct Sighting {
    /// When it began.
    at: Duration,
    /// Since when each key was there at every look.
    since: HashMap<KeyId, Duration>,
}

impl Default for Sightings {
    fn default() -> Self {
        Self { by_client: Mutex::default(), leads: watch::Sender::new(false) }
    }
}

impl Sightings {
    /// One that leads no more forgets what it saw: it does not go on looking.
    pub(super) fn lead(&self, leads: bool) {
        if !leads {
            self.all().clear();
        }
        self.leads.send_if_modified(|led| std::mem::replace(led, leads) != leads);
    }

    pub(super) fn watch_lead(&self) -> watch::Receiver<bool> {
        self.leads.subscribe()
    }

    /// A look from `began` to `ended` found these keys. A look that comes more than `within` after the last one begins anew.
    pub(super) fn saw(
        &self,
        client: &ClientName,
        keys: &HashSet<KeyId>,
        began: Duration,
        ended: Duration,
        within: Duration,
    ) {
        let mut all = self.all();
        let before = all.remove(client).filter(|before| began.saturating_sub(before.at) <= within);
        let since = |key: &KeyId| before.as_ref().and_then(|before| before.since.get(key)).copied().unwrap_or(ended);
        let since = keys.iter().map(|key| (*key, since(key))).collect();
        all.insert(client.clone(), Sighting { at: began, since });
    }

    /// A look that showed nothing: what counts begins anew.
    pub(super) fn lost(&self, client: &ClientName) {
        self.all().remove(client);
    }

    /// Whether the key was there from `from` to `now`, as far as looks at most `within` apart can say.
    pub(super) fn was_there(&self, key: &KeyRecord, from: Duration, now: Duration, within: Duration) -> bool {
        let all = self.all();
        let Some(sighting) = key.client.as_ref().and_then(|client| all.get(client)) else { return false };
        let since = sighting.since.get(&key.id);
        since.is_some_and(|since| *since <= from) && now.saturating_sub(sighting.at) <= within
    }

    fn all(&self) -> MutexGuard<'_, HashMap<ClientName, Sighting>> {
        self.by_client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a document shows of a client's keys.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    /// Published keys that are there, with the numbers of their records.
    pub(super) there: HashSet<KeyId>,
    /// Keys that must not sign again and are there all the same.
    pub(super) revoked: HashSet<KeyId>,
}

/// Refuses what is no set, and a set with another key under a `kid` of ours.
pub(super) fn shown(body: &[u8], records: &[KeyRecord]) -> Result<Shown, String> {
    let served = keys(body)?;
    let mut shown = Shown::default();
    for record in records {
        let Some(public) = &record.public else { continue };
        let kid = public.kid.as_str();
        let mut found = served.iter().filter(|key| key.get("kid").and_then(Value::as_str) == Some(kid)).peekable();
        if found.peek().is_none() {
            continue;
        }
        if record.state == KeyState::Compromised {
            shown.revoked.insert(record.id);
        } else if jwk::is_published(record) {
            if !found.all(|key| is_that(key, record)) {
                return Err(format!("has another key under the kid `{kid}`: find out who writes there"));
            }
            shown.there.insert(record.id);
        }
    }
    Ok(shown)
}

fn keys(body: &[u8]) -> Result<Vec<Map<String, Value>>, String> {
    let document: Value = serde_json::from_slice(body).map_err(|error| format!("is no JSON: {error}"))?;
    let keys = document.get("keys").and_then(Value::as_array).ok_or("is no JWK Set: it has no `keys`")?;
    Ok(keys.iter().filter_map(Value::as_object).cloned().collect())
}

/// Whether type and numbers are those of the record, as Hallmark itself writes them.
fn is_that(key: &Map<String, Value>, record: &KeyRecord) -> bool {
    let ours = serde_json::to_value(JwkSet::of([record])).unwrap_or_default();
    let ours = &ours["keys"][0];
    NUMBERS.iter().all(|name| key.get(*name) == ours.get(name))
}

/// RFC 7518 §6, and RFC 8037: what makes a public key.
const NUMBERS: [&str; 6] = ["kty", "n", "e", "crv", "x", "y"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::publish::sample_record;

    const MINUTE: Duration = Duration::from_secs(60);
    const WITHIN: Duration = Duration::from_secs(180);

    #[test]
    fn a_key_counts_while_it_is_seen_again_and_again() {
        let (sightings, record) = (Sightings::default(), sample_record("c", 1));
        let (client, keys) = (record.client.clone().unwrap(), HashSet::from([record.id]));
        let there = |from: u32, now: u32| sightings.was_there(&record, MINUTE * from, MINUTE * now, WITHIN);
        let saw = |keys: &HashSet<KeyId>, at: u32| sightings.saw(&client, keys, MINUTE * at, MINUTE * at, WITHIN);
        assert!(!there(0, 1), "nobody looked");
        saw(&keys, 1);
        assert!(!there(0, 2) && there(1, 2), "what was before the first look is not known");
        assert!(there(1, 4) && !there(1, 5), "an old look says nothing");
        saw(&keys, 3);
        assert!(there(1, 5));
        saw(&HashSet::new(), 4);
        assert!(!there(1, 4), "a copy without it may be what a verifier gets");
        saw(&keys, 5);
        assert!(!there(4, 6) && there(5, 6), "it begins anew");
        sightings.lost(&client);
        assert!(!there(5, 6));
        saw(&keys, 7);
        saw(&keys, 20);
        assert!(!there(7, 20) && there(20, 21), "nobody looked in between");
        sightings.lead(false);
        assert!(!there(20, 21));
    }

    #[test]
    fn a_key_is_there_with_its_own_numbers_only() {
        let (ours, other) = (sample_record("c", 1), sample_record("c", 2));
        let document = |record: &KeyRecord| serde_json::to_value(JwkSet::of([record])).unwrap();
        let bytes = |value: &Value| serde_json::to_vec(value).unwrap();
        let ours_only = std::slice::from_ref(&ours);
        let seen = shown(&bytes(&document(&ours)), ours_only).unwrap();
        assert_eq!(seen.there, HashSet::from([ours.id]));
        assert_eq!(shown(&bytes(&document(&other)), ours_only).unwrap(), Shown::default(), "a stale set");

        let mut forged = document(&other);
        forged["keys"][0]["kid"] = document(&ours)["keys"][0]["kid"].clone();
        let why = shown(&bytes(&forged), ours_only).unwrap_err();
        assert!(why.starts_with("has another key under the kid"), "{why}");
        assert!(shown(b"<html>", ours_only).is_err() && shown(b"[]", ours_only).is_err());

        let revoked = KeyRecord { state: KeyState::Compromised, ..ours.clone() };
        let seen = shown(&bytes(&document(&ours)), &[revoked]).unwrap();
        assert_eq!((seen.there.len(), seen.revoked), (0, HashSet::from([ours.id])));
    }
}
