//! What happens to a world, in any order: sweeps, crashes, clocks that jump, HSMs that go, operators, and hands in the store.

use proptest::{option, prelude::*, sample::select};

use super::{
    arbitrary::time,
    fixture::{START, ms},
    verifiers::{HOUR, MINUTE, SECOND},
    world::{World, all_lines},
};
use crate::{
    key::KeyState,
    lifecycle::{
        Step,
        operator::{Answer, Wish, activate, deactivate, destroy, retire, revoke, rotate},
    },
    time::Timestamp,
};

/// What may happen to a world.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Run { sweeps: u8, interval: i64 },
    Sleep { for_ms: i64 },
    Crash { after: u32 },
    Jump { by: i64 },
    Serve { up: bool },
    Hsm { name: &'static str, state: HsmState },
    Configure(Edit),
    Ask { what: Asked, key: usize },
    Hand { what: Hand, key: usize },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum HsmState {
    Up,
    Unreachable,
    Gone,
}

#[derive(Clone, Debug)]
pub(super) enum Edit {
    Line { place: usize, on: bool },
    Rotate(i64),
    MaxAge(i64),
    KeepFor(i64),
    DestroyAfter(Option<i64>),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Asked {
    Rotate,
    Activate,
    Deactivate,
    /// To activate the key that was deactivated last.
    Rollback,
    Revoke,
    Retire,
    Destroy,
}

/// What someone may do to the store that is no lie about what verifiers have seen.
#[derive(Clone, Debug)]
pub(super) enum Hand {
    Served(u64),
    Kept(u64),
    Activated(Option<i64>),
    Deactivated(Option<i64>),
    Created(i64),
    /// Any published key that verifiers know.
    MakeActive,
    /// As an operator would, but in the store.
    MakeDeactivated,
    Unpublish,
}

/// One event, the usual ones more often.
pub(super) fn event() -> impl Strategy<Value = Event> {
    let intervals = vec![10 * SECOND, MINUTE, 10 * MINUTE];
    let states = vec![HsmState::Up, HsmState::Up, HsmState::Unreachable, HsmState::Gone];
    prop_oneof![
        10 => (1..20_u8, select(intervals)).prop_map(|(sweeps, interval)| Event::Run { sweeps, interval }),
        2 => prop_oneof![0..10 * MINUTE, 0..72 * HOUR].prop_map(|for_ms| Event::Sleep { for_ms }),
        3 => (0..12_u32).prop_map(|after| Event::Crash { after }),
        1 => time().prop_map(|by| Event::Jump { by }),
        1 => any::<bool>().prop_map(|up| Event::Serve { up }),
        1 => (select(vec!["h", "i"]), select(states)).prop_map(|(name, state)| Event::Hsm { name, state }),
        2 => edit().prop_map(Event::Configure),
        3 => (asked(), 0..40_usize).prop_map(|(what, key)| Event::Ask { what, key }),
        2 => (hand(), 0..40_usize).prop_map(|(what, key)| Event::Hand { what, key }),
    ]
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (0..3_usize, any::<bool>()).prop_map(|(place, on)| Edit::Line { place, on }),
        select(vec![20 * MINUTE, HOUR, 6 * HOUR, 30 * 24 * HOUR]).prop_map(Edit::Rotate),
        select(vec![0, 30 * SECOND, 5 * MINUTE, HOUR]).prop_map(Edit::MaxAge),
        select(vec![0, HOUR, 24 * HOUR]).prop_map(Edit::KeepFor),
        select(vec![None, Some(0), Some(HOUR)]).prop_map(Edit::DestroyAfter),
    ]
}

fn asked() -> impl Strategy<Value = Asked> {
    use Asked::{Activate, Deactivate, Destroy, Retire, Revoke, Rollback, Rotate};
    select(vec![Rotate, Activate, Deactivate, Rollback, Revoke, Retire, Destroy])
}

fn hand() -> impl Strategy<Value = Hand> {
    prop_oneof![
        any::<u64>().prop_map(Hand::Served),
        any::<u64>().prop_map(Hand::Kept),
        option::of(time()).prop_map(Hand::Activated),
        option::of(time()).prop_map(Hand::Deactivated),
        time().prop_map(Hand::Created),
        Just(Hand::MakeActive),
        Just(Hand::MakeDeactivated),
        Just(Hand::Unpublish),
    ]
}

impl World {
    pub(super) fn happens(&mut self, event: &Event) {
        match event {
            Event::Run { sweeps, interval } => {
                self.interval = *interval;
                for _ in 0..*sweeps {
                    self.advance(*interval);
                    self.sweep(None);
                }
            }
            Event::Sleep { for_ms } => self.advance(*for_ms),
            Event::Crash { after } => self.sweep(Some(*after)),
            Event::Jump { by } => self.offset += by,
            Event::Serve { up } => self.serve(*up),
            Event::Hsm { name, state } => self.plug(name, *state),
            Event::Configure(edit) => self.configure(edit),
            Event::Ask { what, key } => self.ask(*what, *key),
            Event::Hand { what, key } => self.hand(what, *key),
        }
        self.check();
    }

    fn plug(&mut self, name: &str, state: HsmState) {
        let name = name.parse().unwrap();
        self.unreachable.remove(&name);
        self.gone.remove(&name);
        match state {
            HsmState::Up => false,
            HsmState::Unreachable => self.unreachable.insert(name),
            HsmState::Gone => self.unreachable.insert(name.clone()) && self.gone.insert(name),
        };
    }

    fn configure(&mut self, edit: &Edit) {
        match edit {
            Edit::Line { place, on } => self.config.lines[*place] = *on,
            Edit::Rotate(every) => self.config.rotate = *every,
            // What is told to verifiers is what this sort of history is about, unless they never listen.
            Edit::MaxAge(max_age) if !self.config.first_rsa_key => self.config.max_age = *max_age,
            Edit::MaxAge(_) => {}
            Edit::KeepFor(keep_for) => self.config.keep_for = *keep_for,
            Edit::DestroyAfter(after) => self.config.destroy_after = *after,
        }
        // One RSA line is all that a verifier can do that takes the first key.
        self.config.lines[2] &= !self.config.first_rsa_key;
    }

    fn ask(&mut self, what: Asked, key: usize) {
        for _ in 0..5 {
            let Ok(changes) = self.answer(what, key) else { return };
            let before = self.lines_that_sign();
            assert!(self.make(&changes, &mut None).is_ok());
            let after = self.lines_that_sign();
            let all_sign = before.iter().all(|line| after.contains(line));
            assert!(all_sign || matches!(what, Asked::Revoke), "{what:?} left a line without an active key");
            self.check();
            if !changes.iter().any(|change| matches!(change.step, Step::Pause { .. })) {
                return;
            }
            self.advance(2 * SECOND);
        }
    }

    fn answer(&self, what: Asked, key: usize) -> Answer {
        let (policy, now, records) = (self.policy(), self.now(), &self.records);
        let wish = Wish { reason: "asked for".into(), force: false };
        let line = &all_lines()[key % 3];
        let Some(id) = records.get(key % records.len().max(1)).map(|record| record.id) else { return Ok(vec![]) };
        match what {
            Asked::Rotate => rotate(&policy, records, &now, line, &wish),
            Asked::Activate => activate(&policy, records, &now, id, &wish),
            Asked::Deactivate => deactivate(&policy, records, &now, id, &wish),
            Asked::Rollback => {
                let old = records
                    .iter()
                    .filter(|record| record.state == KeyState::Deactivated && record.line().as_ref() == Some(line));
                let last = old.max_by_key(|record| record.times.deactivated);
                last.map_or(Ok(vec![]), |last| activate(&policy, records, &now, last.id, &wish))
            }
            Asked::Revoke => revoke(&policy, records, &now, id, &wish),
            Asked::Retire => retire(&policy, records, &now, id, &wish),
            Asked::Destroy => destroy(&policy, records, &now, id, &wish),
        }
    }

    fn hand(&mut self, what: &Hand, key: usize) {
        let lead = ms(self.policy().lead);
        let place = key % self.records.len().max(1);
        let Some(has_signed) = self.records.get(place).map(|record| self.has_signed(record.id)) else { return };
        let record = &mut self.records[place];
        let published = record.public.is_some() && record.times.published.is_some();
        let alive = matches!(record.state, KeyState::PreActive | KeyState::Active | KeyState::Deactivated);
        let at = |ms: &i64| Timestamp::from_millis(START.millis() + ms);
        match what {
            Hand::Served(ms) => record.served_for_ms = record.served_for_ms.min(*ms),
            Hand::Kept(ms) => record.kept_for_ms = record.kept_for_ms.min(*ms),
            Hand::Activated(time) => record.times.activated = time.as_ref().map(at),
            Hand::Deactivated(time) => record.times.deactivated = time.as_ref().map(at),
            Hand::Created(time) => record.times.created = at(time),
            Hand::MakeActive if published && alive && record.served_for_ms >= lead => record.state = KeyState::Active,
            Hand::MakeDeactivated if published && alive => record.state = KeyState::Deactivated,
            Hand::Unpublish if record.state == KeyState::PreActive && !has_signed => {
                record.times.published = None;
            }
            Hand::MakeActive | Hand::MakeDeactivated | Hand::Unpublish => {}
        }
        self.advance(0);
    }

    /// All is well again, for long enough.
    pub(super) fn calm_down(&mut self) {
        self.plug("h", HsmState::Up);
        self.plug("i", HsmState::Up);
        self.serve(true);
        self.config.lines[..2].fill(true);
        // A rotation at the very end would leave a standby that is too young.
        self.config.rotate = 1000 * 24 * HOUR;
        self.restart();
        self.interval = 10 * MINUTE;
        let lead = i64::try_from(self.policy().lead.as_millis()).unwrap();
        for _ in 0..2 * lead / self.interval + 6 {
            self.advance(self.interval);
            self.sweep(None);
        }
    }
}
