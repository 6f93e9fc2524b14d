//! What holds over any history.

use proptest::{collection::vec, prelude::*};

use super::{
    arbitrary::{any_policy, config, now, record},
    fixture::{DAY, START, at, id, moved, pair, policy, rsa},
    history::{Event, event},
    verifiers::{HOUR, MINUTE},
    world::{Config, World, all_lines, millis},
};
use crate::{
    key::{KeyRecord, KeyState},
    lifecycle::{
        Change, Planned, Step, blocked, next_jwks_change, next_step,
        operator::{Wish, activate, deactivate, destroy, retire, revoke, rotate},
        plan, sweep,
    },
};

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
        let after = moved(&records, &changes, now.wall);
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
    let mut keys: Vec<_> = changes
        .iter()
        .filter_map(|change| match change.step {
            Step::Move { key, .. } => Some(key),
            _ => None,
        })
        .collect();
    moved(records, changes, START);
    let count = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), count, "a record moves twice: {changes:?}");
    assert!(changes.iter().all(|change| !change.reason.is_empty()));
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
    assert_eq!(sweep(&policy(&[rsa()]), &pair(&rsa()), &at(DAY)), []);
}
