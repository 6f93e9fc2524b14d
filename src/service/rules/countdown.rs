//! When the published set of each client changes next: verifiers are told to keep it no longer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use hallmark_core::{key::ClientName, lifecycle, time::Timestamp};

use super::{Policies, Rules, lock};
use crate::service::{Context, keyring::Reading, publish::NextChanges};

/// What was found, and of which records and policies.
#[derive(Debug, Default)]
pub(super) struct Countdown(Mutex<Option<Found>>);

#[derive(Debug)]
struct Found {
    reading: Arc<Reading>,
    policies: Arc<Policies>,
    next: HashMap<ClientName, Timestamp>,
}

impl Countdown {
    /// Looks again at clients whose records or policy changed, and at those whose time has come.
    pub(super) fn update(&self, rules: &Rules, context: &Context) -> NextChanges {
        let (reading, policies) = (context.keyring.keys().clone(), rules.policies(&context.registry));
        let now = rules.now(context);
        let mut found = lock(&self.0);
        let before = found.take();
        let mut next = HashMap::new();
        for client in reading.clients() {
            let kept = before.as_ref().filter(|found| {
                Arc::ptr_eq(&found.policies, &policies) && found.reading.of(client) == reading.of(client)
            });
            let kept = kept.map(|found| found.next.get(client).copied());
            let at = match kept {
                Some(at) if at.is_none_or(|at| at > now.wall) => at,
                _ => lifecycle::next_jwks_change(&policies.of(client), &rules.records(&reading, client), &now),
            };
            next.extend(at.map(|at| (client.clone(), at)));
        }
        *found = Some(Found { reading, policies, next: next.clone() });
        next
    }

    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        lock(&self.0).as_ref().is_some_and(|found| found.next.values().any(|at| *at <= now))
    }
}
