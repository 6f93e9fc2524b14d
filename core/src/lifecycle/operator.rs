//! What an operator may ask of one client's keys. Each answers with changes, to be made as those of a sweep, or says
//! which gate is shut.

use super::{
    Change, Draft, Gate, KeyPolicy, Now,
    gates::{before_retiring, before_signing},
};
use crate::{
    error::{Error, Reason},
    key::{KeyId, KeyLine, KeyRecord, KeyState},
};

/// What the operator says with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Why; goes into each change.
    pub reason: String,
    /// Go through gates that are shut. Verifiers may refuse assertions.
    pub force: bool,
}

/// Makes the standby of `line` active, and deactivates the key that is.
pub fn rotate(policy: &KeyPolicy, records: &[KeyRecord], now: &Now, line: &KeyLine, wish: &Wish) -> Answer {
    let draft = Draft::new(policy, records, now);
    let ready = draft.ready(line);
    let best = draft.standbys(line).into_iter().find(|key| draft.is_generated(*key));
    let Some(next) = ready.or(best.filter(|_| wish.force)) else {
        let shut = best.map_or_else(|| vec![Gate::NoStandby], |best| before_signing(policy, draft.record(best), now));
        return Err(refused(&format!("key line `{line}` can't rotate"), &shut));
    };
    take_over(draft, next, KeyState::Deactivated, wish)
}

/// Makes `key` active: a standby ahead of its time, or a deactivated key that is still published, which takes a bad
/// rotation back. Then the key that failed becomes pre-active.
pub fn activate(policy: &KeyPolicy, records: &[KeyRecord], now: &Now, key: KeyId, wish: &Wish) -> Answer {
    let draft = Draft::new(policy, records, now);
    let place = find(&draft, key)?;
    let record = draft.record(place);
    let failed = match record.state {
        KeyState::PreActive => KeyState::Deactivated,
        KeyState::Deactivated => KeyState::PreActive,
        KeyState::Active => {
            return Err(Error::new(Reason::AlreadyExists, format!("key {} is active already", name(record))));
        }
        _ => return Err(wrong_state(record, "never signs again", "activate another key of its line")),
    };
    if policy.line(&line_of(policy, record)).is_none() {
        return Err(wrong_state(
            record,
            "belongs to a line that is not configured",
            "add the line to the configuration",
        ));
    }
    let shut = before_signing(policy, record, now);
    let passable = wish.force && record.public.is_some();
    if !shut.is_empty() && !passable {
        return Err(refused(&format!("key {} can't sign yet", name(record)), &shut));
    }
    take_over(draft, place, failed, wish)
}

/// Takes `key` out of use. An active one only where another can take over: to do without, revoke it.
pub fn deactivate(policy: &KeyPolicy, records: &[KeyRecord], now: &Now, key: KeyId, wish: &Wish) -> Answer {
    let mut draft = Draft::new(policy, records, now);
    let place = find(&draft, key)?;
    let record = draft.record(place);
    match record.state {
        KeyState::Active => rotate(policy, records, now, &line_of(policy, record), wish),
        KeyState::PreActive => {
            draft.to(place, KeyState::Deactivated, &wish.reason);
            Ok(draft.changes)
        }
        _ => Err(wrong_state(record, "does not sign", "there is nothing to deactivate")),
    }
}

/// Declares `key` compromised, whatever gate is shut. If it was active, a standby that verifiers know takes over in the
/// same transaction; without one the line has no active key.
///
/// Nothing is to be done for a key that is compromised already.
pub fn revoke(policy: &KeyPolicy, records: &[KeyRecord], now: &Now, key: KeyId, wish: &Wish) -> Answer {
    let mut draft = Draft::new(policy, records, now);
    let place = find(&draft, key)?;
    let record = draft.record(place);
    match record.state {
        KeyState::Compromised => return Ok(Vec::new()),
        KeyState::Destroyed => return Err(wrong_state(record, "is destroyed", "there is nothing left to revoke")),
        _ => draft.to(place, KeyState::Compromised, &wish.reason),
    }
    let line = line_of(policy, record);
    if record.state == KeyState::Active && policy.line(&line).is_some() && draft.active(&line).is_empty() {
        // What verifiers must know counts; what only spares them trouble does not.
        let essential = |gate: &Gate| !matches!(gate, Gate::Clock | Gate::Hsm | Gate::Rehearsal);
        let knows = |key: &usize| !before_signing(policy, draft.record(*key), now).iter().any(essential);
        if let Some(next) = draft.standbys(&line).into_iter().find(knows) {
            draft.to(next, KeyState::Active, &format!("the active key was revoked: {}", wish.reason));
        }
    }
    Ok(draft.changes)
}

/// Takes a deactivated `key` out of the JWKS.
pub fn retire(policy: &KeyPolicy, records: &[KeyRecord], now: &Now, key: KeyId, wish: &Wish) -> Answer {
    let mut draft = Draft::new(policy, records, now);
    let place = find(&draft, key)?;
    let record = draft.record(place);
    if record.state != KeyState::Deactivated {
        return Err(wrong_state(record, "is not deactivated", "deactivate it first"));
    }
    let shut = before_retiring(policy, record, now);
    if !shut.is_empty() && !wish.force {
        return Err(refused(&format!("key {} must stay published", name(record)), &shut));
    }
    draft.to(place, KeyState::Retired, &wish.reason);
    Ok(draft.changes)
}

/// Destroys a `key` that ended, on its HSM.
pub fn destroy(policy: &KeyPolicy, records: &[KeyRecord], now: &Now, key: KeyId, wish: &Wish) -> Answer {
    let mut draft = Draft::new(policy, records, now);
    let place = find(&draft, key)?;
    let record = draft.record(place);
    if record.state == KeyState::Destroyed {
        let text = format!("key {} is destroyed already; there is nothing left to do", name(record));
        return Err(Error::new(Reason::KeyState, text));
    }
    if !matches!(record.state, KeyState::Retired | KeyState::Compromised) {
        return Err(wrong_state(record, "has not ended", "retire or revoke it first"));
    }
    draft.destroy(place, &wish.reason);
    Ok(draft.changes)
}

/// Changes to make, or why not.
pub type Answer = Result<Vec<Change>, Error>;

/// `next` becomes active, and what was moves to `failed`.
fn take_over(mut draft: Draft<'_>, next: usize, failed: KeyState, wish: &Wish) -> Answer {
    let line = line_of(draft.policy, draft.record(next));
    let active = draft.active(&line);
    if !active.is_empty() && draft.must_pause(&line) {
        draft.pause(&wish.reason);
        return Ok(draft.changes);
    }
    for key in active {
        draft.to(key, failed, &wish.reason);
    }
    draft.to(next, KeyState::Active, &wish.reason);
    Ok(draft.changes)
}

fn find(draft: &Draft<'_>, key: KeyId) -> Result<usize, Error> {
    let text = || format!("client `{}` has no key {key}; `hallmark keys list` shows all", draft.policy.client);
    draft.find(key).ok_or_else(|| Error::new(Reason::KeyNotFound, text()))
}

fn line_of(policy: &KeyPolicy, record: &KeyRecord) -> KeyLine {
    KeyLine { client: policy.client.clone(), alg: record.alg, hsm: record.hsm.clone() }
}

fn name(record: &KeyRecord) -> String {
    record.public.as_ref().map_or_else(|| record.id.to_string(), |public| format!("`{}`", public.kid))
}

fn wrong_state(record: &KeyRecord, what: &str, hint: &str) -> Error {
    Error::new(Reason::KeyState, format!("key {} is {} and {what}; {hint}", name(record), record.state))
}

fn refused(what: &str, gates: &[Gate]) -> Error {
    let why: Vec<_> = gates.iter().map(Gate::to_string).collect();
    let wait = gates.iter().filter_map(|gate| match gate {
        Gate::Lead { left } | Gate::Keep { left } => Some(*left),
        _ => None,
    });
    let error = Error::new(Reason::GateShut, format!("{what}: {}; `--force` goes through", why.join("; ")));
    match wait.max() {
        Some(wait) => error.retry_after(wait),
        None => error,
    }
}
