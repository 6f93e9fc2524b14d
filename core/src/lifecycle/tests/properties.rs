//! What holds over any history.

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{
    fixture::{DAY, START, at, generated, id, key, ms, policy, rsa},
    verifiers::{HOUR, MINUTE, SECOND},
    world::{Config, World, all_lines, millis},
};
use crate::{
    client::Provision,
    key::{KeyRecord, KeyState},
    lifecycle::{
        Change, KeyPolicy, Now, Planned, Step, blocked, next_jwks_change, next_step,
        operator::{Answer, Wish, activate, deactivate, destroy, retire, revoke, rollback, rotate},
        plan, sweep,
    },
    profile::Binding,
    time::Timestamp,
};

#[derive(Clone, Debug)]
enum Event {
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
enum HsmState {
    Up,
    Unreachable,
    Gone,
}

#[derive(Clone, Debug)]
enum Edit {
    Line { place: usize, on: bool },
    Rotate(i64),
    MaxAge(i64),
    KeepFor(i64),
    DestroyAfter(Option<i64>),
}

#[derive(Clone, Copy, Debug)]
enum Asked {
    Rotate,
    Activate,
    Deactivate,
    Rollback,
    Revoke,
    Retire,
    Destroy,
}

/// What someone may do to the store that is no lie about what verifiers have seen.
#[derive(Clone, Debug)]
enum Hand {
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

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![-400 * 24 * HOUR..400 * 24 * HOUR, -2 * HOUR..2 * HOUR]
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

fn event() -> impl Strategy<Value = Event> {
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

fn config() -> impl Strategy<Value = Config> {
    let times = (select(vec![0, 5 * MINUTE]), select(vec![0, 0, 2 * HOUR]), select(vec![0, MINUTE, 5 * MINUTE, HOUR]));
    (times, select(vec![20 * MINUTE, HOUR, 6 * HOUR])).prop_map(|((edge_ttl, profile_lead, max_age), rotate)| Config {
        lines: [true, true, false],
        rotate,
        max_age,
        keep_for: 0,
        destroy_after: None,
        edge_ttl,
        profile_lead,
        first_rsa_key: false,
    })
}

impl World {
    fn happens(&mut self, event: &Event) {
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
            Asked::Rollback => rollback(&policy, records, &now, line, &wish),
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
    fn calm_down(&mut self) {
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

proptest! {
    #[test]
    fn no_verifier_rejects_what_was_signed(config in config(), events in vec(event(), 1..40)) {
        let mut world = World::new(config);
        world.sweep(None);
        for event in &events {
            world.happens(event);
        }
        world.calm_down();
        let policy = world.policy();
        for terms in &policy.lines {
            let of_line = world.records.iter().filter(|record| record.line().as_ref() == Some(&terms.line));
            let in_state = |state| of_line.clone().filter(|record| record.state == state).count();
            prop_assert_eq!(in_state(KeyState::Active), 1, "{} signs again", &terms.line);
            prop_assert_eq!(in_state(KeyState::PreActive), 1, "{} has one standby, and no more", &terms.line);
            let known = |record: &&KeyRecord| record.state == KeyState::PreActive && millis(record.served_for_ms as i64) >= policy.lead;
            prop_assert!(of_line.clone().any(|record| known(&record)), "{} has a standby again", &terms.line);
        }
    }

    #[test]
    fn the_first_rsa_key_is_the_one_that_signed(events in vec(event(), 1..40)) {
        let mut world = World::new(Config {
            lines: [true, true, false],
            rotate: 20 * MINUTE,
            max_age: 0,
            keep_for: 0,
            destroy_after: None,
            edge_ttl: 0,
            profile_lead: 0,
            first_rsa_key: true,
        });
        world.sweep(None);
        // What a hand does to the store is seen at once by such a verifier.
        for event in events.iter().filter(|event| !matches!(event, Event::Hand { .. })) {
            world.happens(event);
        }
    }

    #[test]
    fn any_records_are_borne(records in vec(record(), 0..8), policy in any_policy(), now in now()) {
        let records: Vec<_> = records.into_iter().enumerate().map(|(n, record)| KeyRecord { id: id(n as u8), ..record }).collect();
        let changes = sweep(&policy, &records, &now);
        check_moves(&records, &changes);
        let after = super::fixture::moved(&records, &changes, now.wall);
        let again = sweep(&policy, &after, &now);
        prop_assert!(!again.iter().any(|change| matches!(change.step, Step::Move { .. })), "{:?} then {:?}", changes, again);
        for line in all_lines() {
            let active = |records: &[KeyRecord]| records.iter().filter(|record| record.state == KeyState::Active && record.line().as_ref() == Some(&line)).count();
            prop_assert!(active(&after) <= 1, "two active keys in {}", line);
        }
        let planned = plan(&policy, &records, &now, now.wall.plus(400 * DAY));
        prop_assert!(planned.is_sorted_by_key(|planned: &Planned| planned.at));
        let next = next_step(&policy, &records, &now);
        prop_assert_eq!(next.as_ref(), planned.first().or(next.as_ref().filter(|next| next.at > now.wall.plus(400 * DAY))));
        prop_assert!(next_jwks_change(&policy, &records, &now).is_none_or(|next| next > now.wall));
        prop_assert!(blocked(&policy, &records, &now).iter().all(|blocked| !blocked.gates.is_empty()));
    }

    #[test]
    fn operators_break_no_rule(records in vec(record(), 1..8), policy in any_policy(), now in now(), force: bool) {
        let records: Vec<_> = records.into_iter().enumerate().map(|(n, record)| KeyRecord { id: id(n as u8), ..record }).collect();
        let wish = Wish { reason: "asked for".into(), force };
        for record in &records {
            let revoked = revoke(&policy, &records, &now, record.id, &wish);
            prop_assert!(revoked.is_ok() || record.state == KeyState::Destroyed);
            let line = record.line().unwrap();
            let answers = [
                revoked,
                rotate(&policy, &records, &now, &line, &wish),
                activate(&policy, &records, &now, record.id, &wish),
                deactivate(&policy, &records, &now, record.id, &wish),
                rollback(&policy, &records, &now, &line, &wish),
                retire(&policy, &records, &now, record.id, &wish),
                destroy(&policy, &records, &now, record.id, &wish),
            ];
            for changes in answers.into_iter().flatten() {
                check_moves(&records, &changes);
            }
        }
    }
}

/// Each record moves once at most, by an arrow of the drawing and for a reason.
fn check_moves(records: &[KeyRecord], changes: &[Change]) {
    let mut moved: Vec<_> = changes
        .iter()
        .filter_map(|change| match change.step {
            Step::Move { key, .. } => Some(key),
            _ => None,
        })
        .collect();
    super::fixture::moved(records, changes, START);
    let count = moved.len();
    moved.sort_unstable();
    moved.dedup();
    assert_eq!(moved.len(), count, "a record moves twice: {changes:?}");
    assert!(changes.iter().all(|change| !change.reason.is_empty()));
}

fn record() -> impl Strategy<Value = KeyRecord> {
    let dates = (option::of(time()), option::of(time()), option::of(time()), time());
    let numbers =
        (select(vec![0, ms(super::fixture::LEAD), u64::MAX]), select(vec![0, ms(super::fixture::KEEP), u64::MAX]));
    let kind = (0..3_usize, select(KeyState::ALL.to_vec()), any::<bool>(), 0..200_u8);
    (kind, dates, numbers).prop_map(
        |((line, state, public, n), (published, activated, deactivated, created), (served, kept))| {
            let line = &all_lines()[line];
            let at = |ms: i64| Timestamp::from_millis(START.millis() + ms);
            let born = generated(n, line);
            let mut record = KeyRecord {
                public: born.public.filter(|_| public),
                served_for_ms: served,
                kept_for_ms: kept,
                ..key(n, line, state)
            };
            record.times.created = at(created);
            record.times.published = published.map(at);
            record.times.activated = activated.map(at);
            record.times.deactivated = deactivated.map(at);
            record
        },
    )
}

fn any_policy() -> impl Strategy<Value = KeyPolicy> {
    let bindings = vec![Binding::Jwks, Binding::Jwks, Binding::CertChain];
    let flags = (any::<[bool; 3]>(), any::<bool>(), any::<bool>(), any::<bool>());
    (flags, select(bindings), select(vec![None, Some(DAY)])).prop_map(
        |((on, auto, first_rsa_key, rehearse), binding, destroy_after)| {
            let lines: Vec<_> = all_lines().into_iter().zip(on).filter_map(|(line, on)| on.then_some(line)).collect();
            let provision = if auto { Provision::Auto } else { Provision::Manual };
            KeyPolicy { provision, first_rsa_key, rehearse, binding, destroy_after, ..policy(&lines) }
        },
    )
}

fn now() -> impl Strategy<Value = Now> {
    let name = || option::of(select(vec!["h", "i"]));
    (any::<bool>(), name(), name(), option::of(0..8_u8), time()).prop_map(
        |(held, unreachable, gone, unusable, wall)| Now {
            held,
            unreachable: unreachable.into_iter().map(|name| name.parse().unwrap()).collect(),
            gone: gone.into_iter().map(|name| name.parse().unwrap()).collect(),
            unusable: unusable.into_iter().map(id).collect(),
            ..Now::at(Timestamp::from_millis(START.millis() + wall))
        },
    )
}

#[test]
fn a_year_of_rotations_happens_on_time() {
    let mut world = World::new(Config {
        lines: [true, false, false],
        rotate: 90 * 24 * HOUR,
        max_age: 5 * MINUTE,
        keep_for: 24 * HOUR,
        destroy_after: Some(30 * 24 * HOUR),
        edge_ttl: 0,
        profile_lead: 24 * HOUR,
        first_rsa_key: false,
    });
    world.interval = HOUR;
    world.sweep(None);
    let told = plan(&world.policy(), &world.records, &world.now(), START.plus(365 * DAY));
    while world.real < 365 * 24 * HOUR {
        world.advance(HOUR);
        world.sweep(None);
    }
    let activated: Vec<_> = world.records.iter().filter_map(|record| record.times.activated).collect();
    assert_eq!(activated, [0, 90, 180, 270, 360].map(|days| START.plus(days * DAY)));
    let retired: Vec<_> = world.records.iter().filter_map(|record| record.times.retired).collect();
    let late = millis(HOUR);
    assert_eq!(retired, [91, 181, 271, 361].map(|days| START.plus(days * DAY + late)), "a sweep later, to be sure");
    let destroyed: Vec<_> = world.records.iter().filter_map(|record| record.times.destroyed).collect();
    assert_eq!(destroyed, [121, 211, 301].map(|days| START.plus(days * DAY + late)));
    let planned = |to| {
        let is = |planned: &&Planned| matches!(planned.change.step, Step::Move { to: state, .. } if state == to);
        told.iter().filter(is).map(|planned| planned.at).collect::<Vec<_>>()
    };
    assert_eq!(planned(KeyState::Active), activated[1..], "as was told a year before");
    assert_eq!(planned(KeyState::Retired), [91, 181, 271, 361].map(|days| START.plus(days * DAY)));
}

#[test]
fn a_line_at_rest_is_at_rest() {
    assert_eq!(sweep(&policy(&[rsa()]), &super::fixture::pair(&rsa()), &at(DAY)), []);
}
