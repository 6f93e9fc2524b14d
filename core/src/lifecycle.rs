//! Which state of a key follows which, and why.
//!
//! ```text
//!            publish                activate               deactivate             retire           destroy
//! generated ───────▶ pre-active ─────────▶ active ──────────────▶ deactivated ──────▶ retired ──────▶ destroyed
//!                         ▲──── rollback ────┘ ◀──── rollback ────────┘
//!                         any ──── revoke ────▶ compromised
//! ```

use crate::{
    error::{Error, Reason},
    key::{KeyId, KeyLine, KeyRecord, KeyState, Purpose},
    time::Timestamp,
};

/// A step in a key's life, with the reason that log, audit and operators see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: KeyId,
    pub to: KeyState,
    pub reason: String,
}

/// What a key line needs before it can sign for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bootstrap {
    /// Nothing is there: reserve two records, then generate both keys.
    Start,
    /// An earlier attempt was cut short: generate what these reserved records lack. One may be missing.
    Resume(Vec<KeyId>),
}

/// Whether the first keys of `line` may be made, given all records of its client.
///
/// Refused where the line has a key in any state: a second first key would be one that no verifier knows.
pub fn bootstrap(line: &KeyLine, records: &[KeyRecord]) -> Result<Bootstrap, Error> {
    let of_line: Vec<_> = records.iter().filter(|record| belongs(record, line)).collect();
    if let Some(lived) = of_line.iter().find(|record| record.state != KeyState::PreActive || is_published(record)) {
        let kid = lived.public.as_ref().map_or("?", |public| public.kid.as_str());
        let text = format!("key line `{line}` has a key already: `{kid}` is {}; rotate it instead", lived.state);
        return Err(Error::new(Reason::AlreadyExists, text));
    }
    if of_line.is_empty() {
        return Ok(Bootstrap::Start);
    }
    Ok(Bootstrap::Resume(of_line.iter().map(|record| record.id).collect()))
}

/// The first key of a line becomes active at once, for no verifier can have read a JWKS without it: until then its
/// URL answered 404. The standby is published with it.
pub fn establish(first: KeyId, standby: KeyId) -> Vec<Change> {
    let change = |key, to, reason: &str| Change { key, to, reason: reason.to_owned() };
    vec![
        change(first, KeyState::Active, "first key of its line"),
        change(standby, KeyState::PreActive, "standby of a new line, published with the first key"),
    ]
}

/// Moves `record` as `change` says, and sets the times.
pub fn apply(record: &KeyRecord, change: &Change, now: Timestamp) -> Result<KeyRecord, Error> {
    if !may_follow(record.state, change.to) {
        return Err(Error::internal(format!("key {}: {} can't follow {}", record.id, change.to, record.state)));
    }
    let mut next = record.clone();
    next.state = change.to;
    let times = &mut next.times;
    match change.to {
        KeyState::PreActive => times.published = times.published.or(Some(now)),
        KeyState::Active => {
            times.published = times.published.or(Some(now));
            times.activated = Some(now);
        }
        KeyState::Deactivated => times.deactivated = Some(now),
        KeyState::Compromised => times.compromised = Some(now),
        KeyState::Retired => times.retired = Some(now),
        KeyState::Destroyed => times.destroyed = Some(now),
    }
    Ok(next)
}

/// The arrows of the drawing above. `retired`, `compromised` and `destroyed` never come back.
pub fn may_follow(from: KeyState, to: KeyState) -> bool {
    use KeyState::{Active, Compromised, Deactivated, Destroyed, PreActive, Retired};
    match (from, to) {
        // Publishing leaves the state as it is.
        (PreActive, PreActive | Active) | (Active, Deactivated | PreActive) | (Deactivated, Active | Retired) => true,
        (Retired | Compromised, Destroyed) => true,
        (PreActive | Active | Deactivated | Retired, Compromised) => true,
        _ => false,
    }
}

fn belongs(record: &KeyRecord, line: &KeyLine) -> bool {
    record.purpose == Purpose::Assertion
        && record.client.as_ref() == Some(&line.client)
        && record.alg == line.alg
        && record.hsm == line.hsm
}

fn is_published(record: &KeyRecord) -> bool {
    record.times.published.is_some()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::key::{Alg, KeyTimes, Origin};

    fn reserved(n: u128) -> KeyRecord {
        KeyRecord {
            id: KeyId(Uuid::from_u128(n)),
            client: Some("c".parse().unwrap()),
            alg: Alg::RS384,
            hsm: "h".parse().unwrap(),
            purpose: Purpose::Assertion,
            cka_id: vec![1],
            label: "l".into(),
            public: None,
            state: KeyState::PreActive,
            served_for_ms: 0,
            kept_for_ms: 0,
            times: KeyTimes::created(Timestamp::from_secs(0)),
            origin: Origin::Generated,
            certificate_chain: vec![],
        }
    }

    fn line() -> KeyLine {
        KeyLine { client: "c".parse().unwrap(), alg: Alg::RS384, hsm: "h".parse().unwrap() }
    }

    #[test]
    fn a_line_starts_once() {
        assert_eq!(bootstrap(&line(), &[]).unwrap(), Bootstrap::Start);
        let other_alg = KeyRecord { alg: Alg::ES384, ..reserved(1) };
        assert_eq!(bootstrap(&line(), &[other_alg]).unwrap(), Bootstrap::Start);
        for state in KeyState::ALL {
            let mut lived = KeyRecord { state, ..reserved(1) };
            lived.times.published = Some(Timestamp::from_secs(1));
            assert_eq!(bootstrap(&line(), &[lived]).unwrap_err().reason, Reason::AlreadyExists, "{state}");
        }
    }

    #[test]
    fn an_attempt_cut_short_is_taken_up() {
        let ids = vec![reserved(1).id, reserved(2).id];
        assert_eq!(bootstrap(&line(), &[reserved(1), reserved(2)]).unwrap(), Bootstrap::Resume(ids));
    }

    #[test]
    fn the_first_key_signs_and_the_standby_is_published() {
        let (first, standby) = (reserved(1), reserved(2));
        let now = Timestamp::from_secs(9);
        let changes = establish(first.id, standby.id);
        let first = apply(&first, &changes[0], now).unwrap();
        let standby = apply(&standby, &changes[1], now).unwrap();
        assert_eq!((first.state, first.times.published), (KeyState::Active, Some(now)));
        assert_eq!((standby.state, standby.times.published), (KeyState::PreActive, Some(now)));
    }

    #[test]
    fn what_ended_never_comes_back() {
        for ended in [KeyState::Retired, KeyState::Compromised, KeyState::Destroyed] {
            for back in [KeyState::PreActive, KeyState::Active, KeyState::Deactivated] {
                assert!(!may_follow(ended, back), "{ended} → {back}");
            }
        }
    }
}
