//! What is due, client by client: reads, and does nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hallmark_core::{
    key::{ClientName, KeyLine, KeyRecord},
    lifecycle::{self, Change, Elapsed, Now, Observation as Observed, Step},
    ports::Observation,
};

use super::super::{
    keyring::Reading,
    keys::line_of,
    rules::{Policies, Rules},
};

/// What all clients are judged by.
#[derive(Clone)]
pub(super) struct View {
    pub(super) rules: Arc<Rules>,
    pub(super) reading: Arc<Reading>,
    pub(super) policies: Arc<Policies>,
    /// Replicas differ about these.
    pub(super) disputed: BTreeSet<ClientName>,
}

/// What is due to one client.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) client: ClientName,
    pub(super) moves: Vec<(KeyRecord, Change)>,
    /// Lines with something to be done on their HSM.
    pub(super) acts: Vec<KeyLine>,
    /// Signing is to pause before the moves can come.
    pub(super) pause: bool,
}

/// What there is to do, and what is in the way.
#[derive(Debug, Default)]
pub(super) struct Decided {
    pub(super) due: Vec<Due>,
    /// Clients in which another key should sign by now, and why none does.
    pub(super) overdue: BTreeMap<String, String>,
}

impl View {
    /// Everyone with a policy or with keys, but for those that replicas differ about.
    fn clients(&self) -> impl Iterator<Item = &ClientName> {
        let configured = self.policies.configured().map(|policy| &policy.client);
        let removed = self.reading.clients().filter(|client| !self.policies.has(client));
        configured.chain(removed).filter(|client| !self.disputed.contains(*client))
    }

    /// The observed time of those keys for which it counts, after `elapsed`: what it is then, and what to add. `is_seen`
    /// says of a key on a static host whether it was there all the while.
    pub(super) fn observe(
        &self,
        elapsed: &Elapsed,
        is_seen: impl Fn(&KeyRecord) -> bool,
    ) -> (Vec<Observed>, Vec<Observation>) {
        let (mut seen, mut added) = (Vec::new(), Vec::new());
        for client in self.clients() {
            let records = self.rules.records(&self.reading, client);
            let policy = self.policies.of(client);
            let served = |key: &KeyRecord| if policy.static_host { is_seen(key) } else { elapsed.served };
            for observed in lifecycle::observe_where(&policy, &records, elapsed, served) {
                let Some(record) = records.iter().find(|record| record.id == observed.key) else { continue };
                added.push(Observation {
                    key: observed.key,
                    served_ms: observed.served_for_ms.saturating_sub(record.served_for_ms),
                    kept_ms: observed.kept_for_ms.saturating_sub(record.kept_for_ms),
                });
                seen.push(observed);
            }
        }
        (seen, added)
    }

    /// Asks the rules about every client, as the world is `now`. `has_failed`: lines in which an act went wrong lately.
    pub(super) fn decide(&self, now: &Now, has_failed: impl Fn(&KeyLine) -> bool) -> Decided {
        let mut decided = Decided::default();
        for client in self.clients() {
            let (policy, records) = (self.policies.of(client), self.rules.records(&self.reading, client));
            let changes = lifecycle::sweep(&policy, &records, now);
            if !changes.is_empty() {
                let mut due = Due::new(client, changes, &records);
                if due.waits_for_siblings(&records, &has_failed) {
                    due.moves.clear();
                }
                decided.due.push(due);
            }
            let blocked = lifecycle::blocked(&policy, &records, now);
            if let Some(text) = describe(&blocked) {
                decided.overdue.insert(client.to_string(), text);
            }
        }
        decided
    }
}

impl Due {
    fn new(client: &ClientName, changes: Vec<Change>, records: &[KeyRecord]) -> Self {
        let mut due = Self { client: client.clone(), moves: Vec::new(), acts: Vec::new(), pause: false };
        for change in changes {
            match &change.step {
                Step::Move { key, .. } => {
                    let record = records.iter().find(|record| record.id == *key).cloned();
                    due.moves.extend(record.map(|record| (record, change)));
                }
                Step::Generate { .. } | Step::Destroy { .. } => due.acts.extend(line_of(&change, records)),
                Step::Pause { .. } => due.pause = true,
            }
        }
        due
    }

    /// A client's first keys are published as one, for only then may all lines sign at once. A line in trouble is not
    /// waited for.
    fn waits_for_siblings(&self, records: &[KeyRecord], has_failed: impl Fn(&KeyLine) -> bool) -> bool {
        let is_new = !records.iter().any(|record| record.times.published.is_some());
        is_new && self.acts.iter().any(|line| !has_failed(line))
    }
}

fn describe(blocked: &[lifecycle::Blocked]) -> Option<String> {
    let line = |blocked: &lifecycle::Blocked| {
        let gates: Vec<_> = blocked.gates.iter().map(ToString::to_string).collect();
        format!("key line `{}` should have another active key by now: {}", blocked.line, gates.join("; "))
    };
    (!blocked.is_empty()).then(|| blocked.iter().map(line).collect::<Vec<_>>().join("; "))
}
