//! Clients for which signing pauses: their verifiers take the first RSA key of the set, so that a swap of keys must find
//! no assertion on its way.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use hallmark_core::{
    error::{Error, Reason},
    key::ClientName,
    lifecycle::SWAP_QUIET,
};

/// Since when signing pauses, by client. Read for every signature, without a lock.
#[derive(Debug, Default)]
pub struct Pauses(ArcSwap<HashMap<ClientName, Instant>>);

impl Pauses {
    /// Refuses where signing pauses for `client`: a moment, and the new key is in force.
    pub fn check(&self, client: &ClientName) -> Result<(), Error> {
        let Some(since) = self.0.load().get(client).copied() else { return Ok(()) };
        let left = SWAP_QUIET.saturating_sub(since.elapsed()).max(Duration::from_millis(250));
        let text =
            "the client's key is being replaced, and its authorization server knows one key at a time; ask again";
        Err(Error::new(Reason::KeyChanged, text).retry_after(left))
    }

    /// Signing pauses from now on, if it does not already.
    pub fn begin(&self, client: &ClientName) {
        self.change(|pauses| {
            pauses.entry(client.clone()).or_insert_with(Instant::now);
        });
    }

    /// Signing goes on.
    pub fn end(&self, client: &ClientName) {
        if self.0.load().contains_key(client) {
            self.change(|pauses| {
                pauses.remove(client);
            });
        }
    }

    /// For how long signing has paused, by client.
    pub fn all(&self) -> BTreeMap<ClientName, Duration> {
        self.0.load().iter().map(|(client, since)| (client.clone(), since.elapsed())).collect()
    }

    fn change(&self, change: impl Fn(&mut HashMap<ClientName, Instant>)) {
        self.0.rcu(|pauses| {
            let mut pauses: HashMap<_, _> = HashMap::clone(pauses);
            change(&mut pauses);
            Arc::new(pauses)
        });
    }
}
