//! Every gate a moment before, at, and a moment after it opens.

use std::time::Duration;

use super::fixture::*;
use crate::{
    client::{Client, Provision},
    key::{Alg, KeyRecord, KeySpec, KeyState},
    lifecycle::{
        Elapsed, Gate, KeyPolicy, Now, SWAP_QUIET, Settings, Step, departed,
        gates::{self, before_signing},
        observe,
    },
    profile::{Binding, Profile},
    time::Timestamp,
};

const SECOND: Duration = Duration::from_secs(1);
const ZERO: Duration = Duration::ZERO;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A second before, the moment itself, a second after.
fn around(moment: Duration) -> [Duration; 3] {
    [moment - SECOND, moment, moment + SECOND]
}

#[test]
fn the_lead_is_the_longest_cache_and_what_lies_between() {
    assert_eq!(gates::lead(ZERO, ZERO, ZERO), secs(90), "the floor that verifiers keep, and the margin");
    assert_eq!(around(secs(60)).map(|max_age| gates::lead(max_age, ZERO, ZERO)), [secs(90), secs(90), secs(91)]);
    assert_eq!(gates::lead(secs(300), secs(86_400), ZERO), secs(86_430), "where caching is unknown");
    assert_eq!(gates::lead(secs(300), ZERO, secs(600)), secs(930), "a cache in between comes on top");
}

#[test]
fn a_key_is_kept_until_the_last_assertion_has_run_out() {
    assert_eq!(gates::keep(ZERO, secs(60), secs(300)), secs(960));
    assert_eq!(gates::keep(ZERO, ZERO, ZERO), secs(600));
    let keeps = around(secs(960)).map(|keep_for| gates::keep(keep_for, secs(60), secs(300)));
    assert_eq!(keeps, [secs(960), secs(960), secs(961)]);
}

#[test]
fn the_clocks_may_depart_by_half_a_minute() {
    let far = |wall_ms| departed(wall_ms, secs(100));
    assert_eq!([129_999, 130_000, 130_001].map(far), [false, false, true]);
    assert_eq!([69_999, 70_000, 70_001].map(far), [true, false, false]);
    assert!(departed(i64::MIN, secs(1)) && departed(i64::MAX, ZERO));
}

#[test]
fn a_rotation_waits_for_its_date() {
    let policy = policy(&[rsa()]);
    let rotated =
        around(ROTATE).map(|after| swept(&policy, &pair(&rsa()), &at(after)).contains(&to(2, KeyState::Active)));
    assert_eq!(rotated, [false, true, true]);
}

#[test]
fn a_rotation_waits_until_verifiers_know_the_key() {
    let policy = policy(&[rsa()]);
    let rotated = [ms(LEAD) - 1000, ms(LEAD) - 1, ms(LEAD), ms(LEAD) + 1000].map(|served_for_ms| {
        let standby = KeyRecord { served_for_ms, ..key(2, &rsa(), KeyState::PreActive) };
        let records = [key(1, &rsa(), KeyState::Active), standby];
        swept(&policy, &records, &at(ROTATE)).contains(&to(2, KeyState::Active))
    });
    assert_eq!(rotated, [false, false, true, true]);
}

#[test]
fn retiring_waits_for_observed_time_and_for_the_date() {
    let policy = policy(&[rsa()]);
    let retired = |kept: Duration, after: Duration, held: bool| {
        let old = KeyRecord { kept_for_ms: ms(kept), ..key(3, &rsa(), KeyState::Deactivated) };
        let records = [pair(&rsa()), vec![old]].concat();
        swept(&policy, &records, &Now { held, ..at(after) }).contains(&to(3, KeyState::Retired))
    };
    assert_eq!(
        around(KEEP).map(|kept| retired(kept, 2 * KEEP, false)),
        [false, true, true],
        "a clock that went forward"
    );
    assert_eq!(
        around(KEEP).map(|after| retired(2 * KEEP, after, false)),
        [false, true, true],
        "a clock that went back"
    );
    assert!(!retired(2 * KEEP, 2 * KEEP, true), "a clock that can't be trusted");
}

#[test]
fn destruction_waits_for_its_date_and_for_the_hsm() {
    let policy = KeyPolicy { destroy_after: Some(30 * DAY), ..policy(&[rsa()]) };
    for state in [KeyState::Retired, KeyState::Compromised] {
        let records = [pair(&rsa()), vec![key(3, &rsa(), state)]].concat();
        let destroyed = |now: &Now| swept(&policy, &records, now).contains(&Step::Destroy { key: id(3) });
        assert_eq!(around(30 * DAY).map(|after| destroyed(&at(after))), [false, true, true], "{state}");
        assert!(!destroyed(&Now { held: true, ..at(60 * DAY) }));
        assert!(!destroyed(&Now { unreachable: ["h".parse().unwrap()].into(), ..at(60 * DAY) }));
        let never = KeyPolicy { destroy_after: None, ..policy.clone() };
        assert_eq!(swept(&never, &records, &at(80 * DAY)), []);
    }
}

#[test]
fn signing_pauses_before_a_swap_that_is_seen_at_once() {
    let policy = KeyPolicy { first_rsa_key: true, ..policy(&[rsa()]) };
    let client = policy.client.clone();
    let quiet_for = |quiet| {
        let now = Now { quiet: [(client.clone(), quiet)].into(), ..at(ROTATE) };
        swept(&policy, &pair(&rsa()), &now)[0].clone()
    };
    let pause = Step::Pause { client: client.clone() };
    let swap = to(1, KeyState::Deactivated);
    assert_eq!(around(SWAP_QUIET).map(quiet_for), [pause.clone(), swap.clone(), swap.clone()]);
    let ec = line(Alg::ES384, "h");
    let policy = KeyPolicy { lines: super::fixture::policy(std::slice::from_ref(&ec)).lines, ..policy };
    assert_eq!(swept(&policy, &pair(&ec), &at(ROTATE))[0], swap, "a key that is no RSA key is nobody's first");
}

#[test]
fn each_gate_keeps_a_key_from_signing_and_says_so() {
    let standby = key(2, &rsa(), KeyState::PreActive);
    let open = policy(&[rsa()]);
    let shut = |policy: &KeyPolicy, record: &KeyRecord, now: &Now| before_signing(policy, record, now);
    assert_eq!(shut(&open, &standby, &at(ZERO)), []);
    let half = KeyRecord { served_for_ms: ms(LEAD) - 90_000, ..standby.clone() };
    assert_eq!(shut(&open, &half, &at(ZERO)), [Gate::Lead { left: secs(90) }]);
    assert_eq!(
        Gate::Lead { left: Duration::from_millis(89_001) }.to_string(),
        Gate::Lead { left: secs(90) }.to_string()
    );
    assert_eq!(shut(&open, &reserved(2, &rsa()), &at(ZERO))[0], Gate::NotGenerated);
    assert_eq!(shut(&open, &generated(2, &rsa()), &at(ZERO))[0], Gate::NotPublished);
    let now = Now { held: true, ..at(ZERO) };
    assert_eq!(shut(&open, &standby, &now), [Gate::Clock]);
    for now in [
        Now { unreachable: ["h".parse().unwrap()].into(), ..at(ZERO) },
        Now { gone: ["h".parse().unwrap()].into(), ..at(ZERO) },
    ] {
        assert_eq!(shut(&open, &standby, &now), [Gate::Hsm]);
    }
    let now = Now { unusable: [id(2)].into(), ..at(ZERO) };
    assert_eq!(shut(&open, &standby, &now), [Gate::Unusable]);
    for binding in [Binding::RegisteredCert, Binding::CertChain] {
        let bound = KeyPolicy { binding, ..open.clone() };
        assert_eq!(shut(&bound, &standby, &at(ZERO)), [Gate::Registration]);
        assert_eq!(shut(&bound, &standby, &Now { registered: [id(2)].into(), ..at(ZERO) }), []);
    }
    let certified = KeyPolicy { certificate: true, ..open.clone() };
    assert_eq!(shut(&certified, &standby, &at(ZERO)), [Gate::Certificate]);
    assert_eq!(shut(&certified, &standby, &Now { certified: [id(2)].into(), ..at(ZERO) }), []);
    let rehearsed = KeyPolicy { rehearse: true, ..open.clone() };
    assert_eq!(shut(&rehearsed, &standby, &at(ZERO)), [Gate::Rehearsal]);
    assert_eq!(shut(&rehearsed, &standby, &Now { rehearsed: [id(2)].into(), ..at(ZERO) }), []);
}

#[test]
fn gates_speak_in_units_that_people_use() {
    let text = |left| Gate::Keep { left }.to_string();
    assert!(text(secs(86_400)).ends_with("another 1d") && text(secs(7200)).ends_with("another 2h"));
    assert!(text(secs(180)).ends_with("another 3m") && text(secs(181)).ends_with("another 3m 1s"));
    assert!(text(secs(86_340)).ends_with("another 23h 59m") && text(secs(86_101)).ends_with("another 23h 56m"));
    assert!(text(secs(86_401)).ends_with("another 1d 1m") && text(secs(86_399)).ends_with("another 1d"), "rounded up");
    assert!(text(secs(3599)).ends_with("another 59m 59s") && text(secs(604_801)).ends_with("another 7d 1h"));
    assert!(text(ZERO).ends_with("another 0s"));
    assert!(text(Duration::from_millis(1)).ends_with("another 1s"), "never zero while something is left");
}

#[test]
fn observed_time_is_the_least_of_all_clocks() {
    let elapsed = Elapsed { wall_ms: 10_000, monotonic: secs(10), interval: secs(10), served: true };
    assert_eq!(elapsed.observed_ms(), 10_000);
    assert_eq!(Elapsed { wall_ms: 9_000, ..elapsed }.observed_ms(), 9_000);
    assert_eq!(Elapsed { wall_ms: -1, ..elapsed }.observed_ms(), 0);
    assert_eq!(Elapsed { monotonic: secs(8), ..elapsed }.observed_ms(), 8_000);
    let missed = Elapsed { wall_ms: 3_600_000, monotonic: HOUR, ..elapsed };
    assert_eq!(missed.observed_ms(), 20_000, "nobody looked in between");
}

#[test]
fn the_first_observation_marks_the_beginning() {
    let policy = policy(&[rsa()]);
    let elapsed = Elapsed { wall_ms: 9000, monotonic: secs(9), interval: secs(10), served: true };
    let first = KeyRecord { served_for_ms: 0, ..key(1, &rsa(), KeyState::Deactivated) };
    let seen = observe(&policy, std::slice::from_ref(&first), &elapsed)[0];
    assert_eq!((seen.served_for_ms, seen.kept_for_ms), (1, 1), "it changed at some moment in between");
    let next = KeyRecord { served_for_ms: 1, kept_for_ms: 1, ..first };
    let seen = observe(&policy, &[next], &elapsed)[0];
    assert_eq!((seen.served_for_ms, seen.kept_for_ms), (9001, 9001));
}

#[test]
fn what_a_hand_left_over_does_not_count_the_next_time() {
    let elapsed = Elapsed { wall_ms: 1000, monotonic: SECOND, interval: SECOND, served: true };
    let observed = |state| {
        let record = KeyRecord { kept_for_ms: 7000, ..key(1, &rsa(), state) };
        observe(&policy(&[rsa()]), &[record], &elapsed).first().map(|seen| (seen.served_for_ms, seen.kept_for_ms))
    };
    assert_eq!(observed(KeyState::Active), Some((ms(LEAD), 0)));
    assert_eq!(observed(KeyState::PreActive), Some((ms(LEAD), 0)));
    assert_eq!(observed(KeyState::Deactivated), Some((ms(LEAD), 8000)));
    assert_eq!(observed(KeyState::Retired), None);
}

#[test]
fn observed_time_is_written_only_while_a_gate_needs_it() {
    let policy = policy(&[rsa()]);
    let elapsed = Elapsed { wall_ms: 1000, monotonic: SECOND, interval: SECOND, served: true };
    let observed = |record: &KeyRecord, elapsed: &Elapsed| {
        observe(&policy, std::slice::from_ref(record), elapsed).first().map(|o| (o.served_for_ms, o.kept_for_ms))
    };
    let lead = ms(LEAD);
    for (served_for_ms, expected) in [(lead - 1000, Some((lead, 0))), (lead - 1, Some((lead + 999, 0))), (lead, None)] {
        let standby = KeyRecord { served_for_ms, ..key(1, &rsa(), KeyState::PreActive) };
        assert_eq!(observed(&standby, &elapsed), expected);
        assert_eq!(observed(&standby, &Elapsed { served: false, ..elapsed }), None, "nobody could read it");
        assert_eq!(observed(&standby, &Elapsed { wall_ms: 0, ..elapsed }), None, "nothing to write");
    }
    let keep = ms(KEEP);
    for (kept_for_ms, expected) in
        [(keep - 1000, Some((lead, keep))), (keep - 1, Some((lead, keep + 999))), (keep, None)]
    {
        let old = KeyRecord { kept_for_ms, ..key(1, &rsa(), KeyState::Deactivated) };
        assert_eq!(observed(&old, &elapsed), expected);
        assert_eq!(observed(&old, &Elapsed { served: false, ..elapsed }), expected, "assertions run out all the same");
    }
    assert_eq!(observed(&KeyRecord { served_for_ms: 0, ..generated(1, &rsa()) }, &elapsed), None, "not published");
    assert_eq!(observed(&KeyRecord { served_for_ms: 0, ..key(1, &rsa(), KeyState::Compromised) }, &elapsed), None);
    let foreign =
        KeyRecord { served_for_ms: 0, client: Some("d".parse().unwrap()), ..key(1, &rsa(), KeyState::Active) };
    assert_eq!(observed(&foreign, &elapsed), None);
}

fn client() -> Client {
    Client {
        hsms: vec!["a".parse().unwrap(), "b".parse().unwrap()],
        keys: vec![KeySpec { alg: Alg::ES384, rsa_bits: 0 }, KeySpec { alg: Alg::RS384, rsa_bits: 3072 }],
        edge_ttl: secs(7),
        ..Client::new("c".parse().unwrap(), Profile::find("smart-v2").unwrap(), "https://as.example/token")
    }
}

const SETTINGS: Settings = Settings {
    max_age: Duration::from_secs(300),
    max_age_high_water: Duration::from_secs(300),
    store_lease: Duration::from_secs(60),
    destroy_after: None,
    rehearse: false,
};

#[test]
fn a_policy_comes_from_client_profile_and_settings() {
    let policy = KeyPolicy::new(&client(), |alg| (alg == Alg::RS384).then_some(ROTATE), &SETTINGS);
    let lines: Vec<_> = policy.lines.iter().map(|terms| (terms.line.to_string(), terms.rotate)).collect();
    let expected = [("c/RS384/a", Some(ROTATE)), ("c/RS384/b", Some(ROTATE)), ("c/ES384/a", None), ("c/ES384/b", None)];
    assert_eq!(lines, expected.map(|(line, rotate)| (line.to_owned(), rotate)));
    assert_eq!((policy.lead, policy.keep), (secs(337), secs(960)));
    let unknown = Client { lead: Profile::find("generic").unwrap().jwks.lead, ..client() };
    assert_eq!(KeyPolicy::new(&unknown, |_| None, &SETTINGS).lead, secs(86_400 + 37));
    assert_eq!(gates::in_force_everywhere_at(&policy, START), START.plus(secs(337)));
    let leased = KeyPolicy { store_lease: HOUR, ..policy };
    assert_eq!(gates::in_force_everywhere_at(&leased, START), START.plus(HOUR));
}

#[test]
fn what_a_verifier_was_told_counts_until_it_has_run_out() {
    let told = Settings { max_age_high_water: HOUR, ..SETTINGS };
    let policy = KeyPolicy::new(&client(), |_| None, &told);
    assert_eq!((policy.lead, policy.keep), (secs(3637), secs(660 + 3600)));
    let removed = KeyPolicy::of_removed("c".parse().unwrap(), &Settings { max_age_high_water: 2 * DAY, ..SETTINGS });
    assert_eq!((removed.lead, removed.keep), (2 * DAY + secs(30), 2 * DAY + secs(660)));
    let removed = KeyPolicy::of_removed("c".parse().unwrap(), &SETTINGS);
    assert_eq!((removed.lines.len(), removed.keep), (0, DAY));
}

#[test]
fn the_digest_tells_configurations_apart_and_nothing_else() {
    let digest = |client: &Client, settings: &Settings| KeyPolicy::new(client, |_| Some(ROTATE), settings).digest;
    let same = digest(&client(), &SETTINGS);
    assert_eq!(digest(&client(), &Settings { max_age_high_water: HOUR, ..SETTINGS }), same, "that is the store's");
    let mut longer = client();
    longer.keys[1].rsa_bits = 4096;
    let mut fewer = client();
    fewer.hsms.pop();
    let others = [
        digest(&longer, &SETTINGS),
        digest(&fewer, &SETTINGS),
        digest(&Client { keep_for: DAY, ..client() }, &SETTINGS),
        digest(&Client { edge_ttl: ZERO, ..client() }, &SETTINGS),
        digest(&Client { provision: Provision::Auto, ..client() }, &SETTINGS),
        digest(&client(), &Settings { destroy_after: Some(DAY), ..SETTINGS }),
        digest(&client(), &Settings { rehearse: true, ..SETTINGS }),
        KeyPolicy::new(&client(), |_| None, &SETTINGS).digest,
    ];
    assert!(others.iter().all(|other| other.len() == 32 && *other != same), "{others:?} {same}");
}

#[test]
fn a_key_of_another_purpose_or_client_is_left_alone() {
    let mut custody = key(1, &rsa(), KeyState::Active);
    custody.client = None;
    custody.purpose = crate::key::Purpose::Custody;
    let foreign = KeyRecord { client: Some("d".parse().unwrap()), ..key(2, &rsa(), KeyState::Active) };
    let none = KeyPolicy { lines: vec![], ..policy(&[]) };
    assert_eq!(swept(&none, &[custody, foreign], &Now::at(Timestamp::from_millis(i64::MAX))), []);
}

#[test]
fn a_span_has_the_largest_unit_that_is_exact() {
    let shown = |ms| gates::Span(Duration::from_millis(ms)).to_string();
    let hour = 3_600_000;
    let spans = [0, 1, 1000, 1001, 60_000, 61_000, hour, 25 * hour, 48 * hour].map(shown);
    assert_eq!(spans, ["0s", "1s", "1s", "2s", "1m", "61s", "1h", "25h", "2d"]);
}
