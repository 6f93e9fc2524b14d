//! What operators may ask for, and what they are told instead.

use std::time::Duration;

use super::fixture::*;
use crate::{
    error::{Error, Reason},
    key::{KeyRecord, KeyState},
    lifecycle::{
        KeyPolicy, Now, SWAP_QUIET, Step,
        operator::{Answer, Wish, activate, deactivate, destroy, retire, revoke, rotate},
    },
    profile::Binding,
};

fn wish(force: bool) -> Wish {
    Wish { reason: "because".into(), force }
}

fn now() -> Now {
    at(Duration::from_secs(1))
}

fn done(answer: Answer) -> Vec<Step> {
    let changes = answer.unwrap();
    assert!(changes.iter().all(|change| change.reason.contains("because")));
    steps(&changes)
}

fn refused(answer: Answer) -> (Reason, String) {
    let Error { reason, message, .. } = answer.unwrap_err();
    (reason, message)
}

fn young_standby() -> Vec<KeyRecord> {
    let mut records = pair(&rsa());
    records[1].served_for_ms = ms(LEAD) - 5000;
    records
}

const SWITCH: [(u8, KeyState); 2] = [(1, KeyState::Deactivated), (2, KeyState::Active)];

fn switch() -> Vec<Step> {
    SWITCH.into_iter().map(|(n, state)| to(n, state)).collect()
}

#[test]
fn a_rotation_now_needs_a_standby_that_verifiers_know() {
    let policy = policy(&[rsa()]);
    assert_eq!(done(rotate(&policy, &pair(&rsa()), &now(), &rsa(), &wish(false))), switch());
    let error = rotate(&policy, &young_standby(), &now(), &rsa(), &wish(false)).unwrap_err();
    assert_eq!((error.reason, error.retry_after), (Reason::GateShut, Some(Duration::from_secs(5))));
    assert!(error.message.contains("another 5s") && error.message.contains("--force"), "{}", error.message);
    assert_eq!(done(rotate(&policy, &young_standby(), &now(), &rsa(), &wish(true))), switch());
    let alone = [key(1, &rsa(), KeyState::Active)];
    for force in [false, true] {
        let (reason, text) = refused(rotate(&policy, &alone, &now(), &rsa(), &wish(force)));
        assert_eq!(reason, Reason::GateShut);
        assert!(text.contains("no other key"), "{text}");
    }
    let not_yet = [alone[0].clone(), reserved(2, &rsa())];
    assert_eq!(
        refused(rotate(&policy, &not_yet, &now(), &rsa(), &wish(true))).0,
        Reason::GateShut,
        "nothing to sign with"
    );
}

#[test]
fn gates_without_a_time_name_none() {
    let bound = KeyPolicy { binding: Binding::CertChain, ..policy(&[rsa()]) };
    let error = rotate(&bound, &pair(&rsa()), &now(), &rsa(), &wish(false)).unwrap_err();
    assert_eq!((error.reason, error.retry_after), (Reason::GateShut, None));
}

#[test]
fn a_standby_is_activated_ahead_of_its_time() {
    let policy = policy(&[rsa()]);
    assert_eq!(done(activate(&policy, &pair(&rsa()), &now(), id(2), &wish(false))), switch());
    assert_eq!(refused(activate(&policy, &young_standby(), &now(), id(2), &wish(false))).0, Reason::GateShut);
    assert_eq!(done(activate(&policy, &young_standby(), &now(), id(2), &wish(true))), switch());
    let not_yet = [key(1, &rsa(), KeyState::Active), reserved(2, &rsa())];
    assert_eq!(refused(activate(&policy, &not_yet, &now(), id(2), &wish(true))).0, Reason::GateShut);
}

#[test]
fn what_can_not_be_activated_says_why() {
    let policy = policy(&[rsa()]);
    let ask =
        |policy: &KeyPolicy, records: &[KeyRecord], n| refused(activate(policy, records, &now(), id(n), &wish(true))).0;
    assert_eq!(ask(&policy, &pair(&rsa()), 1), Reason::AlreadyExists);
    assert_eq!(ask(&policy, &pair(&rsa()), 9), Reason::KeyNotFound);
    for state in [KeyState::Retired, KeyState::Compromised, KeyState::Destroyed] {
        assert_eq!(ask(&policy, &[key(1, &rsa(), state)], 1), Reason::KeyState, "{state} never comes back");
    }
    let (_, text) = refused(activate(&policy, &pair(&rsa()), &now(), id(1), &wish(true)));
    assert!(text.contains("`k1`"), "people know keys by their kid: {text}");
    let removed = KeyPolicy { lines: vec![], ..policy };
    assert_eq!(ask(&removed, &[key(1, &rsa(), KeyState::Deactivated)], 1), Reason::KeyState);
}

#[test]
fn a_bad_rotation_is_taken_back() {
    let policy = policy(&[rsa()]);
    let mut older = key(1, &rsa(), KeyState::Deactivated);
    let last = key(2, &rsa(), KeyState::Deactivated);
    let records = [older.clone(), last, key(3, &rsa(), KeyState::Active)];
    for back in [1, 2] {
        assert_eq!(
            done(activate(&policy, &records, &now(), id(back), &wish(false))),
            [to(3, KeyState::PreActive), to(back, KeyState::Active)]
        );
    }
    older.times.published = None;
    let hidden = [older, records[2].clone()];
    assert_eq!(refused(activate(&policy, &hidden, &now(), id(1), &wish(false))).0, Reason::GateShut);
}

#[test]
fn only_revoking_leaves_a_line_without_an_active_key() {
    let policy = policy(&[rsa()]);
    assert_eq!(done(deactivate(&policy, &pair(&rsa()), &now(), id(1), &wish(false))), switch());
    let alone = [key(1, &rsa(), KeyState::Active)];
    assert_eq!(refused(deactivate(&policy, &alone, &now(), id(1), &wish(true))).0, Reason::GateShut);
    assert_eq!(done(deactivate(&policy, &pair(&rsa()), &now(), id(2), &wish(false))), [to(2, KeyState::Deactivated)]);
    let old = [key(1, &rsa(), KeyState::Deactivated)];
    assert_eq!(refused(deactivate(&policy, &old, &now(), id(1), &wish(true))).0, Reason::KeyState);
    assert_eq!(done(revoke(&policy, &alone, &now(), id(1), &wish(false))), [to(1, KeyState::Compromised)]);
}

#[test]
fn revoking_switches_to_a_standby_that_verifiers_know() {
    let open = policy(&[rsa()]);
    let revoked = to(1, KeyState::Compromised);
    let switched = [revoked.clone(), to(2, KeyState::Active)];
    let cases = [
        (open.clone(), now(), pair(&rsa()), true),
        (open.clone(), now(), young_standby(), false),
        (open.clone(), Now { held: true, ..now() }, pair(&rsa()), true),
        (open.clone(), Now { unreachable: ["h".parse().unwrap()].into(), ..now() }, pair(&rsa()), true),
        (open.clone(), Now { unusable: [id(2)].into(), ..now() }, pair(&rsa()), false),
        (KeyPolicy { rehearse: true, ..open.clone() }, now(), pair(&rsa()), true),
        (KeyPolicy { first_rsa_key: true, ..open.clone() }, now(), pair(&rsa()), true),
        (KeyPolicy { binding: Binding::RegisteredCert, ..open.clone() }, now(), pair(&rsa()), false),
        (KeyPolicy { lines: vec![], ..open }, now(), pair(&rsa()), false),
    ];
    for (place, (policy, now, records, switches)) in cases.into_iter().enumerate() {
        let expected = if switches { &switched[..] } else { &switched[..1] };
        assert_eq!(done(revoke(&policy, &records, &now, id(1), &wish(false))), expected, "case {place}");
    }
}

#[test]
fn revoking_is_never_blocked_and_may_be_repeated() {
    let policy = policy(&[rsa()]);
    for state in [KeyState::PreActive, KeyState::Deactivated, KeyState::Retired] {
        let records = [key(1, &rsa(), KeyState::Active), key(2, &rsa(), state), key(3, &rsa(), KeyState::PreActive)];
        assert_eq!(done(revoke(&policy, &records, &now(), id(2), &wish(false))), [to(2, KeyState::Compromised)]);
    }
    let ended = |state| revoke(&policy, &[key(1, &rsa(), state)], &now(), id(1), &wish(false));
    assert_eq!(ended(KeyState::Compromised).unwrap(), []);
    assert_eq!(refused(ended(KeyState::Destroyed)).0, Reason::KeyState);
    let two = [key(1, &rsa(), KeyState::Active), key(2, &rsa(), KeyState::PreActive), key(3, &rsa(), KeyState::Active)];
    let steps = done(revoke(&policy, &two, &now(), id(1), &wish(false)));
    assert_eq!(steps, [to(1, KeyState::Compromised)], "another one is active, by whatever hand");
}

#[test]
fn a_key_is_retired_and_destroyed_in_that_order() {
    let policy = policy(&[rsa()]);
    let old = KeyRecord { kept_for_ms: ms(KEEP), ..key(1, &rsa(), KeyState::Deactivated) };
    let ask =
        |record: &KeyRecord, now: &Now, force| retire(&policy, std::slice::from_ref(record), now, id(1), &wish(force));
    assert_eq!(done(ask(&old, &at(KEEP), false)), [to(1, KeyState::Retired)]);
    assert_eq!(refused(ask(&old, &at(KEEP - Duration::from_secs(1)), false)).0, Reason::GateShut);
    assert_eq!(done(ask(&old, &now(), true)), [to(1, KeyState::Retired)]);
    assert_eq!(refused(ask(&key(1, &rsa(), KeyState::Active), &at(KEEP), true)).0, Reason::KeyState);
    for state in KeyState::ALL {
        let answer = destroy(&policy, &[key(1, &rsa(), state)], &now(), id(1), &wish(false));
        match state {
            KeyState::Retired | KeyState::Compromised => assert_eq!(done(answer), [Step::Destroy { key: id(1) }]),
            _ => {
                let (reason, said) = refused(answer);
                assert_eq!(reason, Reason::KeyState, "{state}");
                assert_eq!(said.contains("is destroyed already"), state == KeyState::Destroyed, "{state}: {said}");
                assert_eq!(said.contains("retire or revoke it first"), state != KeyState::Destroyed, "{state}: {said}");
            }
        }
    }
}

#[test]
fn operators_wait_for_silence_too() {
    let policy = KeyPolicy { first_rsa_key: true, ..policy(&[rsa()]) };
    let pause = [Step::Pause { client: policy.client.clone() }];
    assert_eq!(done(rotate(&policy, &pair(&rsa()), &now(), &rsa(), &wish(true))), pause);
    let quiet = Now { quiet: [(policy.client.clone(), SWAP_QUIET)].into(), ..now() };
    assert_eq!(done(rotate(&policy, &pair(&rsa()), &quiet, &rsa(), &wish(false))), switch());
    let idle = [key(2, &rsa(), KeyState::PreActive)];
    assert_eq!(done(activate(&policy, &idle, &now(), id(2), &wish(false))), [to(2, KeyState::Active)]);
}
