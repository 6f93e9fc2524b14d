//! What a sweep does, rule by rule.

use std::time::Duration;

use super::fixture::*;
use crate::{
    client::Provision,
    error::Reason,
    key::{Alg, KeyLine, KeyRecord, KeyState, Origin},
    lifecycle::{Bootstrap, Change, KeyPolicy, Now, SWAP_QUIET, Step, apply, bootstrap, establish, may_follow, sweep},
    profile::Binding,
};

fn generate(line: &KeyLine, reserved: Option<u8>, first: bool) -> Step {
    Step::Generate { line: line.clone(), reserved: reserved.map(id), first }
}

const SOON: Duration = Duration::from_secs(1);

#[test]
fn nothing_is_said_where_nothing_is_due() {
    assert_eq!(swept(&policy(&[rsa()]), &pair(&rsa()), &at(SOON)), []);
}

#[test]
fn a_rotation_is_one_transaction_and_asks_for_a_new_standby() {
    let (policy, records) = (policy(&[rsa()]), pair(&rsa()));
    let changes = sweep(&policy, &records, &at(ROTATE));
    let expected = [to(1, KeyState::Deactivated), to(2, KeyState::Active), generate(&rsa(), None, false)];
    assert_eq!(steps(&changes), expected, "what signed makes room first");
    assert_eq!(changes[0].reason, "the active key's time was up: `rotate` is 90d");
    let after = moved(&records, &changes, START.plus(ROTATE));
    assert_eq!(after[1].times.activated, Some(START.plus(ROTATE)));
    assert_eq!(swept(&policy, &after, &at(ROTATE)), [generate(&rsa(), None, false)]);
}

#[test]
fn a_line_without_a_term_never_rotates_by_itself() {
    let mut policy = policy(&[rsa()]);
    policy.lines[0].rotate = None;
    assert_eq!(swept(&policy, &pair(&rsa()), &at(1000 * ROTATE)), []);
}

#[test]
fn a_new_standby_is_reserved_then_generated_then_published() {
    let policy = policy(&[rsa()]);
    let with = |standby: Option<KeyRecord>| {
        let records: Vec<_> = [key(1, &rsa(), KeyState::Active)].into_iter().chain(standby).collect();
        swept(&policy, &records, &at(SOON))
    };
    assert_eq!(with(None), [generate(&rsa(), None, false)]);
    assert_eq!(with(Some(reserved(2, &rsa()))), [generate(&rsa(), Some(2), false)], "resumed, not doubled");
    assert_eq!(with(Some(generated(2, &rsa()))), [to(2, KeyState::PreActive)]);
    assert_eq!(with(Some(KeyRecord { served_for_ms: 0, ..key(2, &rsa(), KeyState::PreActive) })), []);
}

#[test]
fn an_hsm_that_does_not_answer_is_not_asked() {
    let (policy, unreachable) = (policy(&[rsa()]), ["h".parse().unwrap()]);
    let now = Now { unreachable: unreachable.into(), ..at(ROTATE) };
    assert_eq!(swept(&policy, &[key(1, &rsa(), KeyState::Active)], &now), []);
    assert_eq!(swept(&policy, &pair(&rsa()), &now), [], "the old key stays active past its date");
}

#[test]
fn the_first_keys_come_by_themselves_only_where_the_policy_says_so() {
    let auto = policy(&[rsa()]);
    let manual = KeyPolicy { provision: Provision::Manual, ..auto.clone() };
    assert_eq!(swept(&auto, &[], &at(SOON)), [generate(&rsa(), None, true), generate(&rsa(), None, true)]);
    assert_eq!(swept(&manual, &[], &at(SOON)), []);
    let half = [generated(1, &rsa()), reserved(2, &rsa())];
    assert_eq!(swept(&auto, &half, &at(SOON)), [generate(&rsa(), Some(2), true)], "nothing is published by halves");
    assert_eq!(swept(&manual, &half, &at(SOON)), [], "an operator's request goes on when it is repeated");
    let both = [generated(1, &rsa()), generated(2, &rsa())];
    assert_eq!(swept(&auto, &both, &at(SOON)), [to(1, KeyState::Active), to(2, KeyState::PreActive)]);
}

#[test]
fn all_lines_of_a_new_client_sign_at_once() {
    let lines = [rsa(), line(Alg::ES384, "h")];
    let records: Vec<_> = (0..4).map(|n| generated(n, &lines[usize::from(n) / 2])).collect();
    let steps = swept(&policy(&lines), &records, &at(SOON));
    let expected = [(0, KeyState::Active), (1, KeyState::PreActive), (2, KeyState::Active), (3, KeyState::PreActive)];
    assert_eq!(steps, expected.map(|(n, state)| to(n, state)));
    let changes = establish(&records, &[id(0), id(2)], &[id(1), id(3)]);
    let after = moved(&records, &changes, START);
    let states: Vec<_> = after.iter().map(|record| (record.state, record.times.published)).collect();
    assert_eq!(states, expected.map(|(_, state)| (state, Some(START))));
}

#[test]
fn a_line_that_comes_later_waits_until_verifiers_know_it() {
    let ec = line(Alg::ES384, "h");
    let policy = policy(&[rsa(), ec.clone()]);
    let mut records = [pair(&rsa()), vec![generated(3, &ec), generated(4, &ec)]].concat();
    let published = [to(3, KeyState::PreActive), to(4, KeyState::PreActive)];
    assert_eq!(swept(&policy, &records, &at(SOON)), published);
    let changes = establish(&records, &[id(3)], &[id(4)]);
    assert_eq!(steps(&changes), published);
    records = moved(&records, &changes, START);
    assert_eq!(swept(&policy, &records, &at(SOON)), []);
    records[2].served_for_ms = ms(LEAD);
    assert_eq!(swept(&policy, &records, &at(SOON)), [to(3, KeyState::Active)]);
}

#[test]
fn a_line_without_an_active_key_gets_one_as_soon_as_verifiers_know_it() {
    let policy = policy(&[rsa()]);
    let revoked = key(1, &rsa(), KeyState::Compromised);
    assert_eq!(
        swept(&policy, std::slice::from_ref(&revoked), &at(SOON)),
        [generate(&rsa(), None, false), generate(&rsa(), None, false)],
        "one to sign, and its standby"
    );
    let records = [revoked, key(2, &rsa(), KeyState::PreActive)];
    assert_eq!(swept(&policy, &records, &at(SOON)), [to(2, KeyState::Active), generate(&rsa(), None, false)]);
}

#[test]
fn a_deactivated_key_does_not_come_back_by_itself() {
    let records = [key(1, &rsa(), KeyState::Deactivated), key(2, &rsa(), KeyState::Compromised)];
    let steps = swept(&policy(&[rsa()]), &records, &at(SOON));
    assert_eq!(steps, [generate(&rsa(), None, false), generate(&rsa(), None, false)]);
}

#[test]
fn a_line_that_is_not_configured_any_more_leaves_in_order() {
    let none = policy(&[]);
    let mut records = pair(&rsa());
    let changes = sweep(&none, &records, &at(SOON));
    assert_eq!(steps(&changes), [to(1, KeyState::Deactivated)], "it stops signing and stays published");
    records = moved(&records, &changes, START.plus(SOON));
    assert_eq!(swept(&none, &records, &at(SOON)), []);
    let back = swept(&policy(&[rsa()]), &records, &at(SOON));
    assert_eq!(back, [to(2, KeyState::Active), generate(&rsa(), None, false)], "if it comes back, it signs at once");
    records[0].kept_for_ms = ms(KEEP);
    let changes = sweep(&none, &records, &at(2 * KEEP));
    assert_eq!(steps(&changes), [to(1, KeyState::Retired), to(2, KeyState::Deactivated)], "the standby goes last");
}

#[test]
fn a_lost_hsm_leaves_signing_to_its_siblings() {
    let (here, there) = (line(Alg::RS384, "a"), line(Alg::RS384, "b"));
    let records = [
        vec![key(1, &here, KeyState::Active), key(2, &here, KeyState::PreActive)],
        vec![key(3, &there, KeyState::Active), key(4, &there, KeyState::PreActive)],
    ]
    .concat();
    let both = policy(&[here.clone(), there.clone()]);
    let gone = |names: &[&str]| Now { gone: names.iter().map(|n| n.parse().unwrap()).collect(), ..at(SOON) };
    assert_eq!(swept(&both, &records, &gone(&["a"])), [to(1, KeyState::Deactivated)]);
    assert_eq!(swept(&both, &records, &gone(&["a", "b"])), [], "nobody else could sign");
    let other_alg = policy(&[here.clone(), line(Alg::ES384, "b")]);
    let mixed = [records[..2].to_vec(), vec![key(3, &line(Alg::ES384, "b"), KeyState::Active)]].concat();
    let steps = swept(&other_alg, &mixed, &gone(&["a"]));
    assert!(!steps.contains(&to(1, KeyState::Deactivated)), "another algorithm is no replacement: {steps:?}");
    let alone = policy(&[here]);
    let steps = swept(&alone, &records[..2], &gone(&["a"]));
    assert_eq!(steps, []);
    let after = moved(&records, &sweep(&both, &records, &gone(&["a"])), START);
    assert_eq!(swept(&both, &after, &gone(&["a"])), []);
    let back = swept(&both, &after, &at(SOON));
    assert_eq!(back[0], to(2, KeyState::Active), "once it is back, it signs with what verifiers know already");
}

#[test]
fn what_others_hold_must_be_confirmed_before_the_switch() {
    let bound = KeyPolicy { binding: Binding::RegisteredCert, ..policy(&[rsa()]) };
    assert_eq!(swept(&bound, &pair(&rsa()), &at(ROTATE)), []);
    let now = Now { registered: [id(2)].into(), ..at(ROTATE) };
    assert_eq!(swept(&bound, &pair(&rsa()), &now)[1], to(2, KeyState::Active));
}

#[test]
fn two_active_keys_become_one() {
    let elder = key(1, &rsa(), KeyState::Active);
    let mut younger = key(2, &rsa(), KeyState::Active);
    younger.times.activated = Some(START.plus(SOON));
    let steps = swept(&policy(&[rsa()]), &[elder.clone(), younger.clone()], &at(2 * SOON));
    assert_eq!(steps, [to(1, KeyState::Deactivated), generate(&rsa(), None, false)]);
    younger.times.published = None;
    let steps = swept(&policy(&[rsa()]), &[elder, younger], &at(2 * SOON));
    assert_eq!(steps[0], to(2, KeyState::Deactivated), "one that verifiers can know goes on");
}

#[test]
fn an_active_key_that_nobody_can_know_waits_as_every_key_does() {
    let mut hidden = key(1, &rsa(), KeyState::Active);
    hidden.times.published = None;
    let policy = policy(&[rsa()]);
    let records = [hidden, key(2, &rsa(), KeyState::PreActive)];
    let changes = sweep(&policy, &records, &at(SOON));
    assert_eq!(steps(&changes), [to(1, KeyState::PreActive), to(2, KeyState::Active)]);
    let after = moved(&records, &changes, START);
    assert_eq!((after[0].served_for_ms, after[0].times.published), (0, Some(START)));
    assert_eq!(swept(&policy, &after, &at(SOON)), []);
}

#[test]
fn standbys_do_not_pile_up() {
    let policy = policy(&[rsa()]);
    let failed = KeyRecord { state: KeyState::PreActive, ..key(2, &rsa(), KeyState::Active) };
    let fresh = key(3, &rsa(), KeyState::PreActive);
    let young = KeyRecord { served_for_ms: ms(LEAD) - 1, ..fresh.clone() };
    let active = key(1, &rsa(), KeyState::Active);
    let with = |standby: &KeyRecord| swept(&policy, &[active.clone(), failed.clone(), standby.clone()], &at(SOON));
    assert_eq!(with(&young), [], "until verifiers know the new one, the failed one is better than none");
    assert_eq!(with(&fresh), [to(2, KeyState::Deactivated)], "what failed once goes first");
    let unknown = KeyRecord { served_for_ms: u64::MAX, ..generated(4, &rsa()) };
    let spare = swept(&policy, &[active.clone(), unknown, fresh.clone()], &at(SOON));
    assert_eq!(spare, [to(4, KeyState::Deactivated)], "one that is published stays");
    let due = swept(&policy, &[active.clone(), failed.clone(), fresh], &at(ROTATE));
    assert_eq!(due, [to(1, KeyState::Deactivated), to(3, KeyState::Active)], "the failed one is standby for now");
    let due = swept(&policy, &[active, failed, young], &at(ROTATE));
    assert_eq!(due, [to(1, KeyState::Deactivated), to(2, KeyState::Active)], "and signs where nothing else can");
}

#[test]
fn what_an_operator_brought_comes_next() {
    let records = |brought: u8| {
        let origin = |n| if n == brought { Origin::Imported } else { Origin::Generated };
        let standbys = [2, 3].map(|n| KeyRecord { origin: origin(n), ..key(n, &rsa(), KeyState::PreActive) });
        [key(1, &rsa(), KeyState::Active)].into_iter().chain(standbys).collect::<Vec<_>>()
    };
    for brought in [2, 3] {
        let due = swept(&policy(&[rsa()]), &records(brought), &at(ROTATE));
        assert!(due.contains(&to(brought, KeyState::Active)), "{brought}: {due:?}");
    }
}

#[test]
fn a_swap_that_is_seen_at_once_pauses_signing_once() {
    let policy = KeyPolicy { first_rsa_key: true, ..policy(&[rsa()]) };
    let pause = Step::Pause { client: policy.client.clone() };
    assert_eq!(swept(&policy, &pair(&rsa()), &at(ROTATE)), std::slice::from_ref(&pause));
    let removed = KeyPolicy { lines: vec![], ..policy.clone() };
    assert_eq!(swept(&removed, &pair(&rsa()), &at(SOON)), [pause], "then another key is first, too");
    let quiet = Now { quiet: [(policy.client.clone(), SWAP_QUIET)].into(), ..at(SOON) };
    assert_eq!(swept(&removed, &pair(&rsa()), &quiet), [to(1, KeyState::Deactivated)]);
    let idle = [key(1, &rsa(), KeyState::Compromised), key(2, &rsa(), KeyState::PreActive)];
    assert_eq!(swept(&policy, &idle, &at(SOON))[0], to(2, KeyState::Active), "nothing signs that could be paused");
}

#[test]
fn a_line_starts_once() {
    assert_eq!(bootstrap(&rsa(), &[]).unwrap(), Bootstrap::Start);
    assert_eq!(bootstrap(&rsa(), &[reserved(1, &line(Alg::ES384, "h"))]).unwrap(), Bootstrap::Start);
    for state in KeyState::ALL {
        let error = bootstrap(&rsa(), &[key(1, &rsa(), state)]).unwrap_err();
        assert_eq!(error.reason, Reason::AlreadyExists, "{state}");
    }
    let cut_short = [generated(1, &rsa()), reserved(2, &rsa())];
    assert_eq!(bootstrap(&rsa(), &cut_short).unwrap(), Bootstrap::Resume(vec![id(1), id(2)]));
}

#[test]
fn a_step_sets_its_time() {
    let wall = START.plus(DAY);
    let after = |record: &KeyRecord, to| {
        let change = Change { step: Step::Move { key: record.id, to }, reason: "r".into() };
        apply(record, &change, wall).unwrap()
    };
    let born = KeyRecord { served_for_ms: 5, ..generated(1, &rsa()) };
    let published = after(&born, KeyState::PreActive);
    assert_eq!((published.times.published, published.times.activated, published.served_for_ms), (Some(wall), None, 0));
    assert_eq!(after(&reserved(1, &rsa()), KeyState::PreActive).times.published, None, "there is nothing to publish");
    let standby = key(1, &rsa(), KeyState::PreActive);
    assert_eq!(after(&standby, KeyState::PreActive), standby, "published already");
    let active = after(&standby, KeyState::Active);
    assert_eq!((active.times.published, active.times.activated), (Some(START), Some(wall)));
    assert_eq!(active.served_for_ms, ms(LEAD));
    let old = after(&KeyRecord { kept_for_ms: 9, ..active.clone() }, KeyState::Deactivated);
    assert_eq!((old.times.deactivated, old.kept_for_ms), (Some(wall), 0), "counted anew each time");
    let again = after(&KeyRecord { kept_for_ms: 9, ..old.clone() }, KeyState::Active);
    assert_eq!((again.times.activated, again.kept_for_ms), (Some(wall), 0));
    let retired = after(&KeyRecord { kept_for_ms: 9, ..old }, KeyState::Retired);
    assert_eq!((retired.times.retired, retired.kept_for_ms), (Some(wall), 9));
    assert_eq!(after(&active, KeyState::Compromised).times.compromised, Some(wall));
    let destroy = Change { step: Step::Destroy { key: id(1) }, reason: "r".into() };
    let destroyed = apply(&retired, &destroy, wall).unwrap();
    assert_eq!((destroyed.state, destroyed.times.destroyed), (KeyState::Destroyed, Some(wall)));
    let foreign = Change { step: to(9, KeyState::Active), reason: "r".into() };
    assert_eq!(apply(&standby, &foreign, wall).unwrap_err().reason, Reason::Internal, "meant for another key");
    assert_eq!(apply(&active, &destroy, wall).unwrap_err().reason, Reason::Internal);
    assert_eq!(apply(&key(2, &rsa(), KeyState::Retired), &destroy, wall).unwrap_err().reason, Reason::Internal);
}

#[test]
fn the_arrows_are_those_of_the_drawing() {
    use KeyState::{Active, Compromised, Deactivated, Destroyed, PreActive, Retired};
    let arrows = [
        (PreActive, vec![PreActive, Active, Deactivated, Compromised]),
        (Active, vec![PreActive, Deactivated, Compromised]),
        (Deactivated, vec![Active, Compromised, Retired]),
        (Compromised, vec![Destroyed]),
        (Retired, vec![Compromised, Destroyed]),
        (Destroyed, vec![]),
    ];
    for (from, allowed) in arrows {
        let found: Vec<_> = KeyState::ALL.into_iter().filter(|to| may_follow(from, *to)).collect();
        assert!(found.len() == allowed.len() && found.iter().all(|to| allowed.contains(to)), "{from}: {found:?}");
    }
}
