//! What is told in advance is what happens.

use std::{slice::from_ref, time::Duration};

use super::fixture::*;
use crate::{
    key::{Alg, KeyRecord, KeyState},
    lifecycle::{Gate, KeyPolicy, Now, Planned, Step, blocked, next_jwks_change, next_step, plan},
    profile::Binding,
    time::Timestamp,
};

fn activations(plan: &[Planned]) -> Vec<Timestamp> {
    let activates = |planned: &&Planned| matches!(planned.change.step, Step::Move { to: KeyState::Active, .. });
    plan.iter().filter(activates).map(|planned| planned.at).collect()
}

const SOON: Duration = Duration::from_secs(1);

#[test]
fn a_year_is_told_in_advance() {
    let policy = KeyPolicy { destroy_after: Some(30 * DAY), ..policy(&[rsa()]) };
    let plan = plan(&policy, &pair(&rsa()), &at(SOON), START.plus(365 * DAY));
    assert_eq!(activations(&plan), [1, 2, 3, 4].map(|n| START.plus(n * ROTATE)));
    let first: Vec<_> = plan.iter().take(6).map(|planned| (planned.at, planned.imagined)).collect();
    let rotation = START.plus(ROTATE);
    let expected = [
        (rotation, false),
        (rotation, false),
        (rotation, true),
        (rotation, true),
        (rotation.plus(KEEP), false),
        (rotation.plus(KEEP + 30 * DAY), false),
    ];
    assert_eq!(first, expected, "switch, generate, publish; retire; destroy");
    assert!(plan.iter().all(|planned| planned.line == rsa() && !planned.change.reason.is_empty()));
    assert_eq!(plan[4].change.step, to(1, KeyState::Retired));
    assert_eq!(plan[5].change.step, Step::Destroy { key: id(1) });
}

#[test]
fn a_plan_ends_where_it_is_told_to() {
    let policy = policy(&[rsa()]);
    let until = |until| activations(&plan(&policy, &pair(&rsa()), &at(SOON), START.plus(until))).len();
    assert_eq!((until(ROTATE - SOON), until(ROTATE)), (0, 1));
    let mut busy = policy.clone();
    busy.lines[0].rotate = Some(Duration::from_millis(1));
    busy.lead = Duration::ZERO;
    let plan = plan(&busy, &pair(&rsa()), &at(SOON), START.plus(1000 * ROTATE));
    assert!((10_000..11_000).contains(&plan.len()), "{}", plan.len());
    assert_eq!(next_jwks_change(&busy, &pair(&rsa()), &at(SOON)), Some(at(SOON).wall.plus(Duration::from_millis(1))));
}

#[test]
fn a_plan_says_what_an_operator_must_do_before() {
    let ask = |policy: &KeyPolicy| {
        let plan = plan(policy, &pair(&rsa()), &at(SOON), START.plus(ROTATE));
        plan.into_iter().map(|planned| planned.waits_for).take(2).collect::<Vec<_>>()
    };
    let open = policy(&[rsa()]);
    assert_eq!(ask(&open), [vec![], vec![]]);
    let bound = KeyPolicy { binding: Binding::CertChain, ..open.clone() };
    assert_eq!(ask(&bound), [vec![], vec![Gate::Registration]], "the activation alone");
    assert_eq!(ask(&KeyPolicy { rehearse: true, ..open }), [vec![], vec![Gate::Rehearsal]]);
    let shown = KeyPolicy { certificate: true, ..bound };
    assert_eq!(ask(&shown), [vec![], vec![Gate::Certificate, Gate::Registration]]);
    let silent = KeyPolicy { first_rsa_key: true, ..policy(&[rsa()]) };
    assert_eq!(ask(&silent), [vec![], vec![]], "a pause is no step to wait for");
}

#[test]
fn the_next_step_has_its_time() {
    let policy = policy(&[rsa()]);
    let next = |records: &[KeyRecord]| next_step(&policy, records, &at(SOON)).map(|next| (next.at, next.change.step));
    assert_eq!(next(&pair(&rsa())), Some((START.plus(ROTATE), to(1, KeyState::Deactivated))));
    let old = KeyRecord { kept_for_ms: ms(KEEP) - 5000, ..key(3, &rsa(), KeyState::Deactivated) };
    let with_old = [pair(&rsa()), vec![old.clone()]].concat();
    assert_eq!(next(&with_old), Some((START.plus(KEEP), to(3, KeyState::Retired))), "not before the date");
    let late = KeyRecord { kept_for_ms: 0, ..old };
    let with_late = [pair(&rsa()), vec![late]].concat();
    assert_eq!(next(&with_late), Some((at(SOON).wall.plus(KEEP), to(3, KeyState::Retired))), "nor before it was kept");
    let none = KeyPolicy { lines: vec![], ..policy.clone() };
    assert_eq!(next_step(&none, &[], &at(SOON)), None);
}

#[test]
fn the_set_changes_next_when_time_has_passed_not_when_an_act_is_done() {
    let policy = policy(&[rsa()]);
    let next = |records: &[KeyRecord], now: &Now| next_jwks_change(&policy, records, now);
    assert_eq!(next(&pair(&rsa()), &at(SOON)), Some(START.plus(ROTATE)));
    let alone = [key(1, &rsa(), KeyState::Active)];
    assert_eq!(next(&alone, &at(SOON)), Some(START.plus(ROTATE)), "nobody knows when the standby will be there");
    let overdue = at(ROTATE + SOON);
    assert_eq!(next(&pair(&rsa()), &overdue), Some(overdue.wall.plus(KEEP)), "the switch is due now; then it retires");
    let revoked = [
        key(1, &rsa(), KeyState::Compromised),
        KeyRecord { served_for_ms: ms(LEAD) - 7000, ..key(2, &rsa(), KeyState::PreActive) },
    ];
    assert_eq!(next(&revoked, &at(SOON)), Some(at(8 * SOON).wall), "once verifiers know it");
    let mut no_term = policy.clone();
    no_term.lines[0].rotate = None;
    assert_eq!(next_jwks_change(&no_term, &pair(&rsa()), &at(SOON)), None);
}

#[test]
fn a_rotation_that_is_overdue_says_what_is_in_the_way() {
    let policy = policy(&[rsa()]);
    let why = |records: &[KeyRecord], now: &Now| {
        let found = blocked(&policy, records, now);
        found.into_iter().map(|blocked| (blocked.line, blocked.since, blocked.gates)).collect::<Vec<_>>()
    };
    assert_eq!(why(&pair(&rsa()), &at(ROTATE)), [], "the next sweep does it");
    assert_eq!(why(&[], &at(ROTATE)), [], "a line that never lived");
    let since = START.plus(ROTATE);
    let alone = [key(1, &rsa(), KeyState::Active)];
    assert_eq!(why(&alone, &at(ROTATE - SOON)), []);
    assert_eq!(why(&alone, &at(ROTATE + SOON)), [(rsa(), since, vec![Gate::NoStandby])]);
    let now = Now { unreachable: ["h".parse().unwrap()].into(), held: true, ..at(ROTATE) };
    assert_eq!(why(&pair(&rsa()), &now), [(rsa(), since, vec![Gate::Clock, Gate::Hsm])]);
}

/// Its HSM was plugged in after the others: nobody has to do anything.
#[test]
fn a_line_that_came_later_is_not_overdue_while_another_hsm_signs() {
    let later = line(Alg::RS384, "later");
    let young = KeyRecord { served_for_ms: 0, ..key(3, &later, KeyState::PreActive) };
    let mut records = pair(&rsa());
    records.push(young.clone());
    let policy = policy(&[rsa(), later.clone()]);
    let overdue = |records: &[KeyRecord], now: &Now| {
        blocked(&policy, records, now).into_iter().map(|blocked| blocked.line).collect::<Vec<_>>()
    };
    assert_eq!(overdue(&records, &at(SOON)), []);
    assert_eq!(overdue(from_ref(&young), &at(SOON)), from_ref(&later), "nothing signs");
    let held = Now { held: true, ..at(SOON) };
    assert_eq!(overdue(&records, &held), from_ref(&later), "time alone does not mend a clock");
    records.push(key(4, &later, KeyState::Compromised));
    assert_eq!(overdue(&records, &at(SOON)), from_ref(&later), "it signed, and signs no more");
}
