//! What is foreseen by a process that reads the store and takes no part in what happens there.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use hallmark_core::{
    key::{ClientName, KeyRecord},
    lifecycle::{self, Now},
    ports::ClientState,
    time::Timestamp,
};

use super::{Policies, RuleSettings, Rules, lock};
use crate::service::{
    publish::{CUT_OFF_MAX_AGE, NextChanges},
    registry::{Registered, Registry},
};

/// The clients of the configuration, and when their published sets change next.
#[derive(Debug)]
pub struct Foresight {
    rules: Rules,
    registry: Registry,
    found: Mutex<Option<Found>>,
}

/// What was found last, and of which records and policies.
#[derive(Debug)]
struct Found {
    policies: Arc<Policies>,
    by_client: HashMap<ClientName, (Vec<KeyRecord>, Option<Timestamp>)>,
}

impl Foresight {
    /// Nothing was told to verifiers yet, as far as is known.
    pub fn new(registered: Registered, settings: RuleSettings) -> Self {
        Self { rules: Rules::new(settings), registry: Registry::new(registered), found: Mutex::default() }
    }

    /// The clients in force.
    pub fn registered(&self) -> Arc<Registered> {
        self.registry.load_full()
    }

    /// Takes the clients of another reading of the configuration.
    pub fn replace(&self, registered: Registered) {
        self.registry.replace(registered);
    }

    /// Takes over what the store says that verifiers were told. Gives the longest that any may be told from now on: no
    /// lead counts with more than the high water, and none with less than [`CUT_OFF_MAX_AGE`].
    pub fn told<'a>(&self, states: Vec<ClientState>, clients: impl IntoIterator<Item = &'a ClientName>) -> Duration {
        let told: HashMap<_, _> = states.into_iter().map(|state| (state.client, state.max_age_high_water_ms)).collect();
        let least = clients.into_iter().map(|client| told.get(client).copied().unwrap_or_default()).min();
        let configured = self.rules.settings.max_age;
        let longest = least.map_or(configured, |least| Duration::from_millis(least).max(CUT_OFF_MAX_AGE));
        self.rules.set_high_water(told);
        longest.min(configured)
    }

    /// When each client's set changes next, if all goes well. Looks again only at what changed.
    pub fn next_changes(&self, records: &[KeyRecord], now: Timestamp) -> NextChanges {
        let policies = self.rules.policies(&self.registry);
        let confirmed = |when: fn(&KeyRecord) -> Option<Timestamp>| {
            records.iter().filter(|record| when(record).is_some()).map(|record| record.id).collect()
        };
        let now = Now {
            registered: confirmed(|record| record.times.registered),
            rehearsed: confirmed(|record| record.times.rehearsed),
            ..Now::at(now)
        };
        let mut by_client: HashMap<ClientName, Vec<KeyRecord>> = HashMap::new();
        for record in records {
            if let Some(client) = &record.client {
                by_client.entry(client.clone()).or_default().push(record.clone());
            }
        }
        let mut found = lock(&self.found);
        let before = found.take().filter(|found| Arc::ptr_eq(&found.policies, &policies));
        let look = |(client, records): (ClientName, Vec<KeyRecord>)| {
            let known = before.as_ref().and_then(|before| before.by_client.get(&client));
            let known = known.filter(|(of, at)| *of == records && at.is_none_or(|at| at > now.wall));
            let at = match known {
                Some((_, at)) => *at,
                None => lifecycle::next_jwks_change(&policies.of(&client), &records, &now),
            };
            (client, (records, at))
        };
        let by_client: HashMap<_, _> = by_client.into_iter().map(look).collect();
        let next = by_client.iter().filter_map(|(client, (_, at))| Some((client.clone(), (*at)?)));
        let next = next.collect();
        *found = Some(Found { policies, by_client });
        next
    }
}
