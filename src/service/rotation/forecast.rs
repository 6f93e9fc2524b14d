//! What will happen when, for operators.

use std::sync::Arc;

use hallmark_core::{
    error::Error,
    key::{ClientName, KeyId, KeyLine, KeyRecord, KeyState, Kid},
    lifecycle::{self, Now, Planned, Step},
    policy::{Act, Caller},
    time::Timestamp,
};

use super::{
    super::{
        keyring::Reading,
        keys::no_such_client,
        rules::{Policies, Rules},
    },
    Parts, Rotation,
};

/// A change to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upcoming {
    pub at: Timestamp,
    pub client: ClientName,
    /// `None` for a key that does not exist yet.
    pub key: Option<KeyId>,
    pub kid: Option<Kid>,
    pub line: KeyLine,
    /// `generate`, `publish`, `activate`, `deactivate`, `retire` or `destroy`.
    pub what: String,
    pub reason: String,
    /// What an operator must do before, or what is in the way now.
    pub blocked: Option<String>,
}

impl Rotation {
    /// What will happen to the keys of `client`, or of all, until then.
    ///
    /// # Errors
    ///
    /// Also where `client` is neither configured nor has any records.
    pub fn plan(&self, caller: &Caller, client: Option<&ClientName>, until: Timestamp) -> Result<Vec<Upcoming>, Error> {
        let Parts { context, rules, .. } = &self.0.parts;
        context.registry.load().policy.operator(caller, Act::PlanRotation.role(false), context.clock.now())?;
        let (reading, policies) = (context.keyring.keys().clone(), rules.policies(&context.registry));
        if let Some(client) = client
            && !policies.has(client)
            && !reading.clients().any(|known| known == client)
        {
            return Err(no_such_client(client));
        }
        let now = rules.now(context);
        let all = policies.configured().map(|policy| &policy.client);
        let removed = reading.clients().filter(|client| !policies.has(client));
        let clients = all.chain(removed).filter(|name| client.is_none_or(|client| client == *name));
        let mut upcoming = Vec::new();
        for name in clients {
            let (policy, records) = (policies.of(name), rules.records(&reading, name));
            let planned = lifecycle::plan(&policy, &records, &now, until);
            upcoming.extend(planned.into_iter().map(|planned| show(planned, &records)));
        }
        upcoming.sort_by(|a, b| (a.at, &a.client).cmp(&(b.at, &b.client)));
        Ok(upcoming)
    }

    /// How things stand now, to ask about many keys.
    pub fn outlook(&self) -> Outlook {
        let Parts { context, rules, .. } = &self.0.parts;
        let (reading, policies) = (context.keyring.keys().clone(), rules.policies(&context.registry));
        Outlook { rules: rules.clone(), reading, policies, now: rules.now(context) }
    }
}

/// What keys are judged by, at one moment. What it takes to know it grows with the number of all keys: it is made once, and
/// asked about each.
#[derive(Debug)]
pub struct Outlook {
    rules: Arc<Rules>,
    reading: Arc<Reading>,
    policies: Arc<Policies>,
    now: Now,
}

impl Outlook {
    /// What happens next to this key.
    pub fn next_step(&self, record: &KeyRecord) -> Option<Upcoming> {
        let Self { rules, reading, policies, now } = self;
        let line = record.line()?;
        let (policy, records) = (policies.of(&line.client), rules.records(reading, &line.client));
        // The next change of a key is at most as far away as the longest time that the policy knows.
        let longest = policy.lines.iter().filter_map(|terms| terms.rotate).max().unwrap_or_default();
        let far = longest + policy.keep + policy.lead + policy.destroy_after.unwrap_or_default();
        let planned = lifecycle::plan(&policy, &records, now, now.wall.plus(far * 2));
        let blocked = lifecycle::blocked(&policy, &records, now);
        let of_key = |planned: &Planned| match &planned.change.step {
            Step::Move { key, .. } | Step::Destroy { key } => *key == record.id,
            Step::Generate { reserved, .. } => *reserved == Some(record.id),
            Step::Pause { .. } => false,
        };
        let next = planned.into_iter().find(|planned| !planned.imagined && of_key(planned));
        let mut next = next.map(|planned| show(planned, &records))?;
        if let Some(blocked) = blocked.iter().find(|blocked| blocked.line == line) {
            let gates: Vec<_> = blocked.gates.iter().map(ToString::to_string).collect();
            next.blocked.get_or_insert_with(|| gates.join("; "));
        }
        Some(next)
    }
}

fn show(planned: Planned, records: &[KeyRecord]) -> Upcoming {
    let Planned { at, line, change, imagined, waits_for } = planned;
    let key = match &change.step {
        Step::Move { key, .. } | Step::Destroy { key } => Some(*key).filter(|_| !imagined),
        Step::Generate { reserved, .. } => *reserved,
        Step::Pause { .. } => None,
    };
    let record = records.iter().find(|record| Some(record.id) == key);
    Upcoming {
        at,
        client: line.client.clone(),
        key,
        kid: record.and_then(|record| record.public.as_ref()).map(|public| public.kid.clone()),
        line,
        what: what(&change.step).to_owned(),
        reason: change.reason,
        blocked: Some(waits_for.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
            .filter(|text| !text.is_empty()),
    }
}

fn what(step: &Step) -> &'static str {
    match step {
        Step::Generate { .. } => "generate",
        Step::Destroy { .. } => "destroy",
        Step::Pause { .. } => "pause",
        Step::Move { to, .. } => match to {
            KeyState::PreActive => "publish",
            KeyState::Active => "activate",
            KeyState::Deactivated => "deactivate",
            KeyState::Retired => "retire",
            KeyState::Compromised => "revoke",
            KeyState::Destroyed => "destroy",
        },
    }
}
