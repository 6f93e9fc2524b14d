//! What a step does to a record.

use super::{Change, Step};
use crate::{
    error::Error,
    key::{KeyRecord, KeyState},
    time::Timestamp,
};

/// `record` after `change`, with the times set. A [`Step::Destroy`] is applied once the objects are gone; a key is
/// generated, and signing paused, without it.
pub fn apply(record: &KeyRecord, change: &Change, now: Timestamp) -> Result<KeyRecord, Error> {
    let to = match &change.step {
        Step::Move { key, to } if *key == record.id => *to,
        Step::Destroy { key } if *key == record.id => KeyState::Destroyed,
        step => return Err(Error::internal(format!("key {}: not a step of this record: {step:?}", record.id))),
    };
    if !may_follow(record.state, to) {
        return Err(Error::internal(format!("key {}: {to} can't follow {}", record.id, record.state)));
    }
    let mut next = record.clone();
    next.state = to;
    if matches!(to, KeyState::PreActive | KeyState::Active) {
        publish(&mut next, now);
    }
    // Counted anew for each time that it is deactivated; cleared early too, should a hand set the state.
    next.kept_for_ms = if to == KeyState::Retired { next.kept_for_ms } else { 0 };
    let times = &mut next.times;
    match to {
        KeyState::PreActive => {}
        KeyState::Active => times.activated = Some(now),
        KeyState::Deactivated => times.deactivated = Some(now),
        KeyState::Compromised => times.compromised = Some(now),
        KeyState::Retired => times.retired = Some(now),
        KeyState::Destroyed => times.destroyed = Some(now),
    }
    Ok(next)
}

/// Does nothing where it is published already. No verifier can know the key before.
fn publish(record: &mut KeyRecord, now: Timestamp) {
    if record.public.is_some() && record.times.published.is_none() {
        record.times.published = Some(now);
        record.served_for_ms = 0;
    }
}

/// The arrows of the drawing. `retired`, `compromised` and `destroyed` never come back.
pub fn may_follow(from: KeyState, to: KeyState) -> bool {
    use KeyState::{Active, Compromised, Deactivated, Destroyed, PreActive, Retired};
    match (from, to) {
        // Publishing leaves the state as it is. A standby that is not wanted any more leaves as a key that signed does.
        (PreActive, PreActive | Active | Deactivated) => true,
        (Active, Deactivated | PreActive) | (Deactivated, Active | Retired) => true,
        (Retired | Compromised, Destroyed) => true,
        (PreActive | Active | Deactivated | Retired, Compromised) => true,
        _ => false,
    }
}
